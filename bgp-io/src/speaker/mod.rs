//! A RIB with its sessions: what a reflector and a worker have in common.
//!
//! In: events of the sessions and the time. Out: batches handed to the sessions that are ready for them. The owner calls
//! [`Speaker::handle`] for every event that waits, then [`Speaker::flush`] once, so that work is batched by what is there
//! and not by a timer.

mod neighbor;
mod retiring;
mod roster;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp_core::rib::rules as rib_rules;
use bgp_core::rib::{NearLimit, PeerInfo, Rib, RibConfig};
use bgp_core::rule::{Action, Rule};
use bgp_core::session::{DownReason, Negotiated, Retention, State, StopReason};
use bgp_core::time::Instant;
use bgp_core::types::PeerId;
use bgp_core::wire::{EncodeContext, MaxMessage, Update};
use bytes::BytesMut;

use crate::api::{Event, Incoming, SessionId};
use crate::io::Io;
use crate::ledger::{Evidence, Ledger, Who, list_routes};
use crate::md5_drops::Md5Drops;
use crate::rules;

pub use neighbor::{Neighbor, PeerStatus};

/// Octets handed to a writer at a time: several full socket writes, little enough that newer state soon follows.
const BATCH_OCTETS: usize = 256 << 10;

#[derive(Debug)]
struct Peer {
    neighbor: Neighbor,
    state: State,
    session: Option<Session>,
    established: u64,
    updates: u64,
    last_error: Option<String>,
    /// The last refusal by its permission, in words.
    last_refusal: Option<String>,
    /// It has had our end-of-RIB once since we started.
    told: bool,
    /// When a dynamic peer without a session may be forgotten.
    retires: Option<Instant>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    since: Instant,
    negotiated: Box<Negotiated>,
    /// The writer waits for a batch.
    ready: bool,
    /// An end was asked for; what still comes is not applied.
    ending: bool,
}

/// Sessions and the RIB that they feed.
#[derive(Debug)]
pub struct Speaker {
    /// The RIB; changes to it take effect with [`Speaker::flush`].
    pub rib: Rib,
    io: Io,
    origin: std::time::Instant,
    peers: Vec<Option<Peer>>,
    by_address: BTreeMap<IpAddr, PeerId>,
    /// Dynamic peers without a session, by when they may be forgotten.
    retiring: BTreeSet<(Instant, PeerId)>,
    ledger: Ledger,
    md5_drops: Md5Drops,
}

impl Speaker {
    /// A speaker without peers.
    pub fn new(config: RibConfig, io: Io) -> Self {
        Self {
            rib: Rib::new(config, Instant::ZERO),
            ledger: io.ledger().clone(),
            md5_drops: Md5Drops::new(std::time::Instant::now()),
            io,
            origin: std::time::Instant::now(),
            peers: Vec::new(),
            by_address: BTreeMap::new(),
            retiring: BTreeSet::new(),
        }
    }

    /// The time as the RIB knows it: since this speaker began.
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The clock's reading of an instant of the RIB.
    pub fn clock(&self, instant: Instant) -> std::time::Instant {
        self.origin + std::time::Duration::from_micros(instant.as_micros())
    }

    /// The sessions.
    pub fn io(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Where refusals are noted.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A peer's address.
    pub fn address(&self, id: PeerId) -> Option<IpAddr> {
        let peer = self.peers.get(id.0 as usize)?.as_ref()?;
        Some(peer.neighbor.spec.address.ip())
    }

    /// The peer with this address.
    pub fn peer_at(&self, address: IpAddr) -> Option<PeerId> {
        self.by_address.get(&address).copied()
    }

    fn slot(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id.0 as usize)?.as_mut()
    }

    /// All peers, by number.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus<'_>> {
        self.peers.iter().enumerate().filter_map(|(index, peer)| {
            let peer = peer.as_ref()?;
            Some(PeerStatus {
                id: PeerId(u32::try_from(index).ok()?),
                neighbor: &peer.neighbor,
                state: peer.state,
                session: peer.session.as_ref().map(|session| (&*session.negotiated, session.since)),
                established: peer.established,
                updates: peer.updates,
                last_error: peer.last_error.as_deref(),
                last_refusal: peer.last_refusal.as_deref(),
            })
        })
    }

    /// Applies what happened on a session; a connection of a stranger is the owner's to judge.
    pub fn handle(&mut self, event: Event) -> Option<Incoming> {
        match event {
            Event::Established { peer, session, negotiated } => self.established(peer, session, negotiated),
            Event::Updates { peer, session, updates } => self.updates(peer, session, updates),
            Event::Refresh { peer, session, refresh } => {
                if self.is_current(peer, session) {
                    let now = self.now();
                    self.rib.route_refresh(peer, refresh, now);
                }
            }
            Event::WriterReady { peer, session } => {
                if let Some(current) = self.session(peer, session) {
                    current.ready = true;
                    self.note_told(peer);
                    self.transmit(peer);
                }
            }
            Event::Down { peer, session, reason } => self.down(peer, session, &reason),
            Event::State { peer: id, state, error } => {
                if let Some(peer) = self.slot(id) {
                    peer.state = state;
                    if error.is_some() {
                        peer.last_error = error;
                    }
                    self.begin_to_retire(id);
                }
            }
            Event::Incoming(incoming) => return Some(incoming),
        }
        None
    }

    /// All that was handed over has left: the peer has been told everything once end-of-RIB is among it.
    fn note_told(&mut self, id: PeerId) {
        let owes = self.rib.owes_end_of_rib(id);
        let Some(peer) = self.slot(id) else { return };
        if peer.neighbor.spec.restarting && !owes && !core::mem::replace(&mut peer.told, true) {
            self.io.restarted(id);
        }
    }

    fn session(&mut self, peer: PeerId, id: SessionId) -> Option<&mut Session> {
        self.slot(peer)?.session.as_mut().filter(|session| session.id == id)
    }

    fn is_current(&mut self, peer: PeerId, id: SessionId) -> bool {
        self.session(peer, id).is_some_and(|session| !session.ending)
    }

    fn established(&mut self, id: PeerId, session: SessionId, negotiated: Box<Negotiated>) {
        let now = self.now();
        self.report_twins(id, &negotiated);
        let Some(peer) = self.slot(id) else { return };
        let class = peer.neighbor.class_of(&negotiated);
        let address = peer.neighbor.spec.address.ip();
        let info = PeerInfo {
            permission: Arc::clone(&peer.neighbor.permission),
            sent_types: peer.neighbor.sent_types,
            ..PeerInfo::new(class, address, peer.neighbor.limits, &negotiated)
        };
        tracing::info!(
            peer = %peer.neighbor.label(),
            asn = %negotiated.remote_asn,
            router_id = %negotiated.remote_router_id,
            ?class,
            "session established"
        );
        if let Some(at) = peer.retires.take() {
            self.retiring.remove(&(at, id));
        }
        let Some(peer) = self.slot(id) else { return };
        peer.established += 1;
        peer.last_refusal = None;
        peer.state = State::Established;
        peer.session = Some(Session { id: session, since: now, negotiated, ready: true, ending: false });
        self.rib.peer_up(id, info, now);
    }

    /// Two peers with one identifier are allowed, but their routes may share keys (RFC 6286, RFC 7432 section 7.9).
    fn report_twins(&mut self, id: PeerId, negotiated: &Negotiated) {
        let owner = self.slot(id).and_then(|peer| peer.neighbor.owner.clone());
        let twin = self.peers().find(|peer| {
            peer.id != id
                && (owner.is_none() || peer.neighbor.owner != owner)
                && peer.session.is_some_and(|(other, _)| other.remote_router_id == negotiated.remote_router_id)
        });
        if let Some(twin) = twin {
            let (twin, router_id) = (twin.neighbor.spec.address.ip(), negotiated.remote_router_id);
            let Some(peer) = self.slot(id) else { return };
            let who = Who::Peer(peer.neighbor.spec.address.ip());
            let detail = format!("{router_id}, the router id of {twin}; give one of them another");
            let evidence = || Evidence { detail, ..Evidence::default() };
            self.ledger.note(who, rules::ROUTER_ID_SHARED, Action::Note, 1, evidence);
        }
    }

    fn updates(&mut self, id: PeerId, session: SessionId, updates: Vec<Update>) {
        let now = self.now();
        for update in updates {
            if !self.is_current(id, session) {
                return;
            }
            let Some(peer) = self.slot(id) else { return };
            peer.updates += 1;
            let who = Who::Peer(peer.neighbor.spec.address.ip());
            if let Some(rule) = self.rib.objection(id, &update) {
                let routes = update.reach.as_ref().map_or(0, |reach| reach.routes.len() as u64);
                self.ledger.note(who, rule, Action::WithdrawRoute, routes, || evidence(&update));
            } else {
                for forbidden in self.rib.forbidden(id, &update) {
                    self.note_forbidden(id, &forbidden, || evidence(&update));
                }
            }
            let kept = self.rib.may_exceed(id, &update).then(|| update.clone());
            let outcome = self.rib.update(id, update, now);
            let unknown = outcome.unknown_withdrawals as u64;
            let in_vain = Update { unreach: outcome.in_vain, ..Update::default() };
            self.ledger.note(who, rib_rules::WITHDRAWAL_UNKNOWN, Action::Ignore, unknown, || evidence(&in_vain));
            let ignored = outcome.ignored as u64;
            self.ledger.note(who, rib_rules::ROUTES_UNEXPECTED, Action::Ignore, ignored, Evidence::default);
            if let Some(NearLimit { family, held, limit }) = outcome.near {
                let detail = format!("{held} of {limit} {family} routes");
                let evidence = || Evidence { detail, ..Evidence::default() };
                self.ledger.note(who, rib_rules::MAX_ROUTES_NEAR, Action::Note, 1, evidence);
            }
            if let Some(limit) = outcome.exceeded {
                let shown = kept.as_ref().map(evidence).unwrap_or_default();
                let shown = Evidence { detail: limit.to_string(), ..shown };
                self.end(id, limit.stop_reason(), limit.rule(), shown);
            }
        }
    }

    /// Ends a session for a rule that the table knows.
    fn end(&mut self, id: PeerId, reason: StopReason, rule: Rule, shown: Evidence) {
        let ledger = self.ledger.clone();
        if let Some(peer) = self.slot(id) {
            let who = Who::Peer(peer.neighbor.spec.address.ip());
            peer.last_error = Some(shown.detail.clone());
            ledger.note(who, rule, Action::Reset, 1, || shown);
            if let Some(session) = &mut peer.session {
                session.ending = true;
            }
            self.io.stop(id, reason);
        }
    }

    fn down(&mut self, id: PeerId, session: SessionId, reason: &DownReason) {
        let now = self.now();
        if self.session(id, session).is_none() {
            return;
        }
        let Some(peer) = self.slot(id) else { return };
        peer.session = None;
        let why = reason.cause.to_string();
        tracing::info!(peer = %peer.neighbor.label(), %why, keeps = %kept(&reason.keeps), "session down");
        peer.last_error = Some(why);
        self.rib.peer_down(id, &reason.keeps, now);
        self.begin_to_retire(id);
    }

    /// When [`Speaker::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Option<std::time::Instant> {
        let rib = self.rib.next_deadline().map(|deadline| self.clock(deadline));
        let retires = self.retiring.first().map(|(at, _)| self.clock(*at));
        let others = self.ledger.next_summary().into_iter().chain([self.md5_drops.next()]);
        rib.into_iter().chain(retires).chain(others).min()
    }

    /// Applies what has become due.
    pub fn handle_timeout(&mut self) {
        let now = self.now();
        self.rib.handle_timeout(now);
        self.poll_kernel();
        self.ledger.sum_up(std::time::Instant::now());
        self.retire(now);
    }

    /// Notes what the kernel has dropped for its TCP-MD5 signature, if that is due.
    fn poll_kernel(&mut self) {
        self.md5_drops.poll(|| self.io.has_keys(), std::time::Instant::now(), &self.ledger);
    }

    /// Selects routes for all that changed and hands every ready writer its next batch.
    pub fn flush(&mut self) {
        self.rib.flush();
        for id in self.rib.drain_laggards() {
            let slow = Evidence { detail: "the peer reads too slowly".to_owned(), ..Evidence::default() };
            self.end(id, StopReason::OutOfResources, rules::SLOW_PEER, slow);
        }
        for id in self.rib.drain_ready() {
            self.transmit(id);
        }
    }

    fn transmit(&mut self, id: PeerId) {
        let Some(session) = self.peers.get_mut(id.0 as usize).and_then(Option::as_mut).and_then(|p| p.session.as_mut())
        else {
            return;
        };
        if !session.ready || session.ending {
            return;
        }
        if let Some(batch) = self.rib.poll_transmit(id, BATCH_OCTETS) {
            session.ready = !self.io.send(id, session.id, batch);
        }
    }

    /// Leaves: ends all sessions with `reason` after what is queued.
    pub async fn shutdown(self, reason: StopReason) {
        self.io.shutdown(reason).await;
    }
}

/// What the log shows of an UPDATE that has been read: it is written again, since its octets are gone.
fn evidence(update: &Update) -> Evidence {
    let mut message = BytesMut::new();
    let context = EncodeContext { max_message: MaxMessage::Extended, ..EncodeContext::default() };
    update.encode(&context, &mut message);
    Evidence { message: message.freeze(), routes: list_routes(update), ..Evidence::default() }
}

/// What outlives a session, in words.
fn kept(keeps: &[Retention]) -> String {
    if keeps.is_empty() {
        "nothing".into()
    } else {
        keeps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}
