//! Links between machines and the TCP streams on them: delay, segments that end at any byte, cut and restored links,
//! bounded buffers, resets.
//!
//! In: dials, octets, closes. Out: happenings on the [`Clock`]. Octets of one direction never overtake each other.

use std::collections::{BTreeMap, VecDeque};

use bgp_core::time::{Duration, Instant};
use bytes::Bytes;

use super::clock::{Clock, Happening, Node};
use super::random::Random;

/// Octets that a stream takes from a sender before the receiver has them.
const WINDOW: usize = 16 << 10;

/// A TCP connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u64);

/// Who is meant of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The one that dialled.
    Client,
    /// The one that was called.
    Server,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What arrives.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Octets.
    Data(Bytes),
    /// The end.
    End,
}

#[derive(Debug, Default)]
struct Half {
    in_flight: VecDeque<Piece>,
    octets: usize,
    /// The sender waits for room.
    full: bool,
    last_arrival: Instant,
    /// Arrivals that met a cut link.
    held: usize,
    /// The sending process has closed.
    closed: bool,
}

/// A stream and where its ends are.
#[derive(Debug)]
pub struct Stream {
    ends: [(Node, u32); 2],
    halves: [Half; 2],
}

/// A link between two machines, the one that sorts first and the other.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Whether nothing passes from the first, and from the second.
    cut: [bool; 2],
    latency: Duration,
}

impl Link {
    const CUT: Self = Self { cut: [true; 2], latency: Duration::ZERO };
}

/// All links and streams.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<(Node, Node), Link>,
    streams: BTreeMap<StreamId, Stream>,
    last: u64,
}

impl Stream {
    /// The process at a side: machine and life.
    pub const fn end(&self, side: Side) -> (Node, u32) {
        self.ends[side as usize]
    }
}

fn link_of(a: Node, b: Node) -> (Node, Node) {
    (a.min(b), a.max(b))
}

impl Network {
    /// Joins two machines.
    pub fn join(&mut self, a: Node, b: Node, latency: Duration) {
        self.links.insert(link_of(a, b), Link { cut: [false; 2], latency });
    }

    fn link(&self, a: Node, b: Node) -> Link {
        self.links.get(&link_of(a, b)).copied().unwrap_or(Link::CUT)
    }

    /// Whether nothing passes from one machine to another.
    pub fn is_cut(&self, from: Node, to: Node) -> bool {
        self.link(from, to).cut[usize::from(from > to)]
    }

    /// Sets how long a segment takes on a link, without jitter.
    pub fn set_latency(&mut self, a: Node, b: Node, latency: Duration) {
        if let Some(link) = self.links.get_mut(&link_of(a, b)) {
            link.latency = latency;
        }
    }

    fn delay(&self, a: Node, b: Node, random: &mut Random) -> Duration {
        let latency = self.link(a, b).latency;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        latency + random.micros(0, micros)
    }

    /// Cuts one direction of a link: nothing passes, nobody is told.
    pub fn cut(&mut self, from: Node, to: Node) {
        if let Some(link) = self.links.get_mut(&link_of(from, to)) {
            link.cut[usize::from(from > to)] = true;
        }
    }

    /// Restores a link; what was under way is sent again after a while, as TCP does.
    pub fn restore(&mut self, a: Node, b: Node, clock: &mut Clock, random: &mut Random) {
        let name = link_of(a, b);
        let Some(link) = self.links.get_mut(&name) else { return };
        link.cut = [false; 2];
        for (id, stream) in &mut self.streams {
            if link_of(stream.ends[0].0, stream.ends[1].0) != name {
                continue;
            }
            for side in [Side::Client, Side::Server] {
                let held = std::mem::take(&mut stream.halves[side as usize].held);
                for _ in 0..held {
                    clock.after(random.micros(1_000, 1_500_000), Happening::Arrival { stream: *id, from: side });
                }
            }
        }
    }

    /// Sends a connection attempt; lost on a link of which either direction is cut.
    pub fn knock(&self, from: (Node, u32), to: Node, attempt: u64, clock: &mut Clock, random: &mut Random) {
        if !self.is_cut(from.0, to) && !self.is_cut(to, from.0) {
            let delay = self.delay(from.0, to, random);
            clock.after(delay, Happening::Knock { from: from.0, to, life: from.1, attempt });
        }
    }

    /// The other side is not there.
    pub fn refuse(&self, from: (Node, u32), by: Node, attempt: u64, clock: &mut Clock, random: &mut Random) {
        let delay = self.delay(from.0, by, random);
        clock.after(delay, Happening::Refused { node: from.0, life: from.1, by, attempt });
    }

    /// The other side takes the attempt.
    pub fn open(
        &mut self,
        client: (Node, u32),
        server: (Node, u32),
        attempt: u64,
        clock: &mut Clock,
        random: &mut Random,
    ) {
        self.last += 1;
        let id = StreamId(self.last);
        let client_knows = clock.now() + self.delay(client.0, server.0, random);
        let server_knows = client_knows + self.delay(client.0, server.0, random);
        let mut stream = Stream { ends: [client, server], halves: Default::default() };
        stream.halves[Side::Client as usize].last_arrival = server_knows;
        self.streams.insert(id, stream);
        clock.at(client_knows, Happening::Opened { stream: id, side: Side::Client, attempt });
        clock.at(server_knows, Happening::Opened { stream: id, side: Side::Server, attempt });
    }

    /// The stream, while it exists.
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// Takes octets from a side, as many as there is room for; how many.
    pub fn write(&mut self, id: StreamId, side: Side, octets: &Bytes, clock: &mut Clock, random: &mut Random) -> usize {
        let Some(half) = self.streams.get_mut(&id).map(|stream| &mut stream.halves[side as usize]) else {
            return octets.len();
        };
        if half.closed {
            return octets.len();
        }
        let taken = octets.len().min(WINDOW.saturating_sub(half.octets));
        half.full |= taken < octets.len();
        let mut rest = octets.slice(..taken);
        while !rest.is_empty() {
            let length = if random.chance(60) { rest.len() } else { 1 + random.below(rest.len()) };
            self.send(id, side, Piece::Data(rest.split_to(length)), clock, random);
        }
        taken
    }

    fn send(&mut self, id: StreamId, side: Side, piece: Piece, clock: &mut Clock, random: &mut Random) {
        let Some((client, server)) = self.streams.get(&id).map(|s| (s.ends[0].0, s.ends[1].0)) else { return };
        let delay = self.delay(client, server, random);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let half = &mut stream.halves[side as usize];
        let arrival = (clock.now() + delay).max(half.last_arrival);
        half.last_arrival = arrival;
        if let Piece::Data(octets) = &piece {
            half.octets += octets.len();
        }
        half.in_flight.push_back(piece);
        clock.at(arrival, Happening::Arrival { stream: id, from: side });
    }

    /// A process closes its side after what it has written.
    pub fn close(&mut self, id: StreamId, side: Side, clock: &mut Clock, random: &mut Random) {
        let Some(half) = self.streams.get_mut(&id).map(|stream| &mut stream.halves[side as usize]) else { return };
        if !std::mem::replace(&mut half.closed, true) {
            self.send(id, side, Piece::End, clock, random);
        }
    }

    /// A process is gone without a word: its machine closes its streams, some in the middle of what was written.
    pub fn abandon(&mut self, process: (Node, u32), clock: &mut Clock, random: &mut Random) {
        let of = |stream: &Stream, side: Side| stream.end(side) == process;
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            for side in [Side::Client, Side::Server] {
                let Some(stream) = self.streams.get_mut(&id).filter(|stream| of(stream, side)) else { continue };
                let half = &mut stream.halves[side as usize];
                if random.chance(50) && !half.in_flight.is_empty() {
                    let keep = random.below(half.in_flight.len());
                    half.in_flight.truncate(keep + 1);
                    if let Some(Piece::Data(last)) = half.in_flight.back_mut() {
                        let keep = 1 + random.below(last.len());
                        last.truncate(keep);
                    }
                }
                self.close(id, side, clock, random);
            }
        }
    }

    /// Both sides of all streams between two machines see their end now.
    pub fn reset(&mut self, a: Node, b: Node, clock: &mut Clock, random: &mut Random) {
        let between = |stream: &Stream| link_of(stream.ends[0].0, stream.ends[1].0) == link_of(a, b);
        let ids: Vec<StreamId> = self.streams.iter().filter(|(_, s)| between(s)).map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id, Side::Client, clock, random);
            self.close(id, Side::Server, clock, random);
        }
    }

    /// Takes the piece that is due; held back while the link is cut. A reader that has closed answers with a reset.
    pub fn arrive(&mut self, id: StreamId, from: Side, clock: &mut Clock, random: &mut Random) -> Option<Piece> {
        let (sender, receiver) =
            self.streams.get(&id).map(|stream| (stream.end(from).0, stream.end(from.other()).0))?;
        let is_cut = self.is_cut(sender, receiver);
        let stream = self.streams.get_mut(&id)?;
        let half = &mut stream.halves[from as usize];
        if is_cut {
            half.held += 1;
            return None;
        }
        let piece = half.in_flight.pop_front()?;
        if let Piece::Data(octets) = &piece {
            half.octets = half.octets.saturating_sub(octets.len());
            if std::mem::take(&mut half.full) {
                clock.after(random.micros(10, 1_000), Happening::Room { stream: id, side: from });
            }
        }
        if stream.halves.iter().all(|half| half.closed && half.in_flight.is_empty()) {
            self.streams.remove(&id);
        }
        Some(piece)
    }

    /// Streams that exist.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}
