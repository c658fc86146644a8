//! What a snapshot of the kernel says: taken over at the start, compared with what should be later on.

use std::collections::BTreeMap;

use bgp_core::time::Instant;
use bgp_core::types::{MacAddr, Vni};
use dataplane::{BridgeRow, Observation, PortId, RemoteRow, Snapshot, plan};
use evpn::forwarding::{Desired, Key};
use evpn::show::{MacStatus, Place};

use super::{AUDIT_RETRY, Attachment, Core, Notice, Port, Record, Work, reconcile};

impl Core {
    /// Takes over what a former life left in the kernel, and the attachments it remembered. The rows taken over.
    pub fn adopt(&mut self, snapshot: &Snapshot, remembered: Vec<Record>, now: Instant) -> usize {
        self.take_host(&snapshot.host);
        for (&vni, lan) in &snapshot.lans {
            self.names.insert(vni, lan.name.clone());
            if snapshot.adopted {
                self.engine.serve(vni, now);
            }
        }
        self.take_ports(snapshot, now);
        self.take_records(remembered, now);
        self.take_devices(snapshot, now);
        self.take_local_macs(snapshot, now);
        let rows = rows_of(snapshot);
        let count = rows.len();
        self.forget_names();
        for (key, found) in rows {
            self.engine.adopted(key, found, now);
        }
        count
    }

    fn take_records(&mut self, remembered: Vec<Record>, now: Instant) {
        let ports: BTreeMap<PortId, Vni> = self.ports.iter().map(|(id, port)| (id.clone(), port.vni)).collect();
        let plan = reconcile(remembered, &ports);
        for attachment in plan.announce {
            let Some(member) = self.ports.get(&attachment.port).map(|port| port.member) else { continue };
            let (claim, Attachment { vni, sequence, .. }) = (attachment.claim(), &attachment);
            if let Err(error) = self.engine.restore(*vni, member, &claim, *sequence, now) {
                tracing::warn!(port = %attachment.port, %error, "attachment not announced");
            }
            self.note_attachment(attachment);
        }
        if !self.adopts {
            for port in &plan.adopt {
                tracing::warn!(%port, "nobody was told of this interface: its ADD may come again, or its DEL");
            }
        }
        self.work.extend(plan.forget.into_iter().map(Work::Forget));
    }

    /// Whether a snapshot is wanted for [`Core::compare`]: after lost notifications, and now and then.
    pub fn wants_audit(&self) -> bool {
        self.audit_needed
    }

    /// The kernel held not still for a snapshot: too much is going on; a later round will see it.
    pub fn audit_failed(&mut self, now: Instant) {
        self.notice(Notice::TablesUnsteady);
        self.audit_needed = false;
        self.next_audit = now + AUDIT_RETRY;
    }

    /// Compares everything with the kernel and marks the difference.
    pub fn compare(&mut self, snapshot: &Snapshot, now: Instant) {
        self.audit_needed = false;
        self.take_host(&snapshot.host);
        if snapshot.adopted {
            let served: Vec<Vni> = self.engine.vnis().filter(|view| view.served).map(|view| view.vni).collect();
            for vni in served.into_iter().filter(|vni| !snapshot.lans.contains_key(vni)) {
                self.engine.unserve(vni, now);
            }
            for &vni in snapshot.lans.keys() {
                self.engine.serve(vni, now);
            }
        }
        self.take_ports(snapshot, now);
        self.forget_names();
        self.take_devices(snapshot, now);
        self.take_local_macs(snapshot, now);
        for change in plan(&self.engine.all_desired(), snapshot) {
            self.forwarder.mark(change.key);
        }
    }

    /// Known ports that are gone leave their LANs; ports of the snapshot that are not known yet join them.
    fn take_ports(&mut self, snapshot: &Snapshot, now: Instant) {
        let exists = |port: &Port, id: &PortId| {
            let shown = snapshot.lans.get(&port.vni).and_then(|lan| lan.ports.get(id));
            shown.is_some_and(|shown| shown.index == port.index)
        };
        let gone: Vec<PortId> =
            self.ports.iter().filter(|(id, port)| !exists(port, id)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.forget_port(&id, now);
            if !self.adopts {
                // Its LAN may have lost the last member with it.
                self.remove_device(id);
            }
        }
        for (&vni, lan) in &snapshot.lans {
            for (id, port) in &lan.ports {
                if self.ports.is_unknown(id) {
                    let member = self.ports.attached(id, vni, port.mtu, port.index).port.member;
                    self.engine.attach(vni, member, now);
                }
            }
        }
        let shown = |id: &PortId| snapshot.lans.values().any(|lan| lan.ports.contains_key(id));
        for id in self.ports.still_leaving(shown) {
            self.remove_device(id);
        }
        if !self.adopts && snapshot.lans.values().any(|lan| lan.ports.is_empty()) {
            self.work.push_back(Work::Tidy);
        }
    }

    /// The devices' own addresses are what the engine knows of them: additions and removals.
    fn take_devices(&mut self, snapshot: &Snapshot, now: Instant) {
        let there = |vni: Vni, mac: MacAddr| snapshot.lans.get(&vni).is_some_and(|lan| lan.devices.contains(&mac));
        let gone: Vec<(Vni, MacAddr)> = self.engine.devices().filter(|(vni, mac)| !there(*vni, *mac)).collect();
        for (vni, mac) in gone {
            self.engine.device(vni, mac, false, now);
        }
        for (&vni, lan) in &snapshot.lans {
            for &mac in &lan.devices {
                self.engine.device(vni, mac, true, now);
            }
        }
    }

    /// What the bridges have learned is what the engine knows: additions and removals.
    fn take_local_macs(&mut self, snapshot: &Snapshot, now: Instant) {
        let there = |vni: Vni, mac: MacAddr| snapshot.lans.get(&vni).is_some_and(|lan| lan.local.contains_key(&mac));
        let lost: Vec<_> = self
            .engine
            .macs()
            .filter(|view| view.state == MacStatus::Learned && !there(view.vni, view.mac))
            .filter_map(|view| match view.place {
                Place::Local(member) => Some((view.vni, view.mac, member)),
                _ => None,
            })
            .collect();
        for (vni, mac, member) in lost {
            self.engine.forgotten(vni, member, mac, now);
        }
        for (&vni, lan) in &snapshot.lans {
            for (&mac, local) in &lan.local {
                if let Some(port) = self.ports.get(&local.port) {
                    self.engine.learned(vni, port.member, mac, local.sticky, now);
                } else {
                    // The snapshot took the place of the notification, for which a port that is being made waits.
                    let (port, sticky) = (local.port.clone(), local.sticky);
                    drop(self.ports.hold(&local.port, Observation::LocalMac { vni, mac, port, sticky }));
                }
            }
        }
    }
}

/// What a snapshot holds of our own: tunnels, flood rows, remote MACs and neighbours, tunnels first in each LAN.
fn rows_of(snapshot: &Snapshot) -> Vec<(Key, Desired)> {
    let mut rows = Vec::new();
    for (&vni, lan) in snapshot.lans.iter().filter(|(_, lan)| lan.tunnel) {
        rows.push((Key::Tunnel(vni), Desired::Tunnel));
        rows.extend(lan.flood.iter().map(|vtep| (Key::Flood(vni, *vtep), Desired::Flood)));
        let mac = |(mac, row): (&MacAddr, &RemoteRow)| {
            let sticky = row.bridge == Some(BridgeRow::Sticky);
            row.vtep.map(|vtep| (Key::Mac(vni, *mac), Desired::RemoteMac { vtep, sticky }))
        };
        rows.extend(lan.remote.iter().filter_map(mac));
        rows.extend(lan.neighbors.iter().map(|(ip, mac)| (Key::Neighbor(vni, *ip), Desired::Neighbor { mac: *mac })));
    }
    rows
}
