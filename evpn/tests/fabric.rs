//! Several workers joined by a perfect reflector: after quiet, all agree on one owner of every MAC, and what the kernels
//! hold by replaying dirty keys is what a full walk says.
//!
//! Each worker has a small model of its kernel: one bridge row per MAC, the rows that the engine wished for, and a queue
//! of notifications. Every queue (notifications, routes, dirty keys) is drained a step at a time in random order.
//! Two models of own writes: [`Writes::Atomic`], where a write is done at once and what it displaces is notified; and
//! [`Writes::InFlight`], where the wish is taken, written and confirmed at different times, in any order with
//! notifications. Races of the second kind may leave a MAC known that the bridge has forgotten, until the next audit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use bgp_core::time::{Duration, Instant};
use bgp_core::types::{Asn, MacAddr, RouterId, Vni};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::forwarding::{Desired, Key};
use evpn::show::{MacStatus, Place};
use evpn::{Claim, Config, Engine, Member};
use proptest::prelude::*;

type Announcement = Option<(EvpnPayload, PathAttributes)>;

/// The bridge's row of a MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BridgeRow {
    Local(Member),
    Vxlan { sticky: bool },
}

/// A notification of the kernel.
#[derive(Clone, Copy, Debug)]
enum Event {
    Learned(Vni, Member, MacAddr),
    TakenOver(Vni, Member, MacAddr),
    Forgotten(Vni, Member, MacAddr),
}

/// How a write reaches the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Writes {
    Atomic,
    InFlight,
}

struct Node {
    engine: Engine,
    writes: Writes,
    in_flight: Option<(Key, Option<Desired>)>,
    results: VecDeque<(Vni, MacAddr)>,
    ports: BTreeSet<(Vni, Member)>,
    claims: BTreeMap<(Vni, MacAddr, Member), Claim>,
    bridge: BTreeMap<(Vni, MacAddr), BridgeRow>,
    rows: BTreeMap<Key, Desired>,
    events: VecDeque<Event>,
    inbox: VecDeque<(EvpnKey, Announcement)>,
    /// What it announced last.
    announced: BTreeMap<EvpnKey, (EvpnPayload, PathAttributes)>,
}

fn vtep(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).unwrap()).into()
}

fn config(index: usize) -> Config {
    Config::new(Asn(65_000), RouterId(u32::try_from(index + 1).unwrap()), vtep(index))
}

impl Node {
    fn new(index: usize, writes: Writes) -> Self {
        Self {
            engine: Engine::new(config(index)),
            writes,
            in_flight: None,
            results: VecDeque::new(),
            ports: BTreeSet::new(),
            claims: BTreeMap::new(),
            bridge: BTreeMap::new(),
            rows: BTreeMap::new(),
            events: VecDeque::new(),
            inbox: VecDeque::new(),
            announced: BTreeMap::new(),
        }
    }

    fn is_active(&self, vni: Vni) -> bool {
        self.ports.iter().any(|(port_vni, _)| *port_vni == vni)
    }

    fn attach(&mut self, vni: Vni, member: Member, now: Instant) {
        self.ports.insert((vni, member));
        self.engine.attach(vni, member, now);
    }

    fn detach(&mut self, vni: Vni, member: Member, now: Instant) {
        self.ports.remove(&(vni, member));
        self.claims.retain(|(claim_vni, _, port), _| (*claim_vni, *port) != (vni, member));
        let gone: Vec<MacAddr> = self
            .bridge
            .iter()
            .filter(|((row_vni, _), row)| *row_vni == vni && **row == BridgeRow::Local(member))
            .map(|((_, mac), _)| *mac)
            .collect();
        for mac in gone {
            self.bridge.remove(&(vni, mac));
            self.events.push_back(Event::Forgotten(vni, member, mac));
        }
        self.engine.detach(vni, member, now);
    }

    fn claim(&mut self, vni: Vni, member: Member, claim: Claim, now: Instant) {
        self.attach(vni, member, now);
        self.engine.claim(vni, member, &claim, now).unwrap();
        self.claims.insert((vni, claim.mac, member), claim);
    }

    fn release(&mut self, vni: Vni, member: Member, mac: MacAddr, now: Instant) {
        self.claims.remove(&(vni, mac, member));
        self.engine.release(vni, member, mac, now);
        // As the pod's end of the veth goes, so do the rows behind it.
        if self.bridge.get(&(vni, mac)) == Some(&BridgeRow::Local(member)) {
            self.bridge.remove(&(vni, mac));
            self.events.push_back(Event::Forgotten(vni, member, mac));
        }
    }

    /// A frame arrives on a local port.
    fn frame(&mut self, vni: Vni, member: Member, mac: MacAddr) {
        if !self.ports.contains(&(vni, member)) {
            return;
        }
        let event = match self.bridge.get(&(vni, mac)) {
            Some(BridgeRow::Vxlan { sticky: true }) => return,
            Some(BridgeRow::Local(port)) if *port == member => return,
            Some(BridgeRow::Vxlan { sticky: false }) => Event::TakenOver(vni, member, mac),
            Some(BridgeRow::Local(_)) | None => Event::Learned(vni, member, mac),
        };
        self.bridge.insert((vni, mac), BridgeRow::Local(member));
        self.events.push_back(event);
    }

    /// The bridge forgets a silent station.
    fn age(&mut self, vni: Vni, mac: MacAddr) {
        if let Some(BridgeRow::Local(member)) = self.bridge.get(&(vni, mac)).copied() {
            self.bridge.remove(&(vni, mac));
            self.events.push_back(Event::Forgotten(vni, member, mac));
        }
    }

    fn handle_event(&mut self, now: Instant) -> bool {
        match self.events.pop_front() {
            Some(Event::Learned(vni, member, mac)) => self.engine.learned(vni, member, mac, false, now),
            Some(Event::TakenOver(vni, member, mac)) => self.engine.taken_over(vni, member, mac, false, now),
            Some(Event::Forgotten(vni, member, mac)) => self.engine.forgotten(vni, member, mac, now),
            None => return false,
        }
        true
    }

    fn handle_route(&mut self, now: Instant) -> bool {
        let Some((key, route)) = self.inbox.pop_front() else { return false };
        let best = route.as_ref().map(|(payload, attributes)| (payload, attributes));
        self.engine.route_changed(&key, best, now);
        true
    }

    /// Takes one dirty key to the kernel, or a step further there.
    fn apply(&mut self) -> bool {
        if let Some((key, desired)) = self.in_flight.take() {
            self.write(key, desired);
            return true;
        }
        let Some(key) = self.engine.poll_dirty() else { return false };
        let desired = self.engine.desired(key);
        match self.writes {
            Writes::Atomic => self.write(key, desired),
            Writes::InFlight => self.in_flight = Some((key, desired)),
        }
        true
    }

    fn handle_result(&mut self, now: Instant) -> bool {
        let Some((vni, mac)) = self.results.pop_front() else { return false };
        self.engine.written_remote(vni, mac, now);
        true
    }

    fn write(&mut self, key: Key, desired: Option<Desired>) {
        match desired {
            Some(desired) => self.rows.insert(key, desired),
            None => self.rows.remove(&key),
        };
        if let Key::Mac(vni, mac) = key {
            let row = self.bridge.get(&(vni, mac)).copied();
            match (desired, row) {
                (Some(Desired::RemoteMac { sticky, .. }), row) => {
                    self.bridge.insert((vni, mac), BridgeRow::Vxlan { sticky });
                    match (self.writes, row) {
                        (Writes::InFlight, _) => self.results.push_back((vni, mac)),
                        (Writes::Atomic, Some(BridgeRow::Local(member))) => {
                            self.events.push_back(Event::Forgotten(vni, member, mac));
                        }
                        _ => {}
                    }
                }
                (_, Some(BridgeRow::Vxlan { .. })) => {
                    self.bridge.remove(&(vni, mac));
                }
                _ => {}
            }
        }
    }

    /// Compares what was learned with the bridge, as workers do now and then.
    fn audit(&mut self, now: Instant) {
        let learned: Vec<(Vni, MacAddr, Member)> = self
            .engine
            .macs()
            .filter(|view| view.state == MacStatus::Learned)
            .filter_map(|view| match view.place {
                Place::Local(member) => Some((view.vni, view.mac, member)),
                _ => None,
            })
            .collect();
        for (vni, mac, member) in learned {
            if self.bridge.get(&(vni, mac)) != Some(&BridgeRow::Local(member)) {
                self.engine.forgotten(vni, member, mac, now);
            }
        }
        for ((vni, mac), row) in &self.bridge {
            if let BridgeRow::Local(member) = row {
                self.engine.learned(*vni, *member, *mac, false, now);
            }
        }
    }

    fn apply_all(&mut self) {
        while self.apply() {}
        assert_eq!(self.in_flight, None);
        assert_eq!(self.rows, self.engine.all_desired(), "replaying dirty keys differs from a full walk");
    }

    /// The worker is killed and started again: the kernel stays.
    fn restart(&mut self, index: usize, now: Instant) {
        self.engine = Engine::new(config(index));
        self.events.clear();
        self.results.clear();
        self.in_flight = None;
        for (vni, member) in self.ports.clone() {
            self.engine.attach(vni, member, now);
        }
        for ((vni, _, member), claim) in &self.claims {
            self.engine.restore(*vni, *member, claim, 0, now).unwrap();
        }
        for ((vni, mac), row) in &self.bridge {
            if let BridgeRow::Local(member) = row {
                self.engine.learned(*vni, *member, *mac, false, now);
            }
        }
        for (key, found) in self.rows.clone() {
            self.engine.adopted(key, found, now);
        }
    }
}

struct Fabric {
    nodes: Vec<Node>,
    now: Instant,
    /// The reflector's table: the announcements of each node.
    table: BTreeMap<(usize, EvpnKey), (EvpnPayload, PathAttributes)>,
}

impl Fabric {
    fn new(size: usize, writes: Writes) -> Self {
        let nodes = (0..size).map(|index| Node::new(index, writes)).collect();
        Self { nodes, now: Instant::from_secs(1), table: BTreeMap::new() }
    }

    /// Carries what a node has to say to all others.
    fn reflect(&mut self, from: usize) -> bool {
        let mut any = false;
        while let Some(origination) = self.nodes[from].engine.poll_origination() {
            any = true;
            let (key, route) = (origination.key, origination.route);
            match &route {
                Some(route) => {
                    self.nodes[from].announced.insert(key.clone(), route.clone());
                    self.table.insert((from, key.clone()), route.clone());
                }
                None => {
                    let known = self.nodes[from].announced.remove(&key);
                    assert!(known.is_some(), "withdrawn but never announced: {key:?}");
                    self.table.remove(&(from, key.clone()));
                }
            }
            self.send(from, &key, &route);
        }
        any
    }

    fn send(&mut self, from: usize, key: &EvpnKey, route: &Announcement) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if index != from {
                node.inbox.push_back((key.clone(), route.clone()));
            }
        }
    }

    /// Kill and start: the others keep the old routes as stale until the node has said everything again (RFC 4724).
    fn restart(&mut self, index: usize) {
        let now = self.now;
        self.nodes[index].restart(index, now);
        let before = core::mem::take(&mut self.nodes[index].announced);
        self.reflect(index);
        for key in before.into_keys() {
            if !self.nodes[index].announced.contains_key(&key) {
                self.table.remove(&(index, key.clone()));
                self.send(index, &key, &None);
            }
        }
        // The reflector says what it knows, then end-of-RIB.
        let node = &mut self.nodes[index];
        node.inbox.clear();
        for ((from, key), route) in &self.table {
            if *from != index {
                node.inbox.push_back((key.clone(), Some(route.clone())));
            }
        }
        while node.handle_route(now) {}
        node.engine.sweep(now);
    }

    /// Runs until nobody has anything left to do.
    fn quiesce(&mut self) {
        let now = self.now;
        for _ in 0..20_000 {
            let mut any = false;
            for index in 0..self.nodes.len() {
                any |= self.reflect(index);
                let node = &mut self.nodes[index];
                any |= node.handle_event(now) | node.handle_route(now) | node.apply() | node.handle_result(now);
            }
            if !any {
                return;
            }
        }
        panic!("no quiet: the workers never agree");
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        for node in &mut self.nodes {
            if node.engine.next_deadline().is_some_and(|at| at <= self.now) {
                node.engine.handle_timeout(self.now);
            }
            assert!(node.engine.next_deadline().is_none_or(|at| at > self.now), "a deadline that does not go away");
        }
    }

    fn owner(&self, vni: Vni, mac: MacAddr) -> Vec<usize> {
        let announces = |node: &Node| {
            node.announced.iter().any(|(key, (payload, _))| {
                matches!((key, payload), (EvpnKey::MacIp { mac: m, ip: None, .. }, EvpnPayload::MacIp { label, .. })
                    if *m == mac && label.vni() == Some(vni))
            })
        };
        (0..self.nodes.len()).filter(|index| announces(&self.nodes[*index])).collect()
    }

    fn is_live(&self, index: usize, vni: Vni, mac: MacAddr) -> bool {
        let node = &self.nodes[index];
        node.claims.keys().any(|(claim_vni, claimed, _)| (*claim_vni, *claimed) == (vni, mac))
            || matches!(node.bridge.get(&(vni, mac)), Some(BridgeRow::Local(_)))
    }

    fn check(&mut self) {
        for node in &mut self.nodes {
            node.apply_all();
        }
        for vni in VNIS.map(lan) {
            let active: Vec<usize> = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_active(vni)).collect();
            for index in 0..self.nodes.len() {
                self.check_flood(vni, index, &active);
            }
            for mac in MACS.map(station) {
                self.check_mac(vni, mac, &active);
            }
        }
    }

    fn check_flood(&self, vni: Vni, index: usize, active: &[usize]) {
        let node = &self.nodes[index];
        let is_active = active.contains(&index);
        let expected: Vec<IpAddr> =
            active.iter().filter(|other| is_active && **other != index).map(|other| vtep(*other)).collect();
        let flood = node.rows.keys().filter_map(|key| match key {
            Key::Flood(row_vni, vtep) if *row_vni == vni => Some(*vtep),
            _ => None,
        });
        assert_eq!(flood.collect::<Vec<_>>(), expected, "flood list of node {index} in {vni}");
        assert_eq!(node.rows.contains_key(&Key::Tunnel(vni)), !expected.is_empty(), "tunnel of node {index} in {vni}");
        if !is_active {
            assert!(node.rows.keys().all(|key| key.vni() != vni), "rows of a LAN without members");
        }
    }

    fn check_mac(&self, vni: Vni, mac: MacAddr, active: &[usize]) {
        let live: Vec<usize> = active.iter().copied().filter(|index| self.is_live(*index, vni, mac)).collect();
        let owners = self.owner(vni, mac);
        assert_eq!(owners.len(), usize::from(!live.is_empty()), "owners {owners:?} of live {live:?}: {mac} in {vni}");
        assert!(owners.iter().all(|owner| live.contains(owner)));
        for index in active {
            let row = self.nodes[*index].rows.get(&Key::Mac(vni, mac)).map(|row| match row {
                Desired::RemoteMac { vtep, .. } => *vtep,
                other => panic!("not a MAC row: {other:?}"),
            });
            let expected = owners.first().filter(|owner| *owner != index).map(|owner| vtep(*owner));
            assert_eq!(row, expected, "row of {mac} in {vni} on node {index}, live {live:?}");
            if expected.is_some() {
                let bridge = self.nodes[*index].bridge.get(&(vni, mac));
                assert!(
                    matches!(bridge, Some(BridgeRow::Vxlan { .. })),
                    "bridge row of {mac} on node {index}: {bridge:?}"
                );
            }
        }
    }
}

const VNIS: [u32; 3] = [100, 200, 70_000];
const MACS: [u8; 3] = [1, 2, 3];

fn lan(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

fn station(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

#[derive(Clone, Debug)]
enum Step {
    Attach(usize, Vni, Member),
    Detach(usize, Vni, Member),
    Claim(usize, Vni, Member, Claim),
    Release(usize, Vni, Member, MacAddr),
    Frame(usize, Vni, Member, MacAddr),
    Age(usize, Vni, MacAddr),
    Restart(usize),
    Reflect(usize),
    HandleEvent(usize),
    HandleRoute(usize),
    HandleResult(usize),
    Apply(usize),
    ApplyAll(usize),
    Quiesce,
    Advance(u64),
}

fn claims() -> impl Strategy<Value = Claim> {
    let ips = prop::collection::vec((1_u8..4).prop_map(|last| Ipv4Addr::new(192, 0, 2, last).into()), 0..2);
    let sticky = prop::bool::weighted(0.1);
    (prop::sample::select(&MACS[..]), ips, sticky).prop_map(|(mac, ips, sticky)| Claim {
        mac: station(mac),
        ips,
        sticky,
    })
}

fn steps(size: usize) -> impl Strategy<Value = Step> {
    let node = 0..size;
    let vni = prop::sample::select(&VNIS[..]).prop_map(lan);
    let member = (1_u64..3).prop_map(Member);
    let mac = prop::sample::select(&MACS[..]).prop_map(station);
    prop_oneof![
        2 => (node.clone(), vni.clone(), member.clone()).prop_map(|(n, v, m)| Step::Attach(n, v, m)),
        1 => (node.clone(), vni.clone(), member.clone()).prop_map(|(n, v, m)| Step::Detach(n, v, m)),
        3 => (node.clone(), vni.clone(), member.clone(), claims()).prop_map(|(n, v, m, c)| Step::Claim(n, v, m, c)),
        2 => (node.clone(), vni.clone(), member.clone(), mac.clone()).prop_map(|(n, v, p, m)| Step::Release(n, v, p, m)),
        8 => (node.clone(), vni.clone(), member, mac.clone()).prop_map(|(n, v, p, m)| Step::Frame(n, v, p, m)),
        2 => (node.clone(), vni, mac).prop_map(|(n, v, m)| Step::Age(n, v, m)),
        1 => node.clone().prop_map(Step::Restart),
        6 => node.clone().prop_map(Step::Reflect),
        6 => node.clone().prop_map(Step::HandleEvent),
        8 => node.clone().prop_map(Step::HandleRoute),
        8 => node.clone().prop_map(Step::Apply),
        4 => node.clone().prop_map(Step::HandleResult),
        1 => node.prop_map(Step::ApplyAll),
        1 => Just(Step::Quiesce),
        2 => prop::sample::select(&[1_u64, 5, 11, 61, 200][..]).prop_map(Step::Advance),
    ]
}

fn run(fabric: &mut Fabric, step: Step) {
    let now = fabric.now;
    match step {
        Step::Attach(n, vni, member) => fabric.nodes[n].attach(vni, member, now),
        Step::Detach(n, vni, member) => fabric.nodes[n].detach(vni, member, now),
        Step::Claim(n, vni, member, claim) => fabric.nodes[n].claim(vni, member, claim, now),
        Step::Release(n, vni, member, mac) => fabric.nodes[n].release(vni, member, mac, now),
        Step::Frame(n, vni, member, mac) => fabric.nodes[n].frame(vni, member, mac),
        Step::Age(n, vni, mac) => fabric.nodes[n].age(vni, mac),
        Step::Restart(n) => fabric.restart(n),
        Step::Reflect(n) => drop(fabric.reflect(n)),
        Step::HandleEvent(n) => drop(fabric.nodes[n].handle_event(now)),
        Step::HandleRoute(n) => drop(fabric.nodes[n].handle_route(now)),
        Step::Apply(n) => drop(fabric.nodes[n].apply()),
        Step::HandleResult(n) => drop(fabric.nodes[n].handle_result(now)),
        Step::ApplyAll(n) => fabric.nodes[n].apply_all(),
        Step::Quiesce => fabric.quiesce(),
        Step::Advance(secs) => fabric.advance(Duration::from_secs(secs)),
    }
}

/// After quiet, also once every lingering tunnel and freeze has ended.
fn settle_and_check(fabric: &mut Fabric) {
    fabric.quiesce();
    fabric.advance(Duration::from_secs(1_000));
    fabric.quiesce();
    if fabric.nodes.iter().any(|node| node.writes == Writes::InFlight) {
        let now = fabric.now;
        for node in &mut fabric.nodes {
            node.audit(now);
        }
        fabric.quiesce();
    }
    fabric.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_quiet_all_workers_agree_on_one_owner_of_every_mac(
        (size, steps) in (2_usize..5).prop_flat_map(|size| (Just(size), prop::collection::vec(steps(size), 0..120))),
        writes in prop::sample::select(&[Writes::Atomic, Writes::InFlight][..]),
    ) {
        let mut fabric = Fabric::new(size, writes);
        for step in steps {
            run(&mut fabric, step);
        }
        settle_and_check(&mut fabric);
    }
}

#[test]
fn two_adds_of_one_mac_end_with_the_later() {
    let mut fabric = Fabric::new(3, Writes::Atomic);
    let claim = Claim { mac: station(1), ips: Vec::new(), sticky: false };
    fabric.nodes[2].attach(lan(100), Member(1), fabric.now);
    for _ in 0..4 {
        for node in [0, 1] {
            let now = fabric.now;
            fabric.nodes[node].claim(lan(100), Member(1), claim.clone(), now);
            fabric.quiesce();
            assert_eq!(fabric.owner(lan(100), station(1)), [node]);
            fabric.check();
            fabric.advance(Duration::from_secs(3));
        }
    }
}

#[test]
fn two_stations_with_one_mac_are_frozen_and_then_one_place_is_agreed_on() {
    let mut fabric = Fabric::new(2, Writes::Atomic);
    for node in [0, 1] {
        let now = fabric.now;
        fabric.nodes[node].attach(lan(100), Member(1), now);
    }
    let mut duplicates = 0;
    for _ in 0..20 {
        for node in [0, 1] {
            fabric.nodes[node].frame(lan(100), Member(1), station(1));
            fabric.quiesce();
            fabric.check();
        }
    }
    for node in &mut fabric.nodes {
        while let Some(report) = node.engine.poll_report() {
            duplicates += usize::from(report.rule().code() == "duplicate-mac");
        }
    }
    assert_eq!(duplicates, 1, "one worker stops contending, which ends the moves");
}
