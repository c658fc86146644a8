//! What must return: memory, when what it was for is gone, and timers, when their reason is.

use std::collections::BTreeSet;

use bgp_core::rib::{Rib, RibStats};
use bgp_core::time::Duration;
use worker_speaker::core::Footprint;

use super::fabric::Fabric;

/// Nothing is left: no LAN, no route, no membership, no memory beyond that of a fabric in which nothing ever was.
///
/// # Errors
/// What is left.
pub fn empty(fabric: &Fabric, fresh: &Fabric) -> Result<(), String> {
    for machine in &fabric.machines {
        if let Some(vni) = machine.kernel.look().lans.keys().next() {
            return Err(format!("w{}: VNI {vni} is left over", machine.index));
        }
        if let Some(port) = machine.store.keys().next() {
            return Err(format!("w{}: the file of {port} is left over", machine.index));
        }
    }
    for (index, worker) in fabric.workers.iter().enumerate() {
        let Some(worker) = worker else { continue };
        let left = worker.core.footprint();
        if left != Footprint::default() {
            return Err(format!("w{index}: {left:?} is left over"));
        }
        rib(&worker.speaker.rib, fresh.workers.get(index).and_then(Option::as_deref).map(|worker| &worker.speaker.rib))
            .map_err(|why| format!("w{index}: {why}"))?;
    }
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let Some(reflector) = reflector else { continue };
        rib(&reflector.rib, fresh.reflectors.get(index).and_then(Option::as_deref).map(|reflector| &reflector.rib))
            .map_err(|why| format!("r{index}: {why}"))?;
    }
    if fabric.network.len() != fabric.workers.len() * fabric.reflectors.len() {
        return Err(format!("{} connections exist", fabric.network.len()));
    }
    Ok(())
}

fn rib(rib: &Rib, fresh: Option<&Rib>) -> Result<(), String> {
    if let Some(route) = rib.routes().next() {
        return Err(format!("the route {} is left over", route.key));
    }
    let memberships =
        |rib: &Rib| rib.memberships().map(|membership| membership.key.to_string()).collect::<BTreeSet<_>>();
    let known = fresh.map(memberships).unwrap_or_default();
    if let Some(membership) = memberships(rib).difference(&known).next() {
        return Err(format!("the membership {membership} is left over"));
    }
    // What was ever done is no memory.
    let lasting = |rib: &Rib| RibStats { flushes: 0, ..rib.stats() };
    let (left, fresh) = (lasting(rib), fresh.map(lasting));
    if fresh.as_ref().is_some_and(|fresh| *fresh != left) {
        return Err(format!("{left:?} is left over, where a fresh one has {fresh:?}"));
    }
    Ok(())
}

/// Timers that run have a reason: a tunnel that lingers, a MAC that is frozen, a session to be kept.
///
/// # Errors
/// The timer without reason.
pub fn timers(fabric: &Fabric) -> Result<(), String> {
    let ahead = |deadline| fabric.clock.now() + Duration::from_secs(3600) < deadline;
    for (index, worker) in fabric.workers.iter().enumerate() {
        let Some(worker) = worker else { continue };
        let evpn::Footprint { timers: found, timed: explained, .. } = worker.core.footprint().engine;
        if found != explained {
            return Err(format!("w{index}: {found} timers run, for which there are {explained} reasons"));
        }
        if worker.core.engine().next_deadline().is_some_and(ahead) {
            return Err(format!("w{index}: a timer runs for more than an hour"));
        }
    }
    Ok(())
}

/// In a fabric that was left alone for long enough no timer runs but those that keep sessions.
///
/// # Errors
/// The timer.
pub fn at_rest(fabric: &Fabric) -> Result<(), String> {
    for (index, worker) in fabric.workers.iter().enumerate() {
        let Some(worker) = worker else { continue };
        if worker.core.engine().next_deadline().is_some() || worker.core.forwarder().next_deadline().is_some() {
            return Err(format!("w{index}: a timer runs although nothing is there"));
        }
        if let Some(at) = worker.speaker.rib.next_deadline() {
            return Err(format!("w{index}: the RIB waits for {at:?} although nothing is there"));
        }
    }
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        if let Some(at) = reflector.as_ref().and_then(|reflector| reflector.rib.next_deadline()) {
            return Err(format!("r{index}: the RIB waits for {at:?} although nothing is there"));
        }
    }
    Ok(())
}
