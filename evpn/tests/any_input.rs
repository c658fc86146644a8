//! Whatever routes and observations come: no panic, nothing of one LAN in another, dirty keys tell every change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_core::time::Instant;
use bgp_core::types::{
    Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility, RouteDistinguisher, RouterId,
    Vni,
};
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::forwarding::{Desired, Key};
use evpn::{Claim, Config, Engine, Member};
use proptest::prelude::*;

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

fn vnis() -> impl Strategy<Value = Vni> {
    prop::sample::select(&[1_u32, 2, 0x00ff_ffff][..]).prop_map(|vni| Vni::new(vni).unwrap())
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        6 => (1_u8..7).prop_map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last))),
        1 => any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
        1 => any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits))),
        1 => prop::sample::select(&[0_u32, u32::MAX, 0x7f00_0001, 0xe000_0001][..])
            .prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits))),
    ]
}

fn macs() -> impl Strategy<Value = MacAddr> {
    prop_oneof![
        6 => (1_u8..4).prop_map(|last| MacAddr([2, 0, 0, 0, 0, last])),
        1 => any::<[u8; 6]>().prop_map(MacAddr),
        1 => prop::sample::select(&[MacAddr::ZERO, MacAddr([0xff; 6])][..]),
    ]
}

fn labels() -> impl Strategy<Value = Label> {
    prop_oneof![6 => vnis().prop_map(Label::from), 1 => any::<[u8; 3]>().prop_map(Label)]
}

fn sequences() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0_u32..4, 2 => prop::sample::select(&[u32::MAX, 1 << 31, (1 << 31) - 1][..]), 1 => any::<u32>()]
}

fn communities() -> impl Strategy<Value = ExtendedCommunity> {
    let target = |form: u32| {
        vnis().prop_map(move |vni| {
            let [a, b, c, d] = (form | vni.get()).to_be_bytes();
            ExtendedCommunity([0, 2, 0xfd, 0xe8, a, b, c, d])
        })
    };
    let mobility = (any::<bool>(), sequences());
    prop_oneof![
        4 => target(0),
        2 => target(0x1000_0000),
        2 => mobility.prop_map(|(sticky, sequence)| ExtendedCommunity::mac_mobility(MacMobility { sticky, sequence })),
        2 => Just(ExtendedCommunity::ENCAPSULATION_VXLAN),
        1 => any::<[u8; 8]>().prop_map(ExtendedCommunity),
    ]
}

fn pmsi() -> impl Strategy<Value = PmsiTunnel> {
    let tunnel = prop_oneof![
        4 => addresses().prop_map(Tunnel::IngressReplication),
        1 => any::<u8>().prop_map(|tunnel_type| Tunnel::Other { tunnel_type, identifier: Default::default() }),
    ];
    (labels(), tunnel).prop_map(|(label, tunnel)| PmsiTunnel { flags: 0, label, tunnel })
}

fn attributes() -> impl Strategy<Value = PathAttributes> {
    let stale = prop::option::weighted(0.2, Just(0xffff_0006_u32));
    (addresses(), prop::collection::vec(communities(), 0..5), prop::option::weighted(0.8, pmsi()), stale).prop_map(
        |(next_hop, communities, pmsi_tunnel, stale)| {
            let mut attributes = PathAttributes::new(next_hop);
            attributes.extended_communities.extend(communities);
            attributes.pmsi_tunnel = pmsi_tunnel;
            attributes.communities.extend(stale);
            attributes
        },
    )
}

fn routes() -> impl Strategy<Value = (EvpnKey, EvpnPayload)> {
    let rd = (0_u8..3).prop_map(|last| RouteDistinguisher([0, 1, 10, 0, 0, last, 0, 1]));
    let tag = prop_oneof![5 => Just(EthernetTag(0)), 1 => any::<u32>().prop_map(EthernetTag)];
    let mac_ip = (rd.clone(), tag.clone(), macs(), prop::option::of(addresses()), labels())
        .prop_map(|(rd, tag, mac, ip, label)| {
            let payload = EvpnPayload::MacIp { esi: EthernetSegmentId([7; 10]), label, label2: Some(label) };
            (EvpnKey::MacIp { rd, tag, mac, ip }, payload)
        })
        .boxed();
    let multicast = (rd.clone(), tag.clone(), addresses())
        .prop_map(|(rd, tag, originator)| {
            (EvpnKey::InclusiveMulticast { rd, tag, originator }, EvpnPayload::InclusiveMulticast)
        })
        .boxed();
    let segment = (rd, addresses()).prop_map(|(rd, originator)| {
        let esi = EthernetSegmentId([1; 10]);
        (EvpnKey::EthernetSegment { rd, esi, originator }, EvpnPayload::EthernetSegment)
    });
    let mismatched = (mac_ip.clone(), multicast.clone()).prop_map(|((key, _), (_, payload))| (key, payload));
    let opaque = any::<u8>()
        .prop_map(|route_type| (EvpnKey::Opaque { route_type, body: [1, 2, 3].into() }, EvpnPayload::Opaque));
    prop_oneof![8 => mac_ip, 4 => multicast, 1 => segment, 1 => mismatched, 1 => opaque]
}

#[derive(Clone, Debug)]
enum Input {
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

fn adopted() -> impl Strategy<Value = (Key, Desired)> {
    prop_oneof![
        vnis().prop_map(|vni| (Key::Tunnel(vni), Desired::Tunnel)),
        (vnis(), addresses()).prop_map(|(vni, vtep)| (Key::Flood(vni, vtep), Desired::Flood)),
        (vnis(), macs(), addresses(), any::<bool>())
            .prop_map(|(vni, mac, vtep, sticky)| (Key::Mac(vni, mac), Desired::RemoteMac { vtep, sticky })),
        (vnis(), macs(), addresses()).prop_map(|(vni, mac, ip)| (Key::Neighbor(vni, ip), Desired::Neighbor { mac })),
    ]
}

fn inputs() -> impl Strategy<Value = Input> {
    let member = || (1_u64..3).prop_map(Member);
    let claim = (macs(), prop::collection::vec(addresses(), 0..3), any::<bool>())
        .prop_map(|(mac, ips, sticky)| Claim { mac, ips, sticky });
    prop_oneof![
        12 => (routes(), attributes()).prop_map(|(route, attributes)| Input::Announce(route, Box::new(attributes))),
        6 => routes().prop_map(|(key, _)| Input::Withdraw(key)),
        3 => (vnis(), member()).prop_map(|(vni, member)| Input::Attach(vni, member)),
        1 => (vnis(), member()).prop_map(|(vni, member)| Input::Detach(vni, member)),
        1 => (vnis(), any::<bool>()).prop_map(|(vni, serve)| Input::Serve(vni, serve)),
        4 => (vnis(), member(), claim, any::<bool>()).prop_map(|(v, m, c, fresh)| Input::Claim(v, m, c, fresh)),
        2 => (vnis(), member(), macs()).prop_map(|(vni, member, mac)| Input::Release(vni, member, mac)),
        6 => (vnis(), member(), macs(), any::<bool>()).prop_map(|(v, p, m, s)| Input::Learned(v, p, m, s)),
        4 => (vnis(), member(), macs(), any::<bool>()).prop_map(|(v, p, m, s)| Input::TakenOver(v, p, m, s)),
        3 => (vnis(), member(), macs()).prop_map(|(vni, member, mac)| Input::Forgotten(vni, member, mac)),
        2 => (vnis(), macs()).prop_map(|(vni, mac)| Input::WrittenRemote(vni, mac)),
        1 => (vnis(), macs()).prop_map(|(vni, mac)| Input::Clear(vni, mac)),
        2 => adopted().prop_map(|(key, found)| Input::Adopted(key, found)),
        1 => Just(Input::Sweep),
        2 => (0_u64..100).prop_map(Input::Advance),
        2 => Just(Input::Replay),
    ]
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
            Input::Claim(vni, member, claim, false) => drop(engine.restore(vni, member, &claim, now)),
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_leaves_a_consistent_engine(tight: bool, inputs in prop::collection::vec(inputs(), 0..150)) {
        let mut world = World::new(tight);
        for input in inputs {
            world.feed(input);
        }
        world.replay();
        world.engine.sweep(world.now);
        world.replay();
        world.check_rows();
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind(inputs in prop::collection::vec(inputs(), 0..60)) {
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
        for vni in [1, 2, 0x00ff_ffff].map(|vni| Vni::new(vni).unwrap()) {
            world.engine.unserve(vni, world.now);
            for member in [Member(1), Member(2)] {
                world.engine.detach(vni, member, world.now);
            }
        }
        world.replay();
        prop_assert!(world.replayed.is_empty() && world.announced.is_empty());
        prop_assert_eq!(world.engine.next_deadline(), None);
        prop_assert_eq!(world.engine.vnis().count() + world.engine.macs().count() + world.engine.vteps().count(), 0);
    }
}
