//! Section G: NOTIFICATION, ROUTE-REFRESH, KEEPALIVE, timers.

use std::io::{Read, Write};
use std::time::Instant;

use super::actor::Actor;
use super::dialogue::confirm;
use super::open::graceful;
use super::stage::Stage;
use super::{Profile, Row, Verdict};
use crate::bgp::{
    self, Connection, KEEPALIVE, NOTIFICATION, ROUTE_REFRESH, UPDATE, default_membership, long_attribute, message,
};
use crate::wait;

/// Capability: enhanced route refresh (RFC 7313).
const ENHANCED_REFRESH: [u8; 2] = [70, 0];
/// A LAN that no worker has: its routes go to those who want everything.
const ELSEWHERE: u32 = 999;

/// All rows.
pub fn rows() -> Vec<Row> {
    [notifications(), refreshes(), timers()].into_iter().flatten().collect()
}

fn notifications() -> Vec<Row> {
    let ended = |id, what, rfc, body: Vec<u8>| {
        Row::session(id, what, rfc, Verdict::Closed, move |_| message(NOTIFICATION, &body))
            .breaks("notification-received")
            .also(logs_are_readable)
    };
    let text = |length: u8, text: &[u8]| [&[6, 2, length], text].concat();
    vec![
        ended("G01", "an unknown code", "RFC 4271 6.4", vec![99, 99, 1, 2, 3]),
        ended("G01", "an unknown subcode", "RFC 4271 6.4", vec![6, 200]),
        ended("G02", "a shutdown text shorter than its length", "RFC 9003", text(200, b"short")),
        ended("G02", "a shutdown text without its length", "RFC 9003", vec![6, 2]),
        ended("G02", "a shutdown text that is no UTF-8", "RFC 9003", text(4, &[0xff, 0xfe, 0xc3, 0x28])),
        ended("G02", "a shutdown text with escapes", "RFC 9003", text(9, b"\x1b[2J\x1b]0;x")),
        ended("G02", "a shutdown text of 255 octets", "RFC 9003", text(255, &[b'x'; 255])),
        ended("G03", "a hard reset where graceful restart would keep the routes", "RFC 8538 3", vec![6, 9, 6, 2])
            .with_capabilities(&graceful(0x40, 120)),
    ]
}

/// No octet of a peer's text reaches the log that could steer a terminal.
fn logs_are_readable(stage: &mut Stage<'_>) {
    let log = std::fs::read(stage.scene.reflector().host.directory().join("megalos-rr.log")).unwrap_or_default();
    let strange = log.iter().find(|octet| matches!(octet, 0..=8 | 11..=31 | 127));
    assert_eq!(strange, None, "a control character in the log");
}

fn refreshes() -> Vec<Row> {
    let enhanced = |row: Row| row.with_capabilities(&ENHANCED_REFRESH);
    let bad = |what, body: Vec<u8>| {
        let expected = message(ROUTE_REFRESH, &body);
        enhanced(Row::session("G05", what, "RFC 7313 5", Verdict::Reset(7, 1), move |_| message(ROUTE_REFRESH, &body)))
            .breaks("route-refresh-length")
            .also(move |stage| assert_eq!(stage.data(), expected, "the message as data"))
    };
    let ignored = |id, what, rfc, body: Vec<u8>| {
        enhanced(Row::session(id, what, rfc, Verdict::Ignored, move |_| message(ROUTE_REFRESH, &body)))
    };
    vec![
        bad("a begin of refresh of 5 octets", vec![0, 25, 1, 70, 0]),
        bad("an end of refresh of 5 octets", vec![0, 25, 2, 70, 0]),
        bad("a begin of refresh of 3 octets", vec![0, 25, 1]),
        ignored("G06", "subtype 3", "RFC 7313 5", vec![0, 25, 3, 70]).breaks("route-refresh-subtype"),
        ignored("G06", "subtype 255", "RFC 7313 5", vec![0, 25, 255, 70]).breaks("route-refresh-subtype"),
        ignored("G07", "a family that is not negotiated", "RFC 2918 4", vec![0, 1, 0, 1])
            .breaks("route-refresh-family"),
        ignored("G07", "a family that nobody knows", "RFC 2918 4", vec![255, 255, 0, 255])
            .breaks("route-refresh-family"),
        Row::script("G08", "10,000 ROUTE-REFRESH at once", "RFC 2918", refresh_flood),
        ignored(
            "G09",
            "outbound route filters that were not negotiated",
            "RFC 5291 4",
            vec![0, 25, 0, 70, 1, 64, 255, 255, 0],
        ),
        Row::script("G10", "a refresh that begins and ends, and one that does not end", "RFC 7313 4", refreshed),
    ]
}

/// Answers are for the state now, not for each question: there are far fewer.
fn refresh_flood(stage: &mut Stage<'_>) {
    const QUESTIONS: usize = 10_000;
    let mut connection = stage.establish(&[]);
    connection.send(&default_membership(stage.actor.octets()));
    stage.install_key(&mut connection);
    let routes = stage.scene.best_routes().len();
    let mut wire = connection.share();
    let thread = std::thread::spawn(move || wire.send(&message(ROUTE_REFRESH, &[0, 25, 0, 70]).repeat(QUESTIONS)));
    let other = stage.another();
    let mut others = stage.establish_as(&other, &[]);
    let mut answers = 0;
    // Once all was asked, another's route comes behind the answers.
    let mut reader = connection.share();
    let mut asked = Some(thread);
    while let Some(body) = reader.receive_kind(UPDATE) {
        answers += 1;
        if asked.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
            assert!(asked.take().is_none_or(|thread| thread.join().is_ok()));
            others.send(&other.announce(other.key));
        }
        if body.windows(6).any(|part| part == other.key) {
            break;
        }
    }
    assert!(answers < QUESTIONS * routes / 4, "{answers} messages for {QUESTIONS} questions");
    stage.scene.wait_installed(other.key);
    stage.assert_up();
}

/// What a refresh does not repeat goes when it ends. One that never ends takes nothing away by itself; its bound of 120 s is
/// asserted where time is virtual, in the tests of the RIB.
fn refreshed(stage: &mut Stage<'_>) {
    let refresh = |subtype| message(ROUTE_REFRESH, &[0, 25, subtype, 70]);
    let mut connection = stage.establish(&ENHANCED_REFRESH);
    stage.install_key(&mut connection);
    connection.send(&refresh(1));
    stage.barrier(&mut connection);
    assert!(stage.scene.places(stage.actor.key).all(true), "the refresh has not ended");
    connection.send(&refresh(1));
    connection.send(&stage.actor.announce(stage.actor.marker));
    connection.send(&refresh(2));
    stage.scene.wait_gone(stage.actor.key);
    assert!(stage.scene.places(stage.actor.marker).all(true));
    stage.assert_up();
}

fn timers() -> Vec<Row> {
    vec![
        Row::script("G11", "a peer that stops reading", "RFC 9687 4", |stage| stalled(stage, false))
            .on(Profile::Impatient)
            .breaks("send-hold-timer"),
        Row::script("G12", "a peer that reads octet by octet", "RFC 9687 4", |stage| stalled(stage, true))
            .on(Profile::Impatient)
            .breaks("send-hold-timer"),
        Row::script("G14", "OPEN and NOTIFICATION, a hundred times", "RFC 4271 8.1.1", reset_storm)
            .on(Profile::Impatient)
            .breaks("idle-hold"),
        Row::script("G15", "forty peers reset at once and return at once", "RFC 4271 8.1.1", all_at_once),
        Row::session("G16", "10,000 KEEPALIVE on a hold time of 3 s", "RFC 4271 4.4", Verdict::Ignored, |_| {
            message(KEEPALIVE, &[]).repeat(10_000)
        })
        .on(Profile::Impatient),
    ]
}

/// A large UPDATE with a route of `ELSEWHERE`, and attributes that no other has.
pub fn large(actor: &Actor, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let [.., a, b, c, _] = actor.key;
    let route = bgp::mac_route(actor.octets(), ELSEWHERE, [0x02, a ^ b, c, 0, high, low]);
    let filling = [&number.to_be_bytes()[..], &[7; 3_400]].concat();
    let attributes = [bgp::base(ELSEWHERE), vec![long_attribute(0xc0, 222, &filling)]].concat();
    actor.update_with(attributes, &[route])
}

/// A peer that wants everything and takes next to nothing while another announces megabytes: its session ends by the
/// send-hold time, and nobody else waits for it.
fn stalled(stage: &mut Stage<'_>, reads_a_little: bool) {
    const MESSAGES: u16 = 2_000;
    let mut connection = stage.connect_small();
    connection.send(&stage.actor.open().message(&[]));
    confirm(&mut connection);
    connection.send(&default_membership(stage.actor.octets()));
    stage.install_key(&mut connection);
    let source = stage.another_of(Profile::Contain);
    let mut announcer = stage.establish_as(&source, &[]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // It keeps its own side of the session alive all the while.
    let (shared, stopping) = (connection.share(), std::sync::Arc::clone(&stop));
    let alive = std::thread::spawn(move || {
        let mut octet = [0];
        while !stopping.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = shared.stream().write_all(&message(KEEPALIVE, &[]));
            if reads_a_little {
                let _ = shared.stream().read_exact(&mut octet);
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    });
    for number in 0..MESSAGES {
        announcer.send(&large(&source, number));
    }
    let address = stage.actor.address.to_string();
    wait::until("the session to end", || {
        let peer = stage.scene.reflector().peer(&address).unwrap_or_default();
        if peer.state == "Established" { Err("it is up") } else { Ok(()) }
    });
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let _ = connection.stream().shutdown(std::net::Shutdown::Both);
    assert!(alive.join().is_ok());
    stage.scene.wait_gone(stage.actor.key);
    // The observer has read all of it meanwhile.
    wait::until_true("the observer to have everything", || stage.scene.observer.routes().len() >= MESSAGES.into());
}

fn reset_storm(stage: &mut Stage<'_>) {
    const RESETS: usize = 100;
    let begin = Instant::now();
    let mut admitted = 0;
    for _ in 0..RESETS {
        let Ok(mut connection) = stage.try_connect(&stage.actor) else { continue };
        connection.send(&stage.actor.open().message(&[]));
        connection.send(&message(NOTIFICATION, &[6, 4]));
        admitted += usize::from(is_answered(&mut connection));
    }
    // Two failures are free; from then on the pauses are of three quarters of a second and more.
    let pauses = begin.elapsed().as_millis() / 750;
    assert!(
        admitted > 0 && admitted <= 4 + usize::try_from(pauses).unwrap_or(RESETS),
        "{admitted} in {:?}",
        begin.elapsed()
    );
    let address = stage.actor.address.to_string();
    let log = stage.scene.reflector().host.log("megalos-rr");
    let lines = log.lines().filter(|line| line.contains(&address)).count();
    assert!(lines <= RESETS / 2, "{lines} lines in the log");
    wait::until_true("the peer to be forgotten", || stage.scene.reflector().peer(&address).is_none());
}

/// Whether the daemon said anything but a NOTIFICATION before it closed.
fn is_answered(connection: &mut Connection) -> bool {
    let mut answered = false;
    while let Some((kind, _)) = connection.receive() {
        answered |= kind != NOTIFICATION;
    }
    answered
}

fn all_at_once(stage: &mut Stage<'_>) {
    let actors: Vec<_> = (0..40).map(|_| stage.another()).collect();
    let come = || {
        let mut sessions: Vec<_> = actors.iter().map(|actor| stage.connect_as(actor)).collect();
        let pairs = || actors.iter().zip(0..);
        pairs().for_each(|(actor, index): (&Actor, usize)| sessions[index].send(&actor.open().message(&[])));
        for (actor, index) in pairs() {
            confirm(&mut sessions[index]);
            sessions[index].send(&default_membership(actor.octets()));
            sessions[index].send(&actor.announce(actor.key));
        }
        actors.iter().for_each(|actor| stage.scene.wait_installed(actor.key));
        sessions
    };
    let sessions = come();
    drop(sessions);
    actors.iter().for_each(|actor| stage.scene.wait_gone(actor.key));
    drop(come());
}
