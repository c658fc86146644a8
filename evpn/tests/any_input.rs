//! Whatever routes and observations come: no panic, nothing of one LAN in another, dirty keys tell every change.

mod world;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_core::types::{
    EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility, RouteDistinguisher, Vni,
};
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::Claim;
use evpn::forwarding::{Desired, Key};
use proptest::prelude::*;
use world::{Input, MEMBERS, VNIS, leaves_nothing_behind, stays_consistent};

fn vnis() -> impl Strategy<Value = Vni> {
    prop::sample::select(&VNIS[..]).prop_map(|vni| Vni::new(vni).unwrap())
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
    let member = || prop::sample::select(&MEMBERS[..]);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_leaves_a_consistent_engine(tight: bool, inputs in prop::collection::vec(inputs(), 0..150)) {
        stays_consistent(tight, inputs);
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind(inputs in prop::collection::vec(inputs(), 0..60)) {
        leaves_nothing_behind(inputs);
    }
}
