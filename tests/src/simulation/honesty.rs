//! Nobody speaks for another: a worker that announces routes to another's VTEP reaches nobody with them.

use bgp_core::rib::{LOCAL_PEER, RouteView};
use bgp_core::types::{EthernetTag, ExtendedCommunity, MacMobility, PeerId, RouteDistinguisher, RouteTarget, Vni};
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::{Evpn, EvpnKey, EvpnPayload, PathAttributes, Route};

use super::clock::Node;
use super::fabric::{ASN, Fabric, router_id};
use super::scenario::{host_mac, vni_of};

/// A worker that lies, the one in whose name it does, and about what.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Who lies.
    pub worker: usize,
    /// As whom.
    pub victim: usize,
    /// In which LAN.
    pub lan: u8,
    /// About whose MAC.
    pub host: u8,
}

impl Fabric {
    /// A worker says that a MAC is behind another worker, newer than anybody has it, and has that one flooded too.
    pub fn lie(&mut self, lie: Lie) {
        let Some(vni) = vni_of(lie.lan) else { return };
        let vtep = self.vtep(lie.victim);
        self.note(format_args!("w{} lies about VNI {vni} as w{}", lie.worker, lie.victim));
        let [mac, flood] = keys(self, lie, vni);
        let mut attributes = PathAttributes::new(vtep);
        attributes.local_pref = Some(1_000);
        let mobility = ExtendedCommunity::mac_mobility(MacMobility { sticky: false, sequence: 1_000_000 });
        let target = RouteTarget::auto(ASN, vni).community();
        attributes.extended_communities.extend([target, ExtendedCommunity::ENCAPSULATION_VXLAN, mobility]);
        let mut flooded = attributes.clone();
        flooded.pmsi_tunnel =
            Some(PmsiTunnel { flags: 0, label: vni.into(), tunnel: Tunnel::IngressReplication(vtep) });
        self.with_worker(lie.worker, |worker, _| {
            let payload = EvpnPayload::MacIp { esi: Default::default(), label: vni.into(), label2: None };
            worker.speaker.rib.originate(Route { key: mac, payload }, attributes);
            worker.speaker.rib.originate(Route { key: flood, payload: EvpnPayload::InclusiveMulticast }, flooded);
        });
    }

    /// Everybody takes back what was a lie.
    pub fn repent(&mut self) {
        for index in 0..self.workers.len() {
            let vtep = self.vtep(index);
            let Some(worker) = self.workers.get(index).and_then(Option::as_ref) else { continue };
            let own = worker.speaker.rib.routes().filter(|route| route.peer == LOCAL_PEER);
            let lies: Vec<EvpnKey> =
                own.filter(|route| route.attributes.next_hop != vtep).map(|route| route.key.clone()).collect();
            self.with_worker(index, |worker, _| {
                lies.iter().for_each(|key| _ = worker.speaker.rib.withdraw_local(key));
            });
        }
    }
}

/// Keys that no honest worker uses: of the liar's router id, with a number that is no VNI's.
fn keys(fabric: &Fabric, lie: Lie, vni: Vni) -> [EvpnKey; 2] {
    let number = u16::MAX - u16::from(lie.lan);
    let rd = RouteDistinguisher::ipv4(router_id(Node::Worker(lie.worker)).0.into(), number);
    let tag = EthernetTag(0);
    let mac = host_mac(u8::try_from(vni.get() - 1).unwrap_or_default(), lie.host);
    [
        EvpnKey::MacIp { rd, tag, mac, ip: None },
        EvpnKey::InclusiveMulticast { rd, tag, originator: fabric.vtep(lie.victim) },
    ]
}

/// No route whose next hop or originator is not its sender's is at a reflector or at another worker.
///
/// # Errors
/// The first one that is.
pub fn honest(fabric: &Fabric) -> Result<(), String> {
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let Some(reflector) = reflector else { continue };
        for route in reflector.rib.routes() {
            let PeerId(worker) = route.peer;
            check(fabric, &route, worker as usize).map_err(|why| format!("r{index}: {why}"))?;
        }
    }
    for (index, worker) in fabric.workers.iter().enumerate() {
        let Some(worker) = worker else { continue };
        for route in worker.speaker.rib.routes().filter(|route| route.peer != LOCAL_PEER) {
            let sender = (0..fabric.machines.len())
                .find(|sender| route.attributes.originator_id == Some(router_id(Node::Worker(*sender))));
            let sender = sender.ok_or_else(|| format!("w{index}: {} is of nobody", route.key))?;
            check(fabric, &route, sender).map_err(|why| format!("w{index}: {why}"))?;
        }
    }
    Ok(())
}

fn check(fabric: &Fabric, route: &RouteView<'_, Evpn>, sender: usize) -> Result<(), String> {
    let vtep = fabric.vtep(sender);
    let originator = match route.key {
        EvpnKey::InclusiveMulticast { originator, .. } => *originator,
        _ => vtep,
    };
    if route.attributes.next_hop == vtep && originator == vtep {
        return Ok(());
    }
    Err(format!("{} of w{sender} leads to {}", route.key, route.attributes.next_hop))
}
