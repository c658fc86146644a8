//! What waits to be polled: dirty keys, routes to look at again, memberships, reports, deadlines.
//!
//! Everything but reports is a set keyed by what it is about, so its size is bounded by the state, not by the number
//! of changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bgp_core::time::Instant;
use bgp_core::types::{MacAddr, MacMobility, Vni};
use bgp_core::wire::RtMembership;

use crate::config::Config;
use crate::forwarding::Key;
use crate::knowledge::Knowledge;
use crate::report::Report;
use crate::routes::LocalRoute;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Timer {
    /// The tunnel of a LAN without remote routes goes.
    Tunnel(Vni),
    /// A frozen MAC may move again.
    Thaw(Vni, MacAddr),
}

#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Forwarding keys whose state may have changed.
    pub(crate) dirty: BTreeSet<Key>,
    /// Own routes whose announcement may have changed.
    pub(crate) routes: BTreeSet<LocalRoute>,
    /// Own routes as last polled.
    pub(crate) announced: BTreeMap<LocalRoute, MacMobility>,
    /// LANs whose membership may have changed.
    pub(crate) interests: BTreeSet<Vni>,
    /// LANs whose membership was last polled as wanted.
    pub(crate) interested: BTreeSet<Vni>,
    /// Memberships of the LAN being polled.
    pub(crate) memberships: VecDeque<(RtMembership, bool)>,
    pub(crate) timers: BTreeSet<(Instant, Timer)>,
    /// Claims that were repeated with another sequence.
    pub(crate) renumbered: BTreeSet<(Vni, MacAddr)>,
    /// What reflectors have said.
    pub(crate) knowledge: Knowledge,
    reports: VecDeque<Report>,
    dropped_reports: u64,
}

impl Outputs {
    /// Reports that wait for an owner who does not poll; later ones are counted only.
    const MAX_REPORTS: usize = 1_024;

    pub(crate) fn report(&mut self, report: Report) {
        if self.reports.len() < Self::MAX_REPORTS {
            self.reports.push_back(report);
        } else {
            self.dropped_reports = self.dropped_reports.saturating_add(1);
        }
    }

    pub(crate) fn pop_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    pub(crate) fn dropped_reports(&self) -> u64 {
        self.dropped_reports
    }
}

/// What every input is handled with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) out: &'a mut Outputs,
    pub(crate) now: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_beyond_the_limit_are_counted() {
        let mut outputs = Outputs::default();
        let report = Report::DuplicateCleared { vni: Vni::new(1).unwrap(), mac: MacAddr([2; 6]) };
        for _ in 0..Outputs::MAX_REPORTS + 3 {
            outputs.report(report.clone());
        }
        assert_eq!(outputs.dropped_reports(), 3);
        let mut polled = 0;
        while outputs.pop_report().is_some() {
            polled += 1;
        }
        assert_eq!(polled, Outputs::MAX_REPORTS);
    }
}
