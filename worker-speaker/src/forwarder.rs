//! Carries desired forwarding state to the kernel: dirty keys in, batches out, one batch under way at a time.
//!
//! While a batch is with the kernel the main loop goes on, and keys that change meanwhile collect; the next batch takes
//! their latest state. So batching follows the kernel's pace, without a timer. A key that fails stays dirty and is tried
//! again with a pause that doubles up to a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bgp_core::types::Vni;
use dataplane::actor::Handle;
use dataplane::{Change, ChangeError, Error, MAX_BATCH};
use evpn::forwarding::{Desired, Key};
use tokio::task::JoinHandle;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Outcome = (Vec<Change>, Result<Vec<Result<(), ChangeError>>, Error>);

/// What became of a batch, for the owner to act upon.
#[derive(Debug, Default)]
pub struct Finished {
    /// Changes that the kernel now holds.
    pub applied: Vec<Change>,
    /// Tunnels that appeared after rows of theirs had failed for want of them: all rows of the LAN are to be marked.
    pub tunnels_after_failure: BTreeSet<Vni>,
}

/// The queue of dirty keys and the batch under way.
#[derive(Debug)]
pub struct Forwarder {
    handle: Handle,
    dirty: BTreeSet<Key>,
    /// Keys that failed, each with the pause after its next failure and the time of its next try.
    failed: BTreeMap<Key, (Instant, Duration)>,
    without_tunnel: BTreeSet<Vni>,
    running: Option<JoinHandle<Outcome>>,
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
    /// Works through this dataplane.
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            dirty: BTreeSet::new(),
            failed: BTreeMap::new(),
            without_tunnel: BTreeSet::new(),
            running: None,
            counters: Counters::default(),
        }
    }

    /// Totals so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Keys that wait, failed ones included.
    pub fn backlog(&self) -> usize {
        self.dirty.len() + self.failed.len()
    }

    /// Notes that a key may have changed. A key that failed is tried at once: its state may be another now.
    pub fn mark(&mut self, key: Key) {
        self.failed.remove(&key);
        self.dirty.insert(key);
    }

    /// Starts the next batch if none is under way.
    pub fn start(&mut self, desired: impl Fn(Key) -> Option<Desired>) {
        if self.running.is_some() {
            return;
        }
        self.take_due();
        let mut changes = Vec::new();
        while changes.len() < MAX_BATCH {
            let Some(key) = self.dirty.pop_first() else { break };
            changes.push(Change { key, desired: desired(key) });
        }
        if changes.is_empty() {
            return;
        }
        let handle = self.handle.clone();
        self.running = Some(tokio::spawn(async move {
            let results = handle.apply(changes.clone()).await;
            (changes, results)
        }));
    }

    fn take_due(&mut self) {
        let now = Instant::now();
        let due: Vec<Key> = self.failed.iter().filter(|(_, (at, _))| *at <= now).map(|(key, _)| *key).collect();
        // The entry stays, so that the next failure knows its pause.
        self.dirty.extend(due);
    }

    /// When a failed key wants to be tried again, if no batch is under way.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        self.failed.values().map(|(at, _)| *at).min()
    }

    /// Waits for the batch under way; for ever if there is none. Cancel-safe.
    pub async fn finished(&mut self) -> Result<Finished, String> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let joined = running.await;
        self.running = None;
        let (changes, results) = joined.map_err(|error| format!("the dataplane task failed: {error}"))?;
        let results = results.map_err(|error| error.to_string())?;
        Ok(self.settle(changes, results))
    }

    fn settle(&mut self, changes: Vec<Change>, results: Vec<Result<(), ChangeError>>) -> Finished {
        let mut finished = Finished::default();
        for (change, result) in changes.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.counters.applied += 1;
                    self.failed.remove(&change.key);
                    if let (Key::Tunnel(vni), Some(_)) = (change.key, change.desired)
                        && self.without_tunnel.remove(&vni)
                    {
                        finished.tunnels_after_failure.insert(vni);
                    }
                    finished.applied.push(change);
                }
                Err(error) => self.failed(change.key, &error),
            }
        }
        finished
    }

    fn failed(&mut self, key: Key, error: &ChangeError) {
        self.counters.failed += 1;
        match error {
            // The tunnel's own key is dirty or failed too; its success marks these rows again.
            ChangeError::NoTunnel { vni } => {
                tracing::debug!(?key, "waits for its VXLAN device");
                self.without_tunnel.insert(*vni);
                self.failed.remove(&key);
            }
            // The LAN's last member has gone meanwhile; a new one marks everything again.
            ChangeError::NoLan { .. } => {
                self.failed.remove(&key);
            }
            _ => {
                let pause = self.failed.get(&key).map_or(FIRST_PAUSE, |(_, pause)| *pause);
                tracing::warn!(?key, %error, retry_in = ?pause, "forwarding state not written");
                let next = (pause * 2).min(LONGEST_PAUSE);
                self.failed.insert(key, (Instant::now() + pause, next));
            }
        }
    }
}
