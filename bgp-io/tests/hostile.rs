//! Peers that misbehave over a plain socket: they cost their own session only.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bgp_core::session::DownCause;
use bgp_core::types::{AddressFamily, Asn, RouterId};
use bgp_core::wire::message::RefreshKind;
use bgp_core::wire::{Capability, EncodeContext, Message, NotificationCode, Open, RouteRefresh};
use bgp_io::Event;
use bytes::BytesMut;
use support::{PATIENCE, PEER, Speaker, update};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&EncodeContext::default(), &mut out);
    out.to_vec()
}

/// A connection from `127.0.0.host` that has been through OPEN and KEEPALIVE; its session never expires.
async fn raw_peer(host: u8, speaker: &mut Speaker) -> TcpStream {
    let spec = speaker.passive_spec(SocketAddr::from(([127, 0, 0, host], 179)));
    let mut spec = spec;
    spec.session.send_hold = Some(Duration::from_secs(1));
    speaker.io.set_peer(PEER, spec).unwrap();
    connect(host, speaker.address).await
}

async fn connect(host: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16_384).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    let mut stream = socket.connect(address).await.expect("the listener is there");
    let open = Open {
        asn: Asn(65_000),
        hold_time_secs: 0,
        router_id: RouterId(host.into()),
        capabilities: vec![
            Capability::Multiprotocol(AddressFamily::EVPN),
            Capability::FourOctetAs(Asn(65_000)),
            Capability::RouteRefresh,
        ],
    };
    let greeting = [encoded(&Message::Open(open)), encoded(&Message::Keepalive)].concat();
    stream.write_all(&greeting).await.unwrap();
    stream
}

async fn cause_of_end(speaker: &mut Speaker) -> DownCause {
    speaker
        .until(|event| match event {
            Event::Down { reason, .. } => Some(reason.cause),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_peer_that_never_reads_is_dropped_at_the_send_hold_time() {
    let mut speaker = Speaker::start(100).await;
    let stream = raw_peer(101, &mut speaker).await;
    let (session, _) = speaker.established().await;
    let shared: Vec<_> = (0..2_000).map(update).collect();
    let cause = loop {
        speaker.io.send(PEER, session, shared.clone());
        let next = speaker.until(|event| match event {
            Event::WriterReady { .. } => Some(None),
            Event::Down { reason, .. } => Some(Some(reason.cause)),
            _ => None,
        });
        if let Some(cause) = next.await {
            break cause;
        }
    };
    assert_eq!(cause, DownCause::SendHoldTimerExpired);
    drop(stream);
}

#[tokio::test]
async fn a_flood_of_refreshes_reaches_the_owner_once_per_read() {
    let mut speaker = Speaker::start(102).await;
    let mut stream = raw_peer(103, &mut speaker).await;
    speaker.established().await;
    let refresh = RouteRefresh { family: AddressFamily::EVPN, kind: RefreshKind::Request };
    stream.write_all(&encoded(&Message::RouteRefresh(refresh)).repeat(10_000)).await.unwrap();
    stream.write_all(&[0; 19]).await.unwrap();
    let mut refreshes = 0;
    let cause = loop {
        match speaker.next().await {
            Event::Refresh { .. } => refreshes += 1,
            Event::Down { reason, .. } => break reason.cause,
            _ => {}
        }
    };
    assert!((1..1_000).contains(&refreshes), "{refreshes} of 10,000 were passed on");
    assert_eq!(cause, DownCause::NotificationSent(NotificationCode::CONNECTION_NOT_SYNCHRONIZED.notification()));
}

#[tokio::test]
async fn the_last_words_arrive_before_the_connection_closes() {
    let mut speaker = Speaker::start(104).await;
    let mut stream = raw_peer(105, &mut speaker).await;
    speaker.established().await;
    // More follows the error, so that closing at once would reset the connection under the NOTIFICATION.
    stream.write_all(&[0; 60_000]).await.unwrap();
    let mut heard = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("closed soon").expect("not reset");
    let expected = encoded(&Message::Notification(NotificationCode::CONNECTION_NOT_SYNCHRONIZED.notification()));
    assert!(heard.ends_with(&expected), "{heard:?}");
    cause_of_end(&mut speaker).await;
}

#[tokio::test]
async fn a_peer_that_connects_over_and_over_keeps_one_session_and_can_come_back() {
    let mut speaker = Speaker::start(106).await;
    let mut streams = vec![raw_peer(107, &mut speaker).await];
    speaker.established().await;
    for _ in 0..50 {
        streams.push(connect(107, speaker.address).await);
    }
    drop(streams);
    // Whatever the order in which all of this was seen, the peer gets a session afterwards.
    let came_back = async {
        loop {
            let _stream = connect(107, speaker.address).await;
            let wait = tokio::time::timeout(Duration::from_secs(1), speaker.established_or_down());
            if wait.await == Ok(true) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, came_back).await.expect("a session comes up");
    assert_eq!(speaker.io.refused_connections(), 0);
}
