//! Rows for `megalos show`.

use bgp_core::rib::LOCAL_PEER;
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
        mtu: core.ports().iter().filter(|(_, port)| port.vni == view.vni).find_map(|(_, port)| port.mtu),
    };
    core.engine().vnis().map(row).collect()
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
