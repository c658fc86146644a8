//! A BGP process without its sockets: real sessions and a real RIB on simulated streams.
//!
//! Does what the daemons' tasks do: carries out what sessions want, writes batches that the RIB yields whenever a writer
//! is ready for more, and closes after what is queued.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bgp_core::rib::{LimitExceeded, PeerClass, PeerInfo, PeerLimits, Permission, Rib, RibConfig};
use bgp_core::session::{ConnectionId, Direction, Negotiated, Output, Peer, PeerConfig, SendQueue, State, StopReason};
use bgp_core::time::Instant;
use bgp_core::types::PeerId;
use bgp_core::wire::Update;
use bgp_core::wire::message::{Reach, Routes, Unreach};
use bytes::Bytes;

use super::clock::{Clock, Node};
use super::link::{Network, Piece, Side, StreamId};
use super::random::Random;
use super::sabotage::Sabotage;
use super::trace::Trace;

/// Octets of a batch: little, so that batches are many.
const BATCH_OCTETS: usize = 8 << 10;

/// What a process may touch of the world around it.
pub struct Surroundings<'a> {
    /// The time and what is to come.
    pub clock: &'a mut Clock,
    /// The streams.
    pub network: &'a mut Network,
    /// The choices.
    pub random: &'a mut Random,
    /// The record.
    pub trace: &'a mut Trace,
    /// The time as the process's own clock has it.
    pub now: Instant,
    /// What is wrong with the process.
    pub sabotage: Sabotage,
}

impl Surroundings<'_> {
    /// Adds a line to the trace.
    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.clock.now(), line);
    }
}

/// What waits to be written to a stream: the session's own messages first, but never into the middle of a message.
#[derive(Debug, Default)]
struct Writer {
    partial: Bytes,
    control: VecDeque<Bytes>,
    batch: VecDeque<Bytes>,
    in_batch: bool,
}

impl Writer {
    fn push_control(&mut self, message: Bytes) {
        const NOTIFICATION: u8 = 3;
        if message.get(18) == Some(&NOTIFICATION) {
            self.batch.clear();
            self.in_batch = false;
        }
        self.control.push_back(message);
    }

    fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.control.is_empty() && self.batch.is_empty()
    }

    fn pop(&mut self) -> Option<Bytes> {
        if !self.partial.is_empty() {
            return Some(std::mem::take(&mut self.partial));
        }
        self.control.pop_front().or_else(|| self.batch.pop_front())
    }
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    stream: StreamId,
    side: Side,
    writer: Writer,
}

#[derive(Debug)]
struct Session {
    connection: ConnectionId,
    ready: bool,
    ending: bool,
}

#[derive(Debug)]
struct Slot {
    peer: Peer,
    remote: Node,
    address: IpAddr,
    class: PeerClass,
    permission: Arc<Permission>,
    connections: Vec<Connection>,
    last_connection: u32,
    dial: Option<u64>,
    session: Option<Session>,
}

/// A neighbour as it is configured.
pub struct Neighbor {
    /// Where it runs.
    pub remote: Node,
    /// Its address.
    pub address: IpAddr,
    /// Client or not.
    pub class: PeerClass,
    /// Of whom it may announce routes.
    pub permission: Arc<Permission>,
    /// Its session.
    pub session: PeerConfig,
}

/// See the module.
#[derive(Debug)]
pub struct Speaker {
    /// The RIB; changes to it take effect with [`Speaker::flush`].
    pub rib: Rib,
    node: Node,
    life: u32,
    slots: Vec<Slot>,
    attempts: u64,
}

fn peer_id(index: usize) -> PeerId {
    PeerId(u32::try_from(index).unwrap_or(u32::MAX))
}

impl Speaker {
    /// A process that begins now; its sessions dial at once unless they are passive.
    pub fn new(
        node: Node,
        life: u32,
        config: RibConfig,
        neighbors: Vec<Neighbor>,
        world: &mut Surroundings<'_>,
    ) -> Self {
        let now = world.now;
        let slot = |neighbor: Neighbor| {
            let mut peer = Peer::new(neighbor.session);
            peer.set_restarting(true);
            peer.start(now);
            Slot {
                peer,
                remote: neighbor.remote,
                address: neighbor.address,
                class: neighbor.class,
                permission: neighbor.permission,
                connections: Vec::new(),
                last_connection: 0,
                dial: None,
                session: None,
            }
        };
        let slots = neighbors.into_iter().map(slot).collect();
        let mut speaker = Self { rib: Rib::new(config, now), node, life, slots, attempts: 0 };
        speaker.carry_out_all(world);
        speaker
    }

    /// Machine and life.
    pub const fn process(&self) -> (Node, u32) {
        (self.node, self.life)
    }

    /// Whether the session with a machine is established.
    pub fn is_established(&self, remote: Node) -> bool {
        self.slots.iter().any(|slot| slot.remote == remote && slot.peer.state() == State::Established)
    }

    /// Sessions that are not established.
    pub fn unestablished(&self) -> impl Iterator<Item = (Node, State)> {
        let states = self.slots.iter().map(|slot| (slot.remote, slot.peer.state()));
        states.filter(|(_, state)| *state != State::Established)
    }

    /// When [`Speaker::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.peer.next_deadline()).chain(self.rib.next_deadline()).min()
    }

    /// Acts on timers.
    pub fn handle_timeout(&mut self, world: &mut Surroundings<'_>) {
        let now = world.now;
        for slot in &mut self.slots {
            if slot.peer.next_deadline().is_some_and(|at| at <= now) {
                slot.peer.handle_timeout(now);
            }
        }
        self.rib.handle_timeout(now);
        self.carry_out_all(world);
    }

    /// The attempt was refused.
    pub fn refused(&mut self, by: Node, attempt: u64, world: &mut Surroundings<'_>) {
        let now = world.now;
        let dialling = |slot: &&mut Slot| slot.remote == by && slot.dial == Some(attempt);
        if let Some(slot) = self.slots.iter_mut().find(dialling) {
            slot.dial = None;
            slot.peer.connect_failed(now);
        }
        self.carry_out_all(world);
    }

    /// A stream to or from a machine is there.
    pub fn opened(&mut self, stream: StreamId, side: Side, remote: Node, attempt: u64, world: &mut Surroundings<'_>) {
        let now = world.now;
        let Some(index) = self.slots.iter().position(|slot| slot.remote == remote) else {
            return world.network.close(stream, side, world.clock, world.random);
        };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let direction = match side {
            Side::Client if slot.dial != Some(attempt) => {
                return world.network.close(stream, side, world.clock, world.random);
            }
            Side::Client => {
                slot.dial = None;
                Direction::Outgoing
            }
            Side::Server => Direction::Incoming,
        };
        slot.last_connection += 1;
        let id = ConnectionId(slot.last_connection);
        slot.connections.push(Connection { id, stream, side, writer: Writer::default() });
        slot.peer.connected(now, id, direction);
        self.carry_out(index, world);
    }

    /// Something arrived on a stream.
    pub fn arrived(&mut self, stream: StreamId, side: Side, piece: &Piece, world: &mut Surroundings<'_>) {
        let now = world.now;
        let Some((index, id)) = self.find(stream, side) else { return };
        if let Some(slot) = self.slots.get_mut(index) {
            match piece {
                Piece::Data(octets) => slot.peer.received(now, id, octets),
                Piece::End => slot.peer.closed(now, id),
            }
        }
        self.carry_out(index, world);
    }

    /// A stream takes more.
    pub fn has_room(&mut self, stream: StreamId, side: Side, world: &mut Surroundings<'_>) {
        if let Some((index, _)) = self.find(stream, side) {
            self.write(index, world);
        }
    }

    fn find(&self, stream: StreamId, side: Side) -> Option<(usize, ConnectionId)> {
        self.slots.iter().enumerate().find_map(|(index, slot)| {
            let connection = slot.connections.iter().find(|c| c.stream == stream && c.side == side)?;
            Some((index, connection.id))
        })
    }

    /// Ends sessions with a machine, or with all.
    pub fn stop(&mut self, remote: Option<Node>, reason: &StopReason, world: &mut Surroundings<'_>) {
        let now = world.now;
        for slot in self.slots.iter_mut().filter(|slot| remote.is_none_or(|remote| slot.remote == remote)) {
            slot.peer.stop(now, reason.clone());
        }
        self.carry_out_all(world);
    }

    fn carry_out_all(&mut self, world: &mut Surroundings<'_>) {
        (0..self.slots.len()).for_each(|index| self.carry_out(index, world));
    }

    /// Does what a session wants, and tells the RIB what it has to say.
    fn carry_out(&mut self, index: usize, world: &mut Surroundings<'_>) {
        let (now, process) = (world.now, self.process());
        while let Some(output) = self.slots.get_mut(index).and_then(|slot| slot.peer.poll_output()) {
            let Some(slot) = self.slots.get_mut(index) else { return };
            match output {
                Output::Connect => {
                    self.attempts += 1;
                    slot.dial = Some(self.attempts);
                    world.network.knock(process, slot.remote, self.attempts, world.clock, world.random);
                }
                Output::CancelConnect => slot.dial = None,
                Output::Send(id, message) => {
                    if let Some(connection) = slot.connections.iter_mut().find(|connection| connection.id == id) {
                        connection.writer.push_control(message);
                    }
                }
                Output::Close(id) => slot.close(id, world),
                Output::Established(connection, negotiated) => self.established(index, connection, &negotiated, world),
                Output::Update(mut update) => {
                    world.note(format_args!("{} hears from {}: {}", self.node, slot.remote, Said(&update)));
                    spoil(&mut update, self.node, world);
                    if slot.session.as_ref().is_some_and(|session| !session.ending) {
                        let outcome = self.rib.update(peer_id(index), *update, now);
                        if let Some(limit) = outcome.exceeded {
                            self.end(index, limit, now);
                        }
                    }
                }
                Output::RouteRefresh(refresh) => self.rib.route_refresh(peer_id(index), refresh, now),
                Output::Down(reason) => {
                    world.note(format_args!("{} lost {}: {}", self.node, slot.remote, reason.cause));
                    slot.session = None;
                    self.rib.peer_down(peer_id(index), &reason.keeps, now);
                }
                Output::Failed(cause) => {
                    world.note(format_args!("{} failed with {}: {cause}", self.node, slot.remote));
                }
                Output::StateChanged { .. } => {}
            }
        }
        self.write(index, world);
    }

    fn end(&mut self, index: usize, limit: LimitExceeded, now: Instant) {
        let reason = limit.stop_reason();
        if let Some(slot) = self.slots.get_mut(index) {
            slot.session.iter_mut().for_each(|session| session.ending = true);
            slot.peer.stop(now, reason);
        }
    }

    fn established(
        &mut self,
        index: usize,
        connection: ConnectionId,
        negotiated: &Negotiated,
        world: &mut Surroundings<'_>,
    ) {
        let now = world.now;
        let Some(slot) = self.slots.get_mut(index) else { return };
        world.note(format_args!("{} established with {}", self.node, slot.remote));
        let class = if negotiated.internal { slot.class } else { PeerClass::External };
        let permission = Arc::clone(&slot.permission);
        let limits = PeerLimits::default();
        let info = PeerInfo { permission, ..PeerInfo::new(class, slot.address, limits, negotiated) };
        slot.session = Some(Session { connection, ready: true, ending: false });
        self.rib.peer_up(peer_id(index), info, now);
    }

    /// Selects routes for all that changed and hands every ready writer its next batch.
    pub fn flush(&mut self, world: &mut Surroundings<'_>) {
        self.rib.flush();
        for peer in self.rib.drain_laggards() {
            if let Some(slot) = self.slots.get_mut(peer.0 as usize) {
                slot.peer.stop(world.now, StopReason::OutOfResources);
            }
            self.carry_out(peer.0 as usize, world);
        }
        for peer in self.rib.drain_ready() {
            self.write(peer.0 as usize, world);
        }
    }

    /// Writes what waits, taking further batches from the RIB as long as there is room.
    fn write(&mut self, index: usize, world: &mut Surroundings<'_>) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        loop {
            slot.write(world);
            let Some(session) = slot.session.as_mut().filter(|session| !session.ending) else { return };
            let Some(connection) = slot.connections.iter_mut().find(|c| c.id == session.connection) else { return };
            let writer = &mut connection.writer;
            if writer.in_batch && writer.is_empty() {
                (writer.in_batch, session.ready) = (false, true);
                if !self.rib.owes_end_of_rib(peer_id(index)) {
                    slot.peer.set_restarting(false);
                }
            }
            if !session.ready {
                return;
            }
            let Some(batch) = self.rib.poll_transmit(peer_id(index), BATCH_OCTETS) else { return };
            (session.ready, writer.in_batch) = (false, true);
            writer.batch = batch.into();
        }
    }
}

/// What an UPDATE says of EVPN, for people.
struct Said<'a>(&'a Update);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Reach { attributes, routes: Routes::Evpn(routes) }) = &self.0.reach {
            let sequence = attributes.mac_mobility().sequence;
            routes
                .iter()
                .try_for_each(|route| write!(f, "+{} via {} seq {sequence}; ", route.key, attributes.next_hop))?;
        }
        for unreach in &self.0.unreach {
            if let Unreach::Evpn(keys) = unreach {
                keys.iter().try_for_each(|key| write!(f, "-{key}; "))?;
            }
        }
        self.0.end_of_rib.iter().try_for_each(|family| write!(f, "end of {family}"))
    }
}

/// What sabotaged processes make of an UPDATE.
fn spoil(update: &mut Update, node: Node, world: &mut Surroundings<'_>) {
    if world.sabotage.strikes(Sabotage::LoseWithdrawals, world.random) {
        update.unreach.clear();
    }
    if world.sabotage == Sabotage::IgnoreSequences
        && matches!(node, Node::Worker(_))
        && let Some(reach) = &mut update.reach
    {
        reach.attributes.extended_communities.retain(|community| community.as_mac_mobility().is_none());
    }
}

impl Slot {
    fn write(&mut self, world: &mut Surroundings<'_>) {
        let now = world.now;
        for connection in &mut self.connections {
            let (stream, side) = (connection.stream, connection.side);
            if connection.writer.is_empty() {
                continue;
            }
            let mut written = 0;
            while let Some(octets) = connection.writer.pop() {
                let taken = world.network.write(stream, side, &octets, world.clock, world.random);
                written += taken;
                if taken < octets.len() {
                    connection.writer.partial = octets.slice(taken..);
                    break;
                }
            }
            let queue = if connection.writer.is_empty() { SendQueue::Empty } else { SendQueue::Pending };
            self.peer.written(now, connection.id, written, queue);
        }
    }

    /// Closes after what is queued and fits.
    fn close(&mut self, id: ConnectionId, world: &mut Surroundings<'_>) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let mut connection = self.connections.swap_remove(index);
        let (stream, side) = (connection.stream, connection.side);
        while let Some(octets) = connection.writer.pop() {
            if world.network.write(stream, side, &octets, world.clock, world.random) < octets.len() {
                break;
            }
        }
        world.network.close(stream, side, world.clock, world.random);
    }
}
