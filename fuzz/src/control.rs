//! The control socket: whatever a client writes, it gets one answer or none, and only a question gets rows; whatever a
//! daemon answers, a client shows it or says why not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use daemon::control::{Answer, Pending, Question, serve_one};
use daemon::show::{MacRow, PeerRow, RouteRow, Rows, Topic, VniRow};
use tokio::sync::mpsc;

/// Runs one input: an octet for the side, then what the other side writes.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((side, text)) if side & 1 == 0 => question(text),
        Some((_, text)) => answer(text),
        None => {}
    }
}

fn rows(topic: Topic) -> Rows {
    match topic {
        Topic::Peers => Rows::Peers(vec![PeerRow::default()]),
        Topic::Routes => Rows::Routes(vec![RouteRow::default()]),
        Topic::Vnis => Rows::Vnis(vec![VniRow::default()]),
        Topic::Macs => Rows::Macs(vec![MacRow::default()]),
    }
}

/// The daemon's end, on a real socket.
fn question(text: &[u8]) {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    client.write_all(&text[..text.len().min(64 << 10)]).expect("the socket holds so much");
    client.shutdown(std::net::Shutdown::Write).expect("our own end");
    server.set_nonblocking(true).expect("our own end");
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let server = tokio::net::UnixStream::from_std(server).expect("a socket of this runtime");
            let (send, mut receive) = mpsc::channel::<Pending>(1);
            let main_loop = async {
                while let Some(pending) = receive.recv().await {
                    let _ = pending.reply.send(Answer::Rows(rows(pending.topic)));
                }
            };
            let (_, ()) = tokio::join!(serve_one(server, send), main_loop);
        });
    });
    let mut told = Vec::new();
    client.read_to_end(&mut told).expect("our own end");
    let line = text.split_inclusive(|octet| *octet == b'\n').next().unwrap_or_default();
    let asked = serde_json::from_slice::<Question>(line).ok().filter(|_| line.len() <= 4_096);
    match (told.split_last(), asked) {
        (None, asked) => assert_eq!(asked, None, "a question is answered"),
        (Some((end, told)), asked) => {
            assert!(*end == b'\n' && !told.contains(&b'\n'), "one answer is one line");
            match (serde_json::from_slice(told).expect("an answer"), asked) {
                (Answer::Rows(told), Some(question)) => assert_eq!(told, rows(question.show)),
                (Answer::Error(text), None) => assert!(!text.is_empty()),
                (answer, asked) => panic!("{answer:?} to {asked:?}"),
            }
        }
    }
}

/// The client's end.
fn answer(text: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Answer>(text) else { return };
    if let Answer::Rows(rows) = &answer {
        let table = rows.table();
        assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "a terminal gets text alone: {table:?}");
    }
    let again = serde_json::to_vec(&answer).expect("rows are plain data");
    assert_eq!(serde_json::from_slice::<Answer>(&again).expect("what we write we read"), answer);
}
