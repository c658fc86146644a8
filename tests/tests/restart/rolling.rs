//! Reflectors that know their workers, as those of a cluster do, updated one after the other.

use std::time::Instant;

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family};
use tests::overlay::Reflector;
use tests::rows::RowWatch;
use tests::wait;

use super::{REPLIES, assert_nothing_lost, both_ways, two_devices, wait_swept};

/// The sessions of a reflector that came up in this process, and whether all of them are.
fn is_complete(reflector: &Reflector, workers: usize) -> bool {
    let peers = reflector.peers();
    peers.len() == workers && peers.iter().all(|peer| peer.state == "Established" && peer.stale_routes == 0)
}

#[test]
fn two_reflectors_that_know_their_workers_are_rolled_unnoticed() {
    const WORKERS: usize = 3;
    let mut fabric = Fabric::empty(Family::V4);
    (1..=2).for_each(|number| fabric.add_reflector_for(number, WORKERS));
    (0..WORKERS).for_each(|index| fabric.add_worker(index, &[]));
    fabric.wait_established();
    let devices = two_devices(&fabric);
    let watches: Vec<_> = fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
    let flows = both_ways(&devices);
    flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
    for round in 0..2 {
        for index in 0..2 {
            let began = Instant::now();
            fabric.reflectors[index].kill(Signal::SIGTERM);
            fabric.reflectors[index].restart();
            wait::until_true("all workers at the new reflector", || is_complete(&fabric.reflectors[index], WORKERS));
            // It has said that it has said all: nothing that came by it is stale at any worker.
            wait::until_true("nothing stale at any worker", || {
                fabric.workers.iter().all(|worker| worker.peers().iter().all(|peer| peer.stale_routes == 0))
            });
            fabric.workers.iter().for_each(wait_swept);
            eprintln!("round {round}: reflector {} is back for everybody after {:?}", index + 1, began.elapsed());
            flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
        }
    }
    assert_nothing_lost("two reflectors rolled twice", flows);
    for watch in &watches {
        assert!(watch.events().is_empty(), "{:?}", watch.events());
    }
}
