//! FRR's bgpd as the route reflector between two of our workers.

use tests::fabric::{LAN, MACS};
use tests::host::{Host, Underlay};
use tests::overlay::Worker;
use tests::peers::frr;
use tests::wait;

#[test]
fn two_of_our_workers_meet_through_an_frr_reflector() {
    let underlay = Underlay::new(1_500);
    let reflector = underlay.host("rr", &["10.0.0.1/24"]);
    let frr = frr::start(reflector, &frr::reflector_config("10.0.0.1", "10.0.0.0/24"));
    eprintln!("{}", frr.version());
    let vteps = ["10.0.0.11", "10.0.0.12"];
    let workers =
        vteps.map(|vtep| Worker::start(underlay.host("w", &[&format!("{vtep}/24")]), vtep, &["10.0.0.1"], &[]));
    let devices = [Host::new("pc1"), Host::new("pc2")];
    for (index, worker) in workers.iter().enumerate() {
        worker.attach(&devices[index], LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
    }
    workers.iter().for_each(Worker::wait_established);
    frr.wait_established(2);
    for (index, worker) in workers.iter().enumerate() {
        worker.wait_row(LAN, MACS[1 - index], vteps[1 - index].parse().ok());
    }
    devices[0].wait_pings("192.168.1.2");
    devices[1].wait_pings("192.168.1.1");
    // What is withdrawn goes through FRR as well, and so does a move.
    let moved = Host::new("moved");
    workers[1].attach(&moved, LAN, MACS[0], "192.168.1.1/24");
    workers[0].wait_row(LAN, MACS[0], vteps[1].parse().ok());
    workers[1].detach(&moved);
    workers[0].wait_row(LAN, MACS[0], None);
    workers[0].detach(&devices[0]);
    wait::until_true("FRR to forget the MAC", || !frr.vtysh("show bgp l2vpn evpn route").contains(MACS[0]));
}
