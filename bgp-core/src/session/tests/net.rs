//! Two speakers joined by a small network in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::time::Duration;

/// What arrives at a host.
#[derive(Debug)]
enum Arrival {
    Connected(ConnectionId, Direction),
    Refused,
    Data(ConnectionId, Vec<u8>),
    Closed(ConnectionId),
}

/// The network: both hosts listen, octets take `latency`, and arrive in pieces of `piece` octets.
pub struct Net {
    pub now: Instant,
    pub hosts: [Peer; 2],
    /// What each host did, with the time in milliseconds.
    pub log: [Vec<String>; 2],
    /// Sessions up minus sessions down.
    pub up: [i32; 2],
    pub latency: [Duration; 2],
    pub piece: usize,
    /// Nothing passes: neither octets nor the end of a connection.
    pub cut: bool,
    arrivals: BTreeMap<(Instant, u64), (usize, Arrival)>,
    dialling: [Option<ConnectionId>; 2],
    open: BTreeSet<(usize, ConnectionId)>,
    sequence: u64,
    connections: u32,
}

impl Net {
    pub fn new(a: PeerConfig, b: PeerConfig) -> Self {
        let latency = Duration::from_millis(1);
        Self {
            now: Instant::from_secs(1),
            hosts: [Peer::new(a), Peer::new(b)],
            log: [Vec::new(), Vec::new()],
            up: [0, 0],
            latency: [latency, latency],
            piece: usize::MAX,
            cut: false,
            arrivals: BTreeMap::new(),
            dialling: [None, None],
            open: BTreeSet::new(),
            sequence: 0,
            connections: 0,
        }
    }

    pub fn start(&mut self) {
        for host in [1, 0] {
            let now = self.now;
            self.hosts[host].start(now);
            self.settle(host);
        }
    }

    /// Does `action` to a host and carries out what follows at once.
    pub fn with(&mut self, host: usize, action: impl FnOnce(&mut Peer, Instant)) {
        let now = self.now;
        action(&mut self.hosts[host], now);
        self.settle(host);
    }

    /// Replaces a host by a fresh one, as a crash does: its connections vanish with or without a word.
    pub fn crash(&mut self, host: usize, config: PeerConfig, silently: bool) {
        let mine: Vec<_> = self.open.iter().filter(|(owner, _)| *owner == host).map(|(_, id)| *id).collect();
        for id in mine {
            self.open.remove(&(host, id));
            if !silently {
                self.post(1 - host, Arrival::Closed(id));
            }
        }
        self.dialling[host] = None;
        self.hosts[host] = Peer::new(config);
        self.up[host] = 0;
    }

    /// Octets that `host` never sent arrive at the other end of its first connection, as if it had.
    pub fn inject(&mut self, host: usize, octets: &[u8]) {
        let Some(id) = self.open.iter().find(|(owner, _)| *owner == host).map(|(_, id)| *id) else { return };
        for piece in octets.chunks(self.piece.max(1)) {
            self.post(1 - host, Arrival::Data(id, piece.to_vec()));
        }
    }

    /// Connections that a host has.
    pub fn connections(&self, host: usize) -> usize {
        self.open.iter().filter(|(owner, _)| *owner == host).count()
    }

    /// Runs until `duration` has passed.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.advance(end) {}
        self.now = end;
    }

    /// Runs until both sides are established, for at most a minute; returns how long that took.
    pub fn run_until_up(&mut self) -> Duration {
        let start = self.now;
        let end = start + Duration::from_secs(60);
        while self.hosts.iter().any(|host| host.state() != State::Established) {
            assert!(self.advance(end), "not up within a minute: {:#?}", self.log);
        }
        self.now.saturating_since(start)
    }

    /// Carries out the next thing that happens before `end`.
    fn advance(&mut self, end: Instant) -> bool {
        let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
        let deadline = |host: &Peer| host.next_deadline();
        let timer = self.hosts.iter().filter_map(deadline).min();
        let Some(at) = arrival.into_iter().chain(timer).min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(at);
        if arrival == Some(at) {
            let (_, (host, arrival)) = self.arrivals.pop_first().expect("there is one");
            self.deliver(host, arrival);
        } else {
            for host in 0..2 {
                if self.hosts[host].next_deadline().is_some_and(|due| due <= self.now) {
                    self.with(host, Peer::handle_timeout);
                    let next = self.hosts[host].next_deadline();
                    assert!(next.is_none_or(|next| next > self.now), "a timer that is due was acted upon");
                }
            }
        }
        true
    }

    fn deliver(&mut self, host: usize, arrival: Arrival) {
        match arrival {
            Arrival::Connected(id, Direction::Outgoing) if self.dialling[host] != Some(id) => {
                self.post(1 - host, Arrival::Closed(id));
            }
            Arrival::Connected(id, direction) => {
                if direction == Direction::Outgoing {
                    self.dialling[host] = None;
                }
                self.open.insert((host, id));
                self.with(host, |peer, now| peer.connected(now, id, direction));
            }
            Arrival::Refused => self.with(host, Peer::connect_failed),
            Arrival::Data(id, data) => self.with(host, |peer, now| peer.received(now, id, &data)),
            Arrival::Closed(id) => {
                self.open.remove(&(host, id));
                self.with(host, |peer, now| peer.closed(now, id));
            }
        }
    }

    fn post(&mut self, host: usize, arrival: Arrival) {
        if self.cut {
            return;
        }
        self.sequence += 1;
        self.arrivals.insert((self.now + self.latency[host], self.sequence), (host, arrival));
    }

    fn settle(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].poll_output() {
            let line = describe(&output);
            self.log[host].push(format!("{:5} {line}", self.now.as_micros() / 1000));
            self.carry_out(host, output);
        }
    }

    fn carry_out(&mut self, host: usize, output: Output) {
        let other = 1 - host;
        match output {
            Output::Connect => {
                self.connections += 1;
                let id = ConnectionId(self.connections);
                if self.cut {
                    return;
                }
                if self.hosts[other].state() == State::Idle {
                    return self.post(host, Arrival::Refused);
                }
                self.dialling[host] = Some(id);
                self.post(other, Arrival::Connected(id, Direction::Incoming));
                self.post(host, Arrival::Connected(id, Direction::Outgoing));
            }
            Output::CancelConnect => self.dialling[host] = None,
            Output::Send(id, bytes) => {
                for piece in bytes.chunks(self.piece) {
                    self.post(other, Arrival::Data(id, piece.to_vec()));
                }
            }
            Output::Close(id) => {
                self.open.remove(&(host, id));
                self.post(other, Arrival::Closed(id));
            }
            Output::Established(..) => self.up[host] += 1,
            Output::Down(_) => self.up[host] -= 1,
            _ => {}
        }
        assert!((0..=1).contains(&self.up[host]), "one session at a time: {:#?}", self.log[host]);
    }
}
