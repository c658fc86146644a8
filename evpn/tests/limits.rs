//! What one peer can cost is bounded, and bounds let go again.

use std::net::{IpAddr, Ipv4Addr};

use bgp_core::time::Instant;
use bgp_core::types::{
    Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, RouteDistinguisher, RouteTarget, RouterId,
    Vni,
};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::forwarding::{Desired, Key};
use evpn::{Config, Engine, Member};

const NOW: Instant = Instant::ZERO;

fn engine(vni: Vni) -> Engine {
    let mut engine = Engine::new(Config::new(Asn(65_000), RouterId(5), Ipv4Addr::new(10, 0, 0, 5).into()));
    engine.attach(vni, Member(1), NOW);
    engine
}

fn attributes(vni: Vni, next_hop: IpAddr) -> PathAttributes {
    let mut attributes = PathAttributes::new(next_hop);
    attributes.extended_communities.push(RouteTarget::auto(Asn(65_000), vni).community());
    attributes.extended_communities.push(ExtendedCommunity::ENCAPSULATION_VXLAN);
    attributes
}

fn payload(vni: Vni) -> EvpnPayload {
    EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: Label::from(vni), label2: None }
}

#[test]
fn routes_beyond_the_limit_for_one_mac_are_refused_and_do_no_harm_when_withdrawn() {
    let vni = Vni::new(100).unwrap();
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let mut engine = engine(vni);
    let attributes = attributes(vni, Ipv4Addr::new(10, 0, 0, 2).into());
    let key = |n: u32| EvpnKey::MacIp {
        rd: RouteDistinguisher::as4(n, 1),
        tag: EthernetTag(0),
        mac,
        ip: Some(Ipv4Addr::from(n).into()),
    };
    let mut refused = 0;
    for n in 1..=5_000 {
        engine.route_changed(&key(n), Some((&payload(vni), &attributes)), NOW);
        while let Some(report) = engine.poll_report() {
            assert_eq!(report.rule().code(), "too-many-routes");
            refused += 1;
        }
    }
    assert_eq!(refused, 5_000 - 4_096);
    for n in (1..=5_000).rev() {
        assert!(engine.desired(Key::Mac(vni, mac)).is_some());
        engine.route_changed(&key(n), None, NOW);
    }
    assert_eq!(engine.all_desired().into_iter().collect::<Vec<_>>(), [(Key::Tunnel(vni), Desired::Tunnel)]);
    assert_eq!(engine.config().limits.remote_macs, 65_536);
}

#[test]
fn reports_that_nobody_polls_are_counted() {
    let vni = Vni::new(100).unwrap();
    let mut engine = engine(vni);
    let attributes = attributes(vni, Ipv4Addr::UNSPECIFIED.into());
    for n in 0..2_000 {
        let key = EvpnKey::MacIp {
            rd: RouteDistinguisher::as4(n, 1),
            tag: EthernetTag(0),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: None,
        };
        engine.route_changed(&key, Some((&payload(vni), &attributes)), NOW);
    }
    assert_eq!(engine.dropped_reports(), 2_000 - 1_024);
}
