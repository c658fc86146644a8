//! Section A: TCP and the message header.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4};
use std::thread::JoinHandle;
use std::time::Duration;

use super::actor::Actor;
use super::dialogue::confirm;
use super::segments::{ACK, RST, SYN, Segment, send};
use super::stage::Stage;
use super::{Profile, Row, Verdict};
use crate::bgp::{Connection, KEEPALIVE, NOTIFICATION, OPEN, UPDATE, long_attribute, message};
use crate::fabric::LAN;
use crate::frames::Sniffer;
use crate::host::Host;
use crate::wait;

/// Capability: messages of up to 65,535 octets (RFC 8654).
pub const EXTENDED_MESSAGE: [u8; 2] = [6, 0];

/// All rows.
pub fn rows() -> Vec<Row> {
    [before_the_open(), sizes(), on_sessions(), tcp()].into_iter().flatten().collect()
}

/// Row, what, octets, verdict, data of the NOTIFICATION, rule.
type Greeting = (&'static str, &'static str, Vec<u8>, Verdict, Vec<u8>, &'static str);

fn before_the_open() -> Vec<Row> {
    let row = |(id, what, octets, verdict, data, rule): Greeting| {
        Row::greeting(id, what, "RFC 4271 6.1", verdict, move |_| octets.clone())
            .breaks(rule)
            .also(move |stage| assert_eq!(stage.data(), data, "data of the NOTIFICATION"))
    };
    malformed().into_iter().map(row).collect()
}

fn malformed() -> Vec<Greeting> {
    let length = |length: u16| length.to_be_bytes().to_vec();
    let (marker, size, kind) = (Verdict::Reset(1, 1), Verdict::Reset(1, 2), Verdict::Reset(1, 3));
    let http = b"GET / HTTP/1.1\r\nHost: reflector\r\n\r\n".to_vec();
    vec![
        ("A06", "HTTP", http, marker, vec![], "header-marker"),
        ("A06", "4096 zeros", vec![0; 4_096], marker, vec![], "header-marker"),
        ("A06", "a bad octet in the marker", header(0xfe, 19, KEEPALIVE), marker, vec![], "header-marker"),
        ("A07", "length 18", header(0xff, 18, KEEPALIVE), size, length(18), "header-length"),
        ("A08", "length 0", header(0xff, 0, KEEPALIVE), size, length(0), "header-length"),
        ("A12", "an OPEN of 4097 octets", filled(4_097, OPEN), size, length(4_097), "header-length"),
        ("A12", "an OPEN of 65535 octets", filled(65_535, OPEN), size, length(65_535), "header-length"),
        ("A14", "an OPEN of 28 octets", filled(28, OPEN), size, length(28), "header-length"),
        ("A16", "a KEEPALIVE of 20 octets", filled(20, KEEPALIVE), size, length(20), "header-length"),
        ("A18", "type 0", header(0xff, 19, 0), kind, vec![0], "header-type"),
        ("A18", "type 6", header(0xff, 19, 6), kind, vec![6], "header-type"),
        ("A18", "type 255", header(0xff, 19, 255), kind, vec![255], "header-type"),
    ]
}

/// A header of any kind.
pub fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![marker; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets
}

/// A whole message of this length, of zeros.
fn filled(length: u16, kind: u8) -> Vec<u8> {
    let mut octets = header(0xff, length, kind);
    octets.resize(length.into(), 0);
    octets
}

/// The announcement of the key, padded to so many octets with an attribute that nobody knows and nobody carries on.
fn padded(actor: &Actor, octets: usize) -> Vec<u8> {
    let bare = actor.key_and(&[]).len() + 4;
    actor.key_and(&[long_attribute(0x80, 222, &vec![7; octets - bare])])
}

fn sizes() -> Vec<Row> {
    let session = |id, what, rfc, verdict, octets: fn(&Actor) -> Vec<u8>| Row::session(id, what, rfc, verdict, octets);
    let too_long = |row: Row| row.breaks("header-length");
    vec![
        session("A09", "an UPDATE of 4096 octets", "RFC 4271 4.1", Verdict::Accepted, |actor| padded(actor, 4_096)),
        too_long(session("A10", "an UPDATE of 4097 octets", "RFC 8654 4, 5", Verdict::Reset(1, 2), |actor| {
            padded(actor, 4_097)
        }))
        .also(|stage| assert_eq!(stage.data(), [0x10, 0x01])),
        session("A11", "an UPDATE of 65535 octets, extended", "RFC 8654 4", Verdict::Accepted, |actor| {
            padded(actor, 65_535)
        })
        .with_capabilities(&EXTENDED_MESSAGE),
        too_long(session("A12", "an OPEN of 4097 octets, extended", "RFC 8654 4", Verdict::Reset(1, 2), |_| {
            message(OPEN, &[0; 4_078])
        }))
        .with_capabilities(&EXTENDED_MESSAGE),
        too_long(session("A12", "a KEEPALIVE of 4097 octets, extended", "RFC 8654 4", Verdict::Reset(1, 2), |_| {
            message(KEEPALIVE, &[0; 4_078])
        }))
        .with_capabilities(&EXTENDED_MESSAGE),
        too_long(session("A15", "an UPDATE of 22 octets", "RFC 4271 6.1", Verdict::Reset(1, 2), |_| {
            message(UPDATE, &[0; 3])
        })),
        session("A17", "a NOTIFICATION of 20 octets is not answered", "RFC 4271 6.4", Verdict::Closed, |_| {
            message(NOTIFICATION, &[6])
        }),
        session("A17", "a NOTIFICATION of 19 octets is not answered", "RFC 4271 6.4", Verdict::Closed, |_| {
            message(NOTIFICATION, &[])
        }),
    ]
}

fn on_sessions() -> Vec<Row> {
    vec![
        Row::script("A19", "FIN within a header", "RFC 4271 8, event 18", |stage| cut(stage, 10)),
        Row::script("A19", "FIN within a body", "RFC 4271 8, event 18", |stage| cut(stage, 40)),
        Row::script("A20", "an OPEN, octet by octet and slowly", "RFC 4271 8.2.2", slow_open).on(Profile::Impatient),
        Row::script("A20", "forty connections that stop within their OPEN", "RFC 4271 8.2.2", half_open)
            .on(Profile::Impatient),
        Row::script("A21", "an UPDATE, octet by octet and slowly", "RFC 4271 6.5", slow_update)
            .on(Profile::Impatient)
            .breaks("hold-timer"),
        Row::script("A23", "a dialogue, octet by octet", "RFC 4271 4", octet_by_octet),
        Row::script("A23", "UPDATEs cut in two at every octet", "RFC 4271 4", cut_at_every_octet),
        Row::script("A24", "a good UPDATE and a bad header at once", "RFC 4271 6.1", good_then_bad)
            .breaks("header-marker"),
    ]
}

/// Half an UPDATE and the end: nothing of it counts, and what came before goes with the session.
fn cut(stage: &mut Stage<'_>, octets: usize) {
    let mut connection = stage.establish(&[]);
    stage.install_key(&mut connection);
    connection.send(&stage.actor.announce(stage.actor.marker)[..octets]);
    let _ = connection.stream().shutdown(Shutdown::Write);
    stage.assert_end(&mut connection, None);
    stage.scene.wait_gone(stage.actor.key);
    assert!(stage.scene.places(stage.actor.marker).all(false), "half a message was read");
}

/// Sends octets one by one from another thread, until they are through or the other side has closed.
fn trickle(connection: &Connection, octets: Vec<u8>, pause: Duration) -> JoinHandle<()> {
    let shared = connection.share();
    std::thread::spawn(move || {
        for octet in octets {
            if shared.stream().write_all(&[octet]).is_err() {
                return;
            }
            std::thread::sleep(pause);
        }
    })
}

fn slow_open(stage: &mut Stage<'_>) {
    let mut connection = stage.connect();
    let thread = trickle(&connection, stage.actor.open().message(&[]), Duration::from_secs(1));
    // Our OPEN was sent, so theirs is answered with what it is: too late.
    stage.assert_end(&mut connection, Some((4, 0)));
    let _ = connection.stream().shutdown(Shutdown::Both);
    assert!(thread.join().is_ok());
    assert!(stage.scene.findings(&stage.actor.address.to_string()).contains_key("open-timeout"));
}

fn half_open(stage: &mut Stage<'_>) {
    let actors: Vec<_> = (0..40).map(|_| stage.another()).collect();
    let mut idle: Vec<_> = actors.iter().map(|actor| stage.connect_as(actor)).collect();
    for ((octets, actor), connection) in actors.iter().enumerate().zip(&mut idle) {
        connection.send(&actor.open().message(&[])[..octets]);
    }
    serves_others(stage);
    for connection in &mut idle {
        stage.assert_end(connection, Some((4, 0)));
    }
}

fn slow_update(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&[]);
    stage.install_key(&mut connection);
    let thread = trickle(&connection, stage.actor.announce(stage.actor.marker), Duration::from_millis(500));
    stage.assert_end(&mut connection, Some((4, 0)));
    let _ = connection.stream().shutdown(Shutdown::Both);
    assert!(thread.join().is_ok());
}

fn octet_by_octet(stage: &mut Stage<'_>) {
    let mut connection = stage.connect();
    let mut dialogue = stage.actor.open().message(&[]);
    dialogue.extend(message(KEEPALIVE, &[]));
    dialogue.extend(stage.actor.announce(stage.actor.marker));
    dialogue.extend(stage.actor.withdraw(stage.actor.marker));
    dialogue.extend(stage.actor.announce(stage.actor.key));
    let thread = trickle(&connection, dialogue, Duration::ZERO);
    for kind in [OPEN, KEEPALIVE] {
        connection.receive_kind(kind).unwrap_or_else(|| panic!("closed before message type {kind}"));
    }
    assert!(thread.join().is_ok());
    stage.scene.wait_installed(stage.actor.key);
    stage.scene.wait_gone(stage.actor.marker);
    stage.assert_up();
}

fn cut_at_every_octet(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&[]);
    let [.., second, high, low, _] = stage.actor.key;
    let mac = |number: usize| [0x02, 0xcb, second, high, low, u8::try_from(number).unwrap_or_default()];
    let cuts = stage.actor.announce(stage.actor.key).len();
    for at in 1..cuts {
        let update = stage.actor.announce(mac(at));
        connection.send(&update[..at]);
        connection.send(&update[at..]);
    }
    stage.barrier(&mut connection);
    let known = stage.scene.best_routes();
    for at in 1..cuts {
        let text = super::actor::text(mac(at));
        assert!(known.keys().any(|route| route.contains(&text)), "cut at {at}: {text} is not known");
    }
    stage.scene.wait_kernels_follow();
}

fn good_then_bad(stage: &mut Stage<'_>) {
    // With graceful restart that a NOTIFICATION does not end (RFC 8538), what was applied before it can be seen after it.
    let mut connection = stage.establish(&super::open::graceful(0x40, 2));
    let octets = [stage.actor.announce(stage.actor.key), header(0, 19, KEEPALIVE)].concat();
    connection.send(&octets);
    stage.assert_end(&mut connection, Some((1, 1)));
    stage.scene.wait_installed(stage.actor.key);
    // Its time runs out: nobody returns.
    stage.scene.wait_gone(stage.actor.key);
}

fn tcp() -> Vec<Row> {
    vec![
        Row::script("A01", "a connection from an address that nobody accepts", "RFC 4486, RFC 4272", stranger)
            .on(Profile::Stranger),
        Row::script("A02", "300 connections of one address that say nothing", "RFC 4272", silent_connections),
        Row::script("A03", "segments with TTL 254 on a session with GTSM", "RFC 5082", far_segments).on(Profile::Near),
        Row::script("A03", "a connection with TTL 64 where GTSM is asked for", "RFC 5082", far_connection)
            .on(Profile::Near),
        Row::script("A05", "RST, SYN and data of others, inside the window and outside", "RFC 5961", injected),
        // Last: while the kernel answers with SYN cookies it cannot tell GTSM with which TTL a connection began.
        Row::script("A02", "10,000 half-open connections of unknown sources", "RFC 4272", syn_flood),
    ]
}

fn stranger(stage: &mut Stage<'_>) {
    let before = stage.scene.findings("stranger").values().sum::<u64>();
    // It may be gone before it knows that it was there.
    if let Ok(mut connection) = stage.try_connect(&stage.actor) {
        connection.send(&stage.actor.open().message(&[]));
        let answer = connection.receive();
        assert!(answer.as_ref().is_none_or(|(kind, _)| *kind == NOTIFICATION), "no OPEN for a stranger: {answer:?}");
    }
    wait::until_true("the stranger to be counted", || stage.scene.findings("stranger").values().sum::<u64>() > before);
    let peers = stage.scene.reflector().peers();
    let address = stage.actor.address.to_string();
    assert!(peers.iter().all(|peer| peer.address != address), "something is kept of a stranger");
}

/// Where the reflector listens.
fn reflector() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), crate::fabric::PORT)
}

fn syn_flood(stage: &mut Stage<'_>) {
    // Nobody has these addresses, so nobody answers: the connections stay half-open.
    let syn = |number: u16| Segment {
        from: SocketAddrV4::new(Ipv4Addr::new(10, 8, 0, (number % 50).to_be_bytes()[1] + 1), 10_000 + number / 50),
        to: reflector(),
        sequence: u32::from(number) << 12,
        acknowledged: 0,
        flags: SYN,
        data: Vec::new(),
    };
    let flood: Vec<_> = (0..10_000).map(syn).collect();
    send(&stage.scene.hostile, &flood);
    serves_others(stage);
}

fn silent_connections(stage: &mut Stage<'_>) {
    let open: Vec<_> = (0..300).filter_map(|_| stage.try_connect(&stage.actor).ok()).collect();
    assert!(open.len() > 100, "{} connections", open.len());
    serves_others(stage);
    drop(open);
}

/// A newcomer and a worker's new device are served as ever.
fn serves_others(stage: &Stage<'_>) {
    let newcomer = Stage::new(stage.scene, Profile::Contain);
    let mut connection = newcomer.establish(&[]);
    newcomer.install_key(&mut connection);
    let workers = &stage.scene.fabric.workers;
    let device = Host::new("pc9");
    let mac = "02:00:00:00:00:99";
    workers[0].attach(&device, LAN, mac, "192.168.1.99/24");
    stage.scene.fabric.wait_row(1, LAN, mac, Some(0));
    workers[0].detach(&device);
    stage.scene.fabric.wait_row(1, LAN, mac, None);
}

fn far_segments(stage: &mut Stage<'_>) {
    let mut connection = stage.connect_with_ttl(255);
    connection.send(&stage.actor.open().message(&[]));
    confirm(&mut connection);
    let host = &stage.scene.reflector().host;
    let before = host.counter("TcpExtTCPMinTTLDrop");
    let set_ttl = |ttl| connection.stream().set_ttl(ttl).unwrap_or_else(|error| panic!("{error}"));
    set_ttl(254);
    let mut far = connection.share();
    far.send(&stage.actor.announce(stage.actor.key));
    wait::until_true("the kernel to drop what comes from afar", || host.counter("TcpExtTCPMinTTLDrop") > before);
    assert!(stage.scene.places(stage.actor.key).all(false));
    // What TCP sends again comes from near.
    set_ttl(255);
    stage.scene.wait_installed(stage.actor.key);
    stage.assert_up();
}

fn far_connection(stage: &mut Stage<'_>) {
    let mut connection = stage.connect_with_ttl(64);
    connection.send(&stage.actor.open().message(&[]));
    assert_eq!(connection.receive(), None, "no answer from afar");
    let counted = stage.scene.findings("stranger");
    assert!(counted.contains_key("ttl"), "{counted:?}");
}

/// Whoever is not on the path does not know both sequence numbers. With one of them right it must not matter either.
fn injected(stage: &mut Stage<'_>) {
    let host = &stage.scene.reflector().host;
    let sniffer = Sniffer::start(host, "eth0");
    let worker = Ipv4Addr::new(10, 0, 0, 11);
    let segment_of = |from: Ipv4Addr| {
        let of = move |frame: &[u8]| Segment::in_frame(frame).filter(|segment| *segment.from.ip() == from);
        let peers = move |segment: &Segment| [reflector().ip(), &worker].contains(&segment.to.ip());
        let is_wanted = |frame: &[u8]| of(frame).as_ref().is_some_and(peers);
        // Each says something every third of the hold time.
        sniffer.wait_for(&format!("a segment of {from}"), is_wanted);
        sniffer.frames(is_wanted).iter().rev().find_map(|frame| of(frame)).unwrap_or_else(|| panic!("no segment"))
    };
    let (theirs, ours) = (segment_of(worker), segment_of(*reflector().ip()));
    let next = |segment: &Segment| segment.sequence.wrapping_add(u32::try_from(segment.data.len()).unwrap_or_default());
    let (known, acknowledged) = (next(&theirs), next(&ours));
    let far = 0x4000_0000_u32;
    let forged = |flags, sequence: u32, acknowledged: u32, data: &[u8]| Segment {
        from: theirs.from,
        to: theirs.to,
        sequence,
        acknowledged,
        flags,
        data: data.to_vec(),
    };
    let mut segments: Vec<_> =
        (0..50).map(|step| forged(RST, known.wrapping_add(far + step * 65_536), 0, &[])).collect();
    segments.push(forged(RST, known.wrapping_add(1_001), 0, &[]));
    segments.push(forged(SYN, known, 0, &[]));
    segments.push(forged(SYN, known.wrapping_add(far), 0, &[]));
    segments.push(forged(ACK, known.wrapping_add(far), acknowledged, &[0; 64]));
    segments.push(forged(ACK, known, acknowledged.wrapping_add(far), &[0; 64]));
    segments.push(forged(0, known, 0, &[0; 64]));
    let before = host.counter("TcpExtTCPSYNChallenge");
    send(&stage.scene.hostile, &segments);
    wait::until_true("the segments to have arrived", || host.counter("TcpExtTCPSYNChallenge") > before);
    let mut connection = stage.establish(&[]);
    stage.install_key(&mut connection);
}
