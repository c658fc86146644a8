//! A RIB with its sessions: what a reflector and a worker have in common.
//!
//! In: events of the sessions and the time. Out: batches handed to the sessions that are ready for them. The owner calls
//! [`Speaker::handle`] for every event that waits, then [`Speaker::flush`] once, so that work is batched by what is there
//! and not by a timer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp_core::rib::rules as rib_rules;
use bgp_core::rib::{
    Forbidden, NearLimit, PeerClass, PeerInfo, PeerLimits, Permission, Rejudged, Rib, RibConfig, RouteTypes,
};
use bgp_core::rule::{Action, Rule};
use bgp_core::session::{DownReason, Negotiated, Retention, State, StopReason};
use bgp_core::time::Instant;
use bgp_core::types::{AddressFamily, PeerId};
use bgp_core::wire::{EncodeContext, MaxMessage, Update};
use bytes::BytesMut;

use crate::api::{Event, Incoming, IoError, PeerSpec, SessionId};
use crate::io::Io;
use crate::ledger::{Evidence, Ledger, Who, list_keys, list_routes};
use crate::rules;

/// Octets handed to a writer at a time: several full socket writes, little enough that newer state soon follows.
const BATCH_OCTETS: usize = 256 << 10;

/// A peer as the owner configures it.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// How its sessions are run.
    pub spec: PeerSpec,
    /// Client or non-client if the session turns out to be internal; an external session is always external.
    pub class: PeerClass,
    /// What it may cost.
    pub limits: PeerLimits,
    /// What people call it: the name of its Node, or of the router.
    pub name: Option<Arc<str>>,
    /// Of whom and of which LANs it may announce routes. A change judges anew what it has announced and disturbs nothing
    /// else.
    pub permission: Arc<Permission>,
    /// Where people change that permission, as it is put into messages.
    pub permission_source: &'static str,
    /// The EVPN route types that it is sent.
    pub sent_types: RouteTypes,
    /// It came by itself from an accepted prefix, and is forgotten when nothing of it is left.
    pub dynamic: bool,
}

impl Neighbor {
    /// Its address, and its name if it has one: `192.0.2.1 (worker-1)`.
    pub fn label(&self) -> String {
        let address = self.spec.address.ip();
        self.name.as_ref().map_or_else(|| address.to_string(), |name| format!("{address} ({name})"))
    }

    /// What was refused, why, and what to do, in words.
    fn explain(&self, forbidden: &Forbidden) -> String {
        let (offence, permission, source) = (forbidden.offence, &self.permission, self.permission_source);
        format!("{} announced {offence} and may announce {permission}; if it is right, change {source}", self.label())
    }

    /// What the peer is in this session: whether it is in our AS tells its OPEN, whatever was expected.
    pub fn class_of(&self, negotiated: &Negotiated) -> PeerClass {
        match self.class {
            _ if !negotiated.internal => PeerClass::External,
            PeerClass::External => PeerClass::NonClient,
            class => class,
        }
    }
}

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

/// A peer, for `show` and metrics.
#[derive(Clone, Debug)]
pub struct PeerStatus<'a> {
    /// Its number.
    pub id: PeerId,
    /// Its configuration.
    pub neighbor: &'a Neighbor,
    /// State of its state machine.
    pub state: State,
    /// What was negotiated, and since when, while a session is up.
    pub session: Option<(&'a Negotiated, Instant)>,
    /// Sessions that came up.
    pub established: u64,
    /// UPDATEs received.
    pub updates: u64,
    /// The last failure, in words.
    pub last_error: Option<&'a str>,
    /// The last refusal of a route that the peer may not announce, in words.
    pub last_refusal: Option<&'a str>,
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
}

impl Speaker {
    /// A speaker without peers.
    pub fn new(config: RibConfig, io: Io) -> Self {
        Self {
            rib: Rib::new(config, Instant::ZERO),
            ledger: io.ledger().clone(),
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

    /// Adds the peer with the neighbour's address, or changes it; unchanged peers are not touched.
    ///
    /// # Errors
    ///
    /// If the kernel refuses its TCP-MD5 key.
    pub fn set_peer(&mut self, neighbor: Neighbor) -> Result<PeerId, IoError> {
        let address = neighbor.spec.address.ip();
        let id = self.peer_at(address).unwrap_or_else(|| self.free_id());
        self.io.set_peer(id, neighbor.spec.clone())?;
        self.by_address.insert(address, id);
        let permission = Arc::clone(&neighbor.permission);
        match self.slot(id) {
            Some(peer) => peer.neighbor = neighbor,
            None => self.insert(id, neighbor),
        }
        self.permit(id, permission);
        Ok(id)
    }

    /// Judges by a permission what the peer has announced, and asks for what it may have refused before.
    fn permit(&mut self, id: PeerId, permission: Arc<Permission>) {
        let rejudged = self.rib.set_permission(id, permission);
        if rejudged != Rejudged::default()
            && let Some(peer) = self.slot(id)
        {
            peer.last_refusal = None;
        }
        for forbidden in &rejudged.forbidden {
            self.note_forbidden(id, forbidden, || Evidence {
                routes: list_keys(&forbidden.keys),
                ..Evidence::default()
            });
        }
        let session = self.slot(id).and_then(|peer| peer.session.as_ref()).filter(|_| rejudged.refresh);
        match session.map(|session| (session.id, session.negotiated.route_refresh)) {
            Some((session, true)) => self.io.request_refresh(id, session, AddressFamily::EVPN),
            // Only a new session makes it say everything again.
            Some((_, false)) => self.io.stop(id, StopReason::Reset { administrative: false }),
            None => {}
        }
    }

    /// Enters routes that the peer may not announce into the ledger.
    fn note_forbidden(&mut self, id: PeerId, forbidden: &Forbidden, evidence: impl FnOnce() -> Evidence) {
        let ledger = self.ledger.clone();
        let Some(peer) = self.slot(id) else { return };
        let detail = peer.neighbor.explain(forbidden);
        peer.last_refusal = Some(detail.clone());
        let who = Who::Peer(peer.neighbor.spec.address.ip());
        let (rule, routes) = (forbidden.offence.rule(), forbidden.routes as u64);
        ledger.note(who, rule, Action::WithdrawRoute, routes, || Evidence { detail, ..evidence() });
    }

    fn free_id(&self) -> PeerId {
        let index = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
        PeerId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn insert(&mut self, id: PeerId, neighbor: Neighbor) {
        self.ledger.remember(neighbor.spec.address.ip());
        let peer = Peer {
            neighbor,
            state: State::Idle,
            session: None,
            established: 0,
            updates: 0,
            last_error: None,
            last_refusal: None,
            retires: None,
        };
        let index = id.0 as usize;
        match self.peers.get_mut(index) {
            Some(slot) => *slot = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        self.begin_to_retire(id);
    }

    fn slot(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id.0 as usize)?.as_mut()
    }

    /// Ends the peer's session and forgets it and its routes.
    pub fn remove_peer(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id.0 as usize).and_then(Option::take) {
            self.by_address.remove(&peer.neighbor.spec.address.ip());
            peer.retires.into_iter().for_each(|at| _ = self.retiring.remove(&(at, id)));
            self.io.remove_peer(id);
            self.rib.peer_removed(id);
            self.ledger.forget(peer.neighbor.spec.address.ip());
        }
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
        let twin = self.peers().find(|peer| {
            peer.id != id
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

    /// A dynamic peer has no session: unless it comes back it is forgotten, but not before its longest pause after failures
    /// is over, or it would have none.
    fn begin_to_retire(&mut self, id: PeerId) {
        let now = self.now();
        let Some(peer) = self.slot(id) else { return };
        if !peer.neighbor.dynamic || peer.session.is_some() {
            return;
        }
        let at = now + peer.neighbor.spec.session.idle_hold_max;
        let before = peer.retires.replace(at);
        self.retiring.extend([(at, id)]);
        if let Some(before) = before.filter(|before| *before != at) {
            self.retiring.remove(&(before, id));
        }
    }

    /// Forgets dynamic peers that had time to come back, and of which no routes are kept.
    fn retire(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.retiring.first()
            && at <= now
        {
            self.retiring.pop_first();
            if let Some(peer) = self.slot(id) {
                peer.retires = None;
            }
            if self.is_left(id) {
                self.remove_peer(id);
            } else {
                self.begin_to_retire(id);
            }
        }
    }

    /// Whether a peer has neither a connection nor routes.
    fn is_left(&self, id: PeerId) -> bool {
        let is_idle = |peer: &Peer| peer.session.is_none() && matches!(peer.state, State::Idle | State::Active);
        let holds_routes = || {
            let mut views = self.rib.peers();
            let view = views.find(|view| view.peer == id);
            view.is_some_and(|view| view.families.iter().any(|family| family.accepted > 0))
        };
        self.peers.get(id.0 as usize).and_then(Option::as_ref).is_some_and(is_idle) && !holds_routes()
    }

    /// Forgets the dynamic peer that has been without connection and routes for longest, so that another one finds room. One
    /// that has come no longer ago than an OPEN may take is left its time. False if there is none.
    pub fn make_room(&mut self) -> bool {
        let now = self.now();
        let had_time = |(at, id): &(Instant, PeerId)| {
            let peer = self.peers.get(id.0 as usize)?.as_ref()?;
            let session = &peer.neighbor.spec.session;
            (*at + session.open_timeout <= now + session.idle_hold_max).then_some(*id)
        };
        let idle = self.retiring.iter().filter_map(had_time).find(|id| self.is_left(*id));
        if let Some(id) = idle {
            self.remove_peer(id);
        }
        idle.is_some()
    }

    /// Peers that came by themselves.
    pub fn dynamic_peers(&self) -> usize {
        self.peers.iter().flatten().filter(|peer| peer.neighbor.dynamic).count()
    }

    /// When [`Speaker::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Option<std::time::Instant> {
        let rib = self.rib.next_deadline().map(|deadline| self.clock(deadline));
        let retires = self.retiring.first().map(|(at, _)| self.clock(*at));
        rib.into_iter().chain(retires).chain(self.ledger.next_summary()).min()
    }

    /// Applies what has become due.
    pub fn handle_timeout(&mut self) {
        let now = self.now();
        self.rib.handle_timeout(now);
        self.ledger.sum_up(std::time::Instant::now());
        self.retire(now);
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
