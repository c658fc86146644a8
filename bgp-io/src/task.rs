//! The task of one peer: it owns the state machine, the connections and the timer.
//!
//! ```text
//!   mailbox ─┐                       ┌─► outbox ──► owner
//!   reads  ──┼─► Peer ──► outputs ───┼─► writers, dial, close
//!   timer  ──┘                       └─► timer
//! ```
//!
//! The task waits for all of these at once and never for the owner alone: while the outbox cannot be emptied nothing is
//! read, but keepalives still leave and what lies unread in the socket counts as life.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bgp_core::rule::Action;
use bgp_core::session::{ConnectionId, Direction, Output, Peer, Refusal, SendQueue, State, StopReason};
use bgp_core::time::Instant;
use bgp_core::types::{AddressFamily, PeerId};
use bgp_core::wire::MessageKind;
use bgp_core::wire::message::{RefreshKind, RouteRefresh, Update};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use crate::api::{Event, PeerSpec, SessionId};
use crate::clock::Clock;
use crate::connection::{Connection, Read};
use crate::dial::{dial, no_answer};
use crate::ledger::{Evidence, Ledger, Who, list_routes};
use crate::mailbox::{Accepted, Leave, Mail, Mailbox};
use crate::outbox::Outbox;
use crate::{rules, sockopt};

/// Closed connections that may still be sending their last words; older ones are cut off.
const MAX_LINGERING: usize = 4;
/// Where a message says its type (RFC 4271 section 4.1).
const TYPE_OFFSET: usize = 18;

type Dial = Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send>>;

/// What a task is given.
#[derive(Debug)]
pub(crate) struct TaskSetup {
    pub(crate) id: PeerId,
    pub(crate) spec: PeerSpec,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) bell: mpsc::Receiver<()>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) sessions: Arc<AtomicU64>,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
}

/// Why the task woke up.
enum Wake {
    Mail,
    Dialled(Result<TcpStream, String>),
    Timer,
    /// Something was read, written or delivered.
    Progress,
}

pub(crate) struct PeerTask {
    id: PeerId,
    spec: PeerSpec,
    peer: Peer,
    clock: Clock,
    ledger: Ledger,
    mailbox: Arc<Mailbox>,
    bell: mpsc::Receiver<()>,
    outbox: Outbox,
    sessions: Arc<AtomicU64>,
    connections: Vec<Connection>,
    last_connection: u32,
    session: Option<(ConnectionId, SessionId)>,
    dial: Option<Dial>,
    lingering: JoinSet<()>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to; none: it is not wanted.
    armed: Option<Instant>,
    updates: Vec<Update>,
    /// Families for which a refresh was passed on since the last read.
    requested: Vec<AddressFamily>,
    error: Option<String>,
    reported: (State, Option<String>),
    leaving: Option<Leave>,
}

impl PeerTask {
    pub(crate) fn new(setup: TaskSetup) -> Self {
        let TaskSetup { id, spec, mailbox, bell, events, sessions, clock, ledger } = setup;
        let mut peer = Peer::new(spec.session.clone());
        peer.set_restarting(spec.restarting);
        Self {
            id,
            peer,
            spec,
            clock,
            ledger,
            mailbox,
            bell,
            outbox: Outbox::new(events),
            sessions,
            connections: Vec::with_capacity(2),
            last_connection: 0,
            session: None,
            dial: None,
            lingering: JoinSet::new(),
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            armed: None,
            updates: Vec::new(),
            requested: Vec::new(),
            error: None,
            reported: (State::Idle, None),
            leaving: None,
        }
    }

    /// Runs until the peer is removed or the owner is gone.
    pub(crate) async fn run(mut self) {
        self.peer.start(self.clock.now());
        loop {
            self.carry_out();
            if self.has_left() {
                break;
            }
            self.arm_timer();
            match poll_fn(|cx| self.poll_wake(cx)).await {
                Wake::Mail => self.open_mail(),
                Wake::Dialled(Ok(stream)) => self.add_connection(stream, Direction::Outgoing),
                Wake::Dialled(Err(error)) => {
                    self.error = Some(error);
                    self.peer.connect_failed(self.clock.now());
                }
                Wake::Timer => self.handle_timeout(),
                Wake::Progress => {}
            }
        }
        while self.lingering.join_next().await.is_some() {}
    }

    /// Whether the peer was removed and everything has been said.
    fn has_left(&self) -> bool {
        match self.leaving {
            None => false,
            Some(Leave::Removed) => self.outbox.is_empty(),
            Some(Leave::ShutDown) => true,
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if self.bell.poll_recv(cx).is_ready() {
            return Poll::Ready(Wake::Mail);
        }
        // Reading comes before the timer: what arrived while the process did not run is life, however late it is.
        if self.poll_reads(cx).is_ready() || self.poll_writes(cx).is_ready() || self.outbox.poll_flush(cx).is_ready() {
            return Poll::Ready(Wake::Progress);
        }
        if let Some(dial) = &mut self.dial
            && let Poll::Ready(result) = dial.as_mut().poll(cx)
        {
            self.dial = None;
            return Poll::Ready(Wake::Dialled(result));
        }
        // Only to forget those that have ended.
        while let Poll::Ready(Some(_)) = self.lingering.poll_join_next(cx) {}
        if self.armed.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            return Poll::Ready(Wake::Timer);
        }
        // A full socket has started the send-hold timer.
        if self.needs_arming().is_some() { Poll::Ready(Wake::Progress) } else { Poll::Pending }
    }

    fn poll_reads(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.outbox.is_empty() {
            return Poll::Pending;
        }
        let (peer, clock) = (&mut self.peer, self.clock);
        let mut progress = Poll::Pending;
        for connection in &mut self.connections {
            let id = connection.id;
            match connection.poll_read(cx, |octets| peer.received(clock.now(), id, octets)) {
                Poll::Ready(Read::Octets(())) => progress = Poll::Ready(()),
                Poll::Ready(Read::End) => {
                    peer.closed(clock.now(), id);
                    progress = Poll::Ready(());
                }
                Poll::Pending => {}
            }
        }
        progress
    }

    fn poll_writes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut progress = Poll::Pending;
        let mut finished = false;
        for connection in &mut self.connections {
            if connection.writer.is_empty() {
                finished |= connection.writer.take_finished();
                continue;
            }
            let written = connection.poll_write(cx);
            let queue = if connection.writer.is_empty() { SendQueue::Empty } else { SendQueue::Pending };
            match written {
                Poll::Ready(octets) => {
                    self.peer.written(clock.now(), connection.id, octets, queue);
                    progress = Poll::Ready(());
                }
                // The socket is full: from now on the peer must make progress.
                Poll::Pending => self.peer.written(clock.now(), connection.id, 0, queue),
            }
            finished |= connection.writer.take_finished();
        }
        if finished && let Some((_, session)) = self.session {
            self.mailbox.batch_written();
            self.outbox.push(Event::WriterReady { peer: self.id, session });
            progress = Poll::Ready(());
        }
        progress
    }

    fn handle_timeout(&mut self) {
        let now = self.clock.now();
        if !self.outbox.is_empty() {
            for connection in &self.connections {
                if connection.has_unread_input() {
                    self.peer.input_pending(now, connection.id);
                }
            }
        }
        self.peer.handle_timeout(now);
    }

    /// The next deadline, if the timer would miss it. One that fires too early costs a wake-up; moving it at each
    /// message would cost more.
    fn needs_arming(&self) -> Option<Instant> {
        self.peer.next_deadline().filter(|deadline| self.armed.is_none_or(|armed| armed > *deadline))
    }

    fn arm_timer(&mut self) {
        if let Some(deadline) = self.needs_arming() {
            self.timer.as_mut().reset(self.clock.at(deadline));
            self.armed = Some(deadline);
        }
    }

    fn open_mail(&mut self) {
        let Mail { spec, start, stop, refresh, restarted, leave, incoming, batch } = self.mailbox.take();
        let now = self.clock.now();
        if let Some((session, batch)) = batch {
            self.begin_batch(session, batch);
        }
        if let Some(spec) = spec {
            self.change_spec(*spec);
        }
        for accepted in incoming {
            self.add_incoming(accepted);
        }
        if let Some((session, family)) = refresh
            && self.session.is_some_and(|(_, current)| current == session)
        {
            self.peer.request_refresh(now, family);
        }
        if restarted {
            self.peer.set_restarting(false);
        }
        if let Some(reason) = stop {
            self.peer.stop(now, reason);
        }
        if start {
            self.peer.start(now);
        }
        if let Some(leave) = leave {
            if leave == Leave::ShutDown {
                self.outbox.abandon();
            }
            self.leaving = Some(leave);
        }
    }

    fn begin_batch(&mut self, session: SessionId, batch: Vec<Bytes>) {
        let Some((connection, current)) = self.session else { return };
        let Some(connection) = self.connections.iter_mut().find(|other| other.id == connection) else { return };
        if current == session {
            self.peer.count_updates_sent(batch.iter().map(count_messages).sum());
            connection.writer.set_batch(batch);
        }
    }

    fn change_spec(&mut self, spec: PeerSpec) {
        let old = std::mem::replace(&mut self.spec, spec);
        let new = &self.spec;
        // A key is for the next connection: this one keeps the key that it was opened with, here and in the kernel. So a
        // key can be replaced on both sides one after the other.
        let transport = |spec: &PeerSpec| (spec.address, spec.local_address, spec.gtsm);
        if old.key != new.key && self.dial.is_some() {
            self.dial = Some(Box::pin(dial(new.clone())));
        }
        let reset = transport(&old) != transport(new) || old.session.needs_reset(&new.session);
        let now = self.clock.now();
        self.peer.set_config(now, new.session.clone());
        if reset {
            self.peer.stop(now, StopReason::Reset { administrative: false });
        }
    }

    fn add_incoming(&mut self, accepted: Accepted) {
        let Accepted { stream, full_ttl } = accepted;
        match self.check_incoming(&stream, full_ttl) {
            Ok(()) => self.add_connection(stream, Direction::Incoming),
            Err(error) => {
                let address = self.spec.address.ip();
                if self.spec.gtsm && !full_ttl {
                    self.ledger.note(Who::Peer(address), rules::TTL, Action::Close, 1, Evidence::default);
                }
                self.error = Some(format!("refused a connection from {address}: {error}"));
            }
        }
    }

    /// Applies what a connection of ours has had from the start.
    fn check_incoming(&self, stream: &TcpStream, full_ttl: bool) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if self.spec.gtsm {
            sockopt::require_full_ttl(stream, &self.spec.address)?;
        }
        if self.spec.gtsm && !full_ttl {
            return Err(io::Error::other(
                "it did not come with TTL 255, which GTSM demands: set GTSM on both sides, or on neither",
            ));
        }
        Ok(())
    }

    fn add_connection(&mut self, stream: TcpStream, direction: Direction) {
        self.last_connection = self.last_connection.wrapping_add(1);
        let id = ConnectionId(self.last_connection);
        self.connections.push(Connection::new(id, stream));
        self.peer.connected(self.clock.now(), id, direction);
        self.carry_out();
    }

    /// Does what the session wants, and tells the owner what it has to say.
    fn carry_out(&mut self) {
        let mut cancelled = false;
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Connect => {
                    if cancelled {
                        self.error = Some(no_answer(&self.spec));
                    }
                    self.dial = Some(Box::pin(dial(self.spec.clone())));
                }
                Output::CancelConnect => {
                    cancelled = self.dial.take().is_some();
                }
                Output::Send(id, message) => {
                    if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
                        connection.writer.push_control(message);
                    }
                }
                Output::Close(id) => self.close(id),
                Output::Update(update) => {
                    self.note_refusals(Some(&update));
                    self.updates.push(*update);
                }
                Output::RouteRefresh(refresh) => self.pass_refresh(refresh),
                Output::Established(connection, negotiated) => {
                    let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
                    self.session = Some((connection, session));
                    self.error = None;
                    self.mailbox.set_session(Some(session));
                    self.tell(Event::Established { peer: self.id, session, negotiated });
                }
                Output::Down(reason) => {
                    self.error = Some(reason.cause.to_string());
                    self.mailbox.set_session(None);
                    self.flush_updates();
                    if let Some((_, session)) = self.session.take() {
                        self.tell(Event::Down { peer: self.id, session, reason });
                    }
                }
                Output::Failed(cause) => self.error = Some(cause.to_string()),
                Output::StateChanged { .. } => {}
            }
        }
        self.note_refusals(None);
        self.flush_updates();
        self.requested.clear();
        self.report_state();
    }

    /// Enters what the session refused into the ledger; what is found in an UPDATE is polled before that.
    fn note_refusals(&mut self, update: Option<&Update>) {
        let who = Who::Peer(self.spec.address.ip());
        while let Some(refusal) = self.peer.poll_refusal() {
            let Refusal { rule, action, attribute, count, message, detail } = refusal;
            let is_update = message.get(TYPE_OFFSET) == Some(&(MessageKind::Update as u8));
            let update = update.filter(|_| is_update);
            let evidence =
                || Evidence { routes: update.map(list_routes).unwrap_or_default(), message, attribute, detail };
            self.ledger.note(who, rule, action, count.into(), evidence);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let connection = self.connections.swap_remove(index);
        if connection.needs_linger() && self.lingering.len() < MAX_LINGERING {
            self.lingering.spawn(connection.linger());
        }
    }

    /// Passes a refresh on; a request for the same family only once per read: it is small to ask and large to answer.
    fn pass_refresh(&mut self, refresh: RouteRefresh) {
        if refresh.kind == RefreshKind::Request {
            if self.requested.contains(&refresh.family) {
                return;
            }
            self.requested.push(refresh.family);
        }
        if let Some((_, session)) = self.session {
            self.tell(Event::Refresh { peer: self.id, session, refresh });
        }
    }

    fn flush_updates(&mut self) {
        if let Some((_, session)) = self.session
            && !self.updates.is_empty()
        {
            let updates = std::mem::take(&mut self.updates);
            self.outbox.push(Event::Updates { peer: self.id, session, updates });
        }
    }

    fn tell(&mut self, event: Event) {
        self.flush_updates();
        self.outbox.push(event);
    }

    fn report_state(&mut self) {
        let state = self.peer.state();
        self.mailbox.publish(state, self.peer.statistics());
        if self.reported.0 != state || self.reported.1 != self.error {
            self.reported = (state, self.error.clone());
            self.outbox.push(Event::State { peer: self.id, state, error: self.error.clone() });
        }
    }
}

/// Messages in an element of a batch, by their length fields.
fn count_messages(element: &Bytes) -> u64 {
    let mut rest: &[u8] = element;
    let mut messages = 0;
    while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).max(19);
        rest = rest.get(length..).unwrap_or_default();
        messages += 1;
    }
    messages
}
