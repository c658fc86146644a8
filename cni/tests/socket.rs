//! Both ends over a real socket: well-behaved, wrong and hostile plugins.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use cni::client::{Client, ClientError};
use cni::server::{Listener, Received};
use cni::transport;
use cni::{
    Attach, Attached, Attachment, ErrorCode, ErrorReply, Expected, List, Origin, Page, PodDescriptors, Reply, Request,
    Status,
};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cni-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn socket(&self) -> PathBuf {
        self.0.join("cni.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn attachment() -> Attachment {
    Attachment { container_id: "pc1".parse().unwrap(), interface: "eth0".parse().unwrap() }
}

fn attach() -> Attach {
    Attach {
        attachment: attachment(),
        vni: 7.try_into().unwrap(),
        lan: "A".parse().unwrap(),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        ips: vec!["10.0.0.1/24".parse().unwrap()],
        mtu: None,
        routes: Vec::new(),
        origin: Origin::default(),
    }
}

fn attached() -> Attached {
    Attached {
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 1500.try_into().unwrap(),
        host_interface: "p1".parse().unwrap(),
    }
}

/// A worker that reads a word from the "namespace" and writes it to the
/// "netlink socket", to prove that both arrived in order.
fn worker(listener: Listener, connections: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..connections {
            let connection = listener.accept().unwrap();
            let _ = connection.serve(|received| match received {
                Received::Attach(_, pod) => {
                    let mut word = [0; 5];
                    File::from(pod.netns).read_exact(&mut word).unwrap();
                    File::from(pod.netlink).write_all(&word).unwrap();
                    Reply::Attached(attached())
                }
                Received::Detach(_) => Reply::Done,
                Received::Check(..) => {
                    ErrorReply::new(ErrorCode::CHECK_FAILED, "eth0 differs", "its MTU is 9000").into()
                }
                Received::List(list) => Reply::Attachments(Page::of(&list, [attachment()])),
                Received::Status => {
                    Reply::Status(Status { ready: true, reason: String::new(), attachments: 1, version: "1".into() })
                }
            });
        }
    })
}

fn raw_client(scratch: &Scratch) -> OwnedFd {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    connect(fd.as_raw_fd(), &UnixAddr::new(&scratch.socket()).unwrap()).unwrap();
    fd
}

fn answer(fd: BorrowedFd<'_>) -> Reply {
    let packet = transport::receive(fd, 0).unwrap().expect("still open");
    serde_json::from_slice(&packet.bytes).unwrap()
}

fn refused(reply: Reply) -> ErrorReply {
    match reply {
        Reply::Error(error) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn all_verbs_work_on_one_connection_and_descriptors_arrive_in_order() {
    let scratch = Scratch::new("verbs");
    let worker = worker(Listener::bind(&scratch.socket()).unwrap(), 1);
    let mut client = Client::connect(&scratch.socket()).unwrap();
    assert!(client.status().unwrap().ready);
    for _ in 0..3 {
        let (netns, feed) = nix::unistd::pipe().unwrap();
        let (seen, netlink) = nix::unistd::pipe().unwrap();
        File::from(feed).write_all(b"hello").unwrap();
        let pod = PodDescriptors { netns, netlink };
        assert_eq!(client.attach(attach(), &pod).unwrap(), attached());
        drop(pod);
        // End of file proves that the worker has closed its copy.
        let mut word = String::new();
        File::from(seen).read_to_string(&mut word).unwrap();
        assert_eq!(word, "hello");
    }
    let error = client.check(Expected { attachment: attachment(), vni: None, mac: None }).unwrap_err();
    assert_eq!(error.to_string(), "eth0 differs: its MTU is 9000");
    let list = List { network: "blue".parse().unwrap(), vni: 7.try_into().unwrap(), after: None };
    assert_eq!(client.list(list).unwrap(), Page { attachments: vec![attachment()], more: false });
    client.detach(attachment()).unwrap();
    drop(client);
    worker.join().unwrap();
    assert!(!scratch.socket().exists(), "the socket file went with its listener");
}

#[test]
fn garbage_missing_descriptors_and_oversized_packets_cost_an_error_only() {
    let scratch = Scratch::new("garbage");
    let worker = worker(Listener::bind(&scratch.socket()).unwrap(), 1);
    let fd = raw_client(&scratch);
    let fd = fd.as_fd();
    transport::send(fd, b"\xff\x00{", &[]).unwrap();
    assert_eq!(refused(answer(fd)).code, ErrorCode::DECODE_FAILURE);

    let request = serde_json::to_vec(&Request::Attach(attach())).unwrap();
    for few in [&[][..], &[fd][..]] {
        transport::send(fd, &request, few).unwrap();
        assert_eq!(refused(answer(fd)).code, ErrorCode::INVALID_PARAMETERS);
    }

    let long = vec![b' '; transport::MAX_MESSAGE_BYTES + 1];
    assert!(transport::send(fd, &long, &[]).is_err(), "refused at the sender");
    nix::sys::socket::send(fd.as_raw_fd(), &long, MsgFlags::empty()).unwrap();
    let error = refused(answer(fd));
    assert!(error.details.contains("longer than"), "{error}");

    transport::send(fd, br#"{"verb":"status"}"#, &[]).unwrap();
    assert!(matches!(answer(fd), Reply::Status(_)), "the connection lives on");
    nix::sys::socket::shutdown(fd.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
    worker.join().unwrap();
}

#[test]
fn descriptors_of_a_refused_packet_are_closed() {
    let scratch = Scratch::new("fds");
    let worker = worker(Listener::bind(&scratch.socket()).unwrap(), 1);
    let fd = raw_client(&scratch);
    let request = serde_json::to_vec(&Request::Attach(attach())).unwrap();
    for (bytes, count) in [(&request[..], 200), (&b"garbage"[..], 2), (&request[..], 1)] {
        let (read_end, write_end) = nix::unistd::pipe().unwrap();
        let raw: Vec<RawFd> = vec![write_end.as_raw_fd(); count];
        sendmsg::<()>(
            fd.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::ScmRights(&raw)],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        refused(answer(fd.as_fd()));
        drop(write_end);
        let mut rest = Vec::new();
        File::from(read_end).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "end of file: no copy is left open");
    }
    drop(fd);
    worker.join().unwrap();
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_respected() {
    let scratch = Scratch::new("stale");
    let first = Listener::bind(&scratch.socket()).unwrap();
    let error = Listener::bind(&scratch.socket()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("cni.sock"), "{error}");

    // A worker that was killed leaves the file: the listener is closed, its file stays.
    let aside = scratch.0.join("aside");
    std::fs::rename(scratch.socket(), &aside).unwrap();
    drop(first);
    std::fs::rename(&aside, scratch.socket()).unwrap();
    let second = Listener::bind(&scratch.socket()).unwrap();
    assert_eq!(second.path(), scratch.socket());

    std::fs::write(scratch.0.join("file"), "mine").unwrap();
    assert!(Listener::bind(&scratch.0.join("file")).is_err());
    assert_eq!(std::fs::read(scratch.0.join("file")).unwrap(), b"mine");
}

#[test]
fn a_client_names_the_socket_where_nobody_listens() {
    let scratch = Scratch::new("nobody");
    let error = Client::connect(&scratch.socket()).unwrap_err();
    assert!(error.to_string().contains("cni.sock"), "{error}");
}

#[test]
fn a_silent_worker_costs_a_timeout() {
    let scratch = Scratch::new("silent");
    let _listener = Listener::bind(&scratch.socket()).unwrap();
    let mut client = Client::connect(&scratch.socket()).unwrap();
    client.set_timeout(Duration::from_millis(20)).unwrap();
    let started = Instant::now();
    let error = client.status().unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let error = client.status().unwrap_err();
    assert!(matches!(error, ClientError::Send(_)), "no late reply is taken: {error}");
}
