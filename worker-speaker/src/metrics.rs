//! Metrics of a worker: LANs, forwarding state, reports; those of sessions and RIB are [`SpeakerMetrics`].

use daemon::speaker::SpeakerMetrics;
use prometheus::{IntCounter, IntGauge, Registry};

use crate::core::Core;

/// All of them.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub speaker: SpeakerMetrics,
    /// Full comparisons with the kernel.
    pub resyncs: IntCounter,
    lans: IntGauge,
    local_macs: IntGauge,
    remote_macs: IntGauge,
    flood_entries: IntGauge,
    applied: IntGauge,
    failed: IntGauge,
    backlog: IntGauge,
    reserved_vnis: IntGauge,
    port_taken: IntGauge,
    mtu: IntGauge,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| daemon::speaker::gauge(registry, name, help);
        let resyncs = IntCounter::new("megalos_dataplane_resyncs_total", "Full comparisons with the kernel")?;
        registry.register(Box::new(resyncs.clone()))?;
        Ok(Self {
            speaker: SpeakerMetrics::new(registry)?,
            resyncs,
            lans: gauge("megalos_lans", "LANs with a local member")?,
            local_macs: gauge("megalos_local_macs", "MAC addresses behind this node")?,
            remote_macs: gauge("megalos_remote_macs", "MAC addresses behind other nodes")?,
            flood_entries: gauge("megalos_flood_entries", "Entries of all flood lists")?,
            applied: gauge("megalos_dataplane_changes_applied", "Changes carried out in the kernel")?,
            failed: gauge("megalos_dataplane_changes_failed", "Changes that the kernel refused")?,
            backlog: gauge("megalos_dataplane_backlog", "Changes that wait")?,
            reserved_vnis: gauge("megalos_reserved_vnis", "VNIs that devices of the host keep from LANs")?,
            port_taken: gauge("megalos_vxlan_port_taken", "1 if a device of the host takes all VNIs of the UDP port")?,
            mtu: gauge("megalos_lan_mtu_bytes", "The largest packet that LANs carry over the underlay")?,
        })
    }

    /// Brings the gauges up to date.
    pub fn sample(&self, core: &Core) {
        let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let (mut lans, mut local, mut remote, mut flood) = (0, 0, 0, 0);
        for view in core.engine().vnis() {
            lans += 1;
            local += view.local_macs;
            remote += view.remote_macs;
            flood += view.remote_vteps;
        }
        self.lans.set(lans);
        self.local_macs.set(signed(local));
        self.remote_macs.set(signed(remote));
        self.flood_entries.set(signed(flood));
        let counters = core.forwarder().counters();
        self.applied.set(i64::try_from(counters.applied).unwrap_or(i64::MAX));
        self.failed.set(i64::try_from(counters.failed).unwrap_or(i64::MAX));
        self.backlog.set(signed(core.forwarder().backlog()));
        let host = core.host();
        self.reserved_vnis.set(signed(host.reserved.len()));
        self.port_taken.set(i64::from(host.port_taken_by.is_some()));
        self.mtu.set(host.mtu.map_or(0, |limit| limit.most().into()));
    }
}
