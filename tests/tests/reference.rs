//! The testbed itself: FRR at both ends and in the middle, so that a failure of the other suites is ours and not the
//! testbed's.

use tests::handmade;
use tests::host::{Host, Underlay};
use tests::peers::frr;
use tests::ping::Flow;
use tests::wait;

const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

#[test]
fn two_frr_workers_behind_an_frr_reflector_carry_a_lan() {
    let underlay = Underlay::new(1500);
    let rr = frr::start(underlay.host("rr", &["10.0.0.1/24"]), &frr::reflector_config("10.0.0.1", "10.0.0.0/24"));
    let devices = [Host::new("pc1"), Host::new("pc2")];
    let workers = [1, 2].map(|number| {
        let vtep = format!("10.0.0.1{number}");
        let worker = underlay.host(&format!("w{number}"), &[&format!("{vtep}/24")]);
        handmade::lan(&worker, 100, &vtep);
        let device = &devices[number - 1];
        handmade::plug(&worker, device, 100, MACS[number - 1], &format!("192.168.1.{number}/24"));
        frr::start(worker, &frr::worker_config(&vtep, "10.0.0.1", 179))
    });
    rr.wait_established(2);
    wait::until_true("a ping across", || devices[0].pings("192.168.1.2"));
    wait::until_true("the MAC in the far FDB", || {
        handmade::vtep_of(&workers[0].host, 100, MACS[1]).as_deref() == Some("10.0.0.12")
    });
    let flow = Flow::start(&devices[1], "192.168.1.1");
    flow.wait_for_replies(20);
    let report = flow.stop();
    assert!(report.lost.is_empty(), "{report:?}");
}

#[test]
fn a_flow_counts_exactly_what_is_lost() {
    let underlay = Underlay::new(1500);
    let [a, b] = [underlay.host("a", &["10.0.0.1/24"]), underlay.host("b", &["10.0.0.2/24"])];
    let flow = Flow::start(&a, "10.0.0.2");
    b.sh("sysctl -q -w net.ipv4.icmp_echo_ignore_all=1");
    flow.wait_for_requests(10);
    b.sh("sysctl -q -w net.ipv4.icmp_echo_ignore_all=0");
    flow.wait_for_replies(5);
    let report = flow.stop();
    let [requests, replies] = ["IcmpInEchos", "IcmpOutEchoReps"].map(|name| b.counter(name));
    assert_eq!(report.lost.len() as u64, requests - replies, "{report:?}");
    assert!(report.lost.len() >= 9, "{report:?}");
    let together = report.lost.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(together, "one silence loses neighbours: {report:?}");
}
