//! A fabric of our own: LANs across nodes, and what must not cross.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::frames::{self, Sniffer};
use tests::host::Host;
use tests::overlay::{Worker, attach};
use tests::rows::RowWatch;
use tests::wait;

const FLOOD: &str = "00:00:00:00:00:00";

fn devices_ping_across(family: Family, mtu: u32) {
    let fabric = Fabric::with(family, 1, 2);
    let [a, b] = [Host::new("pc1"), Host::new("pc2")];
    let attached = fabric.workers[0].attach(&a, LAN, MACS[0], "192.168.1.1/24");
    assert_eq!((attached.mtu.get(), attached.mac.to_string().as_str()), (mtu, MACS[0]));
    fabric.workers[1].attach(&b, LAN, MACS[1], "192.168.1.2/24");
    // The rows come from the routes alone: no frame has been sent on purpose yet.
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    a.wait_pings("192.168.1.2");
    b.wait_pings("192.168.1.1");
    let full = mtu - 28;
    assert!(a.try_sh(&format!("ping -n -c 1 -W 5 -M do -s {full} 192.168.1.2")).status.success(), "a full packet");
    let row = |mac: &str| fabric.workers[0].macs().into_iter().find(|row| row.mac == mac).unwrap_or_default();
    let (here, there) = (row(MACS[0]), row(MACS[1]));
    assert_eq!(
        (here.at.as_str(), here.state.as_str(), here.ips.as_slice()),
        ("local", "claimed", &["192.168.1.1".to_owned()][..])
    );
    assert_eq!((there.at, there.ips), (fabric.vtep(1), vec!["192.168.1.2".to_owned()]));
}

#[test]
fn devices_on_two_nodes_ping_each_other_over_an_ipv4_underlay() {
    devices_ping_across(Family::V4, 1_450);
}

#[test]
fn devices_on_two_nodes_ping_each_other_over_an_ipv6_underlay() {
    devices_ping_across(Family::V6, 1_430);
}

#[test]
fn a_lan_may_ask_for_a_smaller_mtu_and_is_refused_a_larger_one() {
    let fabric = Fabric::new(1);
    let [small, large] = [Host::new("pc1"), Host::new("pc2")];
    let with_mtu = |device: &Host, mac, mtu: u32| {
        let mut wanted = attach(device, LAN, mac, "192.168.1.1/24");
        wanted.mtu = Some(mtu.try_into().unwrap_or_else(|error| panic!("{error}")));
        fabric.workers[0].try_attach(device, wanted)
    };
    let attached = with_mtu(&small, MACS[0], 1_300).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(attached.mtu.get(), 1_300);
    assert!(small.sh("ip link show dev eth0").contains("mtu 1300"));
    let refusal = with_mtu(&large, MACS[1], 1_500).map_err(|error| error.to_string());
    let text = refusal.err().unwrap_or_default();
    assert!(text.contains("1500") && text.contains("1450"), "{text}");
    assert!(!large.try_sh("ip link show dev eth0").status.success(), "nothing half-made");
}

#[test]
fn a_lan_with_members_on_one_node_only_has_no_vxlan_device() {
    let fabric = Fabric::new(2);
    let [a, b, c] = [Host::new("pc1"), Host::new("pc2"), Host::new("pc3")];
    fabric.workers[0].attach(&a, LAN, MACS[0], "192.168.1.1/24");
    fabric.workers[0].attach(&b, LAN, MACS[1], "192.168.1.2/24");
    a.wait_pings("192.168.1.2");
    let worker = &fabric.workers[0];
    assert!(worker.has_device("br100") && !worker.has_device("vx100"));
    assert!(worker.vnis().iter().all(|row| !row.inter_node));
    fabric.workers[1].attach(&c, LAN, MACS[2], "192.168.1.3/24");
    a.wait_pings("192.168.1.3");
    assert!(fabric.workers.iter().all(|worker| worker.has_device("vx100")));
}

#[test]
fn a_second_add_moves_the_mac_and_no_third_node_is_ever_without_a_row() {
    let fabric = Fabric::new(3);
    let [_first, _other, witness] = fabric.devices::<3>();
    let mac = "02:00:00:00:00:99";
    let [before, after] = [Host::new("before"), Host::new("after")];
    fabric.workers[0].attach(&before, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(0));
    witness.wait_pings("192.168.1.99");
    let watch = RowWatch::start(&fabric.workers[2].overlay());
    fabric.workers[1].attach(&after, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(1));
    fabric.wait_row(0, LAN, mac, Some(1));
    assert!(watch.of(mac).iter().all(|event| !event.gone), "{:?}", watch.of(mac));
    let sequence = |worker: &Worker| worker.macs().into_iter().find(|row| row.mac == mac).map(|row| row.sequence);
    // Two ADDs in close succession may outbid each other once; the later one has the last word.
    let moved = sequence(&fabric.workers[2]);
    assert!(moved >= Some(1), "{moved:?}");
    // The old place is told to go, late, as an orchestrator does: nobody may take that for the MAC's end.
    fabric.workers[0].detach(&before);
    witness.wait_pings("192.168.1.99");
    assert!(after.counter("IcmpInEchos") > 0);
    assert!(watch.of(mac).iter().all(|event| !event.gone), "{:?}", watch.of(mac));
    // And back.
    let third = Host::new("third");
    fabric.workers[0].attach(&third, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(0));
    assert!(sequence(&fabric.workers[2]) > moved);
    assert!(watch.of(mac).iter().all(|event| !event.gone), "{:?}", watch.of(mac));
}

#[test]
fn detaching_withdraws_the_mac_and_the_last_member_its_lan() {
    let fabric = Fabric::new(2);
    let [_a, b] = fabric.devices::<2>();
    let second = Host::new("pc3");
    fabric.workers[1].attach(&second, LAN, MACS[2], "192.168.1.3/24");
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(0, LAN, MACS[2], Some(1));
    fabric.workers[1].detach(&b);
    fabric.wait_row(0, LAN, MACS[1], None);
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[2]), Some(fabric.vtep(1)));
    assert_eq!(fabric.workers[0].fdb(LAN, FLOOD), Some(fabric.vtep(1)));
    fabric.workers[1].detach(&second);
    fabric.wait_row(0, LAN, MACS[2], None);
    fabric.wait_row(0, LAN, FLOOD, None);
    wait::until_true("the bridge to go", || !fabric.workers[1].has_device("br100"));
    assert!(!fabric.workers[1].has_device("vx100"));
    wait::until_true("the routes to go", || {
        fabric.reflectors[0].routes().iter().all(|route| route.next_hop != fabric.vtep(1) || route.family != "evpn")
    });
    // Undone is undone: a second DEL succeeds too.
    fabric.workers[1].detach(&second);
}

#[test]
fn a_device_that_vanishes_without_a_word_is_withdrawn() {
    let fabric = Fabric::new(2);
    let [_a, b] = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    drop(b);
    fabric.wait_row(0, LAN, MACS[1], None);
}

#[test]
fn the_same_mac_and_address_on_two_lans_never_mix() {
    let fabric = Fabric::new(2);
    let [here, there, ..] = MACS;
    // On LAN 100 the first address is on the first worker; on LAN 200 it is on the second.
    let names = ["pc1", "pc2", "pc3", "pc4"].map(Host::new);
    let [a, b, c, d] = &names;
    fabric.workers[0].attach(a, 100, here, "192.168.1.1/24");
    fabric.workers[1].attach(b, 100, there, "192.168.1.2/24");
    fabric.workers[1].attach(c, 200, here, "192.168.1.1/24");
    fabric.workers[0].attach(d, 200, there, "192.168.1.2/24");
    fabric.wait_row(0, 100, there, Some(1));
    fabric.wait_row(0, 200, here, Some(1));
    a.wait_pings("192.168.1.2");
    assert!(b.counter("IcmpInEchos") > 0);
    assert_eq!((c.counter("IcmpInEchos"), d.counter("IcmpInEchos")), (0, 0));
    c.wait_pings("192.168.1.2");
    assert!(d.counter("IcmpInEchos") > 0);
    assert_eq!(a.counter("IcmpInEchos"), 0);
    assert_eq!((fabric.workers[0].fdb(100, here), fabric.workers[0].fdb(200, there)), (None, None));
}

#[test]
fn frames_of_a_lan_go_only_where_it_has_members() {
    let fabric = Fabric::new(3);
    let [a, _b] = fabric.devices::<2>();
    let [c, d] = [Host::new("pc3"), Host::new("pc4")];
    fabric.workers[0].attach(&c, 200, MACS[2], "192.168.2.1/24");
    fabric.workers[2].attach(&d, 200, "02:00:00:00:00:04", "192.168.2.2/24");
    a.wait_pings("192.168.1.2");
    c.wait_pings("192.168.2.2");
    let [member, other] = [1, 2].map(|index: usize| Sniffer::start(&fabric.workers[index].host, "eth0"));
    // A broadcast on each LAN: to an address that nobody has.
    a.try_sh("ping -n -c 2 -W 1 192.168.1.77");
    c.try_sh("ping -n -c 2 -W 1 192.168.2.77");
    wait::until_true("the frames of both LANs", || member.vnis().contains(&LAN) && other.vnis().contains(&200));
    assert_eq!(BTreeSet::from_iter(other.vnis()), [200].into());
    assert_eq!(BTreeSet::from_iter(member.vnis()), [LAN].into());
}

#[test]
fn routes_of_a_lan_go_only_where_it_has_members() {
    let fabric = Fabric::new(3);
    let [_a, _b] = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    let evpn = |worker: &Worker| worker.routes().into_iter().filter(|route| route.family == "evpn").collect::<Vec<_>>();
    assert!(!evpn(&fabric.workers[0]).is_empty());
    assert_eq!(evpn(&fabric.workers[2]), []);
    let late = Host::new("pc3");
    fabric.workers[2].attach(&late, LAN, MACS[2], "192.168.1.3/24");
    fabric.wait_row(2, LAN, MACS[0], Some(0));
    fabric.workers[2].detach(&late);
    wait::until_true("the routes to leave with the last member", || evpn(&fabric.workers[2]).is_empty());
}

#[test]
fn link_local_protocols_cross_the_lan() {
    let fabric = Fabric::new(2);
    let [a, b] = fabric.devices::<2>();
    a.wait_pings("192.168.1.2");
    let sniffer = Sniffer::start(&b, "eth0");
    // LLDP, LACP, 802.1X and spanning tree, to the addresses that bridges normally keep to themselves.
    for (last, ether_type) in [(0x0e, 0x88cc_u16), (0x02, 0x8809), (0x03, 0x888e), (0x00, 0x0026)] {
        let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, last, 2, 0, 0, 0, 0, 1];
        frame.extend(ether_type.to_be_bytes());
        frame.resize(60, last);
        frames::send(&a, "eth0", &frame);
        sniffer.wait_for(&format!("the frame to 01:80:c2:00:00:{last:02x}"), |seen| seen == frame);
    }
}

#[test]
fn one_of_two_reflectors_can_die_and_no_row_changes() {
    let mut fabric = Fabric::with(Family::V4, 2, 2);
    let [a, _b] = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    a.wait_pings("192.168.1.2");
    wait::until_true("the routes of both reflectors", || {
        let from: BTreeSet<_> = fabric.workers[0]
            .routes()
            .into_iter()
            .filter(|route| route.route.contains(MACS[1]))
            .map(|route| route.from)
            .collect();
        from.len() == 2
    });
    let watches: Vec<_> = fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
    fabric.reflectors[0].kill(Signal::SIGKILL);
    wait::until_true("both workers to miss it", || {
        let missing = |worker: &Worker| worker.peers().iter().filter(|peer| peer.state != "Established").count() == 1;
        fabric.workers.iter().all(missing)
    });
    // What is new still spreads.
    let late = Host::new("pc3");
    fabric.workers[1].attach(&late, LAN, MACS[2], "192.168.1.3/24");
    fabric.wait_row(0, LAN, MACS[2], Some(1));
    fabric.reflectors[0].restart();
    fabric.wait_established();
    wait::until_true("nothing stale", || {
        fabric.workers.iter().all(|worker| worker.peers().iter().all(|peer| peer.stale_routes == 0))
    });
    for watch in &watches {
        let changes: Vec<_> = watch.events().into_iter().filter(|event| event.mac != MACS[2]).collect();
        assert!(changes.is_empty(), "{changes:?}");
    }
}

#[test]
fn lans_made_while_no_reflector_runs_join_when_one_comes() {
    let mut fabric = Fabric::new(2);
    fabric.reflectors[0].kill(Signal::SIGKILL);
    let [a, _b] = fabric.devices::<2>();
    assert!(!a.pings("192.168.1.2"));
    fabric.reflectors[0].restart();
    a.wait_pings("192.168.1.2");
}
