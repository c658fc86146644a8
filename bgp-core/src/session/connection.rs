//! One TCP connection of a peer: its input, its state from OpenSent on, its timers.

use bytes::{Bytes, BytesMut};

use super::refusal::{self, Refusal};
use super::statistics::Statistics;
use super::{ConnectionId, Direction, Negotiated, PeerConfig, SendQueue, State};
use crate::time::{Duration, Instant};
use crate::types::AddressFamily;
use crate::wire::{
    DecodeContext, Fault, Frame, MaxMessage, Message, MessageKind, Notification, NotificationCode, frame,
};

/// Octets that the peer must take within one send-hold time, or everything that is queued: a reader of single octets is
/// a dead one.
const SEND_PROGRESS_OCTETS: usize = 65_536;

/// Input memory that an idle connection keeps: with a thousand peers, what each once needed adds up.
const KEPT_INPUT_OCTETS: usize = 8_192;

/// What the input of a connection holds next.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A message, and as it came.
    Message(Message, Frame),
    /// Something that ends the session, and the octets of it.
    Bad(Fault, Bytes),
    /// The end: everything before it has been delivered. What remains is no whole message.
    Closed(Bytes),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    /// OpenSent, OpenConfirm or Established. OpenSent even while our own OPEN is held back, see `open_sent`.
    pub(super) state: State,
    pub(super) open_sent: bool,
    /// R bit of our OPEN.
    pub(super) sent_restarting: bool,
    pub(super) connected_at: Instant,
    pub(super) established_at: Option<Instant>,
    /// Present from OpenConfirm on.
    pub(super) negotiated: Option<Box<Negotiated>>,
    /// Its OPEN has come while another session is established: what both agree on, and until when that session may show that
    /// it is alive.
    pub(super) contest: Option<(Box<Negotiated>, Instant)>,
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
    pub(super) send_hold: Option<Instant>,
    send_progress: usize,
    input: BytesMut,
    closed: bool,
    max_message: MaxMessage,
    decode: DecodeContext,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, direction: Direction, now: Instant, config: &PeerConfig) -> Self {
        Self {
            id,
            direction,
            state: State::OpenSent,
            open_sent: false,
            sent_restarting: false,
            connected_at: now,
            established_at: None,
            negotiated: None,
            contest: None,
            hold: Some(now + config.open_timeout),
            keepalive: None,
            send_hold: None,
            send_progress: 0,
            input: BytesMut::new(),
            closed: false,
            max_message: MaxMessage::Standard,
            decode: DecodeContext::default(),
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.state == State::Established
    }

    /// Appends what TCP delivered.
    pub(super) fn receive(&mut self, data: &[u8]) {
        if !self.closed {
            self.input.extend_from_slice(data);
        }
    }

    /// TCP has ended; what was received before still counts.
    pub(super) const fn close_input(&mut self) {
        self.closed = true;
    }

    /// Takes the next message off the input, if it is whole.
    pub(super) fn next(&mut self, statistics: &mut Statistics) -> Option<Incoming> {
        if self.input.is_empty() {
            if self.input.capacity() > KEPT_INPUT_OCTETS {
                self.input = BytesMut::new();
            }
            return self.closed.then(|| Incoming::Closed(Bytes::new()));
        }
        match frame(&mut self.input, self.max_message) {
            Ok(Some(frame)) => {
                statistics.received.count(frame.kind);
                Some(self.decode(frame))
            }
            Ok(None) => self.closed.then(|| Incoming::Closed(self.begun())),
            Err(notification) => Some(Incoming::Bad(notification.into(), self.begun())),
        }
    }

    /// What the input begins with, where that is no whole message.
    fn begun(&self) -> Bytes {
        let end = self.input.len().min(Refusal::MAX_UNFRAMED);
        Bytes::copy_from_slice(self.input.get(..end).unwrap_or_default())
    }

    fn decode(&self, frame: Frame) -> Incoming {
        let result = match self.check_expected(frame.kind) {
            Ok(()) => Message::judge(&frame, &self.decode),
            Err(notification) => Err(Fault { rule: refusal::MESSAGE_UNEXPECTED, notification }),
        };
        match result {
            Ok(message) => Incoming::Message(message, frame),
            Err(fault) => Incoming::Bad(fault, frame.whole()),
        }
    }

    /// RFC 6608: messages that the state does not allow, found before they are decoded.
    fn check_expected(&self, kind: MessageKind) -> Result<(), Notification> {
        use MessageKind::{Keepalive, Notification as Notify, Open, RouteRefresh, Update};
        let error = match (self.state, kind) {
            (_, Notify)
            | (State::OpenSent, Open)
            | (State::OpenConfirm, Keepalive)
            | (State::Established, Keepalive | Update | RouteRefresh) => return Ok(()),
            (State::OpenSent, _) => NotificationCode::FSM_UNEXPECTED_IN_OPEN_SENT,
            (State::OpenConfirm, _) => NotificationCode::FSM_UNEXPECTED_IN_OPEN_CONFIRM,
            _ => NotificationCode::FSM_UNEXPECTED_IN_ESTABLISHED,
        };
        Err(error.with_data(&[kind as u8]))
    }

    /// The peer's OPEN was accepted.
    pub(super) fn confirm(&mut self, now: Instant, negotiated: Box<Negotiated>, config: &PeerConfig) {
        self.state = State::OpenConfirm;
        self.max_message = negotiated.max_message();
        self.decode = negotiated.decode_context(config);
        let unlimited = negotiated.hold_time == Duration::ZERO;
        let wait = if unlimited { config.open_timeout } else { negotiated.hold_time };
        self.hold = Some(now + wait);
        self.negotiated = Some(negotiated);
    }

    /// The peer's first KEEPALIVE is there.
    pub(super) fn establish(&mut self, now: Instant) {
        self.state = State::Established;
        self.established_at = Some(now);
        self.restart_hold(now);
    }

    /// The peer is alive.
    pub(super) fn restart_hold(&mut self, now: Instant) {
        let hold_time = self.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.hold_time);
        self.hold = (hold_time != Duration::ZERO).then(|| now + hold_time);
    }

    /// Ignores a family for the rest of the session (RFC 7606 section 2).
    pub(super) fn disable(&mut self, family: AddressFamily) {
        self.decode.families.retain(|listed| *listed != family);
    }

    /// Whether something waits to be sent, so that a KEEPALIVE would say nothing new.
    pub(super) const fn has_backlog(&self) -> bool {
        self.send_hold.is_some()
    }

    /// The driver wrote `octets` (RFC 9687).
    pub(super) fn written(&mut self, now: Instant, octets: usize, queue: SendQueue, limit: Duration) {
        self.send_progress = self.send_progress.saturating_add(octets);
        match queue {
            SendQueue::Empty => {
                self.send_hold = None;
                self.send_progress = 0;
            }
            SendQueue::Pending if self.send_hold.is_none() || self.send_progress >= SEND_PROGRESS_OCTETS => {
                self.send_hold = Some(now + limit);
                self.send_progress = 0;
            }
            SendQueue::Pending => {}
        }
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let contest = self.contest.as_ref().map(|(_, until)| *until);
        [self.hold, self.keepalive, self.send_hold, contest].into_iter().flatten()
    }
}
