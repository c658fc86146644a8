//! A fabric in good order around the daemon under test, and what must hold of it after every row.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::actor::{self, Actor};
use super::dialogue::Ground;
use super::observer::Observer;
use super::vitals::Vitals;
use super::{Profile, Verdict};
use crate::bgp::Connection;
use crate::fabric::{Fabric, Family, LAN, MACS};
use crate::host::Host;
use crate::overlay::{Reflector, Worker};
use crate::{http, wait};

/// Where the reflector accepts sessions.
pub const REFLECTOR: &str = "10.0.0.1:1179";
/// Where it answers HTTP, on its own host.
pub const HTTP: &str = "127.0.0.1:9180";
const OBSERVER: [u8; 4] = [10, 0, 0, 50];
const WORKERS: usize = 2;
/// The MAC of flood rows.
pub const FLOOD: &str = "00:00:00:00:00:00";
/// How much more a daemon may hold after a row than before the first, in kilobytes: allocators keep what they once had.
const GROWTH_KB: u64 = 48 << 10;

/// A reflector, two workers with a device each behind a kernel's VXLAN, an observer, and a host from which anything comes.
#[derive(Debug)]
pub struct Scene {
    /// Reflector and workers.
    pub fabric: Fabric,
    /// The healthy peer.
    pub observer: Observer,
    /// Where actors live: it has every address that an actor may have.
    pub hostile: Host,
    _observer_host: Host,
    _devices: [Host; WORKERS],
    vitals: Vec<Vitals>,
    resident_kb: Vec<u64>,
    order: Order,
    actors: Cell<u16>,
    dialled: Cell<u16>,
}

/// How things are when nobody disturbs.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Order {
    /// Address, state and number of sessions of each healthy peer of the reflector.
    peers: BTreeSet<(String, String, u64)>,
    /// Each peer of the workers: state, number of sessions, the last error.
    worker_peers: Vec<Vec<(String, u64, Option<String>)>>,
    /// Next hops of the reflector's best routes.
    routes: BTreeMap<String, String>,
    /// The same as the observer knows them.
    observed: BTreeMap<String, String>,
    /// MAC and VTEP of each row of each worker's VXLAN device.
    rows: Vec<BTreeSet<(String, String)>>,
}

impl Scene {
    /// Builds it; `sections` are added to the reflector's configuration file.
    pub fn new(sections: &str) -> Self {
        Self::with_workers(sections, "")
    }

    /// The same with a configuration file of the workers.
    pub fn with_workers(sections: &str, worker: &str) -> Self {
        let mut fabric = Fabric::empty(Family::V4);
        let mut config = format!("listen = [\"{REFLECTOR}\"]\nhttp = \"{HTTP}\"\n");
        config += "[[accept]]\nprefix = \"10.0.0.0/24\"\n";
        for profile in Profile::ALL {
            if let Some(settings) = profile.settings() {
                config += &format!("[[accept]]\nprefix = \"10.{}.0.0/16\"\n{settings}\n", profile.octet());
            }
        }
        config += sections;
        fabric.reflectors.push(Reflector::configured(fabric.host("rr1", 1), &config));
        fabric.reflectors[0].host.sh("ip route add 10.0.0.0/8 dev eth0");
        let path = fabric.reflectors[0].host.directory().join("speaker.toml");
        std::fs::write(&path, worker).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let config = path.display().to_string();
        (0..WORKERS).for_each(|index| fabric.add_worker(index, &["--config", &config]));
        fabric.wait_established();
        let devices = fabric.devices::<WORKERS>();
        fabric.wait_row(0, LAN, MACS[1], Some(1));
        fabric.wait_row(1, LAN, MACS[0], Some(0));
        let hostile = fabric.host("hostile", 99);
        // Every address of these prefixes is its own, without being listed.
        for profile in Profile::ALL {
            hostile.sh(&format!("ip route add local 10.{}.0.0/16 dev lo", profile.octet()));
        }
        let observer_host = fabric.host("observer", OBSERVER[3].into());
        let observer = Observer::start(&observer_host, IpAddr::from(OBSERVER), OBSERVER, reflector_address());
        let mut vitals = vec![Vitals::of(fabric.reflectors[0].pid(), "megalos-rr")];
        vitals.extend(fabric.workers.iter().map(|worker| Vitals::of(worker.pid(), "megalos-speaker")));
        let mut scene = Self {
            fabric,
            observer,
            hostile,
            _observer_host: observer_host,
            _devices: devices,
            resident_kb: Vec::new(),
            vitals,
            order: Order {
                peers: BTreeSet::new(),
                worker_peers: Vec::new(),
                routes: BTreeMap::new(),
                observed: BTreeMap::new(),
                rows: Vec::new(),
            },
            actors: Cell::new(1),
            dialled: Cell::new(1),
        };
        scene.order = scene.wait_order();
        scene.resident_kb = scene.vitals.iter().map(Vitals::resident_kb).collect();
        scene
    }

    /// The order that everything comes to by itself: every table is what follows from the reflector's routes.
    fn wait_order(&self) -> Order {
        wait::until("a fabric in good order", || {
            let order = self.observe();
            let expected: Vec<_> = (0..WORKERS).map(|index| self.projection(&order.routes, index)).collect();
            let established = order.peers.iter().filter(|(_, state, _)| state == "Established").count();
            let complete = established == WORKERS + 1 && order.routes.len() >= 2 * WORKERS;
            if complete && order.routes == order.observed && order.rows == expected {
                Ok(order)
            } else {
                Err(format!("{order:?}, expected {expected:?}"))
            }
        })
    }

    fn observe(&self) -> Order {
        let state = |peers: Vec<daemon::show::PeerRow>| {
            peers.into_iter().map(|peer| (peer.state, peer.established_count, peer.last_error)).collect::<Vec<_>>()
        };
        // Who has come and gone may be remembered for a while; what it had announced may not.
        let peers = self.reflector().peers().into_iter().filter(|peer| !is_actor(&peer.address));
        Order {
            peers: peers.map(|peer| (peer.address, peer.state, peer.established_count)).collect(),
            worker_peers: self.fabric.workers.iter().map(|worker| state(worker.peers())).collect(),
            routes: self.best_routes(),
            observed: self.observer.routes(),
            rows: self.fabric.workers.iter().map(rows).collect(),
        }
    }

    /// The rows that a worker must have for these routes of [`LAN`]: those of others.
    fn projection(&self, routes: &BTreeMap<String, String>, worker: usize) -> BTreeSet<(String, String)> {
        let own = self.fabric.vtep(worker);
        let row = |(route, next_hop): (&String, &String)| {
            let mac = match route.split(['[', ']']).filter(|part| !part.is_empty()).collect::<Vec<_>>()[..] {
                ["2", _, _, mac, ..] => mac,
                ["3", ..] => FLOOD,
                _ => return None,
            };
            (*next_hop != own).then(|| (mac.to_owned(), next_hop.clone()))
        };
        routes.iter().filter_map(row).collect()
    }

    /// The reflector.
    pub fn reflector(&self) -> &Reflector {
        &self.fabric.reflectors[0]
    }

    /// A new actor.
    pub fn actor(&self, profile: Profile) -> Actor {
        let numbers = if profile == Profile::Dialled { &self.dialled } else { &self.actors };
        let number = numbers.get();
        numbers.set(number + 1);
        Actor::new(profile, number)
    }

    /// Next hops of the reflector's best EVPN routes.
    pub fn best_routes(&self) -> BTreeMap<String, String> {
        let routes = self.reflector().routes().into_iter().filter(|route| route.best && route.family == "evpn");
        routes.map(|route| (route.route, route.next_hop)).collect()
    }

    /// How often the reflector counted a peer as breaking a rule, by rule; `stranger` is who is nobody's peer.
    pub fn findings(&self, peer: &str) -> BTreeMap<String, u64> {
        findings(&self.reflector().host, peer)
    }

    /// The sum of a metric of the reflector over all its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let (_, text) = http::get(&self.reflector().host, HTTP, "/metrics");
        let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Where a MAC is known: to the reflector, to the observer, to each worker's kernel.
    pub fn places(&self, mac: [u8; 6]) -> Places {
        let text = actor::text(mac);
        let part = format!("[{text}]");
        let is_known = |routes: &BTreeMap<String, String>| routes.keys().any(|route| route.contains(&part));
        let has_row = |worker: &Worker| rows(worker).iter().any(|(mac, _)| *mac == text);
        Places {
            reflector: is_known(&self.best_routes()),
            observer: is_known(&self.observer.routes()),
            kernels: self.fabric.workers.iter().map(has_row).collect(),
        }
    }

    /// Waits until a MAC is known everywhere.
    pub fn wait_installed(&self, mac: [u8; 6]) {
        self.wait_places(mac, true);
    }

    /// Waits until nobody knows a MAC.
    pub fn wait_gone(&self, mac: [u8; 6]) {
        self.wait_places(mac, false);
    }

    fn wait_places(&self, mac: [u8; 6], known: bool) {
        let what = if known { "known everywhere" } else { "gone everywhere" };
        wait::until(&format!("{} to be {what}", actor::text(mac)), || {
            let places = self.places(mac);
            if places.all(known) { Ok(()) } else { Err(format!("{places:?}")) }
        });
    }

    /// Waits until each worker's kernel holds what the worker's own tables say.
    pub fn wait_kernels_follow(&self) {
        self.fabric.workers.iter().for_each(wait_follows);
    }

    /// What must hold after each row, once its actors have gone: everything is as before, everybody lives, nobody else's
    /// session has flapped, nothing malformed was sent to anybody, memory has returned, nothing spins.
    pub fn assert_unharmed(&self) {
        for (vitals, host) in self.vitals.iter().zip(self.hosts()) {
            vitals.assert_alive(host);
        }
        self.observer.assert_content();
        wait::until("everything to be as before", || {
            let order = self.observe();
            if order == self.order { Ok(()) } else { Err(differences(&self.order, &order)) }
        });
        for (vitals, before) in self.vitals.iter().zip(&self.resident_kb) {
            let now = vitals.resident_kb();
            assert!(now <= before + GROWTH_KB, "{vitals:?} holds {now} kB, and held {before} kB");
        }
        self.vitals.iter().for_each(Vitals::wait_idle);
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        let workers = self.fabric.workers.iter().map(|worker| &worker.host);
        std::iter::once(&self.reflector().host).chain(workers)
    }

    /// A refusal of what an actor sent is counted under its address, and a line of the log names it and the rule; where
    /// nothing was wrong, nothing is counted.
    pub fn assert_counted(&self, actor: &Actor, verdict: Verdict, rule: Option<&str>) {
        let peer = actor.address.to_string();
        let findings = self.findings(&peer);
        let must_count = matches!(verdict, Verdict::Reset(..) | Verdict::Withdrawn | Verdict::Trimmed);
        if verdict == Verdict::Accepted {
            assert!(findings.is_empty(), "something was counted that is right: {findings:?}");
        }
        assert!(!must_count || !findings.is_empty(), "nothing was counted");
        if let Some(rule) = rule {
            assert!(findings.contains_key(rule), "{rule} was not counted, but {findings:?}");
        }
        for rule in findings.keys() {
            self.wait_logged(&[&format!("peer={peer} "), &format!("rule=\"{rule}\"")]);
        }
    }

    /// Waits until a line of the reflector's log has all of these words; it is written by a thread of its own.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn wait_logged(&self, words: &[&str]) {
        wait::until(&format!("a line with {words:?} in the log"), || {
            let log = self.reflector().host.log("megalos-rr");
            let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
            if found { Ok(()) } else { Err("there is none") }
        });
    }
}

impl Ground for Scene {
    fn connect(&self, actor: &Actor) -> std::io::Result<Connection> {
        Connection::open(&self.hostile, actor.ip(), reflector_address())
    }

    fn wait_installed(&self, mac: [u8; 6]) {
        self.wait_places(mac, true);
    }

    fn wait_gone(&self, mac: [u8; 6]) {
        self.wait_places(mac, false);
    }

    fn assert_places(&self, mac: [u8; 6], known: bool) {
        let places = self.places(mac);
        assert!(places.all(known), "{}: {places:?}", actor::text(mac));
    }

    fn assert_up(&self, actor: &Actor) {
        let peer = self.reflector().peer(&actor.address.to_string()).unwrap_or_default();
        assert_eq!((peer.state.as_str(), peer.established_count), ("Established", 1), "{:?}", peer.last_error);
    }

    fn wait_kernels_follow(&self) {
        self.fabric.workers.iter().for_each(wait_follows);
    }
}

/// Who knows a MAC.
#[derive(Debug)]
pub struct Places {
    /// The reflector has a best route for it.
    pub reflector: bool,
    /// The observer was told of it.
    pub observer: bool,
    /// The kernels of the workers have a row.
    pub kernels: Vec<bool>,
}

impl Places {
    /// Whether all of them do, or none.
    pub fn all(&self, known: bool) -> bool {
        self.reflector == known && self.observer == known && self.kernels.iter().all(|row| *row == known)
    }
}

fn is_actor(address: &str) -> bool {
    matches!(address.parse::<Ipv4Addr>().map(|address| address.octets()), Ok([10, second, ..]) if second != 0)
}

/// Sections by which the reflector dials this many actors of [`Profile::Dialled`].
pub fn dialled(count: u16) -> String {
    let peer = |number: u16| {
        let address = Actor::new(Profile::Dialled, number).address;
        format!("[[peer]]\naddress = \"{address}:{}\"\n", crate::fabric::PORT)
    };
    (1..=count).map(peer).collect()
}

/// The reflector's socket.
pub fn reflector_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 1_179))
}

/// MAC and VTEP of each row of a worker's VXLAN device in the kernel.
pub fn rows(worker: &Worker) -> BTreeSet<(String, String)> {
    let table = worker.overlay_sh(&format!("bridge fdb show dev vx{LAN}"));
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "dst")?;
        Some(((*words.first()?).to_owned(), (*words.get(at + 1)?).to_owned()))
    };
    table.lines().filter_map(row).collect()
}

/// How often the daemon on a host counted a peer as breaking a rule, by rule.
pub fn findings(host: &Host, peer: &str) -> BTreeMap<String, u64> {
    let (_, text) = http::get(host, HTTP, "/metrics");
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let mut findings = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("megalos_bgp_findings_total{")) {
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        let is_of_peer = label(line, "peer").is_some_and(|found| found == peer);
        if let (Some(rule), Some(count), true) = (label(line, "rule"), count, is_of_peer) {
            *findings.entry(rule).or_default() += count;
        }
    }
    findings
}

/// Waits until a worker's kernel holds what the worker's own tables say.
pub fn wait_follows(worker: &Worker) {
    wait::until(&format!("the kernel of {} to follow its worker", worker.host.name()), || {
        let (found, expected) = (rows(worker), tables(worker));
        if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
    });
}

/// The rows that follow from a worker's own tables.
fn tables(worker: &Worker) -> BTreeSet<(String, String)> {
    let macs = worker.macs().into_iter().filter(|mac| mac.vni == LAN && mac.at.parse::<IpAddr>().is_ok());
    let floods = worker.vnis().into_iter().filter(|vni| vni.vni == LAN).flat_map(|vni| vni.vteps);
    macs.map(|mac| (mac.mac, mac.at)).chain(floods.map(|vtep| (FLOOD.to_owned(), vtep))).collect()
}

fn differences(expected: &Order, found: &Order) -> String {
    let mut text = String::new();
    let mut note = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug, equal: bool| {
        if !equal {
            text += &format!("{what}: {found:?} instead of {expected:?}; ");
        }
    };
    note("peers", &expected.peers, &found.peers, expected.peers == found.peers);
    let (before, now) = (&expected.worker_peers, &found.worker_peers);
    note("peers of workers", before, now, before == now);
    note("routes", &expected.routes, &found.routes, expected.routes == found.routes);
    note("routes at the observer", &expected.observed, &found.observed, expected.observed == found.observed);
    note("rows", &expected.rows, &found.rows, expected.rows == found.rows);
    text
}
