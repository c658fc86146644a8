//! Our own daemons, each for as long as it takes to start it again.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::ping::Flow;
use tests::rows::RowWatch;
use tests::wait;

use super::{REPLIES, assert_nothing_lost, ready, wait_swept};

fn routes_of(reflector: &Reflector) -> BTreeSet<(String, String, bool)> {
    reflector.routes().into_iter().map(|route| (route.route, route.from, route.best)).collect()
}

fn a_worker_that_leaves_and_returns_loses_no_packet(signal: Signal) {
    let (mut fabric, [here, there]) = ready();
    let watches: Vec<_> = fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
    let flows = [Flow::start(&here, "192.168.1.2"), Flow::start(&there, "192.168.1.1")];
    flows[0].wait_for_replies(REPLIES);
    fabric.workers[0].kill(signal);
    flows[0].wait_for_replies(REPLIES);
    fabric.workers[0].restart();
    wait_swept(&fabric.workers[0]);
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    assert_nothing_lost(signal.as_str(), flows);
    for watch in &watches {
        assert!(watch.events().iter().all(|event| !event.gone), "{:?}", watch.events());
    }
    let own = fabric.workers[0].macs().into_iter().find(|row| row.mac == MACS[0]).unwrap_or_default();
    assert_eq!((own.state.as_str(), own.at.as_str()), ("claimed", "local"));
    // A claim that only came back is no move.
    assert_eq!(own.sequence, 0);
    fabric.workers[0].detach(&here);
    fabric.wait_row(1, LAN, MACS[0], None);
}

#[test]
fn a_worker_killed_and_started_again_loses_no_packet_of_an_established_flow() {
    a_worker_that_leaves_and_returns_loses_no_packet(Signal::SIGKILL);
}

#[test]
fn a_worker_stopped_and_started_again_loses_no_packet_of_an_established_flow() {
    a_worker_that_leaves_and_returns_loses_no_packet(Signal::SIGTERM);
}

#[test]
fn what_changed_while_a_worker_was_away_is_right_when_it_is_back() {
    let mut fabric = Fabric::new(3);
    let [here, gone, _third] = fabric.devices::<3>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(0, LAN, MACS[2], Some(2));
    let flow = Flow::start(&here, "192.168.1.3");
    fabric.workers[0].kill(Signal::SIGKILL);
    // One device goes, another comes in its place, a third moves.
    fabric.workers[1].detach(&gone);
    let [new, moved] = [Host::new("new"), Host::new("moved")];
    fabric.workers[1].attach(&new, LAN, "02:00:00:00:00:aa", "192.168.1.9/24");
    fabric.workers[1].attach(&moved, LAN, "02:00:00:00:00:bb", "192.168.1.10/24");
    wait::until_true("the reflector to know", || {
        let routes = fabric.reflectors[0].routes();
        let has = |mac: &str| routes.iter().any(|route| route.route.contains(mac));
        has("02:00:00:00:00:aa") && !has(MACS[1])
    });
    fabric.workers[0].restart();
    fabric.wait_row(0, LAN, "02:00:00:00:00:aa", Some(1));
    fabric.wait_row(0, LAN, "02:00:00:00:00:bb", Some(1));
    fabric.wait_row(0, LAN, MACS[1], None);
    here.wait_pings("192.168.1.9");
    wait_swept(&fabric.workers[0]);
    assert_nothing_lost("a worker beside others that change", [flow]);
}

#[test]
fn a_worker_that_returns_does_not_take_back_what_moved_while_it_was_away() {
    let mut fabric = Fabric::new(3);
    let [_one, _two, witness] = fabric.devices::<3>();
    let mac = "02:00:00:00:00:99";
    let [before, after] = [Host::new("before"), Host::new("after")];
    fabric.workers[0].attach(&before, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(0));
    fabric.workers[0].kill(Signal::SIGKILL);
    // The orchestrator starts the device elsewhere; its remains are still there when the old worker comes back.
    fabric.workers[1].attach(&after, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(1));
    let watch = RowWatch::start(&fabric.workers[2].overlay());
    fabric.workers[0].restart();
    fabric.workers[0].wait_established();
    fabric.wait_row(0, LAN, mac, Some(1));
    witness.wait_pings("192.168.1.99");
    assert!(after.counter("IcmpInEchos") > 0);
    assert!(watch.of(mac).is_empty(), "{:?}", watch.of(mac));
    // Where the new place goes, the old one holds again.
    fabric.workers[1].detach(&after);
    fabric.wait_row(2, LAN, mac, Some(0));
}

#[test]
fn a_worker_that_returns_keeps_what_had_moved_to_it() {
    let mut fabric = Fabric::new(3);
    let [_one, _two, witness] = fabric.devices::<3>();
    let mac = "02:00:00:00:00:99";
    let [before, after] = [Host::new("before"), Host::new("after")];
    // The first worker has the lower address, which would win among equals, and its device never goes.
    fabric.workers[0].attach(&before, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(0));
    fabric.workers[1].attach(&after, LAN, mac, "192.168.1.99/24");
    fabric.wait_row(2, LAN, mac, Some(1));
    fabric.wait_row(0, LAN, mac, Some(1));
    fabric.workers[1].kill(Signal::SIGKILL);
    fabric.workers[1].restart();
    wait_swept(&fabric.workers[1]);
    // Something that comes after all that shows that it is through.
    let late = Host::new("late");
    fabric.workers[1].attach(&late, LAN, "02:00:00:00:00:aa", "192.168.1.9/24");
    fabric.wait_row(2, LAN, "02:00:00:00:00:aa", Some(1));
    fabric.wait_row(0, LAN, "02:00:00:00:00:aa", Some(1));
    assert_eq!(fabric.workers[0].fdb(LAN, mac), Some(fabric.vtep(1)));
    assert_eq!(fabric.workers[2].fdb(LAN, mac), Some(fabric.vtep(1)));
    witness.wait_pings("192.168.1.99");
    assert!(after.counter("IcmpInEchos") > 0);
}

#[test]
fn a_device_that_went_while_its_worker_was_away_is_withdrawn() {
    let (mut fabric, [here, _there]) = ready();
    let second = Host::new("pc3");
    fabric.workers[0].attach(&second, LAN, MACS[2], "192.168.1.3/24");
    fabric.wait_row(1, LAN, MACS[2], Some(0));
    fabric.workers[0].kill(Signal::SIGKILL);
    drop(here);
    fabric.workers[0].restart();
    fabric.wait_row(1, LAN, MACS[0], None);
    assert_eq!(fabric.workers[1].fdb(LAN, MACS[2]), Some(fabric.vtep(0)));
}

#[test]
fn a_reflector_killed_and_started_again_costs_no_packet_and_knows_the_same_routes() {
    let (mut fabric, [here, _there]) = ready();
    let before = routes_of(&fabric.reflectors[0]);
    assert!(before.iter().any(|(route, _, _)| route.contains(MACS[0])), "{before:?}");
    let watches: Vec<_> = fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
    let flow = Flow::start(&here, "192.168.1.2");
    fabric.reflectors[0].kill(Signal::SIGKILL);
    flow.wait_for_replies(REPLIES);
    fabric.reflectors[0].restart();
    fabric.wait_established();
    wait::until("the same routes as before", || {
        let now = routes_of(&fabric.reflectors[0]);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    wait::until_true("nothing stale on a worker", || {
        fabric.workers.iter().all(|worker| worker.peers().iter().all(|peer| peer.stale_routes == 0))
    });
    flow.wait_for_replies(REPLIES);
    assert_nothing_lost("reflector", [flow]);
    for watch in &watches {
        assert!(watch.events().is_empty(), "{:?}", watch.events());
    }
}

#[test]
fn a_mac_that_went_while_the_reflector_was_away_goes_from_all_tables() {
    let (mut fabric, [_here, there]) = ready();
    fabric.reflectors[0].kill(Signal::SIGKILL);
    fabric.workers[1].detach(&there);
    fabric.reflectors[0].restart();
    fabric.wait_row(0, LAN, MACS[1], None);
}

#[test]
fn a_worker_that_is_told_to_flush_removes_forwarding_and_withdraws() {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector(1);
    fabric.add_worker(0, &["--flush-on-exit"]);
    fabric.add_worker(1, &[]);
    fabric.wait_established();
    let [_here, _there] = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    let begin = std::time::Instant::now();
    fabric.workers[0].kill(Signal::SIGTERM);
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[1]), None);
    assert!(!fabric.workers[0].has_device("vx100"));
    fabric.wait_row(1, LAN, MACS[0], None);
    assert!(begin.elapsed().as_secs() < 60, "a hard reset is not waited out");
}
