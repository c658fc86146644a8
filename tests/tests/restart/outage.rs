//! Our own daemons, away for longer than it takes to start them again.

use std::time::{Duration, Instant};

use daemon::show::PeerRow;
use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::ping::Flow;
use tests::rows::RowWatch;
use tests::wait;

use super::{REPLIES, assert_nothing_lost, both_ways, stop, two_devices, wait_swept};

/// A restart time that is over soon, and a long-lived stale time that is not.
const SHORT_RESTART: &str = "restart_time_secs = 2";
/// The same without long-lived graceful restart.
const SHORT_RESTART_ALONE: &str = "restart_time_secs = 2\nlong_lived_stale_secs = 0";

/// Two reflectors with these settings and this many workers, all sessions up.
fn fabric_of(family: Family, settings: &str, workers: usize) -> Fabric {
    let mut fabric = Fabric::empty(family);
    for number in 1..=2 {
        fabric.add_reflector_with(number, settings);
    }
    for index in 0..workers {
        fabric.add_worker(index, &[]);
    }
    fabric.wait_established();
    fabric
}

fn kill_reflectors(fabric: &mut Fabric) {
    fabric.reflectors.iter_mut().for_each(|reflector| reflector.kill(Signal::SIGKILL));
}

fn restart_reflectors(fabric: &mut Fabric) {
    fabric.reflectors.iter_mut().for_each(|reflector| reflector.restart());
}

fn watch(fabric: &Fabric) -> Vec<RowWatch> {
    fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect()
}

fn assert_untouched(watches: &[RowWatch]) {
    for watch in watches {
        assert!(watch.events().is_empty(), "{:?}", watch.events());
    }
}

/// Waits until all that a worker heard of its reflectors is long-lived stale.
fn wait_long_lived(fabric: &Fabric, index: usize) {
    wait::until_true("all routes of the worker to be long-lived stale", || {
        let peers = fabric.workers[index].peers();
        let routes = |peer: &PeerRow| peer.routes.values().sum::<u64>();
        peers.iter().all(|peer| routes(peer) > 0 && peer.long_lived_stale_routes == routes(peer))
    });
}

fn wait_nothing_stale(fabric: &Fabric) {
    wait::until_true("nothing stale on any worker", || {
        fabric.workers.iter().all(|worker| worker.peers().iter().all(|peer| peer.stale_routes == 0))
    });
    fabric.workers.iter().for_each(wait_swept);
}

fn both_reflectors_away_for_a_minute_cost_no_frame(family: Family, signal: Signal) {
    let mut fabric = fabric_of(family, "", 2);
    let devices = two_devices(&fabric);
    let watches = watch(&fabric);
    let flows = both_ways(&devices);
    let begin = Instant::now();
    fabric.reflectors.iter_mut().for_each(|reflector| reflector.kill(signal));
    while begin.elapsed() < Duration::from_secs(60) {
        flows.iter().for_each(|flow| flow.wait_for_replies(500));
    }
    let away = fabric.workers.iter().flat_map(|worker| worker.peers()).all(|peer| peer.state != "Established");
    assert!(away, "a reflector was there all the time");
    restart_reflectors(&mut fabric);
    fabric.wait_established();
    wait_nothing_stale(&fabric);
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    assert_nothing_lost(&format!("both reflectors away for 60 s after {signal}"), flows);
    assert_untouched(&watches);
}

#[test]
fn both_reflectors_killed_for_a_minute_cost_no_frame() {
    both_reflectors_away_for_a_minute_cost_no_frame(Family::V4, Signal::SIGKILL);
}

#[test]
fn both_reflectors_stopped_for_a_minute_cost_no_frame_over_ipv6() {
    both_reflectors_away_for_a_minute_cost_no_frame(Family::V6, Signal::SIGTERM);
}

#[test]
fn of_two_reflectors_either_can_go_and_come_back_unnoticed() {
    let mut fabric = fabric_of(Family::V4, "", 2);
    let devices = two_devices(&fabric);
    let watches = watch(&fabric);
    let flows = both_ways(&devices);
    for (index, signal) in [(0, Signal::SIGKILL), (1, Signal::SIGTERM), (1, Signal::SIGKILL), (0, Signal::SIGTERM)] {
        fabric.reflectors[index].kill(signal);
        flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
        fabric.reflectors[index].restart();
        fabric.wait_established();
        wait_nothing_stale(&fabric);
        flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    }
    assert_nothing_lost("either of two reflectors", flows);
    assert_untouched(&watches);
}

#[test]
fn reflectors_that_hang_for_longer_than_the_hold_time_cost_no_frame() {
    let fabric = fabric_of(Family::V4, "", 2);
    let devices = two_devices(&fabric);
    let watches = watch(&fabric);
    let flows = both_ways(&devices);
    let all = |signal| fabric.reflectors.iter().for_each(|reflector| reflector.host.signal(reflector.pid(), signal));
    all(Signal::SIGSTOP);
    wait::until_true("the workers to give their sessions up", || {
        fabric.workers.iter().all(|worker| worker.peers().iter().all(|peer| peer.state != "Established"))
    });
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    all(Signal::SIGCONT);
    fabric.wait_established();
    wait_nothing_stale(&fabric);
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    assert_nothing_lost("both reflectors hanging", flows);
    assert_untouched(&watches);
}

#[test]
fn reflectors_away_for_longer_than_their_restart_time_cost_no_frame_and_what_changed_meanwhile_is_right_after() {
    let mut fabric = fabric_of(Family::V4, SHORT_RESTART, 3);
    let devices = fabric.devices::<2>();
    let [gone, before] = [Host::new("gone"), Host::new("before")];
    fabric.workers[1].attach(&gone, LAN, MACS[2], "192.168.1.3/24");
    fabric.workers[0].attach(&before, LAN, MACS[3], "192.168.1.4/24");
    for (mac, to) in [(MACS[1], 1), (MACS[2], 1)] {
        fabric.wait_row(0, LAN, mac, Some(to));
    }
    for mac in [MACS[0], MACS[3]] {
        fabric.wait_row(1, LAN, mac, Some(0));
    }
    let flows = both_ways(&devices);
    kill_reflectors(&mut fabric);
    [0, 1].iter().for_each(|index| wait_long_lived(&fabric, *index));
    let state = fabric.workers[0].macs().into_iter().find(|row| row.mac == MACS[1]).map(|row| row.state);
    assert_eq!(state.as_deref(), Some("remote, long-lived stale"));
    let watches = watch(&fabric);
    flows.iter().for_each(|flow| flow.wait_for_replies(500));
    assert_untouched(&watches);

    // One device goes, one moves to a node that has not been in the LAN, one is new; nobody can be told.
    fabric.workers[1].detach(&gone);
    fabric.workers[0].detach(&before);
    let [after, new] = [Host::new("after"), Host::new("new")];
    fabric.workers[2].attach(&after, LAN, MACS[3], "192.168.1.4/24");
    fabric.workers[1].attach(&new, LAN, "02:00:00:00:00:aa", "192.168.1.9/24");
    // And a worker restarts while nobody is there to tell it anything.
    fabric.workers[0].kill(Signal::SIGKILL);
    fabric.workers[0].restart();
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[1]), Some(fabric.vtep(1)));
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[2]), Some(fabric.vtep(1)));

    restart_reflectors(&mut fabric);
    fabric.wait_established();
    for index in [0, 1] {
        fabric.wait_row(index, LAN, MACS[3], Some(2));
    }
    fabric.wait_row(0, LAN, "02:00:00:00:00:aa", Some(1));
    fabric.wait_row(0, LAN, MACS[2], None);
    wait_nothing_stale(&fabric);
    devices[0].wait_pings("192.168.1.4");
    devices[0].wait_pings("192.168.1.9");
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    assert_nothing_lost("both reflectors away beyond their restart time", flows);
}

#[test]
fn without_long_lived_graceful_restart_reflectors_away_for_longer_than_their_restart_time_do_cost_frames() {
    let mut fabric = fabric_of(Family::V4, SHORT_RESTART_ALONE, 2);
    let devices = two_devices(&fabric);
    let flows = both_ways(&devices);
    kill_reflectors(&mut fabric);
    fabric.wait_row(0, LAN, MACS[1], None);
    fabric.wait_row(1, LAN, MACS[0], None);
    flows.iter().for_each(|flow| flow.wait_for_requests(REPLIES));
    restart_reflectors(&mut fabric);
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    for report in stop("both reflectors away beyond their restart time, without RFC 9494", flows) {
        assert!(!report.lost.is_empty(), "the flow did not need what this suite is about");
    }
}

/// One reflector that forgets soon who came by itself, and two workers of which the second has these settings.
fn fabric_with_second_worker(settings: &str) -> (Fabric, [Host; 2]) {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector_with(1, "idle_hold_max_secs = 2");
    fabric.add_worker(0, &[]);
    fabric.add_worker_with(1, settings);
    fabric.wait_established();
    let devices = two_devices(&fabric);
    (fabric, devices)
}

#[test]
fn a_worker_away_for_longer_than_its_restart_time_costs_no_frame() {
    let (mut fabric, devices) = fabric_with_second_worker(SHORT_RESTART);
    let watch = RowWatch::start(&fabric.workers[0].overlay());
    let flows = both_ways(&devices);
    let vtep = fabric.vtep(1);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        fabric.workers[1].kill(signal);
        wait::until_true("its routes to be long-lived stale", || {
            fabric.reflectors[0].peer(&vtep).is_some_and(|peer| peer.long_lived_stale_routes > 0)
        });
        wait::until_true("the other worker to be told", || {
            let routes = fabric.workers[0].routes();
            routes.iter().any(|route| route.route.contains(MACS[1]) && route.long_lived_stale && !route.stale)
        });
        flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
        fabric.workers[1].restart();
        wait_swept(&fabric.workers[1]);
        wait::until_true("the other worker to be told that it is back", || {
            let routes = fabric.workers[0].routes();
            routes.iter().any(|route| route.route.contains(MACS[1]))
                && !routes.iter().any(|route| route.long_lived_stale)
        });
        flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    }
    assert_nothing_lost("a worker away beyond its restart time", flows);
    assert!(watch.events().is_empty(), "{:?}", watch.events());
}

#[test]
fn a_worker_that_does_not_come_back_is_forgotten_when_its_time_is_over() {
    let (mut fabric, _devices) = fabric_with_second_worker("restart_time_secs = 2\nlong_lived_stale_secs = 2");
    let vtep = fabric.vtep(1);
    fabric.workers[1].kill(Signal::SIGKILL);
    fabric.wait_row(0, LAN, MACS[1], None);
    wait::until_true("the reflector to forget a peer that came by itself", || {
        fabric.reflectors[0].peer(&vtep).is_none()
    });
    assert!(fabric.reflectors[0].routes().iter().all(|route| route.from != vtep));
    fabric.workers[1].restart();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
}

#[test]
fn a_route_whose_worker_is_away_loses_to_a_claim_of_a_lower_sequence() {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector(1);
    fabric.add_worker(0, &[]);
    fabric.add_worker_with(1, SHORT_RESTART);
    fabric.add_worker(2, &[]);
    fabric.wait_established();
    let [witness, _second] = two_devices(&fabric);
    let mac = MACS[3];
    let places = ["first", "second", "third"].map(Host::new);
    let sequence_at = |fabric: &Fabric, index: usize| {
        let rows = fabric.workers[index].macs();
        rows.into_iter().find(|row| row.mac == mac).map(|row| (row.at, row.sequence))
    };
    fabric.workers[0].attach(&places[0], LAN, mac, "192.168.1.99/24");
    fabric.wait_row(1, LAN, mac, Some(0));
    fabric.workers[1].attach(&places[1], LAN, mac, "192.168.1.99/24");
    fabric.wait_row(0, LAN, mac, Some(1));
    fabric.workers[0].detach(&places[0]);
    assert!(sequence_at(&fabric, 1).is_some_and(|(at, sequence)| at == "local" && sequence > 0));
    let vtep = fabric.vtep(1);
    fabric.workers[1].kill(Signal::SIGKILL);
    wait::until_true("its routes to be long-lived stale", || {
        fabric.reflectors[0].peer(&vtep).is_some_and(|peer| peer.long_lived_stale_routes > 0)
    });
    // A node that has not been in the LAN knows no sequence to outbid.
    fabric.workers[2].attach(&places[2], LAN, mac, "192.168.1.99/24");
    assert_eq!(sequence_at(&fabric, 2), Some(("local".to_owned(), 0)));
    fabric.wait_row(0, LAN, mac, Some(2));
    witness.wait_pings("192.168.1.99");
    assert!(places[2].counter("IcmpInEchos") > 0);
    assert_eq!(sequence_at(&fabric, 2), Some(("local".to_owned(), 0)));
}

#[test]
fn a_restarted_reflector_says_nothing_of_its_own_until_an_absent_worker_is_back() {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector_for(1, 2);
    [0, 1].iter().for_each(|index| fabric.add_worker(*index, &[]));
    fabric.wait_established();
    let devices = two_devices(&fabric);
    let watch = RowWatch::start(&fabric.workers[0].overlay());
    let flow = Flow::start(&devices[0], "192.168.1.2");
    fabric.reflectors[0].kill(Signal::SIGKILL);
    fabric.workers[1].kill(Signal::SIGKILL);
    fabric.reflectors[0].restart();
    fabric.workers[0].wait_established();
    flow.wait_for_replies(500);
    fabric.workers[1].restart();
    fabric.wait_established();
    wait_nothing_stale(&fabric);
    flow.wait_for_replies(REPLIES);
    assert_nothing_lost("a reflector and a worker away together", [flow]);
    assert!(watch.events().is_empty(), "{:?}", watch.events());
}
