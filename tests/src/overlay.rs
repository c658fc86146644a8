//! Our own daemons on hosts, and devices attached to LANs through a worker's CNI socket.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cni::client::{Client, ClientError};
use cni::{Attach, Attachment, Origin, PodDescriptors};
use daemon::control;
use daemon::show::{MacRow, PeerRow, RouteRow, Rows, Topic, VniRow};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::host::{Host, overlay_of};
use crate::{inside, programs, wait};

/// The worker's program.
const PROGRAM: &str = "megalos-speaker";

/// A reflector on a host.
#[derive(Debug)]
pub struct Reflector {
    /// Where it runs.
    pub host: Host,
    pid: u32,
    arguments: Vec<String>,
}

impl Reflector {
    /// Starts a reflector that listens on `listen` and accepts everybody in `accept`; `more` is appended.
    pub fn start(host: Host, listen: &str, accept: &[&str], more: &[&str]) -> Self {
        let mut arguments = vec!["--listen".to_owned(), listen.to_owned()];
        for prefix in accept {
            arguments.extend(["--accept".to_owned(), (*prefix).to_owned()]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self::launch(host, arguments)
    }

    /// Starts a reflector with this configuration file.
    pub fn configured(host: Host, config: &str) -> Self {
        let path = host.directory().join("rr.toml");
        std::fs::write(&path, config).unwrap_or_else(|error| panic!("{error}"));
        Self::launch(host, vec!["--config".to_owned(), path.display().to_string()])
    }

    /// Starts a reflector with these flags alone.
    pub fn with_flags(host: Host, flags: &[&str]) -> Self {
        Self::launch(host, flags.iter().map(|flag| (*flag).to_owned()).collect())
    }

    /// Writes another configuration file and has the process read it.
    pub fn reconfigure(&self, config: &str) {
        std::fs::write(self.host.directory().join("rr.toml"), config).unwrap_or_else(|error| panic!("{error}"));
        self.host.signal(self.pid, Signal::SIGHUP);
    }

    fn launch(mut host: Host, mut arguments: Vec<String>) -> Self {
        arguments.extend(["--control".to_owned(), socket_path(&host, "rr").display().to_string()]);
        let pid = launch(&mut host, "megalos-rr", &arguments);
        let reflector = Self { host, pid, arguments };
        reflector.wait_until_it_answers();
        reflector
    }

    fn wait_until_it_answers(&self) {
        wait::until("the reflector to answer", || control::ask(&socket_path(&self.host, "rr"), Topic::Peers));
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        socket_path(&self.host, "rr")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its sessions.
    pub fn peers(&self) -> Vec<PeerRow> {
        peers(&socket_path(&self.host, "rr"))
    }

    /// Its session with `address`.
    pub fn peer(&self, address: &str) -> Option<PeerRow> {
        self.peers().into_iter().find(|peer| peer.address == address)
    }

    /// Its routes.
    pub fn routes(&self) -> Vec<RouteRow> {
        routes(&socket_path(&self.host, "rr"))
    }

    /// Ends the process.
    pub fn kill(&mut self, signal: Signal) {
        self.host.kill(self.pid, signal);
    }

    /// Starts it again as before.
    pub fn restart(&mut self) {
        let arguments = self.arguments.clone();
        self.pid = launch(&mut self.host, "megalos-rr", &arguments);
        self.wait_until_it_answers();
    }
}

/// A worker on a host, with an overlay namespace of its own.
#[derive(Debug)]
pub struct Worker {
    /// Where it runs.
    pub host: Host,
    pid: u32,
    arguments: Vec<String>,
    confinement: Confinement,
    /// The Node that it is told to be.
    node: Option<String>,
}

/// What a worker's process may do and write to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Confinement {
    /// Everything that root may.
    #[default]
    None,
    /// As in its pod: root without all capabilities but NET_ADMIN, SYS_ADMIN and SETPCAP, a root file system, `/proc/sys` and
    /// `/run/netns` that are read-only, and a mount namespace whose mounts nobody else sees.
    Pod,
}

impl Worker {
    /// Starts a worker with this VTEP and these reflectors; `more` is appended.
    pub fn start(host: Host, vtep: &str, reflectors: &[&str], more: &[&str]) -> Self {
        let overlay = overlay_of(host.name());
        let cni = socket_path(&host, "cni").display().to_string();
        let mut all = vec!["--overlay-namespace", &overlay, "--cni", &cni];
        all.extend(more);
        Self::start_with(host, vtep, reflectors, &all)
    }

    /// Starts a worker that serves the devices of the host's own namespace.
    pub fn adopt(host: Host, vtep: &str, reflectors: &[&str]) -> Self {
        Self::start_with(host, vtep, reflectors, &["--adopt"])
    }

    fn start_with(mut host: Host, vtep: &str, reflectors: &[&str], more: &[&str]) -> Self {
        let mut arguments = vec!["--vtep".to_owned(), vtep.to_owned()];
        for reflector in reflectors.iter().filter(|reflector| !reflector.is_empty()) {
            arguments.extend(["--reflector".to_owned(), (*reflector).to_owned()]);
        }
        arguments.extend(["--control".to_owned(), socket_path(&host, "worker").display().to_string()]);
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let pid = launch(&mut host, PROGRAM, &arguments);
        let worker = Self { host, pid, arguments, confinement: Confinement::None, node: None };
        worker.wait_until_it_answers();
        worker
    }

    /// Prepares the host as an init container would and starts a confined worker with these flags, an overlay namespace and
    /// sockets beside them.
    pub fn in_pod(host: Host, flags: &[&str]) -> Self {
        let worker = Self::prepared(host, flags, None);
        worker.wait_until_it_answers();
        worker
    }

    /// As [`Self::in_pod`], for the Node of this name in the cluster of this kubeconfig. Does not wait: the cluster may have
    /// nothing to say yet.
    pub fn of_node(host: Host, node: &str, kubeconfig: &Path, flags: &[&str]) -> Self {
        let kubeconfig = kubeconfig.display().to_string();
        Self::prepared(host, &[flags, &["--kubeconfig", &kubeconfig]].concat(), Some(node.to_owned()))
    }

    fn prepared(mut host: Host, flags: &[&str], node: Option<String>) -> Self {
        let overlay = overlay_of(host.name());
        let prepared =
            host.run(programs::path("megalos-speaker"), &init_arguments(&host).each_ref().map(String::as_str));
        assert!(prepared.status.success(), "init: {}", String::from_utf8_lossy(&prepared.stderr));
        let socket = |name: &str| socket_path(&host, name).display().to_string();
        let own = ["--overlay-namespace", &overlay, "--cni", &socket("cni"), "--control", &socket("worker")];
        let arguments: Vec<_> = flags.iter().chain(&own).map(|argument| (*argument).to_owned()).collect();
        let pid = launch_in_pod(&mut host, &arguments, node.as_deref());
        Self { host, pid, arguments, confinement: Confinement::Pod, node }
    }

    fn wait_until_it_answers(&self) {
        wait::until("the worker to answer", || control::ask(&socket_path(&self.host, "worker"), Topic::Peers));
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        socket_path(&self.host, "worker")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until every session is established.
    pub fn wait_established(&self) {
        wait::until_true("all sessions of the worker", || {
            let peers = self.peers();
            !peers.is_empty() && peers.iter().all(|peer| peer.state == "Established")
        });
    }

    /// Its sessions.
    pub fn peers(&self) -> Vec<PeerRow> {
        peers(&socket_path(&self.host, "worker"))
    }

    /// Its routes.
    pub fn routes(&self) -> Vec<RouteRow> {
        routes(&socket_path(&self.host, "worker"))
    }

    /// Its LANs.
    pub fn vnis(&self) -> Vec<VniRow> {
        match control::ask(&socket_path(&self.host, "worker"), Topic::Vnis) {
            Ok(Rows::Vnis(rows)) => rows,
            other => panic!("show vnis: {other:?}"),
        }
    }

    /// Its MAC addresses.
    pub fn macs(&self) -> Vec<MacRow> {
        match control::ask(&socket_path(&self.host, "worker"), Topic::Macs) {
            Ok(Rows::Macs(rows)) => rows,
            other => panic!("show macs: {other:?}"),
        }
    }

    /// The descriptor of its overlay namespace.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn overlay(&self) -> File {
        let path = format!("/run/netns/{}", overlay_of(self.host.name()));
        File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The directory with the files of its attachments.
    pub fn attachment_files(&self) -> PathBuf {
        PathBuf::from("/run/megalos").join(overlay_of(self.host.name())).join("attachments")
    }

    /// Runs a command in the overlay namespace and returns what it printed, whatever came of it.
    pub fn overlay_sh(&self, line: &str) -> String {
        let output = self.host.try_sh(&format!("ip netns exec {} {line}", overlay_of(self.host.name())));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether the overlay namespace has a device of this name.
    pub fn has_device(&self, name: &str) -> bool {
        self.overlay_sh(&format!("ip -brief link show dev {name}")).starts_with(name)
    }

    /// The VTEP behind which the kernel has this MAC, if it has it: what `bridge fdb` says of the VXLAN device.
    pub fn fdb(&self, vni: u32, mac: &str) -> Option<String> {
        vtep_in(&self.overlay_sh(&format!("bridge fdb show dev vx{vni}")), mac)
    }

    /// Waits until the kernel sends frames for this MAC to `vtep`, or has no row for it.
    ///
    /// # Panics
    ///
    /// If that does not come.
    pub fn wait_row(&self, vni: u32, mac: &str, vtep: Option<IpAddr>) {
        wait::until(&format!("{mac} of VNI {vni} on {} to be behind {vtep:?}", self.host.name()), || {
            let found = self.fdb(vni, mac);
            let is_wanted = found.as_deref().map(str::parse) == vtep.map(Ok);
            if is_wanted { Ok(()) } else { Err(format!("it is behind {found:?}")) }
        });
    }

    /// Ends the process.
    pub fn kill(&mut self, signal: Signal) {
        self.host.kill(self.pid, signal);
    }

    /// Starts it again as before.
    pub fn restart(&mut self) {
        let arguments = self.arguments.clone();
        self.pid = match self.confinement {
            Confinement::None => launch(&mut self.host, PROGRAM, &arguments),
            Confinement::Pod => launch_in_pod(&mut self.host, &arguments, self.node.as_deref()),
        };
        self.wait_until_it_answers();
    }

    /// Attaches a device to a LAN as `eth0`, through the CNI socket.
    ///
    /// # Panics
    ///
    /// If the worker refuses.
    pub fn attach(&self, device: &Host, vni: u32, mac: &str, address: &str) -> cni::Attached {
        let wanted = attach(device, vni, mac, address);
        let attached = self.try_attach(device, wanted).unwrap_or_else(|error| panic!("attach: {error}"));
        device.limit_queue();
        attached
    }

    /// Attaches a device as `wanted` says, which [`attach`] makes.
    ///
    /// # Errors
    ///
    /// What the worker answers.
    pub fn try_attach(&self, device: &Host, wanted: Attach) -> Result<cni::Attached, ClientError> {
        self.cni().attach(wanted, &descriptors(device))
    }

    /// Attaches a device and tells when the request left and when the reply came.
    ///
    /// # Panics
    ///
    /// If the worker refuses.
    pub fn timed_attach(&self, device: &Host, wanted: Attach) -> (Instant, Instant) {
        let (mut client, descriptors) = (self.cni(), descriptors(device));
        let requested = Instant::now();
        let result = client.attach(wanted, &descriptors);
        let replied = Instant::now();
        result.unwrap_or_else(|error| panic!("attach: {error}"));
        (requested, replied)
    }

    /// Its CNI socket.
    pub fn cni_socket(&self) -> PathBuf {
        socket_path(&self.host, "cni")
    }

    /// A connection to its CNI socket.
    ///
    /// # Panics
    ///
    /// If nobody listens there.
    pub fn cni(&self) -> Client {
        Client::connect(&socket_path(&self.host, "cni")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Detaches the device's `eth0`.
    pub fn detach(&self, device: &Host) {
        self.cni().detach(attachment(device)).unwrap_or_else(|error| panic!("detach: {error}"));
    }
}

/// The destination of a MAC in what `bridge fdb show` printed of a VXLAN device.
pub(crate) fn vtep_in(table: &str, mac: &str) -> Option<String> {
    table.lines().filter(|line| line.starts_with(mac)).find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "dst");
        words.next()?;
        words.next().map(str::to_owned)
    })
}

fn launch(host: &mut Host, program: &str, arguments: &[String]) -> u32 {
    let mut command = host.command(programs::path(program));
    command.args(arguments);
    host.spawn(program, command)
}

/// Makes a mount namespace as a container runtime would, and gives up what a container's manifest drops.
const POD: &str = r#"set -e
for directory in "$1" /run/megalos; do mkdir -p "$directory"; mount --bind "$directory" "$directory"; done
mount --bind /proc/sys /proc/sys
for read_only in /proc/sys /run/netns /; do mount -o remount,bind,ro "$read_only"; done
shift
exec setpriv --bounding-set=-all,+net_admin,+sys_admin,+setpcap "$@""#;

fn launch_in_pod(host: &mut Host, arguments: &[String], node: Option<&str>) -> u32 {
    programs::require("setpriv", "util-linux");
    let mut command = host.command("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-c", POD, "pod"]);
    command.arg(host.directory()).arg(programs::path(PROGRAM)).args(arguments);
    command.envs(node.map(|node| ("NODE_NAME", node)));
    host.spawn(PROGRAM, command)
}

/// What `megalos-speaker init` is told on a host: the worker's overlay namespace, and a directory of the host's own for the
/// plugin.
pub fn init_arguments(host: &Host) -> [String; 7] {
    let plugins = host.directory().join("plugins").display().to_string();
    let source = programs::path("megalos-speaker").display().to_string();
    let flags = ["init", "--plugin-source", &source, "--plugin-directory", &plugins, "--overlay-namespace"];
    let mut arguments = flags.into_iter().map(str::to_owned).chain([overlay_of(host.name())]);
    std::array::from_fn(|_| arguments.next().unwrap_or_default())
}

fn socket_path(host: &Host, name: &str) -> PathBuf {
    host.directory().join(format!("{name}.sock"))
}

fn peers(socket: &std::path::Path) -> Vec<PeerRow> {
    match control::ask(socket, Topic::Peers) {
        Ok(Rows::Peers(rows)) => rows,
        other => panic!("show peers: {other:?}"),
    }
}

fn routes(socket: &std::path::Path) -> Vec<RouteRow> {
    match control::ask(socket, Topic::Routes) {
        Ok(Rows::Routes(rows)) => rows,
        other => panic!("show routes: {other:?}"),
    }
}

/// An attachment of a device's `eth0`.
///
/// # Panics
///
/// If a value is not valid.
pub fn attach(device: &Host, vni: u32, mac: &str, address: &str) -> Attach {
    Attach {
        attachment: attachment(device),
        vni: vni.try_into().unwrap_or_else(|error| panic!("{error}")),
        lan: format!("lan{vni}").try_into().unwrap_or_else(|error| panic!("{error}")),
        mac: Some(mac.parse().unwrap_or_else(|error| panic!("{error}"))),
        ips: vec![address.parse().unwrap_or_else(|error| panic!("{error}"))],
        mtu: None,
        routes: Vec::new(),
        origin: Origin::default(),
    }
}

fn attachment(device: &Host) -> Attachment {
    Attachment {
        container_id: device.name().to_owned().try_into().unwrap_or_else(|error| panic!("{error}")),
        interface: "eth0".to_owned().try_into().unwrap_or_else(|error| panic!("{error}")),
    }
}

/// The descriptors that a runtime's plugin would pass.
///
/// # Panics
///
/// If they cannot be opened.
pub fn descriptors(device: &Host) -> PodDescriptors {
    let namespace = device.open();
    let netlink = netlink_in(&namespace);
    PodDescriptors { netns: namespace.into(), netlink }
}

/// A netlink socket of a namespace.
fn netlink_in(namespace: &File) -> OwnedFd {
    let open = || socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
    inside::run(namespace, open).unwrap_or_else(|error| panic!("no netlink socket in the device: {error}"))
}
