//! A real Kubernetes cluster on this machine, without Docker, a registry or a change to the machine.
//!
//! ```text
//!   the cluster's namespaces (pid, mount, net, …): etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//!   │  br0, the underlay: 192.0.2.1, which is the nodes' router and the API's address
//!   ├─ node1: namespaces and a root directory of its own; containerd, kubelet, kube-proxy; eth0 192.0.2.11
//!   ├─ node2: 192.0.2.12
//!   └─ any host of the testbed, plugged in as a physical router
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`image`] | our own image as it is shipped, and the examples' |
//! | [`binaries`] | Kubernetes, Multus, cnitool and KWOK, built once from Go modules into a cache |
//! | [`debian`] | etcd, containerd, runc and the reference CNI plugins, unpacked into a cache |
//! | [`keeper`] | the cluster's namespaces, and that nothing outlives them |
//! | [`process`] | processes that others started, and waiting |
//! | [`pki`] | keys, certificates, kubeconfigs |
//! | [`control_plane`] | etcd, the API, controllers, scheduler |
//! | [`network`] | the underlay: switch, router, addresses |
//! | [`node`] | a node: power, files, commands on it |
//! | [`settings`] | the configuration files of a node |
//! | [`oci`] | container images made of files that exist already |
//! | [`images`] | pause, the tool image, and giving images to nodes |
//! | [`megalos`] | Megalos, installed as its users do it |
//! | [`multus`] | Multus' image and manifest |
//! | [`kubectl`] | kubectl on the underlay |
//! | [`forward`] | the API on a port of this machine, for programs that are not on the underlay |
//! | [`lans`] | pods on LANs, and the plugin called as Multus does |
//! | [`exact`] | whether rows and sessions are exactly as they must be |
//! | [`traffic`] | flows between pods that lose nothing |
//! | [`disturb`] | power, addresses, the API: what tests do to a cluster, and the way back |
//! | [`shared()`] | one cluster for all tests of a binary, for one test at a time |
//!
//! The kernel is the machine's; everything else of a node is its own: /run, /tmp, /opt/cni/bin, /var/lib, boot id, the
//! sysctls that kubelet sets. Control groups of both versions do.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod binaries;
pub mod control_plane;
pub mod debian;
pub mod disturb;
pub mod exact;
pub mod forward;
pub mod image;
pub mod images;
pub mod keeper;
pub mod kubectl;
pub mod lans;
pub mod megalos;
pub mod multus;
pub mod network;
pub mod node;
pub mod oci;
pub mod pki;
pub mod process;
pub mod settings;
mod shared;
pub mod traffic;

use crate::programs;
use binaries::{KUBERNETES, MULTUS};
use debian::Debian;
use keeper::{Keeper, Life};
use network::{Families, Place};
use node::Node;
use process::until;

pub use shared::{Shared, shared, with_megalos, without_megalos};

/// What went wrong, and what helps.
pub type Result<T> = std::result::Result<T, String>;

/// The directories of clusters: this, the number of the process that owns it, and a number.
const PREFIX: &str = "mgk";
/// The cluster that outlives the command that started it.
const BACKGROUND: &str = "mgk-up";
/// The place of node1 is the one after this.
const BEFORE_NODES: u8 = 10;
/// How long one wait of kubectl may take.
const TIMEOUT: &str = "--timeout=180s";

/// What a cluster is made of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Config {
    /// How many nodes, 1 to 20; they are called node1, node2 and so on.
    pub nodes: u8,
    /// The addresses of nodes.
    pub families: Families,
    /// The MTU of the underlay in bytes.
    pub underlay_mtu: u32,
    /// Whether Multus is installed.
    pub has_multus: bool,
}

impl Default for Config {
    /// Three nodes with Multus on an IPv4 underlay with an MTU of 1500 bytes.
    fn default() -> Self {
        Self { nodes: 3, families: Families::V4, underlay_mtu: 1_500, has_multus: true }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    nodes: Vec<Node>,
    /// What every node has, and one that is added gets.
    images: Vec<PathBuf>,
    keeper: Keeper,
}

/// What another process has to know of a cluster.
#[derive(Deserialize, Serialize)]
struct Record {
    config: Config,
    nodes: Vec<(String, [Place; 2])>,
    images: Vec<PathBuf>,
}

impl Cluster {
    /// Starts a cluster that ends with this value, or with this process, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn up(config: Config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::start(config, &directory().join(name), Life::Owned).unwrap_or_else(|error| panic!("no cluster: {error}"))
    }

    /// Starts the cluster that outlives this process.
    ///
    /// # Errors
    ///
    /// If it does not start, or runs already.
    pub fn background(config: Config) -> Result<Self> {
        if Self::attach().is_ok() {
            return Err("a cluster is up already; end it first".to_owned());
        }
        let path = directory().join(BACKGROUND);
        remove_files(&path);
        Self::start(config, &path, Life::Background).map_err(|error| {
            let logs = path.join("logs");
            format!("{error}; what runs of it stays until `down`, its logs are in {}", logs.display())
        })
    }

    /// Ends the cluster that outlived the process that started it, or what there is of one that did not get up.
    ///
    /// # Errors
    ///
    /// If there is none, or something stays.
    pub fn end_background() -> Result<()> {
        Keeper::attach(&directory().join(BACKGROUND)).ok_or("no cluster is up")?.end()
    }

    /// The cluster that outlived the process that started it.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn attach() -> Result<Self> {
        let path = directory().join(BACKGROUND);
        let keeper = Keeper::attach(&path).ok_or("no cluster is up; start one first")?;
        let file = path.join("cluster.json");
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let record: Record = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        let nodes = record
            .nodes
            .iter()
            .map(|(name, [home, place])| Node::known(&keeper, name, *home, *place, record.config.families));
        Ok(Self { nodes: nodes.collect(), config: record.config, images: record.images, keeper })
    }

    fn start(config: Config, path: &Path, life: Life) -> Result<Self> {
        programs::require_root();
        remove_leftovers();
        let begin = Instant::now();
        let progress = |what: &str| eprintln!("cluster: {:5.1} s: {what}", begin.elapsed().as_secs_f32());
        let debian = Debian::obtain()?;
        KUBERNETES.all()?;
        if config.has_multus {
            MULTUS.all()?;
        }
        progress("programs are there");
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let keeper = Keeper::start(path, life)?;
        let pki = pki::Pki::create(path.join("pki"))?;
        control_plane::issue(&pki, config.families)?;
        network::create(&keeper, config.families, config.underlay_mtu)?;
        control_plane::start_api(&keeper, &debian)?;
        let mut cluster = Self { nodes: Vec::new(), images: Vec::new(), config, keeper };
        for _ in 0..cluster.config.nodes {
            cluster.prepare_node()?;
        }
        progress("nodes are on");
        cluster.images = cluster.base_images(&debian)?;
        cluster.everywhere(|node| cluster.give_images(node))?;
        cluster.record()?;
        progress("nodes have their images");
        control_plane::wait_ready(&cluster.keeper)?;
        control_plane::start_controllers(&cluster.keeper)?;
        progress("the API answers");
        cluster.wait_nodes()?;
        progress("nodes are Ready");
        if cluster.config.has_multus {
            cluster.install_multus()?;
            progress("Multus is ready");
        }
        cluster.wait_accounts()?;
        Ok(cluster)
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    ///
    /// If it fails, with what it said.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl::run(&self.keeper, arguments)
    }

    /// A kubectl that the caller runs.
    ///
    /// # Errors
    ///
    /// If the cluster is gone.
    pub fn kubectl_command(&self) -> Result<std::process::Command> {
        kubectl::command(&self.keeper)
    }

    /// A command of the machine on the underlay, with KUBECONFIG set and kubectl at hand; it ends with the cluster.
    ///
    /// # Errors
    ///
    /// If `line` is empty.
    pub fn command(&self, line: &[String]) -> Result<std::process::Command> {
        let (program, arguments) = line.split_first().ok_or("no command")?;
        let kubectl = KUBERNETES.program("kubectl")?;
        let mut path = kubectl.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = self.keeper.joined_command(program);
        command.args(arguments).env("PATH", path).env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// Applies a manifest.
    ///
    /// # Panics
    ///
    /// If the API refuses it.
    pub fn apply(&self, manifest: &str) -> String {
        kubectl::run_with_input(&self.keeper, &["apply", "-f", "-"], manifest).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Deletes what a manifest holds, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If the API refuses it.
    pub fn delete(&self, manifest: &str) {
        let deleted = kubectl::run_with_input(&self.keeper, &["delete", "--wait", TIMEOUT, "-f", "-"], manifest);
        deleted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The nodes, in the order in which they came.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node number `index`, from 0.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Where the cluster's files are: logs, keys, the roots of nodes.
    pub fn directory(&self) -> &Path {
        self.keeper.directory()
    }

    /// The administrator's kubeconfig; its server is an address on the underlay.
    pub fn kubeconfig(&self) -> PathBuf {
        control_plane::kubeconfig(&self.keeper)
    }

    /// The cluster's own network namespace, with the underlay's switch.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Gives every node the images of a tar; nodes that are added get them too.
    ///
    /// # Panics
    ///
    /// If a node cannot read it.
    pub fn import_image(&mut self, tar: &Path) {
        self.try_import_image(tar).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`Cluster::import_image`].
    ///
    /// # Errors
    ///
    /// If a node cannot read it.
    pub fn try_import_image(&mut self, tar: &Path) -> Result<()> {
        self.everywhere(|node| images::import(node, tar))?;
        if !self.images.iter().any(|known| known == tar) {
            self.images.push(tar.to_owned());
        }
        self.record()
    }

    /// Runs a shell line in a pod, whose image has a shell.
    ///
    /// # Errors
    ///
    /// If it fails, with what it said.
    pub fn pod_sh(&self, pod: &str, line: &str) -> Result<String> {
        self.try_kubectl(&["exec", pod, "--", "sh", "-c", line])
    }

    /// What the API knows of nodes, pods and events, for a failed test.
    pub fn story(&self) -> String {
        let asked: [&[&str]; 2] =
            [&["get", "nodes,pods", "-A", "-o", "wide"], &["get", "events", "-A", "--sort-by=.lastTimestamp"]];
        let answers = asked.map(|arguments| self.try_kubectl(arguments).unwrap_or_else(|error| error));
        let events: Vec<_> = answers[1].lines().rev().take(40).collect();
        format!("{}\n{}", answers[0], events.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Ends the cluster; nothing is left of it.
    ///
    /// # Errors
    ///
    /// If something stays.
    pub fn down(mut self) -> Result<()> {
        self.keeper.end()
    }

    /// The next node, switched on.
    fn prepare_node(&mut self) -> Result<usize> {
        let number = (1..).find(|number| !self.nodes.iter().any(|node| node.name() == format!("node{number}")));
        let number: u8 = number.unwrap_or(1);
        let place = Place::new(BEFORE_NODES + number).ok_or("too many nodes for the underlay's prefix")?;
        let node = Node::create(&self.keeper, &format!("node{number}"), place, self.config.families)?;
        node.power_on(&self.keeper)?;
        self.nodes.push(node);
        self.record()?;
        Ok(self.nodes.len() - 1)
    }

    fn record(&self) -> Result<()> {
        let nodes = self.nodes.iter().map(|node| (node.name().to_owned(), node.places()));
        let record = Record { config: self.config.clone(), nodes: nodes.collect(), images: self.images.clone() };
        let text = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        programs::write_atomically(&self.directory().join("cluster.json"), &text)
    }

    fn base_images(&self, debian: &Debian) -> Result<Vec<PathBuf>> {
        let directory = self.directory().join("images");
        let mut tars = images::make(&directory, debian)?;
        if self.config.has_multus {
            tars.push(multus::image(&directory)?);
        }
        Ok(tars)
    }

    fn give_images(&self, node: &Node) -> Result<()> {
        until(&format!("containerd of {}", node.name()), || node.try_sh("ctr version"))?;
        self.images.iter().try_for_each(|tar| images::import(node, tar))?;
        node.try_sh("touch /var/lib/images").map(drop)
    }

    /// Does the same on all nodes at once.
    fn everywhere(&self, work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| work(node))).collect();
            let results = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            results.collect()
        })
    }

    /// Waits until every node that is on is Ready, as it is since its power came.
    fn wait_nodes(&self) -> Result<()> {
        let mut wanted = Vec::new();
        for node in self.nodes.iter().filter(|node| node.process().is_some()) {
            wanted.push((node.name(), node.try_sh("cat /proc/sys/kernel/random/boot_id")?.trim().to_owned()));
        }
        until("nodes to be Ready", || {
            let text = self.try_kubectl(&["get", "nodes", "-o", "json"])?;
            let nodes: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let late = wanted.iter().find(|(name, boot)| !is_ready(&nodes, name, boot));
            late.map_or(Ok(()), |(name, boot)| Err(format!("{name} is not, since its boot {boot}")))
        })
    }

    fn install_multus(&self) -> Result<()> {
        kubectl::run_with_input(&self.keeper, &["apply", "-f", "-"], &multus::manifest()?)?;
        self.wait_multus()
    }

    fn wait_multus(&self) -> Result<()> {
        self.try_kubectl(&["-n", "kube-system", "rollout", "status", "daemonset/kube-multus-ds", TIMEOUT])?;
        for node in self.nodes.iter().filter(|node| node.process().is_some()) {
            // The file outlives the node's power, the socket does not.
            let there = "test -e /etc/cni/net.d/00-multus.conf && test -S /run/multus/multus.sock";
            until(&format!("Multus of {}", node.name()), || node.try_sh(there))?;
        }
        Ok(())
    }

    /// Pods need the default service account, which a controller makes.
    fn wait_accounts(&self) -> Result<()> {
        until("the default service account", || self.try_kubectl(&["get", "serviceaccount", "default"])).map(drop)
    }
}

/// Whether the API says that a node is Ready, and says it of this boot.
fn is_ready(nodes: &Value, name: &str, boot: &str) -> bool {
    let mut items = nodes["items"].as_array().into_iter().flatten();
    let Some(node) = items.find(|node| node["metadata"]["name"] == name) else { return false };
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    node["status"]["nodeInfo"]["bootID"] == boot
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Where clusters' files are: on a disk, since containers' layers are among them.
fn directory() -> PathBuf {
    let chosen = std::env::var_os("TMPDIR").filter(|value| !value.is_empty());
    chosen.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Removes what clusters left whose processes are gone.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(directory()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<i32>().ok()) else { continue };
        if process::Process::of(owner).is_some() {
            continue;
        }
        if let Some(keeper) = Keeper::attach(&entry.path()) {
            let _ = keeper.process().end();
        }
        remove_files(&entry.path());
    }
}

/// Removes the files and control groups of a cluster that does not run.
fn remove_files(path: &Path) {
    let script = "find /sys/fs/cgroup -depth -type d -path \"*/$2-*\" -exec rmdir {} + 2>/dev/null; rm -rf \"$1\"";
    let _ = std::process::Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(keeper::groups(path)).output();
}
