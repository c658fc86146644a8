//! An engine with everything that can happen to it, and what must hold whatever does.
//!
//! In go [`Input`]s, from the property tests and from a fuzz target; what does not hold is a panic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bgp_core::time::Instant;
use bgp_core::types::{Asn, MacAddr, RouterId, Vni};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::forwarding::{Desired, Key};
use evpn::{Claim, Config, Engine, Member};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
/// The LANs that inputs speak of.
pub const VNIS: [u32; 3] = [1, 2, 0x00ff_ffff];
/// The members that inputs speak of.
pub const MEMBERS: [Member; 2] = [Member(1), Member(2)];

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Input {
    Announce((EvpnKey, EvpnPayload), Box<PathAttributes>),
    Withdraw(EvpnKey),
    Attach(Vni, Member),
    Detach(Vni, Member),
    Serve(Vni, bool),
    Claim(Vni, Member, Claim, bool),
    Release(Vni, Member, MacAddr),
    Learned(Vni, Member, MacAddr, bool),
    TakenOver(Vni, Member, MacAddr, bool),
    Forgotten(Vni, Member, MacAddr),
    WrittenRemote(Vni, MacAddr),
    Clear(Vni, MacAddr),
    Adopted(Key, Desired),
    Sweep,
    Advance(u64),
    Replay,
}

struct World {
    engine: Engine,
    now: Instant,
    replayed: BTreeMap<Key, Desired>,
    announced: BTreeMap<EvpnKey, Vni>,
}

impl World {
    fn new(tight: bool) -> Self {
        let mut config = Config::new(Asn(65_000), RouterId(5), OWN);
        if tight {
            config.limits.flood = 1;
            config.limits.remote_macs = 1;
            config.limits.learned_macs = 1;
        }
        Self { engine: Engine::new(config), now: Instant::ZERO, replayed: BTreeMap::new(), announced: BTreeMap::new() }
    }

    fn feed(&mut self, input: Input) {
        let (engine, now) = (&mut self.engine, self.now);
        match input {
            Input::Announce((key, payload), attributes) => {
                engine.route_changed(&key, Some((&payload, &attributes)), now);
            }
            Input::Withdraw(key) => engine.route_changed(&key, None, now),
            Input::Attach(vni, member) => engine.attach(vni, member, now),
            Input::Detach(vni, member) => engine.detach(vni, member, now),
            Input::Serve(vni, true) => engine.serve(vni, now),
            Input::Serve(vni, false) => engine.unserve(vni, now),
            Input::Claim(vni, member, claim, true) => drop(engine.claim(vni, member, &claim, now)),
            Input::Claim(vni, member, claim, false) => drop(engine.restore(vni, member, &claim, 0, now)),
            Input::Release(vni, member, mac) => engine.release(vni, member, mac, now),
            Input::Learned(vni, member, mac, sticky) => engine.learned(vni, member, mac, sticky, now),
            Input::TakenOver(vni, member, mac, sticky) => engine.taken_over(vni, member, mac, sticky, now),
            Input::Forgotten(vni, member, mac) => engine.forgotten(vni, member, mac, now),
            Input::WrittenRemote(vni, mac) => engine.written_remote(vni, mac, now),
            Input::Clear(vni, mac) => engine.clear_duplicate(vni, mac, now),
            Input::Adopted(key, found) => engine.adopted(key, found, now),
            Input::Sweep => engine.sweep(now),
            Input::Advance(secs) => {
                self.now = now + core::time::Duration::from_secs(secs);
                engine.handle_timeout(self.now);
            }
            Input::Replay => self.replay(),
        }
    }

    /// Dirty keys alone make the same state as a full walk, and counts are what a count gives.
    fn replay(&mut self) {
        while let Some(key) = self.engine.poll_dirty() {
            match self.engine.desired(key) {
                Some(desired) => self.replayed.insert(key, desired),
                None => self.replayed.remove(&key),
            };
        }
        assert_eq!(self.replayed, self.engine.all_desired());
        for view in self.engine.vnis() {
            let places = || self.engine.macs().filter(|mac| mac.vni == view.vni);
            let local = places().filter(|mac| matches!(mac.place, evpn::show::Place::Local(_))).count();
            let stale = places().filter(|mac| mac.state == evpn::show::MacStatus::Stale).count();
            let remote = places().filter(|mac| matches!(mac.place, evpn::show::Place::Remote(_))).count();
            assert_eq!((view.local_macs, view.remote_macs), (local, remote - stale), "{:?}", view);
        }
        self.check_originations();
        while let Some(report) = self.engine.poll_report() {
            assert!(!report.to_string().is_empty() && !report.rule().code().is_empty());
        }
    }

    fn check_originations(&mut self) {
        while let Some(origination) = self.engine.poll_origination() {
            match origination.route {
                Some((_, attributes)) => {
                    let vni = attributes.route_targets().next().unwrap().vni().unwrap();
                    assert_eq!(attributes.next_hop, OWN);
                    self.announced.insert(origination.key, vni);
                }
                None => assert!(self.announced.remove(&origination.key).is_some()),
            }
        }
        let lans: Vec<Vni> = self.engine.vnis().map(|view| view.vni).collect();
        assert!(self.announced.values().all(|vni| lans.contains(vni)), "announced for a LAN that is not here");
        let local = self.engine.macs().filter(|mac| matches!(mac.place, evpn::show::Place::Local(_))).count();
        let announced = self.announced.keys().filter(|key| matches!(key, EvpnKey::MacIp { ip: None, .. })).count();
        assert_eq!(local, announced, "every local MAC is announced, and no other");
    }

    /// Rows lead only to usable VTEPs, and never carry a MAC that no station can own.
    fn check_rows(&self) {
        for (key, desired) in self.engine.all_desired() {
            if let Desired::RemoteMac { vtep, .. } = desired {
                assert_ne!(vtep, OWN, "{key}");
            }
            if let Key::Mac(_, mac) = key {
                assert!(mac.is_unicast(), "{key}");
            }
        }
    }
}

/// Rows are what the routes say and nothing else, with limits that are met at once if `tight`.
pub fn stays_consistent(tight: bool, inputs: impl IntoIterator<Item = Input>) {
    let mut world = World::new(tight);
    for input in inputs {
        world.feed(input);
    }
    world.replay();
    world.engine.sweep(world.now);
    world.replay();
    world.check_rows();
}

/// When all that came has gone, nothing is left: no row, no announcement, no timer.
pub fn leaves_nothing_behind(inputs: impl IntoIterator<Item = Input>) {
    let mut world = World::new(false);
    let mut keys = Vec::new();
    for input in inputs {
        if let Input::Announce((key, _), _) = &input {
            keys.push(key.clone());
        }
        world.feed(input);
    }
    for key in keys {
        world.engine.route_changed(&key, None, world.now);
    }
    world.engine.sweep(world.now);
    for vni in VNIS.map(|vni| Vni::new(vni).unwrap()) {
        world.engine.unserve(vni, world.now);
        for member in MEMBERS {
            world.engine.detach(vni, member, world.now);
        }
    }
    world.replay();
    assert!(world.replayed.is_empty() && world.announced.is_empty());
    assert_eq!(world.engine.next_deadline(), None);
    assert_eq!(world.engine.vnis().count() + world.engine.macs().count() + world.engine.vteps().count(), 0);
}
