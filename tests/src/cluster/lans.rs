//! Pods on LANs of a cluster: making them, entering them, and the plugin called as Multus calls it.

use std::fs::File;

use serde_json::json;

use super::images::TOOLS;
use super::node::Node;
use super::process::until;
use super::{Cluster, Result, TIMEOUT};

/// What the plugin is told of attachments that [`Cluster::plug_in`] makes.
const CONTAINER: &str = "made-by-hand";
/// The interface of a station.
pub const INTERFACE: &str = "lan0";

/// Something with one interface on one LAN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Station {
    /// The name of the pod, or of a network namespace on the node.
    pub name: String,
    /// The node that it runs on; of a station behind a router, the router's address.
    pub node: String,
    /// The LAN.
    pub vni: u32,
    /// The MAC of its interface.
    pub mac: String,
    /// The addresses of its interface, without prefix length; at least one.
    pub ips: Vec<String>,
}

impl Station {
    /// A station with one address.
    pub fn new(name: &str, node: &Node, vni: u32, mac: &str, ip: &str) -> Self {
        Self { name: name.to_owned(), node: node.name().to_owned(), vni, mac: mac.to_owned(), ips: vec![ip.to_owned()] }
    }

    /// The same with one address more.
    #[must_use]
    pub fn with(mut self, ip: &str) -> Self {
        self.ips.push(ip.to_owned());
        self
    }

    fn networks(&self) -> Vec<String> {
        let length = |ip: &String| if ip.contains(':') { 64 } else { 24 };
        self.ips.iter().map(|ip| format!("{ip}/{}", length(ip))).collect()
    }

    /// The configuration that the plugin gets; the definition of the LAN holds less.
    fn config(&self) -> String {
        json!({ "cniVersion": "1.1.0", "name": lan(self.vni), "type": "megalos", "vni": self.vni, "mac": self.mac,
                "ips": self.networks() })
        .to_string()
    }

    fn pod(&self) -> serde_json::Value {
        let network =
            json!([{ "name": lan(self.vni), "interface": INTERFACE, "mac": self.mac, "ips": self.networks() }]);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": self.name, "namespace": "default",
                          "annotations": { "k8s.v1.cni.cncf.io/networks": network.to_string() } },
            "spec": {
                "nodeName": self.node, "terminationGracePeriodSeconds": 0,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "main", "image": TOOLS, "imagePullPolicy": "Never",
                                 "command": ["sleep", "infinity"] }],
            },
        })
    }
}

/// The name of a LAN's definition.
fn lan(vni: u32) -> String {
    format!("lan{vni}")
}

fn definition(vni: u32) -> serde_json::Value {
    let config = json!({ "cniVersion": "1.1.0", "type": "megalos", "vni": vni }).to_string();
    json!({ "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": lan(vni), "namespace": "default" }, "spec": { "config": config } })
}

impl Cluster {
    /// Makes the pods, and their LANs, that are not there yet; waits until all are Ready.
    ///
    /// # Panics
    ///
    /// If they do not become so.
    pub fn deploy(&self, stations: &[Station]) {
        self.begin_to_deploy(stations);
        let names: Vec<String> = stations.iter().map(|station| format!("pod/{}", station.name)).collect();
        let mut arguments = vec!["wait", "--for=condition=Ready", TIMEOUT];
        arguments.extend(names.iter().map(String::as_str));
        self.kubectl(&arguments);
    }

    /// The same without waiting.
    ///
    /// # Panics
    ///
    /// If the API refuses it.
    pub fn begin_to_deploy(&self, stations: &[Station]) {
        let mut vnis: Vec<u32> = stations.iter().map(|station| station.vni).collect();
        vnis.sort_unstable();
        vnis.dedup();
        let objects = vnis.into_iter().map(definition).chain(stations.iter().map(Station::pod));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>() });
        self.apply(&list.to_string());
    }

    /// Deletes pods and waits until the nodes are rid of them.
    ///
    /// # Panics
    ///
    /// If the API refuses it.
    pub fn remove(&self, stations: &[Station]) {
        let mut arguments = vec!["delete", "pod", "--ignore-not-found", "--wait", TIMEOUT];
        arguments.extend(stations.iter().map(|station| station.name.as_str()));
        self.kubectl(&arguments);
    }

    /// The node of this name.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn node_named(&self, name: &str) -> &Node {
        let found = self.nodes().iter().find(|node| node.name() == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// The network namespace of a station, pod or not; the API is not asked.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn inside(&self, station: &Station) -> File {
        let node = self.node_named(&station.node);
        let found = until(&format!("{} to run", station.name), || {
            node.file(&format!("run/netns/{}", station.name)).or_else(|_| node.pod_network(&station.name))
        });
        found.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Puts a network namespace of its own on the LAN by calling the plugin as Multus does.
    ///
    /// # Errors
    ///
    /// What the plugin printed.
    pub fn plug_in(&self, station: &Station) -> Result<()> {
        let node = self.node_named(&station.node);
        node.try_sh(&format!("ip netns add {0} 2>/dev/null || test -e /run/netns/{0}", station.name))?;
        self.call_plugin(station, "ADD").map(drop)
    }

    /// Takes it off and ends its network namespace.
    ///
    /// # Errors
    ///
    /// What the plugin printed.
    pub fn unplug(&self, station: &Station) -> Result<()> {
        self.call_plugin(station, "DEL")?;
        self.node_named(&station.node).try_sh(&format!("ip netns delete {}", station.name)).map(drop)
    }

    fn call_plugin(&self, station: &Station, verb: &str) -> Result<String> {
        let Station { name, node, .. } = station;
        let environment = format!(
            "CNI_COMMAND={verb} CNI_CONTAINERID={CONTAINER}-{name} CNI_NETNS=/run/netns/{name} CNI_IFNAME={INTERFACE} \
             CNI_PATH=/opt/cni/bin"
        );
        let line = format!("{environment} /opt/cni/bin/megalos 2>&1 <<'CONFIG'\n{}\nCONFIG\n", station.config());
        let output = self.node_named(node).output(&line);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(printed) } else { Err(format!("{verb} of {name} on {node}: {printed}")) }
    }
}

impl Node {
    /// A file of the running node, /run included.
    ///
    /// # Errors
    ///
    /// If the power is off or there is none.
    pub fn file(&self, path: &str) -> Result<File> {
        let process = self.process().ok_or_else(|| format!("{} is off", self.name()))?;
        let path = format!("/proc/{}/root/{path}", process.pid());
        File::open(&path).map_err(|error| format!("{path}: {error}"))
    }

    /// The network namespace of a pod of the namespace "default".
    ///
    /// # Errors
    ///
    /// If it does not run on this node.
    pub fn pod_network(&self, pod: &str) -> Result<File> {
        let line = format!(
            r#"set -e
            for container in $(ctr -n k8s.io containers list -q \
                'labels."io.kubernetes.pod.name"=={pod},labels."io.cri-containerd.kind"==sandbox'); do
                ctr -n k8s.io tasks list | awk -v id="$container" '$1 == id && $3 == "RUNNING" {{ print $2 }}'
            done"#
        );
        let pid = self.try_sh(&line)?;
        let pid = pid.split_whitespace().next().ok_or_else(|| format!("{pod} does not run on {}", self.name()))?;
        self.file(&format!("proc/{pid}/ns/net"))
    }

    /// Runs a shell line in the overlay namespace.
    ///
    /// # Errors
    ///
    /// If it fails, as it does before a worker has been there.
    pub fn overlay_sh(&self, line: &str) -> Result<String> {
        self.try_sh(&format!("nsenter --net=/run/netns/megalos sh -c '{line}'"))
    }
}
