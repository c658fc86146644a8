//! What TCP itself must refuse: wrong keys, wrong TTL, foreign addresses; and what it says when it cannot be had.

mod support;

use std::net::{IpAddr, SocketAddr};

use bgp_core::session::{DownCause, StopReason};
use bgp_io::{Event, Io, IoError};
use support::{PEER, Speaker, update};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

async fn with_keys(hosts: [u8; 2], keys: [Option<&str>; 2]) -> (Speaker, Speaker) {
    let mut a = Speaker::start(hosts[0]).await;
    let mut b = Speaker::start(hosts[1]).await;
    let (mut to_b, mut to_a) = (a.passive_spec(b.address), b.spec(a.address));
    [to_b.key, to_a.key] = keys.map(|key| key.map(str::to_owned));
    a.io.set_peer(PEER, to_b).unwrap();
    b.io.set_peer(PEER, to_a).unwrap();
    (a, b)
}

#[tokio::test]
async fn the_same_md5_key_lets_a_session_come_up() {
    let (mut a, mut b) = with_keys([60, 61], [Some("secret"), Some("secret")]).await;
    let (session, _) = a.established().await;
    b.established().await;
    a.io.send(PEER, session, vec![update(7)]);
    assert_eq!(b.macs(1).await, [7]);
}

#[tokio::test]
async fn other_md5_keys_or_none_keep_everybody_out_and_the_error_says_what_to_check() {
    for (host, keys) in
        [(62, [Some("secret"), Some("another")]), (64, [Some("secret"), None]), (66, [None, Some("secret")])]
    {
        let (_a, mut b) = with_keys([host, host + 1], keys).await;
        let error = b.error("no answer").await;
        assert!(error.contains("TCP-MD5"), "{error}");
    }
}

#[tokio::test]
async fn a_new_key_is_for_the_next_session_and_leaves_the_one_that_runs() {
    let (mut a, mut b) = with_keys([68, 69], [Some("old"), Some("old")]).await;
    a.established().await;
    b.established().await;
    let (mut to_b, mut to_a) = (a.passive_spec(b.address), b.spec(a.address));
    (to_b.key, to_a.key) = (Some("new".to_owned()), Some("new".to_owned()));
    // One side after the other: what ends the session is what we ask for between the two, and nothing before.
    a.io.set_peer(PEER, to_b).unwrap();
    a.io.stop(PEER, StopReason::Reset { administrative: true });
    let why = |event| match event {
        Event::Down { reason, .. } => Some(reason.cause),
        _ => None,
    };
    assert_eq!(a.until(why).await, DownCause::Stopped(StopReason::Reset { administrative: true }));
    b.until(why).await;
    b.io.set_peer(PEER, to_a).unwrap();
    a.established().await;
    b.established().await;
}

#[tokio::test]
async fn a_key_for_a_prefix_holds_for_every_address_in_it() {
    let mut a = Speaker::start(72).await;
    let mut b = Speaker::start(73).await;
    a.io.accept(&[("127.0.0.72/29".parse().unwrap(), Some("secret".to_owned()), false)]).unwrap();
    let mut to_a = b.spec(a.address);
    to_a.key = Some("secret".to_owned());
    b.io.set_peer(PEER, to_a).unwrap();
    let incoming = a.incoming().await;
    let mut spec = a.passive_spec(incoming.from);
    spec.key = Some("secret".to_owned());
    a.io.set_peer(PEER, spec).unwrap();
    a.io.deliver(PEER, incoming);
    a.established().await;
    b.established().await;
}

#[tokio::test]
async fn thousands_of_peers_share_a_key_and_others_in_between_have_their_own_or_none() {
    let mut a = Speaker::with_capacity(IpAddr::from([127, 0, 0, 90]), 8_192).await;
    let (mut keyed, mut other, mut bare) =
        (Speaker::start(91).await, Speaker::start(92).await, Speaker::start(93).await);
    let peers = |a: &Speaker, key: &str| {
        let spec = |address: SocketAddr, key: Option<&str>| {
            let mut spec = a.passive_spec(address);
            spec.key = key.map(str::to_owned);
            spec
        };
        let many = (0..3_000_u16).map(|n| {
            let [high, low] = n.to_be_bytes();
            spec(SocketAddr::from(([127, 9, high, low], 179)), Some(key))
        });
        let named = [(keyed.address, Some(key)), (other.address, Some("other")), (bare.address, None)];
        many.chain(named.map(|(address, key)| spec(address, key))).collect::<Vec<_>>()
    };
    // Twice, since one key takes the other's place.
    for key in ["old", "new"] {
        a.io.begin_batch();
        for (n, spec) in (1..).zip(peers(&a, key)) {
            a.io.set_peer(bgp_core::types::PeerId(n), spec).unwrap();
        }
        a.io.end_batch().unwrap();
    }
    for (speaker, key) in [(&mut keyed, Some("new")), (&mut other, Some("other")), (&mut bare, None)] {
        let mut to_a = speaker.spec(a.address);
        to_a.key = key.map(str::to_owned);
        speaker.io.set_peer(PEER, to_a).unwrap();
        speaker.established().await;
        a.established().await;
    }
}

#[tokio::test]
async fn keys_that_the_kernel_does_not_take_are_refused_at_once() {
    let mut a = Speaker::start(74).await;
    for key in ["", &"k".repeat(81)] {
        let mut spec = a.spec(SocketAddr::from(([127, 0, 0, 75], 179)));
        spec.key = Some(key.to_owned());
        let error = a.io.set_peer(PEER, spec).expect_err("the key is refused");
        assert!(error.to_string().contains("1 to 80 bytes"), "{error}");
    }
}

/// A connection from this host that comes with the TTL of programs that know nothing of GTSM.
async fn with_common_ttl(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("the address is local");
    socket.connect(to).await.expect("the listener is there")
}

#[tokio::test]
async fn gtsm_of_the_peer_is_satisfied_whether_it_is_on_here_or_not() {
    for (host, gtsm) in [(80, [true, true]), (92, [true, false]), (94, [false, true])] {
        let mut a = Speaker::start(host).await;
        let mut b = Speaker::start(host + 1).await;
        let (mut to_b, mut to_a) = (a.passive_spec(b.address), b.spec(a.address));
        [to_b.gtsm, to_a.gtsm] = gtsm;
        a.io.set_peer(PEER, to_b).unwrap();
        b.io.set_peer(PEER, to_a).unwrap();
        a.established().await;
        b.established().await;
    }
}

#[tokio::test]
async fn gtsm_holds_for_peers_that_come_from_an_accepted_prefix() {
    let mut a = Speaker::start(88).await;
    let mut b = Speaker::start(89).await;
    a.io.accept(&[("127.0.0.88/29".parse().unwrap(), None, true)]).unwrap();
    let mut far = with_common_ttl(90, a.address).await;
    let read = tokio::time::timeout(support::PATIENCE, far.read(&mut [0])).await.expect("closed soon");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(a.io.refused_connections(), 1);

    b.io.set_peer(PEER, b.spec(a.address)).unwrap();
    let incoming = a.incoming().await;
    let mut spec = a.passive_spec(incoming.from);
    spec.gtsm = true;
    a.io.set_peer(PEER, spec).unwrap();
    a.io.deliver(PEER, incoming);
    a.established().await;
    b.established().await;
}

#[tokio::test]
async fn gtsm_drops_what_comes_with_a_smaller_ttl() {
    let mut a = Speaker::start(82).await;
    let mut to_b = a.passive_spec(SocketAddr::from(([127, 0, 0, 83], 179)));
    to_b.gtsm = true;
    a.io.set_peer(PEER, to_b).unwrap();
    let _far = with_common_ttl(83, a.address).await;
    let error = a.error("TTL 255").await;
    assert!(error.contains("set GTSM on both sides, or on neither"), "{error}");
}

#[tokio::test]
async fn a_foreign_address_is_closed_at_once_and_counted() {
    let a = Speaker::start(84).await;
    let mut stream = TcpStream::connect(a.address).await.expect("the listener is there");
    let mut octet = [0];
    let read = tokio::time::timeout(support::PATIENCE, stream.read(&mut octet)).await.expect("closed soon");
    assert!(matches!(read, Ok(0) | Err(_)), "nothing is said to strangers: {read:?}");
    assert_eq!(a.io.refused_connections(), 1);
}

#[tokio::test]
async fn nobody_is_let_in_before_it_is_said_who_may_come() {
    let mut a = Speaker::closed(IpAddr::from([127, 0, 0, 88]), 64).await;
    let early = TcpStream::connect(a.address).await.expect_err("nothing listens yet");
    assert_eq!(early.kind(), std::io::ErrorKind::ConnectionRefused);
    a.io.accept(&[("127.0.0.0/8".parse().unwrap(), None, false)]).unwrap();
    a.io.open().unwrap();
    let _stream = TcpStream::connect(a.address).await.expect("the listener is there");
    assert!(matches!(a.next().await, Event::Incoming(_)));
    assert_eq!(a.io.refused_connections(), 0, "the one that came early was told by the system, not refused by us");
}

#[tokio::test]
async fn a_port_in_use_and_a_foreign_listen_address_are_errors_with_a_cure() {
    let a = Speaker::start(85).await;
    let error = Io::start(&[a.address], 1).await.expect_err("the port is in use");
    assert!(matches!(error, IoError::Listen { .. }));
    assert!(error.to_string().contains("another program listens there: stop it, or listen on another port"), "{error}");
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = Io::start(&[foreign], 1).await.expect_err("the address is not local");
    assert!(error.to_string().contains("give an address that this machine has"), "{error}");
}

#[tokio::test]
async fn a_local_address_that_is_not_local_and_a_peer_that_is_not_there_are_explained() {
    let mut a = Speaker::start(86).await;
    let mut spec = a.spec(SocketAddr::from(([127, 0, 0, 87], 1)));
    a.io.set_peer(PEER, spec.clone()).unwrap();
    let error = a.error("refused").await;
    assert!(error.contains("start the peer, or correct its address and port"), "{error}");
    spec.local_address = Some(IpAddr::from([192, 0, 2, 1]));
    a.io.set_peer(PEER, spec).unwrap();
    let error = a.error("192.0.2.1").await;
    assert!(error.contains("give an address that this machine has, or none"), "{error}");
}
