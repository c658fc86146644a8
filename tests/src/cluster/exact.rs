//! Whether a cluster is exactly as it must be: forwarding rows of every node, sessions of every worker and reflector.
//!
//! Nothing here asks the API server, so that it may be away.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lans::Station;
use super::node::Node;
use super::process::until;
use super::{Cluster, Result};
use crate::http;

/// The HTTP ports of reflectors and workers.
const PORTS: [u16; 2] = [9_180, 9_181];
/// The row that floods.
const FLOOD: &str = "00:00:00:00:00:00";

/// What must hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Everything that is on the LANs of these stations.
    pub stations: &'a [Station],
    /// How many reflectors run.
    pub reflectors: usize,
    /// How many sessions reflectors have beside those of the nodes that are on.
    pub others: usize,
}

impl<'a> Wanted<'a> {
    /// These stations and what the manifests install.
    pub const fn usual(stations: &'a [Station]) -> Self {
        Self { stations, reflectors: 2, others: 0 }
    }
}

/// One row for a remote MAC on a VXLAN device: where its frames go, or that the bridge gives them to the device.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Row {
    vni: u32,
    mac: String,
    vtep: Option<String>,
}

impl Cluster {
    /// Waits until the cluster is exactly as it must be; prints and gives the time since `begin`.
    ///
    /// # Panics
    ///
    /// If it does not come to that, with the differences.
    pub fn wait_exact(&self, what: &str, begin: Instant, wanted: Wanted<'_>) -> Duration {
        let mut last = Vec::new();
        let exact = until(&format!("the cluster to be exact, after: {what}"), || {
            let differences = self.differences(wanted);
            if differences.is_empty() {
                return Ok(());
            }
            let told = differences.join("\n");
            if differences != last {
                eprintln!("  {:.1} s: {}", begin.elapsed().as_secs_f32(), differences.join("; "));
                last = differences;
            }
            Err(told)
        });
        exact.unwrap_or_else(|error| panic!("{error}"));
        let time = begin.elapsed();
        eprintln!("{what}: exact again after {:.1} s", time.as_secs_f32());
        time
    }

    /// Where the cluster is not as it must be.
    pub fn differences(&self, wanted: Wanted<'_>) -> Vec<String> {
        let mut differences = Vec::new();
        let nodes: Vec<&Node> = self.nodes().iter().filter(|node| node.process().is_some()).collect();
        for node in &nodes {
            match rows(node, wanted.stations) {
                Ok(found) => {
                    let expected = self.expected(node, wanted.stations);
                    differences
                        .extend(found.difference(&expected).map(|row| format!("{}: too much: {row:?}", node.name())));
                    differences
                        .extend(expected.difference(&found).map(|row| format!("{}: missing: {row:?}", node.name())));
                }
                Err(error) => differences.push(error),
            }
        }
        differences.extend(self.sessions(&nodes, wanted));
        differences
    }

    /// What the LANs of `stations` demand of a node's VXLAN devices.
    fn expected(&self, node: &Node, stations: &[Station]) -> BTreeSet<Row> {
        let here = |vni: u32| stations.iter().any(|station| station.vni == vni && station.node == node.name());
        let mut rows = BTreeSet::new();
        for station in stations.iter().filter(|station| station.node != node.name() && here(station.vni)) {
            let is_outside = station.node.parse::<IpAddr>().is_ok();
            let vtep = if is_outside { station.node.clone() } else { self.node_named(&station.node).address() };
            let vtep = Some(vtep);
            let row = |mac: &str, vtep| Row { vni: station.vni, mac: mac.to_owned(), vtep };
            rows.insert(row(FLOOD, vtep.clone()));
            rows.insert(row(&station.mac, vtep));
            rows.insert(row(&station.mac, None));
        }
        rows
    }

    fn sessions(&self, nodes: &[&Node], wanted: Wanted<'_>) -> Vec<String> {
        let network = match File::open(self.keeper().process().namespace("net")) {
            Ok(network) => network,
            Err(error) => return vec![format!("the cluster is gone: {error}")],
        };
        let mut differences = Vec::new();
        let mut reflectors = 0;
        for node in nodes {
            for (port, is_worker) in PORTS.into_iter().zip([false, true]) {
                let metrics = match metrics(&network, node, port) {
                    Ok(metrics) => metrics,
                    // Not every node has a reflector.
                    Err(_) if !is_worker => continue,
                    Err(error) => {
                        differences.push(error);
                        continue;
                    }
                };
                reflectors += usize::from(!is_worker);
                let expected = if is_worker { wanted.reflectors } else { nodes.len() + wanted.others };
                let up = sum(&metrics, "megalos_bgp_peer_up");
                let stale = sum(&metrics, "megalos_bgp_peer_stale_routes");
                if up != expected || stale != 0 {
                    differences
                        .push(format!("{}:{port}: {up} sessions, not {expected}; {stale} stale routes", node.name()));
                }
            }
        }
        if reflectors != wanted.reflectors {
            differences.push(format!("{reflectors} reflectors, not {}", wanted.reflectors));
        }
        differences
    }

    /// The sum of a metric of the node's worker, over all labels that contain `label`.
    ///
    /// # Errors
    ///
    /// If the worker does not answer.
    pub fn worker_metric(&self, node: &Node, name: &str, label: &str) -> Result<usize> {
        self.metric(node, PORTS[1], name, label)
    }

    /// The sum of a metric of the node's reflector, over all labels that contain `label`; an error where none runs.
    ///
    /// # Errors
    ///
    /// If no reflector answers.
    pub fn reflector_metric(&self, node: &Node, name: &str, label: &str) -> Result<usize> {
        self.metric(node, PORTS[0], name, label)
    }

    fn metric(&self, node: &Node, port: u16, name: &str, label: &str) -> Result<usize> {
        let path = self.keeper().process().namespace("net");
        let network = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        let metrics = metrics(&network, node, port)?;
        let lines: Vec<&str> = metrics.lines().filter(|line| line.contains(label)).collect();
        Ok(sum(&lines.join("\n"), name))
    }

    /// The nodes on which a reflector answers.
    pub fn reflector_nodes(&self) -> Vec<&Node> {
        let runs = |node: &&Node| self.reflector_metric(node, "megalos_bgp_peer_up", "").is_ok();
        self.nodes().iter().filter(runs).collect()
    }
}

fn metrics(network: &File, node: &Node, port: u16) -> Result<String> {
    let address = node.address();
    let socket = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let (status, body) = http::try_get(network, &socket, "/metrics").map_err(|error| format!("{socket}: {error}"))?;
    if status == 200 { Ok(body) } else { Err(format!("{socket}: status {status}")) }
}

/// The sum of a metric over its labels.
fn sum(metrics: &str, name: &str) -> usize {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        value.trim().parse::<usize>().ok()
    });
    values.sum()
}

/// The rows for remote MACs that a node has on the LANs of `stations`.
fn rows(node: &Node, stations: &[Station]) -> Result<BTreeSet<Row>> {
    let text = node.overlay_sh("bridge -json fdb show")?;
    let table: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: bridge fdb: {error}: {text}", node.name()))?;
    let mut rows = BTreeSet::new();
    for row in table.as_array().into_iter().flatten() {
        let word = |key: &str| row[key].as_str();
        let Some(vni) = word("ifname").and_then(|name| name.strip_prefix("vx")?.parse().ok()) else { continue };
        let ours = stations.iter().any(|station| station.vni == vni);
        // The device's own address is permanent on the bridge, and nobody's.
        let own = word("dst").is_none() && word("state") == Some("permanent");
        if ours && !own {
            rows.insert(Row {
                vni,
                mac: word("mac").unwrap_or_default().to_owned(),
                vtep: word("dst").map(str::to_owned),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_is_taken_for_it() {
        let metrics = "# HELP a_up x\na_up{peer=\"1\"} 1\na_up{peer=\"2\"} 1\na_up_secs{peer=\"1\"} 7\na_up 3\n";
        assert_eq!(sum(metrics, "a_up"), 5);
        assert_eq!(sum(metrics, "b"), 0);
    }
}
