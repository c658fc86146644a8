//! A node: namespaces and a root directory of its own, in which containerd, kubelet and kube-proxy run.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::binaries::KUBERNETES;
use super::debian::Debian;
use super::keeper::{self, Keeper};
use super::network::{self, Families, PODS, Place};
use super::process::{Process, until};
use super::{Result, control_plane, settings};

const INIT: &str = include_str!("node-init.sh");
/// Where programs are looked for on a node.
const PATH: &str = "/opt/debian/usr/bin:/opt/debian/usr/sbin:/opt/debian/bin:/opt/kubernetes:/usr/local/sbin:\
                    /usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    directory: PathBuf,
    /// What its pods' network and its MAC are made of: stays.
    home: Place,
    /// What its addresses are made of.
    place: Place,
    families: Families,
}

impl Node {
    /// A node of this name, which does not run yet.
    pub(super) fn create(keeper: &Keeper, name: &str, place: Place, families: Families) -> Result<Self> {
        let directory = keeper.directory().join("nodes").join(name);
        let node = Self { name: name.to_owned(), directory, home: place, place, families };
        std::fs::create_dir_all(&node.directory).map_err(|error| format!("{}: {error}", node.directory.display()))?;
        node.write_files(keeper)?;
        Ok(node)
    }

    /// A node that exists already.
    pub(super) fn known(keeper: &Keeper, name: &str, home: Place, place: Place, families: Families) -> Self {
        let directory = keeper.directory().join("nodes").join(name);
        Self { name: name.to_owned(), directory, home, place, families }
    }

    /// Where it is on the underlay: at first, and now.
    pub(super) fn places(&self) -> [Place; 2] {
        [self.home, self.place]
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses, in the order of kubelet's `--node-ip`.
    pub fn addresses(&self) -> Vec<String> {
        self.families.addresses(self.place)
    }

    /// The first of its addresses.
    pub fn address(&self) -> String {
        self.addresses().swap_remove(0)
    }

    /// The port of the underlay's switch that it is plugged into, in the cluster's network.
    pub fn port(&self) -> &str {
        &self.name
    }

    /// Its root directory, as this machine sees it; /run and /tmp are its own and not there.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Process 1 of the node, if the power is on.
    pub fn process(&self) -> Option<Process> {
        Process::read(&self.root().join(".process")).filter(|process| process.is_alive())
    }

    /// A command in the node's namespaces and root directory, with nothing of this machine's environment.
    ///
    /// # Errors
    ///
    /// If the power is off.
    pub fn command(&self, program: &str) -> Result<Command> {
        let process = self.process().ok_or_else(|| format!("{} is off", self.name))?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &process.pid().to_string(), "--mount", "--net", "--uts", "--ipc", "--pid"]);
        command.args(["--root", "--wd", "--", program]);
        command.env_clear().envs([("PATH", PATH), ("HOME", "/root"), ("LC_ALL", "C")]).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a shell line on the node.
    ///
    /// # Errors
    ///
    /// If it fails, with what it printed.
    pub fn try_sh(&self, line: &str) -> Result<String> {
        keeper::text(&format!("{}: {line}", self.name), self.command("sh")?.args(["-c", line]).output())
    }

    /// Runs a shell line on the node and returns its output.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn sh(&self, line: &str) -> String {
        self.try_sh(line).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a shell line on the node, whatever comes of it.
    ///
    /// # Panics
    ///
    /// If the power is off.
    pub fn output(&self, line: &str) -> Output {
        let output = self.command("sh").map(|mut command| command.args(["-c", line]).output());
        output.unwrap_or_else(|error| panic!("{error}")).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The node's network namespace, for `tests::inside` and for plugging things in.
    ///
    /// # Panics
    ///
    /// If the power is off.
    pub fn network(&self) -> std::fs::File {
        let process = self.process().unwrap_or_else(|| panic!("{} is off", self.name));
        let path = process.namespace("net");
        std::fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What a program of the node printed: `kubelet`, `containerd`, `kube-proxy`.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().join("var/log").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Switches the power on: an empty /run and /tmp, another boot id. Does not wait for Ready.
    pub(super) fn power_on(&self, keeper: &Keeper) -> Result<()> {
        if self.process().is_some() {
            return Ok(());
        }
        let _ = std::fs::remove_file(self.root().join(".process"));
        self.clear_groups();
        let label = format!("{}-init", self.name);
        let errors = keeper::log(keeper.directory(), &label)?;
        let output = errors.try_clone().map_err(|error| error.to_string())?;
        let mut command = keeper.command();
        command.args(["unshare", "--fork", "--kill-child", "--pid", "--mount", "--net", "--uts", "--ipc"]);
        command.args(["--propagation", "private", "sh", "-c", INIT, "init"]).arg(&self.directory);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| format!("cannot run nsenter: {error}"))?;
        let process = until(&format!("{} to start", self.name), || match child.try_wait() {
            Ok(Some(status)) => Ok(Err(format!(
                "{} does not start ({status}); see {}/logs/{label}.log",
                self.name,
                keeper.directory().display()
            ))),
            _ => self.process().map(Ok).ok_or("no process yet"),
        })??;
        // Somebody has to take note of its end.
        std::thread::spawn(move || child.wait());
        network::plug(keeper, self.port(), &process.pid().to_string(), Some(&self.home.mac()))?;
        network::route(keeper, &self.home.pods(), self.place)
    }

    /// Takes the power away: everything on the node ends at once, what is on its disk stays.
    pub(super) fn power_off(&self, keeper: &Keeper) -> Result<()> {
        if let Some(process) = self.process() {
            process.end()?;
        }
        network::unplug(keeper, self.port())?;
        self.clear_groups();
        Ok(())
    }

    /// Gives a running node other addresses, as a network's administrator does, and tells kubelet.
    pub(super) fn renumber(&mut self, keeper: &Keeper, place: Place) -> Result<()> {
        let before = self.addresses();
        self.place = place;
        self.write_files(keeper)?;
        let mut script = "set -e\n".to_owned();
        for (old, new) in before.iter().zip(self.addresses()) {
            // A second address of a prefix goes with the first.
            script += &format!("ip address delete {} dev eth0\n", network::with_length(old));
            script += &format!("ip address add {} dev eth0\n", network::with_length(&new));
        }
        for gateway in self.families.router() {
            script += &format!("ip route replace default via {gateway} dev eth0\n");
        }
        // What is just being started again reads the new addresses anyway.
        script += "pkill -x kubelet || :; pkill -x kube-proxy || :\n";
        self.try_sh(&script)?;
        network::route(keeper, &self.home.pods(), self.place)
    }

    /// Removes the node's files; the power must be off.
    pub(super) fn remove(&self, keeper: &Keeper) -> Result<()> {
        network::unroute(keeper, &self.home.pods())?;
        std::fs::remove_dir_all(&self.directory).map_err(|error| format!("{}: {error}", self.directory.display()))
    }

    /// The control group of the node's pods.
    fn group(&self) -> String {
        let cluster = self.directory.ancestors().nth(2).map(keeper::groups).unwrap_or_default();
        format!("/{cluster}-{}", self.name)
    }

    /// Control groups outlive what was in them.
    fn clear_groups(&self) {
        let script = "find /sys/fs/cgroup -depth -type d -path \"*$1\" -o -depth -type d -path \"*$1/*\" |
            while read -r group; do rmdir \"$group\"; done";
        let _ = Command::new("sh").args(["-c", script, "sh", &self.group()]).output();
    }

    fn write_files(&self, keeper: &Keeper) -> Result<()> {
        let pki = control_plane::pki_of(keeper);
        let name = format!("node-{}", self.name);
        if !pki.file(&format!("{name}.kubeconfig")).is_file() {
            let subject = format!("/O=system:nodes/CN=system:node:{}", self.name);
            pki.kubeconfig(&name, &subject, &network::server())?;
        }
        let read = |file: String| -> Result<String> {
            let path = pki.file(&file);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let root = self.root();
        let files = [
            ("etc/kubernetes/ca.crt", read("ca.crt".to_owned())?),
            ("etc/kubernetes/kubelet.kubeconfig", read(format!("{name}.kubeconfig"))?),
            ("etc/kubernetes/kube-proxy.kubeconfig", read("kube-proxy.kubeconfig".to_owned())?),
            ("etc/kubernetes/kubelet.json", settings::kubelet(&self.group()).to_string()),
            ("etc/kubernetes/kube-proxy.json", settings::kube_proxy(&self.name).to_string()),
            ("etc/kubernetes/node-ip", self.addresses().join(",")),
            ("etc/containerd/config.toml", settings::containerd()),
            ("etc/cni/net.d/10-primary.conf", settings::primary_network(&self.home.pods()).to_string()),
            ("etc/hostname", format!("{}\n", self.name)),
            ("etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n{} {}\n", self.address(), self.name)),
            ("etc/machine-id", format!("{:032x}\n", u128::from(self.home.number()) + (0x5e << 64))),
        ];
        for (path, text) in files {
            let path = root.join(path);
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            }
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.write_settings()
    }

    /// What process 1 has to know, as assignments of a shell.
    fn write_settings(&self) -> Result<()> {
        let debian = Debian::obtain()?;
        let addresses: Vec<_> = self.addresses().iter().map(|address| network::with_length(address)).collect();
        let settings = [
            ("NODE", self.name.clone()),
            ("ADDRESSES", addresses.join(" ")),
            ("GATEWAYS", self.families.router().join(" ")),
            ("PODS", self.home.pods()),
            ("ALL_PODS", PODS.to_owned()),
            ("GROUP", self.group()),
            ("KUBELET", KUBERNETES.program("kubelet")?.display().to_string()),
            ("KUBE_PROXY", KUBERNETES.program("kube-proxy")?.display().to_string()),
            ("KUBECTL", KUBERNETES.program("kubectl")?.display().to_string()),
            ("DEBIAN", debian.root().display().to_string()),
            ("PLUGINS", debian.plugins()?.display().to_string()),
        ];
        let text: String = settings.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        let path = self.directory.join("settings");
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
