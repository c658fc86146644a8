//! The session held to its table, to its rules between two speakers, and to any input.
//!
//! With the feature `testing` the network between two speakers is there for others too: the fuzz targets use it.

#[cfg(test)]
mod any_input;
#[cfg(test)]
mod back_off;
#[cfg(test)]
mod graceful;
pub mod net;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod table;

use bytes::BytesMut;

use super::peer::KEEPALIVE;
use super::*;
use crate::time::Instant;
use crate::types::{AddressFamily, Asn, RouterId};
use crate::wire::{EncodeContext, Frame, MaxMessage, Message, Notification, NotificationCode, frame};

/// The end-of-RIB marker of EVPN.
const END_OF_RIB: &[u8] =
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x1d\x02\0\0\0\x06\x80\x0f\x03\0\x19\x46";

fn config(router_id: u32) -> PeerConfig {
    PeerConfig::new(Asn(65_000), RouterId(router_id))
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&EncodeContext::default(), &mut out);
    out.to_vec()
}

/// The OPEN of a speaker with this configuration.
fn open_of(config: &PeerConfig) -> Vec<u8> {
    encoded(&Message::Open(config.open(false)))
}

fn notification(code: NotificationCode) -> Vec<u8> {
    encoded(&Message::Notification(code.notification()))
}

/// The messages in `bytes`.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(next) = frame(&mut buffer, MaxMessage::Extended).expect("what we send is well framed") {
        frames.push(next);
    }
    assert!(buffer.is_empty(), "what we send is whole messages");
    frames
}

/// One word or two for an output.
fn describe(output: &Output) -> String {
    match output {
        Output::Connect => "connect".to_owned(),
        Output::CancelConnect => "cancel-connect".to_owned(),
        Output::Send(id, bytes) => {
            let words: Vec<_> = frames(bytes).iter().map(describe_frame).collect();
            format!("send#{} {}", id.0, words.join(" "))
        }
        Output::Close(id) => format!("close#{}", id.0),
        Output::Established(id, _) => format!("established#{}", id.0),
        Output::Update(_) => "update".to_owned(),
        Output::RouteRefresh(_) => "route-refresh".to_owned(),
        Output::Down(reason) if reason.keeps.is_empty() => format!("down: {}", reason.cause),
        Output::Down(reason) => {
            let families: Vec<_> = reason.keeps.iter().map(|kept| kept.family).collect();
            format!("down: {}, keeps {families:?}", reason.cause)
        }
        Output::Failed(cause) => format!("failed: {cause}"),
        Output::StateChanged { from, to } => format!("{from}->{to}"),
    }
}

fn describe_frame(frame: &Frame) -> String {
    match frame.kind {
        crate::wire::MessageKind::Notification => {
            let code = frame.body.first().copied().unwrap_or(0);
            let subcode = frame.body.get(1).copied().unwrap_or(0);
            format!("NOTIFICATION({code}/{subcode})")
        }
        kind => format!("{kind:?}").to_uppercase(),
    }
}

fn drain(peer: &mut Peer) -> Vec<String> {
    core::iter::from_fn(|| peer.poll_output()).map(|output| describe(&output)).collect()
}

/// A peer brought to `state` on connection 1 at second 1; the remote speaker has `remote`'s configuration.
fn peer_in(state: State, ours: PeerConfig, remote: &PeerConfig) -> Peer {
    let mut peer = Peer::new(ours);
    let now = Instant::from_secs(1);
    let id = ConnectionId(1);
    if state == State::Idle {
        return peer;
    }
    peer.start(now);
    match state {
        State::Connect => {}
        State::Active => peer.connect_failed(now),
        _ => peer.connected(now, id, Direction::Outgoing),
    }
    drain(&mut peer);
    if matches!(state, State::OpenConfirm | State::Established) {
        peer.received(now, id, &open_of(remote));
        drain(&mut peer);
    }
    if state == State::Established {
        peer.received(now, id, KEEPALIVE);
        drain(&mut peer);
    }
    assert_eq!(peer.state(), state);
    peer
}

/// What the peer sent on `output`, if it is a NOTIFICATION.
fn sent_notification(output: &Output) -> Option<Notification> {
    let Output::Send(_, bytes) = output else { return None };
    frames(bytes).into_iter().find_map(|frame| match Message::decode(&frame, &crate::wire::DecodeContext::default()) {
        Ok(Message::Notification(notification)) => Some(notification),
        _ => None,
    })
}

const STATES: [State; 6] =
    [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established];
const EVPN: AddressFamily = AddressFamily::EVPN;
