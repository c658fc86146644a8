//! Dirty keys to batches for the kernel, one batch under way at a time: the rules of the worker's forwarder, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use bgp_core::time::{Duration, Instant};
use bgp_core::types::Vni;
use dataplane::{Change, ChangeError, MAX_BATCH};
use evpn::forwarding::{Desired, Key};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Finished {
    /// Changes that the kernel now holds.
    pub applied: Vec<Change>,
    /// Tunnels that appeared after rows of theirs had failed for want of them.
    pub tunnels_after_failure: BTreeSet<Vni>,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Forwarder {
    dirty: BTreeSet<Key>,
    failed: BTreeMap<Key, (Instant, Duration)>,
    without_tunnel: BTreeSet<Vni>,
    running: bool,
}

impl Forwarder {
    /// A key may have changed.
    pub fn mark(&mut self, key: Key) {
        self.failed.remove(&key);
        self.dirty.insert(key);
    }

    /// The next batch, if none is under way and there is one.
    pub fn start(&mut self, now: Instant, desired: impl Fn(Key) -> Option<Desired>) -> Option<Vec<Change>> {
        if self.running {
            return None;
        }
        let due = self.failed.iter().filter(|(_, (at, _))| *at <= now).map(|(key, _)| *key);
        self.dirty.extend(due);
        let mut changes = Vec::new();
        while changes.len() < MAX_BATCH {
            let Some(key) = self.dirty.pop_first() else { break };
            changes.push(Change { key, desired: desired(key) });
        }
        self.running = !changes.is_empty();
        self.running.then_some(changes)
    }

    /// When a failed key is tried again.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.running { None } else { self.failed.values().map(|(at, _)| *at).min() }
    }

    /// The batch under way is done.
    pub fn finished(&mut self, changes: Vec<Change>, results: Vec<Result<(), ChangeError>>, now: Instant) -> Finished {
        self.running = false;
        let mut finished = Finished::default();
        for (change, result) in changes.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.failed.remove(&change.key);
                    if let (Key::Tunnel(vni), Some(_)) = (change.key, change.desired)
                        && self.without_tunnel.remove(&vni)
                    {
                        finished.tunnels_after_failure.insert(vni);
                    }
                    finished.applied.push(change);
                }
                Err(ChangeError::NoTunnel { vni }) => {
                    self.without_tunnel.insert(vni);
                    self.failed.remove(&change.key);
                }
                Err(ChangeError::NoLan { .. }) => _ = self.failed.remove(&change.key),
                Err(_) => {
                    let pause = self.failed.get(&change.key).map_or(FIRST_PAUSE, |(_, pause)| *pause);
                    self.failed.insert(change.key, (now + pause, (pause * 2).min(LONGEST_PAUSE)));
                }
            }
        }
        finished
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.dirty.is_empty() && self.failed.is_empty() && !self.running
    }
}
