//! Where the reflectors are: the EndpointSlices of their Service (discovery.k8s.io/v1). Pure.
//!
//! ```text
//!   EndpointSlices ──► SliceRecord ──► Keeper: one Reflector per pod, all its addresses ──► dial(): one address each
//! ```
//!
//! Every address counts, whatever `ready`, `serving` and `terminating` say: a reflector is ready only when it has heard the
//! workers, and one that ends is heard until it has gone. No address at all removes nobody: nobody runs a fabric without
//! reflectors on purpose, and a reflector that is away may come back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use crate::watch::{self, Config, Watched};

/// The Service that lists the reflectors.
pub const SERVICE: &str = "megalos-reflector";
/// The name of the port that sessions go to.
pub const PORT_NAME: &str = "bgp";
/// The port, where a slice does not say.
pub const PORT: u16 = 1_179;
/// Reflectors that sessions are kept to; further ones are left out.
pub const MAX_REFLECTORS: usize = 64;
/// Characters of a name that are kept: more than any object's has (RFC 1123).
const MAX_NAME: usize = 253;

/// What is kept of an EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SliceRecord {
    /// Its endpoints' addresses, each with what tells which pod it is of.
    pub endpoints: BTreeSet<(String, SocketAddr)>,
}

impl SliceRecord {
    /// Of this object.
    pub fn of(slice: &EndpointSlice) -> Self {
        let ports = slice.ports.as_deref().unwrap_or_default();
        let named = ports.iter().find(|port| port.name.as_deref() == Some(PORT_NAME));
        let port = named.and_then(|port| u16::try_from(port.port?).ok()).filter(|port| *port != 0).unwrap_or(PORT);
        let endpoints = slice.endpoints.iter().take(MAX_REFLECTORS);
        // Of several addresses of one endpoint all lead to the same place.
        let addressed = endpoints.filter_map(|endpoint| Some((endpoint, unicast(endpoint.addresses.first()?)?)));
        Self { endpoints: addressed.map(|(endpoint, ip)| (pod_of(endpoint, ip), SocketAddr::new(ip, port))).collect() }
    }
}

fn unicast(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (!address.is_unspecified() && !address.is_multicast() && !address.is_loopback()).then_some(address)
}

/// What the slices of both families have in common for one pod.
fn pod_of(endpoint: &Endpoint, address: IpAddr) -> String {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref().or(target.name.as_deref()));
    let name = target.or(endpoint.node_name.as_deref()).or(endpoint.hostname.as_deref());
    name.filter(|name| !name.is_empty())
        .map_or_else(|| address.to_string(), |name| name.chars().take(MAX_NAME).collect())
}

/// Watches the slices of this namespace. `config` says how, and where the last known ones are kept.
pub fn watch(client: Client, namespace: &str, config: Config) -> Watched<SliceRecord> {
    let config = config.labelled(&format!("kubernetes.io/service-name={SERVICE}"));
    watch::start(Api::<EndpointSlice>::namespaced(client, namespace), config, SliceRecord::of)
}

/// One reflector's addresses, of both families.
pub type Addresses = BTreeSet<SocketAddr>;

/// Remembers the reflectors through everything that happens to their slices.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    /// By pod.
    reflectors: BTreeMap<String, Addresses>,
}

impl Keeper {
    /// What the slices say now; nothing in them removes nobody.
    pub fn look(&mut self, slices: &BTreeMap<String, SliceRecord>) {
        let mut reflectors: BTreeMap<String, Addresses> = BTreeMap::new();
        for (pod, address) in slices.values().flat_map(|slice| &slice.endpoints) {
            if reflectors.len() < MAX_REFLECTORS || reflectors.contains_key(pod) {
                reflectors.entry(pod.clone()).or_default().insert(*address);
            }
        }
        if !reflectors.is_empty() {
            self.reflectors = reflectors;
        }
    }

    /// One address of every reflector, with the one of `ours` that its session comes from: of a family that both have, IPv4
    /// before IPv6. Where there is none such, its first address without one of ours.
    pub fn dial(&self, ours: &BTreeSet<IpAddr>) -> BTreeMap<SocketAddr, Option<IpAddr>> {
        let source = |to: &SocketAddr| ours.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4());
        let one = |addresses: &Addresses| {
            // Sorted, IPv4 comes first.
            let reachable = addresses.iter().find_map(|to| Some((*to, Some(source(to)?))));
            reachable.or_else(|| addresses.first().map(|to| (*to, None)))
        };
        self.reflectors.values().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(json: serde_json::Value) -> SliceRecord {
        SliceRecord::of(&serde_json::from_value(json).unwrap())
    }

    fn endpoint(address: &str, pod: &str, ready: bool) -> serde_json::Value {
        serde_json::json!({
            "addresses": [address],
            "conditions": {"ready": ready, "serving": false, "terminating": !ready},
            "targetRef": {"kind": "Pod", "uid": pod},
        })
    }

    fn of(endpoints: &[(&str, &str)]) -> SliceRecord {
        let endpoints: Vec<_> = endpoints.iter().map(|(address, pod)| endpoint(address, pod, false)).collect();
        slice(serde_json::json!({"metadata": {}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 9}, {"name": "bgp", "port": 1179}]}))
    }

    fn dialled(keeper: &Keeper, ours: &[&str]) -> Vec<String> {
        let ours = ours.iter().map(|text| text.parse().unwrap()).collect();
        let show = |(to, from): (SocketAddr, Option<IpAddr>)| {
            format!("{} to {to}", from.map_or_else(|| "-".into(), |from| from.to_string()))
        };
        keeper.dial(&ours).into_iter().map(show).collect()
    }

    fn seen(slices: &[SliceRecord]) -> Keeper {
        let mut keeper = Keeper::default();
        keeper.look(&slices.iter().enumerate().map(|(n, slice)| (n.to_string(), slice.clone())).collect());
        keeper
    }

    #[test]
    fn every_reflector_is_dialled_once_from_an_address_of_ours_of_its_family() {
        type Case = (&'static str, Vec<SliceRecord>, &'static [&'static str], &'static [&'static str]);
        let both = || vec![of(&[("10.0.0.1", "a"), ("10.0.0.2", "b")]), of(&[("fd00::1", "a"), ("fd00::2", "b")])];
        let cases: [Case; 7] = [
            (
                "both families, IPv4 first",
                both(),
                &["10.0.0.9", "fd00::9"],
                &["10.0.0.9 to 10.0.0.1:1179", "10.0.0.9 to 10.0.0.2:1179"],
            ),
            (
                "a node with IPv6 alone",
                both(),
                &["fd00::9"],
                &["fd00::9 to [fd00::1]:1179", "fd00::9 to [fd00::2]:1179"],
            ),
            (
                "one reflector has IPv6 alone",
                vec![of(&[("10.0.0.1", "a")]), of(&[("fd00::2", "b")])],
                &["10.0.0.9", "fd00::9"],
                &["10.0.0.9 to 10.0.0.1:1179", "fd00::9 to [fd00::2]:1179"],
            ),
            ("no family in common", vec![of(&[("fd00::1", "a")])], &["10.0.0.9"], &["- to [fd00::1]:1179"]),
            ("nothing is ours yet", vec![of(&[("10.0.0.1", "a")])], &[], &["- to 10.0.0.1:1179"]),
            (
                "the same in two slices",
                vec![of(&[("10.0.0.1", "a")]), of(&[("10.0.0.1", "a")])],
                &["10.0.0.9"],
                &["10.0.0.9 to 10.0.0.1:1179"],
            ),
            ("on our own node", vec![of(&[("10.0.0.9", "a")])], &["10.0.0.9"], &["10.0.0.9 to 10.0.0.9:1179"]),
        ];
        for (name, slices, ours, expected) in cases {
            assert_eq!(dialled(&seen(&slices), ours), expected, "{name}");
        }
    }

    #[test]
    fn empty_slices_remove_nobody_and_a_full_one_counts_as_it_is() {
        let mut keeper = seen(&[of(&[("10.0.0.1", "a"), ("10.0.0.2", "b")])]);
        for nothing in [BTreeMap::new(), BTreeMap::from([("0".to_owned(), SliceRecord::default())])] {
            keeper.look(&nothing);
            assert_eq!(dialled(&keeper, &["10.0.0.9"]).len(), 2);
        }
        keeper.look(&BTreeMap::from([("0".to_owned(), of(&[("10.0.0.3", "c")]))]));
        assert_eq!(dialled(&keeper, &["10.0.0.9"]), ["10.0.0.9 to 10.0.0.3:1179"]);
    }

    #[test]
    fn what_is_no_host_s_address_is_left_out_and_there_is_an_end_to_it() {
        let endpoints = ["reflector.example", "", "0.0.0.0", "::", "127.0.0.1", "224.0.0.1", "10.0.0.1"];
        let kept = of(&endpoints.map(|address| (address, address)));
        assert_eq!(kept.endpoints.len(), 1);
        let none = slice(serde_json::json!({"metadata": {}, "addressType": "IPv4", "endpoints": [{"addresses": []}]}));
        assert!(none.endpoints.is_empty());
        let many: Vec<_> = (0..10_000_u32)
            .map(|n| (IpAddr::from((n + 0x0a00_0001).to_be_bytes()).to_string(), n.to_string()))
            .collect();
        let many: Vec<_> = many.iter().map(|(address, pod)| (address.as_str(), pod.as_str())).collect();
        let slices: Vec<_> = many.chunks(100).map(of).collect();
        assert_eq!(dialled(&seen(&slices), &["10.0.0.9"]).len(), MAX_REFLECTORS);
    }

    #[test]
    fn a_slice_without_our_port_has_the_usual_one() {
        for (ports, expected) in [
            (serde_json::json!(null), PORT),
            (serde_json::json!([{"name": "http", "port": 80}]), PORT),
            (serde_json::json!([{"name": "bgp", "port": 179}]), 179),
            (serde_json::json!([{"name": "bgp", "port": 0}]), PORT),
            (serde_json::json!([{"name": "bgp", "port": 70_000}]), PORT),
            (serde_json::json!([{"name": "bgp"}]), PORT),
        ] {
            let record = slice(serde_json::json!({"metadata": {}, "addressType": "IPv4", "ports": ports,
                "endpoints": [endpoint("10.0.0.1", "a", true)]}));
            assert_eq!(record.endpoints.first().unwrap().1.port(), expected);
        }
    }
}
