//! Sessions: any order of events and octets is survived, timers stay sane, the driver is never asked for nonsense, and
//! it does not matter how TCP cuts a stream.

use core::time::Duration;

use bgp_core::session::{ConnectionId, Direction, Output, Peer, PeerConfig, SendQueue, State, StopReason};
use bgp_core::time::Instant;
use bgp_core::types::{AddressFamily, Asn, RouterId};
use bgp_core::wire::message::{GracefulRestart, Open};
use bgp_core::wire::{Capability, EncodeContext, MaxMessage, Message, frame};
use bytes::BytesMut;

/// The end-of-RIB marker of EVPN.
pub const END_OF_RIB: &[u8] =
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x1d\x02\0\0\0\x06\x80\x0f\x03\0\x19\x46";
/// No timer is set further ahead than the send-hold time.
const FAR: Duration = Duration::from_secs(600);
/// Steps per input: beyond them nothing new is learned.
const MAX_STEPS: usize = 256;

/// Runs one input: with an even first octet the rest is a program of events, see [`Driver::step`]; with an odd one it is
/// a stream on an established session, cut in two ways.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((choice, program)) if choice & 1 == 0 => run_program(*choice, program),
        Some((choice, stream)) => compare_cuts(*choice, stream),
        None => {}
    }
}

fn config(choice: u8) -> PeerConfig {
    let mut config = PeerConfig::new(Asn(65_000), RouterId(2));
    if choice & 2 != 0 {
        config.graceful_restart = None;
    }
    if choice & 4 != 0 {
        config.hold_time_secs = 0;
    }
    config.passive = choice & 8 != 0;
    config.extended_message = choice & 16 == 0;
    config
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&EncodeContext::default(), &mut out);
    out.to_vec()
}

/// An OPEN; bits of `choice` say whose and with what.
fn open(choice: u8) -> Vec<u8> {
    let families = [AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN];
    let mut capabilities: Vec<_> = families.into_iter().map(Capability::Multiprotocol).collect();
    capabilities.extend([Capability::FourOctetAs(Asn(65_000)), Capability::RouteRefresh]);
    if choice & 4 != 0 {
        capabilities.push(Capability::ExtendedMessage);
    }
    if choice & 8 != 0 {
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting: choice & 16 != 0,
            notification: choice & 32 != 0,
            restart_time_secs: 120,
            families: families.map(|family| (family, true)).to_vec(),
        }));
    }
    let router_id = RouterId(u32::from(choice & 3));
    encoded(&Message::Open(Open { asn: Asn(65_000), hold_time_secs: 9, router_id, capabilities }))
}

/// The driver's side, which holds the peer to its word.
struct Driver {
    peer: Peer,
    now: Instant,
    open: Vec<ConnectionId>,
    next: u32,
    up: bool,
}

fn run_program(choice: u8, mut program: &[u8]) {
    let now = Instant::from_secs(1);
    let mut driver = Driver { peer: Peer::new(config(choice)), now, open: Vec::new(), next: 0, up: false };
    driver.peer.start(now);
    driver.settle();
    for _ in 0..MAX_STEPS {
        let Some((&operation, rest)) = program.split_first() else { break };
        program = driver.step(operation, rest);
        driver.settle();
    }
}

impl Driver {
    /// Carries out one operation; returns the program after its operands.
    fn step<'a>(&mut self, operation: u8, rest: &'a [u8]) -> &'a [u8] {
        let now = self.now;
        // The high bit chooses among two connections.
        let connection = self.open.get(usize::from(operation >> 7)).or(self.open.first()).copied();
        let connection = connection.unwrap_or(ConnectionId(u32::MAX));
        let (operand, after) = rest.split_first().map_or((0, rest), |(operand, after)| (*operand, after));
        match operation & 0x0f {
            0 => self.peer.start(now),
            1 => self.connect(Direction::Incoming),
            2 => self.connect(Direction::Outgoing),
            3 => self.peer.connect_failed(now),
            4 => self.peer.closed(now, connection),
            5 => {
                self.peer.received(now, connection, &open(operand));
                return after;
            }
            6 => self.peer.received(now, connection, &encoded(&Message::Keepalive)),
            7 => {
                let (data, after) = after.split_at(after.len().min(operand.into()));
                self.peer.received(now, connection, data);
                return after;
            }
            8 => {
                self.now = now + Duration::from_millis(u64::from(operand) * 100);
                return after;
            }
            9 => {
                let queue = if operand & 1 == 0 { SendQueue::Empty } else { SendQueue::Pending };
                self.peer.written(now, connection, usize::from(operand) << 8, queue);
                return after;
            }
            10 => {
                self.peer.stop(now, stop_reason(operand));
                return after;
            }
            11 => self.peer.received(now, connection, END_OF_RIB),
            12 => self.peer.input_pending(now, connection),
            13 => {
                self.peer.set_config(now, config(operand));
                return after;
            }
            14 => self.peer.set_restarting(true),
            _ => {}
        }
        rest
    }

    fn connect(&mut self, direction: Direction) {
        self.next += 1;
        self.open.push(ConnectionId(self.next));
        self.peer.connected(self.now, ConnectionId(self.next), direction);
    }

    fn settle(&mut self) {
        self.drain();
        // A few rounds, since one timer may start another that is due at once; more would be a busy loop.
        for _ in 0..4 {
            self.peer.handle_timeout(self.now);
            self.drain();
        }
        let deadline = self.peer.next_deadline();
        assert!(deadline.is_none_or(|at| at > self.now && at <= self.now + FAR), "{deadline:?} at {:?}", self.now);
        assert!(self.open.len() <= 2, "at most two connections");
        assert_eq!(self.peer.state() == State::Established, self.up);
    }

    fn drain(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Send(id, bytes) => {
                    assert!(self.open.contains(&id), "nothing is sent to a closed connection");
                    let mut buffer = BytesMut::from(&bytes[..]);
                    while frame(&mut buffer, MaxMessage::Standard).expect("what we send is well framed").is_some() {}
                    assert!(buffer.is_empty(), "what we send is whole messages");
                }
                Output::Close(id) => {
                    assert!(self.open.contains(&id), "a connection is closed once");
                    self.open.retain(|open| *open != id);
                }
                Output::Established(..) => assert!(!std::mem::replace(&mut self.up, true)),
                Output::Down(_) => assert!(std::mem::replace(&mut self.up, false)),
                Output::Update(_) | Output::RouteRefresh(_) => assert!(self.up, "routes come between up and down"),
                Output::Connect | Output::CancelConnect | Output::Failed(_) | Output::StateChanged { .. } => {}
            }
        }
    }
}

/// A reason to stop, all of them among 256.
pub fn stop_reason(choice: u8) -> StopReason {
    match choice % 7 {
        0 => StopReason::Shutdown { communication: "maintenance".repeat(usize::from(choice)) },
        1 => StopReason::Deconfigured,
        2 => StopReason::HardReset,
        3 => StopReason::Restart,
        4 => StopReason::Reset { administrative: choice > 100 },
        5 => StopReason::MaxPrefixes,
        _ => StopReason::OutOfResources,
    }
}

/// A session that is up, and what the peer says when `stream` comes in pieces of `piece` octets.
fn outcome(choice: u8, stream: &[u8], piece: usize) -> Vec<String> {
    let now = Instant::from_secs(1);
    let id = ConnectionId(1);
    let mut peer = Peer::new(PeerConfig { passive: true, ..config(choice) });
    peer.start(now);
    peer.connected(now, id, Direction::Incoming);
    peer.received(now, id, &open(choice | 1));
    let mut outputs = Vec::new();
    let pieces = stream.chunks(piece.max(1));
    for data in core::iter::once(&encoded(&Message::Keepalive)[..]).chain(pieces) {
        peer.received(now, id, data);
        outputs.extend(core::iter::from_fn(|| peer.poll_output()).map(|output| format!("{output:?}")));
    }
    outputs
}

fn compare_cuts(choice: u8, stream: &[u8]) {
    let whole = outcome(choice, stream, usize::MAX);
    assert_eq!(outcome(choice, stream, 1), whole);
    assert_eq!(outcome(choice, stream, usize::from(choice >> 2).max(2)), whole);
}
