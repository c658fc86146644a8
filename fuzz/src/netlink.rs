//! Netlink notifications: any octets are read or left out, and the table that they make is one that can be planned upon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use dataplane::linux::{Mode, VXLAN_PORT, replay};
use dataplane::plan;

const VTEP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Runs one input: an octet for the mode, then datagrams.
pub fn run(input: &[u8]) {
    let Some((&first, recording)) = input.split_first() else { return };
    let mode = if first & 1 == 0 { Mode::Overlay { namespace: "overlay".to_owned() } } else { Mode::Adopt };
    let (snapshot, _) = replay(recording, &mode, VTEP, VXLAN_PORT);
    for lan in snapshot.lans.values() {
        assert!(lan.tunnel || (lan.flood.is_empty() && lan.remote.is_empty()), "rows without a tunnel");
        assert!(lan.local.values().all(|local| lan.ports.contains_key(&local.port)), "a MAC behind no port");
    }
    let surplus = plan(&BTreeMap::new(), &snapshot);
    assert!(surplus.iter().all(|change| change.desired.is_none()), "nothing is desired");
    assert_eq!(replay(recording, &mode, VTEP, VXLAN_PORT).0, snapshot, "the same story ends the same");
}
