//! What a received message does, and which of two connections survives.

use super::connection::{Connection, Incoming};
use super::peer::{Peer, Phase};
use super::refusal::{self, Refusal};
use super::{ConnectionId, Direction, DownCause, Negotiated, Output, State};
use crate::rule::Action;
use crate::time::Duration;
use crate::wire::message::RefreshKind;
use crate::wire::{Fault, Frame, Message, Notification, NotificationCode, Open, RouteRefresh, Update};

/// Two connections that began further apart than this are not a collision (RFC 4271 section 6.8): the peer has lost the
/// older one.
const COLLISION_WINDOW: Duration = Duration::from_secs(2);

impl Peer {
    /// Takes one message from a connection; false if none is whole.
    pub(super) fn step(&mut self) -> bool {
        let statistics = &mut self.statistics;
        let next = self
            .connections
            .iter_mut()
            .find_map(|connection| connection.next(statistics).map(|incoming| (connection.id, incoming)));
        let Some((id, incoming)) = next else {
            return false;
        };
        match incoming {
            Incoming::Message(message, frame) => self.handle(id, message, &frame),
            Incoming::Bad(fault, message) => {
                let detail = fault.notification.to_string();
                self.refuse(Refusal { message, detail, ..Refusal::new(fault.rule, Action::Reset) });
                self.reject(id, fault.notification);
            }
            Incoming::Closed(begun) => {
                if !begun.is_empty() {
                    self.refuse(Refusal { message: begun, ..Refusal::new(refusal::MESSAGE_TRUNCATED, Action::Ignore) });
                }
                self.end(id, DownCause::Closed, None);
            }
        }
        true
    }

    /// Takes over a new connection.
    pub(super) fn accept(&mut self, id: ConnectionId, direction: Direction) {
        // A peer that connects again before it got anywhere has forgotten its earlier attempt.
        let forgotten = |other: &&Connection| !other.is_established() && other.direction == direction;
        if let Some(earlier) = self.connections.iter().find(forgotten).map(|earlier| earlier.id) {
            self.replace(earlier);
        }
        self.phase = match self.phase {
            Phase::Dialling { retry } if direction == Direction::Incoming => Phase::Dialling { retry },
            _ => Phase::Waiting { retry: None },
        };
        let restarts =
            self.established().and_then(|old| old.negotiated.as_ref()).map(|old| old.graceful_restart.is_some());
        self.connections.push(Connection::new(id, direction, self.now, &self.config));
        match restarts {
            None => self.send_open(id),
            // RFC 4724 section 4.2: the peer may have restarted. Its OPEN will tell; ours waits for it, so that a
            // late loser of a collision never gets one.
            Some(true) => {}
            Some(false) => self.lose_collision(id),
        }
    }

    /// The established connection is gone, the one that waited behind it goes on.
    pub(super) fn promote_challenger(&mut self) {
        let waiting = self.connections.iter().find(|connection| !connection.open_sent).map(|waiting| waiting.id);
        let Some(id) = waiting else { return };
        self.send_open(id);
        if let Some((negotiated, _)) = self.connection(id).and_then(|connection| connection.contest.take()) {
            self.agree(id, negotiated);
        }
    }

    /// The established session `old` may be dead without our knowing, and `id` be the peer that is back; or it is alive, and
    /// somebody else speaks from the peer's address. A message on the old one tells; TCP tells at once where the peer has
    /// lost it, since we send something. Silence for as long as two KEEPALIVEs may take is death; with long hold times the
    /// newcomer does not wait for so long that its own OPEN would be overdue.
    fn contest(&mut self, id: ConnectionId, old: ConnectionId, negotiated: Box<Negotiated>) {
        let interval = self.negotiated().map_or(Duration::ZERO, |agreed| agreed.keepalive_interval);
        if interval == Duration::ZERO {
            // Nothing would ever be heard of it.
            self.replace(old);
            return self.agree(id, negotiated);
        }
        let until = self.now + (interval * 2).min(self.config.open_timeout / 3 * 2);
        if let Some(connection) = self.connection(id)
            && connection.contest.is_none()
        {
            connection.contest = Some((negotiated, until));
            self.send_keepalive(old);
        }
    }

    /// The established session has shown that it is alive.
    fn settle_contest(&mut self) {
        let challenger = self.connections.iter().find(|connection| connection.contest.is_some());
        if let Some(id) = challenger.map(|connection| connection.id) {
            self.lose_collision(id);
        }
    }

    /// The established session has been silent for too long while another one waits in its place.
    pub(super) fn replace_established(&mut self) {
        if let Some(old) = self.established().map(|connection| connection.id) {
            self.replace(old);
        }
    }

    /// Ends a connection for what it sent.
    pub(super) fn reject(&mut self, id: ConnectionId, notification: Notification) {
        self.end(id, DownCause::NotificationSent(notification.clone()), Some(notification));
    }

    /// Ends the connection that lost against another one.
    fn lose_collision(&mut self, id: ConnectionId) {
        self.refuse(Refusal::new(refusal::COLLISION, Action::Close));
        self.reject(id, NotificationCode::CEASE_CONNECTION_COLLISION.notification());
    }

    /// Drops a connection that the peer itself has given up, without a word.
    fn replace(&mut self, id: ConnectionId) {
        self.end(id, DownCause::Replaced, None);
    }

    /// A message that the connection's state allows.
    fn handle(&mut self, id: ConnectionId, message: Message, frame: &Frame) {
        let ends = matches!(message, Message::Notification(_));
        if !ends && self.established().is_some_and(|connection| connection.id == id) {
            self.settle_contest();
        }
        match message {
            Message::Open(open) => self.handle_open(id, &open, frame),
            Message::Keepalive => self.handle_keepalive(id),
            Message::Update(update) => self.handle_update(id, update, frame),
            Message::RouteRefresh(refresh) => self.handle_refresh(refresh, frame),
            Message::Notification(notification) => {
                let (message, detail) = (frame.whole(), notification.to_string());
                self.refuse(Refusal { message, detail, ..Refusal::new(refusal::NOTIFICATION_RECEIVED, Action::Note) });
                self.end(id, DownCause::NotificationReceived(notification), None);
            }
        }
    }

    fn handle_open(&mut self, id: ConnectionId, open: &Open, frame: &Frame) {
        let Some(connection) = self.connections.iter().find(|connection| connection.id == id) else { return };
        let restarting = connection.sent_restarting;
        let negotiated = match Negotiated::new(&self.config, restarting, open) {
            Ok(negotiated) => Box::new(negotiated),
            Err(fault) => {
                let notification = fault.notification();
                let (message, detail) = (frame.whole(), fault.to_string());
                let rule = Fault::from(notification.clone()).rule;
                self.refuse(Refusal { message, detail, ..Refusal::new(rule, Action::Reset) });
                return self.end(id, DownCause::OpenRefused(fault), Some(notification));
            }
        };
        if self.survives_collision(id, &negotiated) {
            self.agree(id, negotiated);
        }
    }

    /// Both OPENs are there and this connection is the one that stays.
    fn agree(&mut self, id: ConnectionId, mut negotiated: Box<Negotiated>) {
        self.cancel_dial();
        let now = self.now;
        let config = &self.config;
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        negotiated.local_restarting = connection.sent_restarting;
        connection.confirm(now, negotiated, config);
        self.send_keepalive(id);
        self.arm_keepalive(id);
    }

    fn handle_keepalive(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connection(id) else { return };
        if connection.is_established() {
            return connection.restart_hold(now);
        }
        connection.establish(now);
        if let Some(negotiated) = connection.negotiated.clone() {
            self.statistics.established = self.statistics.established.saturating_add(1);
            self.outputs.push_back(Output::Established(id, negotiated));
        }
    }

    fn handle_update(&mut self, id: ConnectionId, update: Box<Update>, frame: &Frame) {
        let now = self.now;
        let Some(connection) = self.connection(id) else { return };
        connection.restart_hold(now);
        if let Some(family) = update.disable {
            connection.disable(family);
        }
        if !update.findings.is_empty() {
            let message = frame.whole();
            for finding in &update.findings {
                self.statistics.findings = self.statistics.findings.saturating_add(1);
                self.refuse(Refusal::contained(finding, message.clone()));
            }
        }
        self.outputs.push_back(Output::Update(update));
    }

    /// Unknown subtypes (RFC 7313 section 5) and families that the session does not carry (RFC 2918) are ignored.
    fn handle_refresh(&mut self, refresh: RouteRefresh, frame: &Frame) {
        let broken = match refresh.kind {
            RefreshKind::Unknown(_) => refusal::ROUTE_REFRESH_SUBTYPE,
            _ if !self.negotiated().is_some_and(|negotiated| negotiated.has(refresh.family)) => {
                refusal::ROUTE_REFRESH_FAMILY
            }
            _ => return self.outputs.push_back(Output::RouteRefresh(refresh)),
        };
        self.refuse(Refusal { message: frame.whole(), ..Refusal::new(broken, Action::Ignore) });
    }

    /// Decides between the connection whose OPEN has come and another one, if there is another; ends the loser.
    fn survives_collision(&mut self, id: ConnectionId, negotiated: &Negotiated) -> bool {
        let Some(other) = self.connections.iter().find(|connection| connection.id != id) else {
            return true;
        };
        let (other_id, other_state, other_direction) = (other.id, other.state, other.direction);
        let other_is_old =
            self.now.saturating_since(other.established_at.unwrap_or(other.connected_at)) >= COLLISION_WINDOW;
        if other_state == State::Established {
            // RFC 4724 section 4.2. A young session is no loss of the peer's but a collision, unless it says so; and
            // another identifier is not the peer's that is back.
            let same = self.negotiated().is_some_and(|agreed| agreed.remote_router_id == negotiated.remote_router_id);
            if same && (other_is_old || negotiated.peer_restarting()) {
                self.contest(id, other_id, Box::new(negotiated.clone()));
            } else {
                self.lose_collision(id);
            }
            return false;
        }
        if other_state == State::OpenSent && other_is_old {
            self.replace(other_id);
            return true;
        }
        if other_direction == self.preferred(negotiated) {
            self.lose_collision(id);
            return false;
        }
        self.lose_collision(other_id);
        true
    }

    /// RFC 4271 section 6.8: the connection opened by the speaker with the higher identifier stays; with equal ones, by
    /// the speaker with the higher AS (RFC 6286 section 2.3).
    fn preferred(&self, negotiated: &Negotiated) -> Direction {
        let ours = (self.config.local_router_id, self.config.local_asn);
        let theirs = (negotiated.remote_router_id, negotiated.remote_asn);
        if ours < theirs { Direction::Incoming } else { Direction::Outgoing }
    }
}
