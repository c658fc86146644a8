//! Echo requests between stations, every 10 ms both ways, of which none may be lost.

use super::Cluster;
use super::lans::Station;
use crate::ping::Flow;

/// How many replies each flow must have had before what a test did counts as over.
const REPLIES: u64 = 100;

/// Established flows.
#[derive(Debug)]
pub struct Traffic {
    flows: Vec<(String, Flow)>,
}

impl Traffic {
    /// Starts flows both ways between the stations of each pair, to all addresses.
    ///
    /// # Panics
    ///
    /// If no reply comes.
    pub fn start(cluster: &Cluster, pairs: &[[&Station; 2]]) -> Self {
        let mut flows = Vec::new();
        for [one, other] in pairs {
            for (from, to) in [(one, other), (other, one)] {
                for ip in &to.ips {
                    let name = format!("{} to {} ({ip})", from.name, to.name);
                    flows.push((name, Flow::within(cluster.inside(from), ip)));
                }
            }
        }
        Self { flows }
    }

    /// Waits until every flow has gone on for a second or more.
    pub fn go_on(&self) {
        self.flows.iter().for_each(|(_, flow)| flow.wait_for_replies(REPLIES));
    }

    /// Goes on for a second, ends all flows, and prints what became of them.
    ///
    /// # Panics
    ///
    /// If a frame was lost.
    pub fn assert_nothing_lost(self, what: &str) {
        self.go_on();
        let mut lost = Vec::new();
        let (mut sent, mut silence) = (0, std::time::Duration::ZERO);
        for (name, flow) in self.flows {
            let report = flow.stop();
            sent += report.sent;
            silence = silence.max(report.longest_silence);
            if !report.lost.is_empty() {
                let (count, first, last) = (report.lost.len(), report.lost.first(), report.lost.last());
                lost.push(format!("{name}: {count} of {} lost, numbers {first:?} to {last:?}", report.sent));
            }
        }
        let losses = lost.len();
        eprintln!("{what}: {sent} requests, {losses} flows with losses, longest silence {} ms", silence.as_millis());
        assert!(lost.is_empty(), "{what}: {}", lost.join("; "));
    }
}
