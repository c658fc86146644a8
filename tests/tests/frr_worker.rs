//! FRR's zebra and bgpd with a kernel VXLAN device as a worker behind our reflector; one of ours on the other side.

use tests::fabric::{Fabric, Family, LAN, MACS, PORT};
use tests::handmade;
use tests::host::Host;
use tests::overlay::Reflector;
use tests::peers::{Daemon, frr};
use tests::wait;

const THEIR_VTEP: &str = "10.0.0.21";

/// Our reflector, our worker with a device, and an FRR worker with a device, both attached to the LAN.
struct Mixed {
    fabric: Fabric,
    theirs: Daemon,
    our_device: Host,
    their_device: Host,
}

fn mixed() -> Mixed {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector(1);
    fabric.add_worker(0, &[]);
    let theirs = fabric.host("frr", 21);
    handmade::lan(&theirs, LAN, THEIR_VTEP);
    let [our_device, their_device] = [Host::new("ours"), Host::new("theirs")];
    handmade::plug(&theirs, &their_device, LAN, MACS[1], "192.168.1.2/24");
    let theirs = frr::start(theirs, &frr::worker_config(THEIR_VTEP, "10.0.0.1", PORT));
    fabric.workers[0].attach(&our_device, LAN, MACS[0], "192.168.1.1/24");
    fabric.wait_established();
    theirs.wait_established(1);
    Mixed { fabric, theirs, our_device, their_device }
}

fn wait_their_row(theirs: &Host, mac: &str, vtep: Option<&str>) {
    wait::until(&format!("{mac} at FRR to be behind {vtep:?}"), || {
        let found = handmade::vtep_of(theirs, LAN, mac);
        if found.as_deref() == vtep { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn an_frr_worker_and_ours_ping_both_ways_and_each_has_the_others_mac() {
    let Mixed { fabric, theirs, our_device, their_device } = mixed();
    wait_their_row(&theirs.host, MACS[0], Some("10.0.0.11"));
    our_device.wait_pings("192.168.1.2");
    their_device.wait_pings("192.168.1.1");
    fabric.workers[0].wait_row(LAN, MACS[1], THEIR_VTEP.parse().ok());
    let flood = "00:00:00:00:00:00";
    wait_their_row(&theirs.host, flood, Some("10.0.0.11"));
    assert_eq!(fabric.workers[0].fdb(LAN, flood).as_deref(), Some(THEIR_VTEP));
    let their_view = theirs.vtysh(&format!("show evpn mac vni {LAN}"));
    assert!(their_view.contains(MACS[0]) && their_view.contains("remote"), "{their_view}");
    fabric.workers[0].detach(&our_device);
    wait_their_row(&theirs.host, MACS[0], None);
    wait_their_row(&theirs.host, flood, None);
}

#[test]
fn a_mac_moves_from_an_frr_worker_to_ours_and_back() {
    let Mixed { fabric, theirs, our_device, their_device } = mixed();
    let mac = MACS[2];
    let [at_theirs, at_ours] = [Host::new("before"), Host::new("after")];
    handmade::plug(&theirs.host, &at_theirs, LAN, mac, "192.168.1.3/24");
    at_theirs.wait_pings("192.168.1.1");
    fabric.workers[0].wait_row(LAN, mac, THEIR_VTEP.parse().ok());
    // The orchestrator is faster here than there: the new place speaks while the old one still stands.
    fabric.workers[0].attach(&at_ours, LAN, mac, "192.168.1.3/24");
    wait_their_row(&theirs.host, mac, Some("10.0.0.11"));
    handmade::unplug(&theirs.host, &at_theirs);
    their_device.wait_pings("192.168.1.3");
    assert!(at_ours.counter("IcmpInEchos") > 0);
    wait_their_row(&theirs.host, mac, Some("10.0.0.11"));
    // And back, this time in good order.
    fabric.workers[0].detach(&at_ours);
    let again = Host::new("again");
    handmade::plug(&theirs.host, &again, LAN, mac, "192.168.1.3/24");
    again.wait_pings("192.168.1.1");
    fabric.workers[0].wait_row(LAN, mac, THEIR_VTEP.parse().ok());
    our_device.wait_pings("192.168.1.3");
    assert!(again.counter("IcmpInEchos") > 0);
}

#[test]
fn an_frr_router_of_another_as_meets_our_workers_over_ebgp() {
    let mut fabric = Fabric::empty(Family::V4);
    let config = format!(
        "listen = [\"10.0.0.1:{PORT}\"]\n[[accept]]\nprefix = \"10.0.0.0/24\"\n[[peer]]\naddress = \"{THEIR_VTEP}\"\nasn = 65001\npassive = true\n"
    );
    let reflector = Reflector::configured(fabric.host("rr1", 1), &config);
    fabric.add_worker_of(&format!("10.0.0.1:{PORT}"), 0, &[]);
    let theirs = fabric.host("frr", 21);
    handmade::lan(&theirs, LAN, THEIR_VTEP);
    let [our_device, their_device] = [Host::new("ours"), Host::new("theirs")];
    handmade::plug(&theirs, &their_device, LAN, MACS[1], "192.168.1.2/24");
    let config = frr::worker_config(THEIR_VTEP, "10.0.0.1", PORT);
    let config =
        config.replace("router bgp 65000", "router bgp 65001").replace("remote-as internal", "remote-as 65000");
    let theirs = frr::start(theirs, &config);
    fabric.workers[0].attach(&our_device, LAN, MACS[0], "192.168.1.1/24");
    fabric.wait_established();
    theirs.wait_established(1);
    assert_eq!(reflector.peer(THEIR_VTEP).map(|peer| (peer.asn, peer.role)), Some((65_001, "external".into())));
    their_device.wait_pings("192.168.1.1");
    our_device.wait_pings("192.168.1.2");
    // Each sees the other's own VTEP as next hop: nobody is in between.
    fabric.workers[0].wait_row(LAN, MACS[1], THEIR_VTEP.parse().ok());
    wait_their_row(&theirs.host, MACS[0], Some("10.0.0.11"));
}
