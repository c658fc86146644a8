//! Who the Nodes are: which addresses are theirs, and which tunnel endpoint. Pure.
//!
//! In: [`NodeRecord`]s, what is kept of the Node objects. Out: one [`NodePeer`] per Node, with all that is wrong about it.
//!
//! An address has one owner, whatever order things arrive in: an InternalIP belongs to the oldest Node that has it, an address
//! in an annotation to the oldest Node that names it, unless it is another Node's InternalIP. So a Node that joins takes
//! nothing away from Nodes that were there, and all who look at the same Nodes come to the same result.

mod problem;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

pub use problem::Problem;
pub use record::NodeRecord;

/// The annotation of a Node that names its tunnel endpoint, where that is not its InternalIP.
pub const VTEP_ANNOTATION: &str = "megalos.dev/vtep";

/// A Node as its fellows see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePeer {
    /// Its name.
    pub name: String,
    /// Its uid: a Node that was deleted and joined again is another one.
    pub uid: String,
    /// Its InternalIPs of both families: where its sessions come from. Without those that another Node owns.
    pub addresses: BTreeSet<IpAddr>,
    /// Its tunnel endpoint: the annotation's address, else an InternalIP, IPv4 before IPv6.
    pub vtep: Option<IpAddr>,
    /// Whether the endpoint is the annotation's.
    pub annotated: bool,
    /// Whether a worker runs there: on Linux.
    pub runs_worker: bool,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl NodePeer {
    /// The next hops that it may announce: the annotation's address alone, or any of its InternalIPs.
    pub fn next_hops(&self) -> BTreeSet<IpAddr> {
        match self.vtep {
            Some(vtep) if self.annotated => BTreeSet::from([vtep]),
            _ => self.addresses.clone(),
        }
    }
}

/// The Nodes by name.
pub fn peers(records: &BTreeMap<String, NodeRecord>) -> BTreeMap<String, NodePeer> {
    let mut by_age: Vec<_> = records.iter().collect();
    by_age.sort_by_key(|(name, record)| (record.created_secs, record.uid.as_str(), name.as_str()));
    let mut owners = HashMap::new();
    let mut peers: BTreeMap<_, _> =
        by_age.iter().map(|(name, record)| ((*name).clone(), with_addresses(name, record, &mut owners))).collect();
    for (name, record) in by_age {
        if let Some(peer) = peers.get_mut(name) {
            choose_vtep(peer, name, record, &mut owners);
        }
    }
    peers
}

type Owners<'a> = HashMap<IpAddr, &'a str>;

fn with_addresses<'a>(name: &'a str, record: &NodeRecord, owners: &mut Owners<'a>) -> NodePeer {
    let mut peer = NodePeer {
        name: name.to_owned(),
        uid: record.uid.clone(),
        addresses: BTreeSet::new(),
        vtep: None,
        annotated: false,
        runs_worker: record.is_linux,
        problems: Vec::new(),
    };
    let given: BTreeSet<&String> = record.internal_ips.iter().collect();
    for text in given {
        match unicast(text) {
            Err(_) => peer.problems.push(Problem::InvalidInternalIp { text: text.clone() }),
            Ok(address) => match owners.get(&address) {
                Some(owner) if *owner != name => {
                    peer.problems.push(Problem::DuplicateInternalIp { address, owner: (*owner).to_owned() });
                }
                _ => {
                    owners.insert(address, name);
                    peer.addresses.insert(address);
                }
            },
        }
    }
    if record.internal_ips.is_empty() {
        peer.problems.push(Problem::NoInternalIp);
    }
    peer
}

fn choose_vtep<'a>(peer: &mut NodePeer, name: &'a str, record: &NodeRecord, owners: &mut Owners<'a>) {
    // Sorted, IPv4 comes first; the order in which a kubelet lists its addresses is not always the same.
    peer.vtep = peer.addresses.first().copied();
    let Some(text) = &record.vtep else { return };
    match unicast(text) {
        Err(why) => peer.problems.push(Problem::InvalidVtep { text: text.clone(), why }),
        Ok(address) => match owners.get(&address) {
            Some(owner) if *owner != name => {
                peer.problems.push(Problem::DuplicateVtep { address, owner: (*owner).to_owned() });
            }
            _ => {
                owners.entry(address).or_insert(name);
                peer.vtep = Some(address);
                peer.annotated = true;
            }
        },
    }
}

/// An address that can be a host's on an underlay.
fn unicast(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.trim().parse().map_err(|_| "it is no IP address")?;
    let address = address.to_canonical();
    let why = match address {
        _ if address.is_unspecified() => "it is the unspecified address",
        _ if address.is_loopback() => "it is a loopback address",
        _ if address.is_multicast() => "it is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "it is the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address says nothing without its link",
        _ => return Ok(address),
    };
    Err(why)
}

#[cfg(test)]
mod tests;
