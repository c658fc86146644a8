//! Our worker over bridges and VXLAN devices that somebody else made, where FRR would run with `advertise-all-vni`.

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family, LAN, MACS, PORT};
use tests::handmade;
use tests::host::Host;
use tests::overlay::Worker;
use tests::peers::{Daemon, frr};
use tests::ping::Flow;
use tests::wait;

const VTEPS: [&str; 2] = ["10.0.0.21", "10.0.0.22"];

/// Our reflector; our worker in adopt mode at the first VTEP; FRR at the second; one device each.
struct Adopted {
    fabric: Fabric,
    ours: Worker,
    theirs: Daemon,
    devices: [Host; 2],
}

fn adopted() -> Adopted {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector(1);
    let hosts = [fabric.host("ours", 21), fabric.host("frr", 22)];
    let devices = [Host::new("pc1"), Host::new("pc2")];
    for (index, host) in hosts.iter().enumerate() {
        handmade::lan(host, LAN, VTEPS[index]);
        handmade::plug(host, &devices[index], LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
    }
    let [ours, theirs] = hosts;
    let theirs = frr::start(theirs, &frr::worker_config(VTEPS[1], "10.0.0.1", PORT));
    let ours = Worker::adopt(ours, VTEPS[0], &[&format!("10.0.0.1:{PORT}")]);
    ours.wait_established();
    theirs.wait_established(1);
    Adopted { fabric, ours, theirs, devices }
}

fn wait_row(host: &Host, mac: &str, vtep: Option<&str>) {
    wait::until(&format!("{mac} on {} to be behind {vtep:?}", host.name()), || {
        let found = handmade::vtep_of(host, LAN, mac);
        if found.as_deref() == vtep { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn devices_that_others_made_are_served_and_meet_frr() {
    let Adopted { fabric: _fabric, ours, theirs, devices } = adopted();
    devices[0].wait_pings("192.168.1.2");
    devices[1].wait_pings("192.168.1.1");
    wait_row(&ours.host, MACS[1], Some(VTEPS[1]));
    wait_row(&theirs.host, MACS[0], Some(VTEPS[0]));
    let learned = ours.macs().into_iter().find(|row| row.mac == MACS[0]).unwrap_or_default();
    assert_eq!((learned.at.as_str(), learned.state.as_str()), ("local", "learned"));
    // A device that goes takes its MAC along, on both sides.
    handmade::unplug(&ours.host, &devices[0]);
    wait_row(&theirs.host, MACS[0], None);
    handmade::unplug(&theirs.host, &devices[1]);
    wait_row(&ours.host, MACS[1], None);
}

#[test]
fn lans_that_appear_later_are_served_and_those_that_go_are_left() {
    let Adopted { fabric: _fabric, ours, theirs, devices: _devices } = adopted();
    let late = [Host::new("late1"), Host::new("late2")];
    for (index, host) in [&ours.host, &theirs.host].into_iter().enumerate() {
        handmade::lan(host, 200, VTEPS[index]);
        handmade::plug(host, &late[index], 200, MACS[2 + index], &format!("192.168.2.{}/24", index + 1));
    }
    late[0].wait_pings("192.168.2.2");
    assert_eq!(ours.vnis().iter().map(|row| row.vni).collect::<Vec<_>>(), [LAN, 200]);
    ours.host.sh("ip link del vx200");
    wait::until_true("the LAN to be left", || ours.vnis().iter().all(|row| row.vni != 200));
    wait::until_true("FRR to stop flooding to it", || !theirs.host.sh("bridge fdb show dev vx200").contains(VTEPS[0]));
}

/// The station has moved: what stays behind on its port says nothing any more. Two that speak would be a duplicate, which
/// is frozen.
fn silence(device: &Host) {
    device.sh("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; ip address flush dev eth0; ip link set eth0 arp off");
}

#[test]
fn a_mac_that_wanders_from_frr_to_adopted_devices_and_back_is_followed() {
    let Adopted { fabric: _fabric, ours, theirs, devices } = adopted();
    let mac = MACS[2];
    let wanderer = |label: &str| Host::new(label);
    let [first, second, third] = ["one", "two", "three"].map(wanderer);
    handmade::plug(&theirs.host, &first, LAN, mac, "192.168.1.3/24");
    first.wait_pings("192.168.1.1");
    wait_row(&ours.host, mac, Some(VTEPS[1]));
    silence(&first);
    handmade::plug(&ours.host, &second, LAN, mac, "192.168.1.3/24");
    second.wait_pings("192.168.1.2");
    wait_row(&theirs.host, mac, Some(VTEPS[0]));
    wait_row(&ours.host, mac, None);
    handmade::unplug(&theirs.host, &first);
    devices[1].wait_pings("192.168.1.3");
    silence(&second);
    handmade::plug(&theirs.host, &third, LAN, mac, "192.168.1.3/24");
    third.wait_pings("192.168.1.1");
    wait_row(&ours.host, mac, Some(VTEPS[1]));
    handmade::unplug(&ours.host, &second);
    devices[0].wait_pings("192.168.1.3");
}

#[test]
fn an_adopting_worker_killed_and_started_again_loses_no_packet() {
    let Adopted { fabric: _fabric, mut ours, theirs: _theirs, devices } = adopted();
    let flow = Flow::start(&devices[0], "192.168.1.2");
    ours.kill(Signal::SIGKILL);
    flow.wait_for_replies(50);
    ours.restart();
    ours.wait_established();
    wait::until_true("every row to be confirmed", || ours.macs().iter().all(|row| row.state != "stale"));
    flow.wait_for_replies(50);
    let report = flow.stop();
    eprintln!("adopt: {} sent, {} lost, longest silence {:?}", report.sent, report.lost.len(), report.longest_silence);
    assert!(report.lost.is_empty(), "{report:?}");
    assert!(!ours.host.sh(&format!("bridge fdb show dev vx{LAN}")).is_empty());
}
