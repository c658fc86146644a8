//! The same rows at other people's daemons: what they answer, beside what the RFC asks for. Nothing is asserted.
//!
//! The daemon is a reflector; the actor and a healthy observer are its clients. Rows that are scripts are left out: they look
//! into our own daemons.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::actor::{self, Actor};
use super::observer::Observer;
use super::{Expected, Play, Profile, Row, Verdict};
use crate::bgp::{self, Connection};
use crate::host::{Host, Underlay};
use crate::peers::{Daemon, Software};

/// How long a daemon has for an answer. It is only waited for in full where none comes.
const PATIENCE: Duration = Duration::from_secs(6);
/// Rows with AS numbers of two octets.
const AS_PATH_ROWS: [&str; 9] = ["D05", "D06", "D07", "D08", "D09", "D10", "D11", "D12", "D21"];
const OBSERVER: [u8; 4] = [10, 0, 0, 50];

/// What a daemon did on one row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// The row.
    pub id: String,
    /// What was sent.
    pub what: String,
    /// In few words.
    pub answer: String,
}

/// A daemon, the observer and the host of the actors.
#[derive(Debug)]
struct Scene {
    daemon: Daemon,
    observer: Observer,
    observer_host: Host,
    hostile: Host,
}

/// Plays the rows at a daemon; the first line is its version.
pub fn play(software: Software, rows: &[Row]) -> (String, Vec<Answer>) {
    let underlay = Underlay::new(1_500);
    let host = underlay.host("daemon", &["10.0.0.1/8"]);
    let observer_host = underlay.host("observer", &["10.0.0.50/8"]);
    let hostile = underlay.host("hostile", &["10.0.0.99/8"]);
    hostile.sh("ip route add local 10.1.0.0/16 dev lo && ip route add local 10.6.0.0/16 dev lo");
    // FRR lets a hundred come by themselves unless told otherwise.
    let config = software.reflector_config("10.0.0.1", "10.0.0.0/8");
    let config = config.replace(" bgp listen range", " bgp listen limit 5000\n bgp listen range");
    let daemon = Daemon::start(software, host, &config);
    let observer = watch(software, &observer_host, &hostile);
    let mut scene = Scene { daemon, observer, observer_host, hostile };
    let version = scene.daemon.version();
    let mut answers = Vec::new();
    for (number, row) in (1_u16..).zip(rows) {
        if let Some(answer) = scene.play(row, number) {
            eprintln!("{} {} {}: {answer}", software.label(), row.id, row.what);
            answers.push(Answer { id: row.id.to_owned(), what: row.what.to_string(), answer });
        }
    }
    (version, answers)
}

fn watch(software: Software, host: &Host, hostile: &Host) -> Observer {
    // Only GoBGP's reflector asks for memberships (RFC 4684).
    let observer = if software == Software::Gobgp { Observer::start } else { Observer::start_plain };
    // Asked from an address that is not the observer's: a daemon may take it amiss that somebody connects twice.
    crate::wait::until_true("the daemon to listen", || {
        Connection::open(hostile, IpAddr::from([10, 0, 0, 99]), target()).is_ok()
    });
    observer(host, IpAddr::from(OBSERVER), OBSERVER, target())
}

fn target() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 179))
}

impl Scene {
    /// `None` for rows that are not octets and a verdict, or need a peer that is configured apart.
    fn play(&mut self, row: &Row, number: u16) -> Option<String> {
        if row.profile == Profile::External {
            return None;
        }
        // OpenBGPD keeps no session with who has AS numbers of two octets only; then rows about AS_PATH mean something else.
        let wide = self.daemon.software() == Software::Openbgpd;
        if wide && AS_PATH_ROWS.contains(&row.id) {
            return None;
        }
        let capabilities: &[u8] = if wide { &[65, 4, 0, 0, 0xfd, 0xe8] } else { &[] };
        let actor = Actor { capabilities, ..Actor::new(Profile::Contain, number) };
        let mut answer = match &row.play {
            Play::Greeting(octets) => self.early(&actor, &octets(&actor), false),
            Play::Open(octets) => self.early(&actor, &octets(&actor), true),
            Play::Session { capabilities, input } => {
                let verdict = match row.expected {
                    Expected::Always(verdict) => verdict,
                    Expected::ByMode { strict, .. } => strict,
                };
                self.session(&actor, capabilities, &input(&actor), verdict)
            }
            Play::Script(_) | Play::NotApplicable(_) => return None,
        };
        if let Some(harm) = self.observer.harm() {
            answer = format!("{answer}; {harm}");
        }
        if self.observer.has_ended() {
            self.daemon.kill(nix::sys::signal::Signal::SIGKILL);
            self.daemon.restart();
            self.observer = watch(self.daemon.software(), &self.observer_host, &self.hostile);
        }
        Some(answer)
    }

    fn connect(&self, actor: &Actor) -> Option<Tap> {
        Connection::open(&self.hostile, actor.ip(), target()).ok().map(Tap::new)
    }

    fn early(&self, actor: &Actor, octets: &[u8], is_open: bool) -> String {
        let Some(mut tap) = self.connect(actor) else { return "no connection".to_owned() };
        tap.connection.send(octets);
        if is_open {
            tap.wait(|tap| tap.has(bgp::KEEPALIVE));
            if !tap.closed {
                tap.connection.send(&bgp::message(bgp::KEEPALIVE, &[]));
                tap.connection.send(&actor.announce(actor.key));
                tap.wait(|_| self.knows(actor.key));
            }
        } else {
            tap.wait(|_| false);
        }
        let accepted = is_open && self.knows(actor.key);
        tap.end().unwrap_or_else(|| if accepted { "accepted".to_owned() } else { "no answer".to_owned() })
    }

    fn session(&self, actor: &Actor, capabilities: &[u8], octets: &[u8], verdict: Verdict) -> String {
        let Some(mut tap) = self.connect(actor) else { return "no connection".to_owned() };
        tap.connection.send(&actor.open().message(capabilities));
        tap.wait(|tap| tap.has(bgp::KEEPALIVE));
        tap.connection.send(&bgp::message(bgp::KEEPALIVE, &[]));
        let is_new = matches!(verdict, Verdict::Accepted | Verdict::Trimmed);
        if !is_new {
            tap.connection.send(&actor.announce(actor.key));
            tap.wait(|_| self.knows(actor.key));
            if !self.knows(actor.key) {
                return tap.end().unwrap_or_else(|| "no session".to_owned());
            }
        }
        tap.connection.send(octets);
        tap.connection.send(&actor.announce(actor.marker));
        tap.wait(|_| self.knows(actor.marker));
        // What went with the input may be told after the marker.
        let wanted = verdict != Verdict::Withdrawn;
        if !tap.closed && self.knows(actor.marker) && self.knows(actor.key) != wanted {
            tap.wait_for(Duration::from_secs(2), |_| self.knows(actor.key) == wanted);
        }
        let (key, marker) = (self.knows(actor.key), self.knows(actor.marker));
        let went_on = match (is_new, key, marker) {
            (_, _, false) => "no answer",
            (true, true, _) => "accepted",
            (true, false, _) => "not accepted",
            (false, true, _) => "kept",
            (false, false, _) => "withdrawn",
        };
        tap.end().unwrap_or_else(|| went_on.to_owned())
    }

    /// Whether the observer was told of a MAC.
    fn knows(&self, mac: [u8; 6]) -> bool {
        let part = format!("[{}]", actor::text(mac));
        self.observer.routes().keys().any(|route| route.contains(&part))
    }
}

/// What a daemon says on a connection, without ever waiting for long.
#[derive(Debug)]
struct Tap {
    connection: Connection,
    unread: Vec<u8>,
    kinds: Vec<u8>,
    farewell: Option<(u8, u8)>,
    closed: bool,
}

impl Tap {
    fn new(connection: Connection) -> Self {
        let _ = connection.stream().set_read_timeout(Some(Duration::from_millis(20)));
        Self { connection, unread: Vec::new(), kinds: Vec::new(), farewell: None, closed: false }
    }

    fn has(&self, kind: u8) -> bool {
        self.kinds.contains(&kind)
    }

    /// Reads until `done`, the end, or the end of patience.
    fn wait(&mut self, done: impl Fn(&Self) -> bool) {
        self.wait_for(PATIENCE, done);
    }

    fn wait_for(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !self.closed && Instant::now() < deadline && !done(self) {
            self.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 65_536];
        match self.connection.stream().read(&mut buffer) {
            Ok(octets) if octets > 0 => self.unread.extend(&buffer[..octets]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => self.closed = true,
        }
        while let Some(length) = self.unread.get(16..18).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]]))) {
            if length < 19 || self.unread.len() < length {
                break;
            }
            let message: Vec<u8> = self.unread.drain(..length).collect();
            self.kinds.push(message[18]);
            if message[18] == bgp::NOTIFICATION && length >= 21 {
                self.farewell = Some((message[19], message[20]));
            }
        }
    }

    /// How the connection ended, if it has.
    fn end(&self) -> Option<String> {
        match (self.farewell, self.closed) {
            (Some((code, subcode)), _) => Some(format!("reset {code}/{subcode}")),
            (None, true) => Some("closed".to_owned()),
            (None, false) => None,
        }
    }
}
