//! One neighbour: its connections, its timers, what its owner wants.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::connection::Connection;
use super::refusal::{self, Refusal, Refusals};
use super::timers::{BackOff, Jitter};
use super::{
    ConnectionId, Direction, DownCause, DownReason, Negotiated, Output, PeerConfig, SendQueue, State, Statistics,
    StopReason,
};
use crate::rule::Action;
use crate::time::{Duration, Instant};
use crate::types::AddressFamily;
use crate::wire::message::RefreshKind;
use crate::wire::{EncodeContext, Message, MessageKind, Notification, NotificationCode, RouteRefresh};

/// What the peer does while it has no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Nothing, until it is started.
    Stopped,
    /// Pausing after failures.
    IdleHold {
        /// End of the pause.
        until: Instant,
    },
    /// An attempt is under way until the time given.
    Dialling {
        /// When to give up and dial again.
        retry: Instant,
    },
    /// Waiting for the peer to connect, and for the next attempt if there is to be one.
    Waiting {
        /// When to dial.
        retry: Option<Instant>,
    },
}

/// A KEEPALIVE is always the same.
pub(super) const KEEPALIVE: &[u8] = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x13\x04";

/// The sessions with one neighbour (RFC 4271 section 8).
///
/// Inputs are the methods that take the time; none of them fails. After each, drain [`Peer::poll_output`] until it
/// yields nothing (input is decoded there, one message per call), then arm one timer for [`Peer::next_deadline`].
#[derive(Debug)]
pub struct Peer {
    pub(super) config: PeerConfig,
    pub(super) phase: Phase,
    /// At most two: an incoming and an outgoing one, or an established one and its challenger.
    pub(super) connections: Vec<Connection>,
    pub(super) outputs: VecDeque<Output>,
    refusals: Refusals,
    pub(super) statistics: Statistics,
    pub(super) jitter: Jitter,
    back_off: BackOff,
    restarting: bool,
    last_down: Option<DownCause>,
    state: State,
    state_since: Instant,
    pub(super) now: Instant,
}

impl Peer {
    /// A stopped peer.
    pub fn new(config: PeerConfig) -> Self {
        Self {
            phase: Phase::Stopped,
            connections: Vec::with_capacity(2),
            outputs: VecDeque::new(),
            refusals: Refusals::default(),
            statistics: Statistics::default(),
            jitter: Jitter::new(config.jitter_seed),
            back_off: BackOff::default(),
            restarting: false,
            last_down: None,
            state: State::Idle,
            state_since: Instant::ZERO,
            now: Instant::ZERO,
            config,
        }
    }

    /// Begins to seek a session (ManualStart), and ends a pause after failures. Has no effect on a running peer.
    pub fn start(&mut self, now: Instant) {
        self.now = now;
        if matches!(self.phase, Phase::Stopped | Phase::IdleHold { .. }) {
            self.back_off.clear();
            self.dial();
        }
        self.note_state();
    }

    /// Ends all connections (ManualStop, AutomaticStop). Depending on the reason a running peer then stays idle
    /// until it is started, pauses, or begins anew.
    pub fn stop(&mut self, now: Instant, reason: StopReason) {
        self.now = now;
        let comes_back = self.phase != Phase::Stopped && !reason.is_final();
        self.cancel_dial();
        self.phase = Phase::Stopped;
        for connection in core::mem::take(&mut self.connections) {
            self.say_goodbye(&connection, &reason);
            self.finish(&connection, DownCause::Stopped(reason.clone()));
        }
        match &reason {
            _ if !comes_back => {}
            StopReason::Reset { .. } => self.dial(),
            _ => self.phase = Phase::IdleHold { until: now + self.config.idle_hold_max() },
        }
        self.note_state();
    }

    /// A connection is there: the answer to [`Output::Connect`], or one that the peer opened. The driver must have
    /// checked that it comes from the peer.
    pub fn connected(&mut self, now: Instant, id: ConnectionId, direction: Direction) {
        self.now = now;
        if self.admits(direction) {
            self.accept(id, direction);
        } else {
            self.statistics.refused = self.statistics.refused.saturating_add(1);
            if direction == Direction::Incoming {
                self.refuse(Refusal::new(refusal::IDLE_HOLD, Action::Close));
            }
            self.outputs.push_back(Output::Close(id));
        }
        self.note_state();
    }

    /// The attempt asked for by [`Output::Connect`] failed.
    pub fn connect_failed(&mut self, now: Instant) {
        self.now = now;
        if matches!(self.phase, Phase::Dialling { .. }) {
            let retry = if self.connections.is_empty() { self.next_retry() } else { None };
            self.phase = Phase::Waiting { retry };
        }
        self.note_state();
    }

    /// Octets from a connection. Those of a connection that is no longer ours are ignored.
    pub fn received(&mut self, now: Instant, id: ConnectionId, data: &[u8]) {
        self.now = now;
        if let Some(connection) = self.connection(id) {
            connection.receive(data);
            let octets = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.statistics.octets_received = self.statistics.octets_received.saturating_add(octets);
        }
    }

    /// The peer has sent something that the driver leaves unread for now, because the owner is busy: that counts as life.
    pub fn input_pending(&mut self, now: Instant, id: ConnectionId) {
        self.now = now;
        if let Some(connection) = self.connection(id)
            && connection.is_established()
        {
            connection.restart_hold(now);
        }
    }

    /// A connection has ended. What it delivered before is still processed.
    pub fn closed(&mut self, now: Instant, id: ConnectionId) {
        self.now = now;
        if let Some(connection) = self.connection(id) {
            connection.close_input();
        }
    }

    /// The driver wrote `octets` to a connection, or something new waits to be written (then zero). Drives the
    /// send-hold timer (RFC 9687).
    pub fn written(&mut self, now: Instant, id: ConnectionId, octets: usize, queue: SendQueue) {
        self.now = now;
        let sent = u64::try_from(octets).unwrap_or(u64::MAX);
        self.statistics.octets_sent = self.statistics.octets_sent.saturating_add(sent);
        let config = &self.config;
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            let hold_time = connection.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.hold_time);
            connection.written(now, octets, queue, config.send_hold_for(hold_time));
        }
    }

    /// The owner had the driver send UPDATEs, for the statistics.
    pub const fn count_updates_sent(&mut self, updates: u64) {
        self.statistics.sent.update = self.statistics.sent.update.saturating_add(updates);
    }

    /// Acts on every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.expire_connections();
        match self.phase {
            Phase::IdleHold { until } if until <= now => self.dial(),
            Phase::Dialling { retry } if retry <= now => {
                self.cancel_dial();
                self.dial();
            }
            Phase::Waiting { retry: Some(retry) } if retry <= now => self.dial(),
            _ => {}
        }
        self.note_state();
    }

    /// When [`Peer::handle_timeout`] must be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Stopped | Phase::Waiting { retry: None } => None,
            Phase::IdleHold { until } => Some(until),
            Phase::Dialling { retry } | Phase::Waiting { retry: Some(retry) } => Some(retry),
        };
        self.connections.iter().flat_map(Connection::deadlines).chain(phase).min()
    }

    /// The next thing to do. Decodes at most one message per call; none: there is nothing left to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if !self.step() {
                return None;
            }
            self.note_state();
        }
    }

    /// The next input that broke a rule. To be polled with each output: what an UPDATE broke comes before the UPDATE, what
    /// ended a session before its end. Only so many wait.
    pub fn poll_refusal(&mut self) -> Option<Refusal> {
        self.refusals.pop()
    }

    /// Asks the peer to announce all its routes of a family again (RFC 2918 section 3). False where no session is up that
    /// carries the family and allows that.
    pub fn request_refresh(&mut self, now: Instant, family: AddressFamily) -> bool {
        self.now = now;
        let able = |agreed: &Negotiated| agreed.route_refresh && agreed.has(family);
        let Some(connection) = self.established().filter(|other| other.negotiated.as_deref().is_some_and(able)) else {
            return false;
        };
        let id = connection.id;
        let refresh = RouteRefresh { family, kind: RefreshKind::Request };
        self.send(id, MessageKind::RouteRefresh, &Message::RouteRefresh(refresh));
        true
    }

    /// Replaces the configuration. What the OPEN says and how errors are treated takes effect with the next session,
    /// timers with their next start; ask [`PeerConfig::needs_reset`] whether a running session must be reset.
    pub fn set_config(&mut self, now: Instant, config: PeerConfig) {
        self.now = now;
        self.config = config;
        match self.phase {
            Phase::Dialling { .. } | Phase::Waiting { retry: Some(_) } if self.config.passive => {
                self.cancel_dial();
                self.phase = Phase::Waiting { retry: None };
            }
            Phase::Waiting { retry: None } if self.connections.is_empty() => self.dial(),
            _ => {}
        }
        self.note_state();
    }

    /// Sets or clears the R bit of the OPENs from now on (RFC 4724 section 3): set as long as this speaker has restarted and
    /// has not told this peer all it has, end-of-RIB included, however many sessions that takes.
    pub const fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// The configuration.
    pub const fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// The state of the connection that has come furthest.
    pub const fn state(&self) -> State {
        self.state
    }

    /// When that state began.
    pub const fn state_since(&self) -> Instant {
        self.state_since
    }

    /// What the running session agreed on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().and_then(|connection| connection.negotiated.as_deref())
    }

    /// Why the last session or connection ended.
    pub const fn last_down(&self) -> Option<&DownCause> {
        self.last_down.as_ref()
    }

    /// Counters.
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

/// The parts that inputs share.
impl Peer {
    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    pub(super) fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.is_established())
    }

    fn next_retry(&mut self) -> Option<Instant> {
        let pause = self.jitter.apply(self.config.connect_retry());
        (!self.config.passive).then(|| self.now + pause)
    }

    /// Seeks a connection now.
    fn dial(&mut self) {
        self.phase = if self.config.passive {
            Phase::Waiting { retry: None }
        } else {
            self.outputs.push_back(Output::Connect);
            Phase::Dialling { retry: self.now + self.config.connect_retry() }
        };
    }

    /// Stops seeking another connection.
    pub(super) fn cancel_dial(&mut self) {
        match self.phase {
            Phase::Dialling { .. } => {
                self.outputs.push_back(Output::CancelConnect);
                self.phase = Phase::Waiting { retry: None };
            }
            Phase::Waiting { .. } => self.phase = Phase::Waiting { retry: None },
            Phase::Stopped | Phase::IdleHold { .. } => {}
        }
    }

    pub(super) fn send(&mut self, id: ConnectionId, kind: MessageKind, message: &Message) {
        let mut encoded = BytesMut::new();
        message.encode(&EncodeContext::default(), &mut encoded);
        self.statistics.sent.count(kind);
        self.outputs.push_back(Output::Send(id, encoded.freeze()));
    }

    pub(super) fn send_open(&mut self, id: ConnectionId) {
        let restarting = self.restarting;
        let open = self.config.open(restarting);
        if let Some(connection) = self.connection(id) {
            connection.open_sent = true;
            connection.sent_restarting = restarting;
        }
        self.send(id, MessageKind::Open, &Message::Open(open));
    }

    pub(super) fn send_keepalive(&mut self, id: ConnectionId) {
        self.statistics.sent.count(MessageKind::Keepalive);
        self.outputs.push_back(Output::Send(id, Bytes::from_static(KEEPALIVE)));
    }

    pub(super) fn send_notification(&mut self, id: ConnectionId, notification: Notification) {
        self.send(id, MessageKind::Notification, &Message::Notification(notification));
    }

    /// The last words to a connection that the owner ends.
    fn say_goodbye(&mut self, connection: &Connection, reason: &StopReason) {
        let negotiated = connection.negotiated.as_deref().filter(|_| connection.is_established());
        let graceful = negotiated.is_some_and(|negotiated| negotiated.graceful_restart.is_some());
        if !connection.open_sent || (graceful && *reason == StopReason::Restart) {
            return;
        }
        let wrapped = reason.is_hard() && negotiated.is_some_and(|negotiated| negotiated.notification_restart);
        let notification = reason.notification();
        self.send_notification(connection.id, if wrapped { notification.into_hard_reset() } else { notification });
    }

    /// Ends a connection, after `notification` if there is one to be sent.
    pub(super) fn end(&mut self, id: ConnectionId, cause: DownCause, notification: Option<Notification>) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else {
            return;
        };
        let connection = self.connections.swap_remove(index);
        if let Some(notification) = notification {
            self.send_notification(id, notification);
        }
        let counts = counts_as_failure(&connection, &cause);
        self.finish(&connection, cause);
        if self.connections.is_empty() {
            self.seek_again(counts, connection.established_at);
        } else if connection.is_established() {
            self.promote_challenger();
        }
    }

    /// Tells driver and owner that a connection is over.
    fn finish(&mut self, connection: &Connection, cause: DownCause) {
        self.outputs.push_back(Output::Close(connection.id));
        self.last_down = Some(cause.clone());
        match connection.negotiated.as_deref() {
            Some(negotiated) if connection.is_established() => {
                self.statistics.down = self.statistics.down.saturating_add(1);
                self.outputs.push_back(Output::Down(DownReason::new(cause, negotiated)));
            }
            _ => {
                self.statistics.failed = self.statistics.failed.saturating_add(1);
                self.outputs.push_back(Output::Failed(cause));
            }
        }
    }

    /// The last connection is gone: pause or try again.
    fn seek_again(&mut self, failed: bool, established_at: Option<Instant>) {
        if self.phase == Phase::Stopped {
            return;
        }
        let pause = if failed { self.back_off.failed(self.now, established_at, &self.config) } else { Duration::ZERO };
        if pause != Duration::ZERO {
            self.cancel_dial();
            self.phase = Phase::IdleHold { until: self.now + self.jitter.apply(pause) };
        } else if let Phase::Waiting { .. } = self.phase {
            self.phase = Phase::Waiting { retry: self.next_retry() };
        }
    }

    fn admits(&self, direction: Direction) -> bool {
        match (self.phase, direction) {
            (Phase::Stopped | Phase::IdleHold { .. }, _) => false,
            (Phase::Dialling { .. }, _) | (Phase::Waiting { .. }, Direction::Incoming) => true,
            (Phase::Waiting { .. }, Direction::Outgoing) => false,
        }
    }

    fn expire_connections(&mut self) {
        let now = self.now;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            let Some(connection) = self.connection(id) else { continue };
            if due(connection.hold) {
                let early = connection.negotiated.is_none();
                let cause = if early { DownCause::OpenTimedOut } else { DownCause::HoldTimerExpired };
                let notification = connection.open_sent.then(|| NotificationCode::HOLD_TIMER_EXPIRED.notification());
                let rule = if early { refusal::OPEN_TIMEOUT } else { refusal::HOLD_TIMER };
                self.refuse(Refusal::new(rule, Action::Reset));
                self.end(id, cause, notification);
            } else if due(connection.send_hold) {
                let notification = NotificationCode::SEND_HOLD_TIMER_EXPIRED.notification();
                self.refuse(Refusal::new(refusal::SEND_HOLD_TIMER, Action::Reset));
                self.end(id, DownCause::SendHoldTimerExpired, Some(notification));
            } else if due(connection.contest.as_ref().map(|(_, until)| *until)) {
                self.replace_established();
            } else if due(connection.keepalive) {
                // What waits to be sent tells the peer as much as a KEEPALIVE behind it would.
                let silent = !connection.has_backlog();
                self.arm_keepalive(id);
                if silent {
                    self.send_keepalive(id);
                }
            }
        }
    }

    pub(super) fn arm_keepalive(&mut self, id: ConnectionId) {
        let now = self.now;
        let jitter = &mut self.jitter;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        let interval = connection.negotiated.as_ref().map_or(Duration::ZERO, |agreed| agreed.keepalive_interval);
        connection.keepalive = (interval != Duration::ZERO).then(|| now + jitter.apply(interval));
    }

    /// Reports a change of the state shown.
    fn note_state(&mut self) {
        let furthest = self.connections.iter().map(|connection| connection.state).max();
        let state = furthest.unwrap_or(match self.phase {
            Phase::Stopped | Phase::IdleHold { .. } => State::Idle,
            Phase::Dialling { .. } => State::Connect,
            Phase::Waiting { .. } => State::Active,
        });
        if state != self.state {
            self.outputs.push_back(Output::StateChanged { from: self.state, to: state });
            self.state = state;
            self.state_since = self.now;
        }
    }
}

/// Whether the end of a connection makes the next attempt wait longer. Neither a collision nor a connection that
/// never said anything does.
fn counts_as_failure(connection: &Connection, cause: &DownCause) -> bool {
    let collision = NotificationCode::CEASE_CONNECTION_COLLISION;
    match cause {
        DownCause::NotificationReceived(notification) | DownCause::NotificationSent(notification) => {
            notification.error() != collision
        }
        DownCause::Closed => connection.negotiated.is_some(),
        DownCause::Replaced | DownCause::Stopped(_) => false,
        DownCause::HoldTimerExpired
        | DownCause::SendHoldTimerExpired
        | DownCause::OpenTimedOut
        | DownCause::OpenRefused(_) => true,
    }
}
