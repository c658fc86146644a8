//! Rows for `megalos show`.

use bgp_core::rib::LOCAL_PEER;
use bgp_core::types::Vni;
use bgp_io::Speaker;
use daemon::show::{MacRow, RouteRow, VniRow};
use evpn::show::{Place, TunnelView};

use crate::core::Core;

pub(crate) fn vni_rows(core: &Core) -> Vec<VniRow> {
    let row = |view: evpn::show::VniView| VniRow {
        vni: view.vni.get(),
        name: core.name(view.vni).map(str::to_owned),
        members: view.members as u64,
        inter_node: view.tunnel != TunnelView::Down,
        vteps: core
            .engine()
            .vteps()
            .filter(|vtep| vtep.vni == view.vni && vtep.flood.is_ok())
            .map(|vtep| vtep.vtep.to_string())
            .collect(),
        local_macs: view.local_macs as u64,
        remote_macs: view.remote_macs as u64,
        mtu: mtu(core, view.vni),
        mtu_reason: mtu(core, view.vni).and_then(|mtu| mtu_reason(core, mtu)),
        reserved_by: core.host().user_of(view.vni),
    };
    let mut rows: Vec<VniRow> = core.engine().vnis().map(row).collect();
    // LANs that this node cannot have are shown although nobody is on them.
    let unused = core.host().reserved.keys().filter(|vni| rows.iter().all(|row| row.vni != vni.get()));
    let unused =
        unused.map(|vni| VniRow { vni: vni.get(), reserved_by: core.host().user_of(*vni), ..VniRow::default() });
    let unused: Vec<VniRow> = unused.collect();
    rows.extend(unused);
    rows.sort_by_key(|row| row.vni);
    rows
}

/// The smallest MTU of a LAN's local interfaces: a larger packet does not reach everybody.
fn mtu(core: &Core, vni: Vni) -> Option<u32> {
    core.ports().iter().filter(|(_, port)| port.vni == vni).map(|(_, port)| port.mtu).min()
}

fn mtu_reason(core: &Core, mtu: u32) -> Option<String> {
    let limit = core.host().mtu?;
    Some(match mtu.cmp(&limit.most()) {
        std::cmp::Ordering::Equal => limit.to_string(),
        std::cmp::Ordering::Less => format!("asked for; {limit}"),
        std::cmp::Ordering::Greater => format!("too large, attach its interfaces anew: {limit}"),
    })
}

pub(crate) fn mac_rows(core: &Core) -> Vec<MacRow> {
    let row = |view: evpn::show::MacView| MacRow {
        vni: view.vni.get(),
        mac: view.mac.to_string(),
        ips: view.ips.iter().map(ToString::to_string).collect(),
        at: match view.place {
            Place::Local(_) => "local".into(),
            Place::Remote(vtep) => vtep.to_string(),
            Place::Nowhere => "nowhere".into(),
        },
        sequence: view.sequence,
        sticky: view.sticky,
        state: view.state.to_string(),
    };
    core.engine().macs().map(row).collect()
}

/// Routes with what this worker makes of those that it uses: the best ones of others.
pub(crate) fn route_rows(speaker: &Speaker, core: &Core) -> Vec<RouteRow> {
    daemon::routes::route_rows(speaker, |view| {
        let is_used = view.best && view.peer != LOCAL_PEER;
        is_used.then(|| core.engine().route_use(view.key, view.payload, view.attributes).to_string())
    })
}
