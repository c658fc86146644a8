//! Two and more speakers on loopback addresses of their own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bgp_core::session::{Negotiated, PeerConfig, State};
use bgp_core::types::{Asn, MacAddr, PeerId, RouteDistinguisher, RouterId, Vni};
use bgp_core::wire::message::{Message, Reach, Routes, Update};
use bgp_core::wire::{EncodeContext, EvpnKey, EvpnPayload, PathAttributes, Route};
use bgp_io::{Event, Incoming, Io, PeerSpec, SessionId};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::Receiver;

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The only peer of most speakers.
pub const PEER: PeerId = PeerId(1);

/// A speaker on an address of its own.
pub struct Speaker {
    pub io: Io,
    pub events: Receiver<Event>,
    pub address: SocketAddr,
    pub router_id: RouterId,
}

impl Speaker {
    /// Listens on `127.0.0.host`, on a port that the system chooses.
    pub async fn start(host: u8) -> Self {
        Self::with_capacity(IpAddr::from([127, 0, 0, host]), 64).await
    }

    pub async fn with_capacity(address: IpAddr, capacity: usize) -> Self {
        let mut speaker = Self::closed(address, capacity).await;
        speaker.io.open().expect("the port is ours");
        speaker
    }

    /// One that does not listen yet.
    pub async fn closed(address: IpAddr, capacity: usize) -> Self {
        let (io, events) = Io::start(&[SocketAddr::new(address, 0)], capacity).await.expect("loopback can be had");
        let address = io.local_addresses()[0];
        let last = match address.ip() {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        Self { io, events, address, router_id: RouterId(last.into()) }
    }

    /// How this speaker would configure `peer`.
    pub fn spec(&self, peer: SocketAddr) -> PeerSpec {
        PeerSpec {
            address: peer,
            local_address: Some(self.address.ip()),
            key: None,
            gtsm: false,
            restarting: false,
            session: PeerConfig {
                connect_retry: Duration::from_millis(200),
                ..PeerConfig::new(Asn(65_000), self.router_id)
            },
        }
    }

    pub fn passive_spec(&self, peer: SocketAddr) -> PeerSpec {
        let mut spec = self.spec(peer);
        spec.session.passive = true;
        spec
    }

    /// The next event, whatever it is.
    pub async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("something happens").expect("the sessions still run")
    }

    /// Skips events until `pick` takes one.
    pub async fn until<R>(&mut self, mut pick: impl FnMut(Event) -> Option<R>) -> R {
        loop {
            if let Some(found) = pick(self.next().await) {
                return found;
            }
        }
    }

    /// The next connection of a stranger.
    pub async fn incoming(&mut self) -> Incoming {
        self.until(|event| match event {
            Event::Incoming(incoming) => Some(incoming),
            _ => None,
        })
        .await
    }

    pub async fn established(&mut self) -> (SessionId, Box<Negotiated>) {
        self.until(|event| match event {
            Event::Established { session, negotiated, .. } => Some((session, negotiated)),
            Event::Down { reason, .. } => panic!("down: {}", reason.cause),
            _ => None,
        })
        .await
    }

    /// Waits for a session to come up (true) or go down.
    pub async fn established_or_down(&mut self) -> bool {
        self.until(|event| match event {
            Event::Established { .. } => Some(true),
            Event::Down { .. } => Some(false),
            _ => None,
        })
        .await
    }

    /// Waits for a failure whose words contain `part`.
    pub async fn error(&mut self, part: &str) -> String {
        self.until(|event| match event {
            Event::State { error: Some(error), .. } if error.contains(part) => Some(error),
            Event::Established { .. } => panic!("a session came up"),
            _ => None,
        })
        .await
    }

    pub async fn state(&mut self, wanted: State) {
        self.until(|event| match event {
            Event::State { state, .. } if state == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    /// Collects announced MACs until there are `count`.
    pub async fn macs(&mut self, count: usize) -> Vec<u32> {
        let mut found = Vec::new();
        while found.len() < count {
            found.extend(macs(&self.updates().await));
        }
        found
    }

    /// What the next read of the peer's socket gives.
    pub async fn updates(&mut self) -> Vec<Update> {
        self.until(|event| match event {
            Event::Updates { updates, .. } => Some(updates),
            Event::Down { reason, .. } => panic!("down: {}", reason.cause),
            _ => None,
        })
        .await
    }

    /// Waits until the writer asks for the next batch.
    pub async fn writer_ready(&mut self) {
        self.until(|event| match event {
            Event::WriterReady { .. } => Some(()),
            Event::Down { reason, .. } => panic!("down: {}", reason.cause),
            _ => None,
        })
        .await;
    }
}

/// Two speakers that know each other, the first waiting for the second.
pub async fn pair(first: u8, second: u8) -> (Speaker, Speaker) {
    let mut a = Speaker::start(first).await;
    let mut b = Speaker::start(second).await;
    let (to_b, to_a) = (a.passive_spec(b.address), b.spec(a.address));
    a.io.set_peer(PEER, to_b).expect("a peer without a key is always taken");
    b.io.set_peer(PEER, to_a).expect("a peer without a key is always taken");
    (a, b)
}

/// An UPDATE that announces one MAC, encoded.
pub fn update(mac: u32) -> Bytes {
    let [a, b, c, d] = mac.to_be_bytes();
    let vni = Vni::new(100).expect("a VNI");
    let key = EvpnKey::MacIp {
        rd: RouteDistinguisher::ipv4(Ipv4Addr::LOCALHOST, 100),
        tag: Default::default(),
        mac: MacAddr([2, 0, a, b, c, d]),
        ip: None,
    };
    let payload = EvpnPayload::MacIp { esi: Default::default(), label: vni.into(), label2: None };
    let mut attributes = PathAttributes::new(Ipv4Addr::LOCALHOST.into());
    attributes.local_pref = Some(100);
    let routes = Routes::Evpn(vec![Route { key, payload }]);
    let update = Update { reach: Some(Reach { attributes, routes }), ..Update::default() };
    let mut out = BytesMut::new();
    let context = EncodeContext { four_octet_as: true, ..EncodeContext::default() };
    Message::Update(Box::new(update)).encode(&context, &mut out);
    out.freeze()
}

/// The MACs announced by updates, as the numbers given to [`update`].
pub fn macs(updates: &[Update]) -> Vec<u32> {
    let mut macs = Vec::new();
    for update in updates {
        let Some(Reach { routes: Routes::Evpn(routes), .. }) = &update.reach else { continue };
        for route in routes {
            if let EvpnKey::MacIp { mac: MacAddr([_, _, a, b, c, d]), .. } = route.key {
                macs.push(u32::from_be_bytes([a, b, c, d]));
            }
        }
    }
    macs
}
