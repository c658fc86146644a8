//! A reflector between peers that differ in everything: whatever UPDATEs they send, each is told of the others' routes in
//! a form that the strictest reader takes, in its own terms, and holds what the table says.
//!
//! This is where an attribute that one speaker carries and the next one resets on would show.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bgp_core::rib::{PeerClass, PeerFamily, PeerInfo, PeerLimits, Rib, RibConfig, Role, RouteTypes};
use bgp_core::time::Instant;
use bgp_core::types::{AddressFamily, Asn, PeerId, RouterId};
use bgp_core::wire::attributes::community;
use bgp_core::wire::message::{Reach, Routes, Treatment, Unreach};
use bgp_core::wire::{
    DecodeContext, EvpnErrors, EvpnKey, Frame, MaxMessage, Message, MessageKind, MultiprotocolErrors, PathAttributes,
    Update, frame,
};
use bytes::{Bytes, BytesMut};

use crate::tree;

const NOW: Instant = Instant::ZERO;
const ASN: Asn = Asn(65_000);
/// Messages per input: beyond them nothing new is learned.
const MAX_MESSAGES: usize = 16;
/// Attributes above this may fit no message of 4,096 octets with a route beside them.
const LARGE: usize = 3_000;
/// Bits of the octet before each message.
const FLUSH: u8 = 0x80;

/// One peer and its terms.
struct Peer {
    class: PeerClass,
    four_octet_as: bool,
    extended_message: bool,
    constrained: bool,
}

const PEERS: [Peer; 4] = [
    Peer { class: PeerClass::Client, four_octet_as: true, extended_message: true, constrained: true },
    Peer { class: PeerClass::Client, four_octet_as: false, extended_message: false, constrained: false },
    Peer { class: PeerClass::NonClient, four_octet_as: true, extended_message: false, constrained: false },
    Peer { class: PeerClass::External, four_octet_as: true, extended_message: false, constrained: false },
];

impl Peer {
    fn families(&self) -> impl Iterator<Item = AddressFamily> {
        let constrained = self.constrained.then_some(AddressFamily::RT_CONSTRAIN);
        core::iter::once(AddressFamily::EVPN).chain(constrained)
    }

    /// The peer without 4-octet AS numbers is old in this too.
    fn sent_types(&self) -> RouteTypes {
        if self.four_octet_as { RouteTypes::ALL } else { [2, 3].into_iter().collect() }
    }

    fn info(&self, number: u8) -> PeerInfo {
        let family = |family| PeerFamily {
            family,
            graceful_restart: false,
            forwarding_preserved: false,
            long_lived_preserved: false,
        };
        PeerInfo {
            class: self.class,
            asn: if self.class == PeerClass::External { Asn(64_512) } else { ASN },
            router_id: RouterId(0x0a00_0000 + u32::from(number)),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
            four_octet_as: self.four_octet_as,
            extended_message: self.extended_message,
            enhanced_refresh: true,
            long_lived_known: self.class != PeerClass::External,
            families: self.families().map(family).collect(),
            sent_types: self.sent_types(),
            limits: PeerLimits { max_prefixes: 1_000, ..PeerLimits::default() },
            permission: Default::default(),
        }
    }

    fn context(&self) -> DecodeContext {
        DecodeContext {
            four_octet_as: self.four_octet_as,
            families: self.families().collect(),
            external: self.class == PeerClass::External,
            opaque_routes: true,
            ..DecodeContext::default()
        }
    }
}

/// Messages of an input: an octet that says whose, two of length, the body of an UPDATE.
pub fn messages(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let [whose, high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        messages.push((*whose, body.to_vec()));
        input = rest;
    }
    messages
}

/// The input that has these messages.
pub fn joined(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (whose, body) in messages {
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
        input.push(*whose);
        input.extend(length.to_be_bytes());
        input.extend(body.iter().take(length.into()));
    }
    input
}

/// Runs one input, see [`messages`].
pub fn run(input: &[u8]) {
    let mut fabric = Fabric::new();
    for (whose, body) in messages(input).into_iter().take(MAX_MESSAGES) {
        fabric.receive(usize::from(whose) % PEERS.len(), body);
        if whose & FLUSH != 0 {
            fabric.settle();
        }
    }
    fabric.settle();
}

/// The reflector, and what each peer knows from it.
struct Fabric {
    rib: Rib,
    views: Vec<BTreeMap<EvpnKey, PathAttributes>>,
}

impl Fabric {
    fn new() -> Self {
        let role = Role::Reflector { cluster_id: Some(99) };
        let mut rib = Rib::new(RibConfig::new(role, ASN, RouterId(1), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 99))), NOW);
        rib.set_expected_peers([]);
        let mut fabric = Self { rib, views: vec![BTreeMap::new(); PEERS.len()] };
        (0..PEERS.len()).for_each(|peer| fabric.up(peer));
        fabric
    }

    fn up(&mut self, peer: usize) {
        self.rib.peer_up(PeerId(peer as u32), PEERS[peer].info(peer as u8 + 2), NOW);
        self.views[peer].clear();
    }

    fn receive(&mut self, peer: usize, body: Vec<u8>) {
        let id = PeerId(peer as u32);
        let frame = Frame { kind: MessageKind::Update, body: Bytes::from(body) };
        let context =
            DecodeContext { multiprotocol_errors: MultiprotocolErrors::DisableFamily, ..PEERS[peer].context() };
        let good = match Message::decode(&frame, &context) {
            Ok(Message::Update(update)) => self.rib.update(id, *update, NOW).exceeded.is_none(),
            _ => false,
        };
        if !good {
            self.rib.peer_down(id, &[], NOW);
            self.up(peer);
        }
    }

    /// Everybody reads everything.
    fn settle(&mut self) {
        self.rib.flush();
        for peer in 0..PEERS.len() {
            let mut sent = BytesMut::new();
            while let Some(slices) = self.rib.poll_transmit(PeerId(peer as u32), 1 << 16) {
                slices.iter().for_each(|slice| sent.extend_from_slice(slice));
            }
            self.read(peer, sent);
            self.compare(peer);
        }
    }

    fn read(&mut self, peer: usize, mut sent: BytesMut) {
        let max_message = if PEERS[peer].extended_message { MaxMessage::Extended } else { MaxMessage::Standard };
        let strict = DecodeContext { evpn_errors: EvpnErrors::Strict, ..PEERS[peer].context() };
        while let Some(frame) = frame(&mut sent, max_message).expect("well framed, and no longer than agreed") {
            match Message::decode(&frame, &strict).expect("readable") {
                Message::Update(update) => self.apply(peer, *update),
                Message::RouteRefresh(_) => {}
                other => panic!("a RIB sends {other:?}"),
            }
        }
        assert!(sent.is_empty(), "half a message was sent");
    }

    fn apply(&mut self, peer: usize, update: Update) {
        let mut findings = update.findings.iter();
        assert!(
            findings.all(|finding| finding.treatment == Treatment::Note),
            "nothing malformed is sent: {:?}",
            update.findings
        );
        for keys in update.unreach {
            if let Unreach::Evpn(keys) = keys {
                keys.iter().for_each(|key| drop(self.views[peer].remove(key)));
            }
        }
        if let Some(Reach { attributes, routes: Routes::Evpn(routes) }) = update.reach {
            let internal = PEERS[peer].class != PeerClass::External;
            assert_eq!(
                attributes.local_pref.is_some(),
                internal,
                "LOCAL_PREF stays within the AS, and is always there"
            );
            assert!(internal || attributes.as_path.first() == Some(ASN), "we stand in what leaves our AS");
            self.views[peer].extend(routes.into_iter().map(|route| (route.key, attributes.clone())));
        }
    }

    /// The peer holds the best routes of others, but for those that it must not or cannot be told of.
    fn compare(&self, peer: usize) {
        let (mut may, mut must) = (BTreeSet::new(), BTreeSet::new());
        let to = PEERS[peer].class;
        for route in self.rib.routes().filter(|route| route.best && route.peer != PeerId(peer as u32)) {
            let Some(from) = PEERS.get(route.peer.0 as usize) else { continue };
            if from.class == PeerClass::NonClient && to == PeerClass::NonClient {
                continue;
            }
            if !PEERS[peer].sent_types().contains(route.key.route_type()) {
                continue;
            }
            may.insert(route.key.clone());
            let marks = [community::NO_ADVERTISE, community::NO_EXPORT, 0xffff_ff03, community::LLGR_STALE];
            let marked = route.attributes.communities.iter().any(|community| marks.contains(community));
            if !PEERS[peer].constrained && !marked && octets_of(route.attributes) < LARGE {
                must.insert(route.key.clone());
            }
        }
        let holds: BTreeSet<EvpnKey> = self.views[peer].keys().cloned().collect();
        assert!(holds.is_subset(&may), "peer {peer} was told of {:?}", holds.difference(&may).collect::<Vec<_>>());
        assert!(must.is_subset(&holds), "peer {peer} lacks {:?}", must.difference(&holds).collect::<Vec<_>>());
    }
}

fn octets_of(attributes: &PathAttributes) -> usize {
    let context = bgp_core::wire::EncodeContext { four_octet_as: true, max_message: MaxMessage::Extended };
    bgp_core::wire::EncodedAttributes::new(attributes, &context).len()
}

/// Changes one of the messages, or their order.
pub fn mutate(input: &[u8], limit: usize, seed: u32) -> Vec<u8> {
    let mut dice = crate::mutate::Dice::new(seed);
    let mut messages = messages(input);
    if messages.is_empty() {
        messages.push((FLUSH, Vec::new()));
    }
    let index = dice.below(messages.len());
    match dice.below(12) {
        0 => messages[index].0 = dice.below(256) as u8,
        1 => drop(messages.remove(index)),
        2 => {
            let copy = messages[index].clone();
            messages.push((dice.below(256) as u8, copy.1));
        }
        3 => {
            let other = dice.below(messages.len());
            messages.swap(index, other);
        }
        4 => {
            let donor = messages[dice.below(messages.len())].1.clone();
            let changed = crate::mutate::splice(
                &tree::with_context(&messages[index].1),
                &tree::with_context(&donor),
                limit,
                seed,
            );
            messages[index].1 = changed.into_iter().skip(1).collect();
        }
        _ => {
            let changed = crate::mutate::mutate(&tree::with_context(&messages[index].1), limit, seed);
            messages[index].1 = changed.into_iter().skip(1).collect();
        }
    }
    let mut input = joined(&messages);
    input.truncate(limit);
    input
}
