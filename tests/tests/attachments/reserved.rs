//! VNIs that the host has for itself: refused by name, reported everywhere, and nobody else affected.

use cni::ErrorCode;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::{Worker, attach};
use tests::{http, wait};

use super::bed::{add, attachment, code, wait_exact};

const HTTP: &str = "127.0.0.1:9181";

/// A fabric whose first worker runs on a host that this line has prepared.
fn prepared(line: &str) -> Fabric {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector(1);
    let host = fabric.host("w1", 11);
    host.sh(line);
    fabric.workers.push(Worker::start(host, "10.0.0.11", &["10.0.0.1:1179"], &["--http", HTTP]));
    fabric.add_worker(1, &[]);
    fabric.wait_established();
    fabric
}

fn metric(worker: &Worker, name: &str) -> Option<String> {
    let (_, text) = http::get(&worker.host, HTTP, "/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

fn is_refused_by_name(worker: &Worker, pod: &Host, vni: u32, device: &str) {
    let refused = worker.try_attach(pod, attach(pod, vni, MACS[3], "192.168.9.1/24"));
    let text = refused.as_ref().err().map(ToString::to_string).unwrap_or_default();
    for part in [device, &format!("VNI {vni}"), "UDP port 4789", "give the LAN another VNI"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(code(&refused), Some(ErrorCode::INVALID_NETWORK_CONFIG));
    assert!(!pod.try_sh("ip link show eth0").status.success(), "nothing half-made");
}

#[test]
fn a_vni_of_the_hosts_own_vxlan_is_reserved_and_reported_whether_it_was_there_first_or_comes_later() {
    let fabric = prepared("ip link add cluster.1 type vxlan id 4096 dstport 4789 local 10.0.0.11");
    let worker = &fabric.workers[0];
    let pod = Host::new("pc9");
    is_refused_by_name(worker, &pod, 4_096, "cluster.1");
    let reserved = |vni: u32| worker.vnis().into_iter().find(|row| row.vni == vni).and_then(|row| row.reserved_by);
    assert!(reserved(4_096).is_some_and(|by| by.contains("cluster.1")));
    assert_eq!(metric(worker, "megalos_reserved_vnis").as_deref(), Some("1"));
    wait::until_true("the log", || {
        worker.host.log("megalos-speaker").contains("VNI 4096 is reserved: the device cluster.1")
    });
    // All others work, to other nodes too.
    let [a, b] = fabric.devices::<2>();
    a.wait_pings("192.168.1.2");
    // One that comes later.
    worker.host.sh("ip link add late type vxlan id 200 dstport 4789 local 10.0.0.11");
    is_refused_by_name(worker, &pod, 200, "late");
    wait::until_true("the report", || reserved(200).is_some_and(|by| by.contains("late")));
    wait::until_true("the metric", || metric(worker, "megalos_reserved_vnis").as_deref() == Some("2"));
    // Another port is another matter.
    worker.host.sh("ip link add elsewhere type vxlan id 300 dstport 8472 local 10.0.0.11");
    worker.try_attach(&pod, attach(&pod, 300, MACS[3], "192.168.9.1/24")).unwrap_or_else(|error| panic!("{error}"));
    b.wait_pings("192.168.1.1");
    // Gone, it is free.
    worker.host.sh("ip link del late");
    let again = Host::new("pc10");
    worker.try_attach(&again, attach(&again, 200, MACS[2], "192.168.9.2/24")).unwrap_or_else(|error| panic!("{error}"));
    wait::until_true("the report to go", || reserved(200).is_none());
}

#[test]
fn a_vni_that_the_host_takes_from_a_lan_comes_back_to_it() {
    let fabric = prepared("true");
    let [worker, other] = [0, 1].map(|index: usize| &fabric.workers[index]);
    let [a, b] = [Host::new("pc1"), Host::new("pc2")];
    // On one node only the LAN has no VXLAN device, so the host's can be made.
    worker.attach(&a, LAN, MACS[0], "192.168.1.1/24");
    worker.host.sh(&format!("ip link add thief type vxlan id {LAN} dstport 4789 local 10.0.0.11"));
    other.attach(&b, LAN, MACS[1], "192.168.1.2/24");
    wait::until_true("the log", || {
        let log = worker.host.log("megalos-speaker");
        log.contains("vni-in-use") && log.contains("vni-reserved") && log.contains("thief")
    });
    assert!(!a.pings("192.168.1.2"));
    worker.host.sh("ip link del thief");
    a.wait_pings("192.168.1.2");
}

#[test]
fn a_device_that_takes_the_whole_port_refuses_every_add_until_it_is_gone() {
    let fabric = prepared("ip link add whole type vxlan external dstport 4789 && ip link set whole up");
    let worker = &fabric.workers[0];
    let pod = Host::new("pc9");
    is_refused_by_name(worker, &pod, LAN, "whole");
    assert_eq!(metric(worker, "megalos_vxlan_port_taken").as_deref(), Some("1"));
    wait::until_true("the log", || worker.host.log("megalos-speaker").contains("takes all VNIs of UDP port 4789"));
    worker.host.sh("ip link del whole");
    let [a, _b] = fabric.devices::<2>();
    a.wait_pings("192.168.1.2");
    wait::until_true("the metric", || metric(worker, "megalos_vxlan_port_taken").as_deref() == Some("0"));
}

#[test]
fn a_reserved_vni_costs_the_worker_that_has_it_and_no_other() {
    let fabric = prepared("ip link add cluster.1 type vxlan id 100 dstport 4789 local 10.0.0.11");
    let pod = Host::new("a");
    assert_eq!(code(&add(&fabric.workers[0], &pod, "a", 100, 1)), Some(ErrorCode::INVALID_NETWORK_CONFIG));
    add(&fabric.workers[1], &pod, "a", 100, 1).unwrap_or_else(|error| panic!("{error}"));
    wait_exact(&fabric.workers[1], &[(&attachment("a", "eth0"), 100)]);
    wait_exact(&fabric.workers[0], &[]);
}
