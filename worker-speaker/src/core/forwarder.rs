//! Desired forwarding state on its way to the kernel: dirty keys in, batches out, one batch under way at a time.
//!
//! While a batch is with the kernel the owner goes on, and keys that change meanwhile collect; the next batch takes their
//! latest state. So batching follows the kernel's pace, without a timer. A key that fails stays dirty and is tried again
//! with a pause that doubles up to a limit.

use std::collections::{BTreeMap, BTreeSet};

use bgp_core::time::{Duration, Instant};
use bgp_core::types::Vni;
use dataplane::{Change, ChangeError, MAX_BATCH};
use evpn::forwarding::{Desired, Key};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What became of a batch, for the owner to act upon.
#[derive(Debug, Default)]
pub struct Finished {
    /// Changes that the kernel now holds.
    pub applied: Vec<Change>,
    /// What the kernel refused, and when it is tried again.
    pub refused: Vec<(Key, ChangeError, Duration)>,
    /// Tunnels that appeared after rows of theirs had failed for want of them: all rows of the LAN are to be marked.
    pub tunnels_after_failure: BTreeSet<Vni>,
}

/// The queue of dirty keys.
#[derive(Debug, Default)]
pub struct Forwarder {
    dirty: BTreeSet<Key>,
    /// Keys that failed, each with the time of its next try and the pause after its next failure.
    failed: BTreeMap<Key, (Instant, Duration)>,
    without_tunnel: BTreeSet<Vni>,
    running: bool,
    counters: Counters,
}

/// Totals for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Changes carried out.
    pub applied: u64,
    /// Changes that failed.
    pub failed: u64,
}

impl Forwarder {
    /// Totals so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Keys that wait, failed ones included.
    pub fn backlog(&self) -> usize {
        self.dirty.len() + self.failed.len()
    }

    /// All that is remembered of keys.
    pub(super) fn len(&self) -> usize {
        self.backlog() + self.without_tunnel.len()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.backlog() == 0 && !self.running
    }

    /// Notes that a key may have changed. A key that failed is tried at once: its state may be another now.
    pub fn mark(&mut self, key: Key) {
        self.failed.remove(&key);
        self.dirty.insert(key);
    }

    /// The next batch, if none is under way and there is something to do. It is under way until [`Self::finished`].
    pub fn start(&mut self, now: Instant, desired: impl Fn(Key) -> Option<Desired>) -> Option<Vec<Change>> {
        if self.running {
            return None;
        }
        // The entries stay, so that the next failure knows its pause.
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

    /// When a failed key wants to be tried again, if no batch is under way.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.running { None } else { self.failed.values().map(|(at, _)| *at).min() }
    }

    /// The batch under way is done, with one result for each of its changes.
    pub fn finished(&mut self, changes: Vec<Change>, results: Vec<Result<(), ChangeError>>, now: Instant) -> Finished {
        self.running = false;
        let mut finished = Finished::default();
        for (change, result) in changes.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.counters.applied += 1;
                    self.failed.remove(&change.key);
                    if let Key::Tunnel(vni) = change.key
                        && self.without_tunnel.remove(&vni)
                        && change.desired.is_some()
                    {
                        finished.tunnels_after_failure.insert(vni);
                    }
                    finished.applied.push(change);
                }
                Err(error) => {
                    if let Some(pause) = self.failed(change.key, &error, now) {
                        finished.refused.push((change.key, error, pause));
                    }
                }
            }
        }
        finished
    }

    /// A key could not be written; yields the pause until it is tried again, if nothing else will mark it.
    fn failed(&mut self, key: Key, error: &ChangeError, now: Instant) -> Option<Duration> {
        self.counters.failed += 1;
        match error {
            // The tunnel's own key is dirty or failed too; its success marks these rows again.
            ChangeError::NoTunnel { vni } => {
                tracing::debug!(?key, "waits for its VXLAN device");
                self.without_tunnel.insert(*vni);
                self.failed.remove(&key);
                None
            }
            // The LAN's last member has gone meanwhile; a new one marks everything again.
            ChangeError::NoLan { vni } => {
                self.without_tunnel.remove(vni);
                self.failed.remove(&key);
                None
            }
            _ => {
                let pause = self.failed.get(&key).map_or(FIRST_PAUSE, |(_, pause)| *pause);
                let next = (pause * 2).min(LONGEST_PAUSE);
                self.failed.insert(key, (now + pause, next));
                Some(pause)
            }
        }
    }
}
