//! Rows for `megalos show`, and the forwarding rows of a snapshot.

use bgp_core::types::MacAddr;
use daemon::show::{MacRow, VniRow};
use dataplane::{BridgeRow, Snapshot};
use evpn::forwarding::{Desired, Key};
use evpn::show::{Place, TunnelView};

use crate::worker::Worker;

pub(crate) fn vni_rows(worker: &Worker) -> Vec<VniRow> {
    let row = |view: evpn::show::VniView| VniRow {
        vni: view.vni.get(),
        name: worker.names.get(&view.vni).filter(|name| !name.is_empty()).cloned(),
        members: view.members as u64,
        inter_node: view.tunnel != TunnelView::Down,
        vteps: worker
            .engine
            .vteps()
            .filter(|vtep| vtep.vni == view.vni && vtep.flood.is_ok())
            .map(|vtep| vtep.vtep.to_string())
            .collect(),
        local_macs: view.local_macs as u64,
        remote_macs: view.remote_macs as u64,
        mtu: worker.ports.iter().filter(|(_, port)| port.vni == view.vni).find_map(|(_, port)| port.mtu),
    };
    worker.engine.vnis().map(row).collect()
}

pub(crate) fn mac_rows(worker: &Worker) -> Vec<MacRow> {
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
    worker.engine.macs().map(row).collect()
}

/// What a snapshot holds of our own: tunnels, flood rows, remote MACs and neighbours, tunnels first in each LAN.
pub(crate) fn rows_of(snapshot: &Snapshot) -> Vec<(Key, Desired)> {
    let mut rows = Vec::new();
    for (&vni, lan) in snapshot.lans.iter().filter(|(_, lan)| lan.tunnel) {
        rows.push((Key::Tunnel(vni), Desired::Tunnel));
        rows.extend(lan.flood.iter().map(|vtep| (Key::Flood(vni, *vtep), Desired::Flood)));
        let mac = |(mac, row): (&MacAddr, &dataplane::RemoteRow)| {
            let sticky = row.bridge == Some(BridgeRow::Sticky);
            row.vtep.map(|vtep| (Key::Mac(vni, *mac), Desired::RemoteMac { vtep, sticky }))
        };
        rows.extend(lan.remote.iter().filter_map(mac));
        rows.extend(lan.neighbors.iter().map(|(ip, mac)| (Key::Neighbor(vni, *ip), Desired::Neighbor { mac: *mac })));
    }
    rows
}
