//! The nodes and reflectors of a lab: underlay, daemons, and the attachments of
//! devices through each node's worker.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cni::client::Client;
use cni::{Attach, Attachment, Origin, PodDescriptors};
use daemon::show::{Rows, Topic};

use super::daemons::{Daemon, DaemonSpec};
use super::plan::Plan;
use super::running::{Members, RunningDevice, RunningMember};
use super::spec::LabSpec;
use super::state::StateDirectory;
use super::status::InterfaceStatus;
use super::underlay::{self, Member};
use crate::lab::Interface;

/// How long a daemon may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// The AS of every daemon of a lab.
const ASN: &str = "65000";
/// The reflectors' BGP port.
const BGP_PORT: u16 = 1179;
/// Where each daemon serves its metrics, in its own namespace.
const HTTP: &str = "127.0.0.1:9180";

/// Makes the underlay and starts reflectors and workers; returns when every one
/// answers.
///
/// # Errors
/// A text that names what failed and the cure.
pub fn start(spec: &LabSpec, state: &StateDirectory) -> Result<Members, String> {
    // Without a LAN there is nothing for nodes to carry.
    if spec.lab.lans.is_empty() {
        return Ok(Members::default());
    }
    let plan = &spec.plan;
    let mut wanted = Vec::new();
    for index in 0..plan.reflectors {
        wanted.push((Plan::reflector_name(index), underlay::reflector_address(index)));
    }
    for index in 0..plan.nodes {
        wanted.push((Plan::node_name(index), underlay::node_address(index)));
    }
    let mut made = underlay::build(&wanted).map_err(|error| error.to_string())?;
    let nodes = made.split_off(usize::from(plan.reflectors));
    let reflectors: Vec<String> = made.iter().map(|rr| format!("{}:{BGP_PORT}", rr.address)).collect();

    let started: Vec<RunningMember> =
        made.into_iter().map(|member| start_reflector(member, &nodes, state)).collect::<Result<_, _>>()?;
    // A worker whose first attempt meets no listener would wait for its connect
    // retry timer.
    for reflector in &started {
        reflector.daemon.wait_ready(READY_TIMEOUT, || UnixStream::connect(&reflector.socket).is_ok())?;
    }
    let workers: Vec<RunningMember> =
        nodes.into_iter().map(|member| start_worker(member, &reflectors, state)).collect::<Result<_, _>>()?;
    for worker in &workers {
        let socket = state.cni_socket(worker.daemon.name());
        worker.daemon.wait_ready(READY_TIMEOUT, || is_serving(&socket))?;
    }
    for worker in &workers {
        await_sessions(worker)?;
    }
    Ok(Members { reflectors: started, nodes: workers })
}

/// Waits until the worker has a session with every reflector, so that devices
/// can reach one another from their first command on.
fn await_sessions(worker: &RunningMember) -> Result<(), String> {
    let is_established = || match daemon::control::ask(&worker.socket, Topic::Peers) {
        Ok(Rows::Peers(peers)) => peers.iter().all(|peer| peer.state.eq_ignore_ascii_case("established")),
        _ => false,
    };
    let waited = worker.daemon.wait_ready(READY_TIMEOUT, is_established);
    waited.map_err(|text| format!("no BGP session with a reflector: {text}"))
}

fn is_serving(socket: &Path) -> bool {
    let status = Client::connect(socket).and_then(|mut client| client.status());
    status.is_ok_and(|status| status.ready)
}

/// A reflector is told all of its workers: one that comes back then knows whom to
/// hear before it says that it has told everything.
fn start_reflector(member: Member, workers: &[Member], state: &StateDirectory) -> Result<RunningMember, String> {
    let address = member.address;
    let config = state.config(&member.name);
    let peers: Vec<String> =
        workers.iter().map(|worker| format!("[[peer]]\naddress = \"{}\"\npassive = true\n", worker.address)).collect();
    std::fs::write(&config, peers.join("\n")).map_err(|error| format!("{}: {error}", config.display()))?;
    let arguments = vec![
        "__rr".into(),
        "--config".into(),
        config.into(),
        "--asn".into(),
        ASN.into(),
        "--listen".into(),
        format!("{address}:{BGP_PORT}").into(),
        "--router-id".into(),
        address.to_string().into(),
    ];
    start_member(member, arguments, state)
}

fn start_worker(member: Member, reflectors: &[String], state: &StateDirectory) -> Result<RunningMember, String> {
    let mut arguments: Vec<OsString> = vec![
        "__speaker".into(),
        "--asn".into(),
        ASN.into(),
        "--vtep".into(),
        member.address.to_string().into(),
        "--overlay-namespace".into(),
        format!("overlay-{}", member.name).into(),
        "--cni".into(),
        state.cni_socket(&member.name).into(),
    ];
    for reflector in reflectors {
        arguments.extend(["--reflector".into(), reflector.into()]);
    }
    start_member(member, arguments, state)
}

/// Adds what every daemon is given, and starts it.
fn start_member(member: Member, mut arguments: Vec<OsString>, state: &StateDirectory) -> Result<RunningMember, String> {
    let Member { name, address, netns } = member;
    let socket = state.daemon_socket(&name);
    arguments.extend(["--http".into(), HTTP.into(), "--control".into(), socket.clone().into()]);
    let spec = DaemonSpec { log: state.log(&name), name: name.clone(), arguments };
    let daemon = Daemon::start(spec, netns).map_err(|error| format!("{name} cannot be started: {error}"))?;
    Ok(RunningMember { address, daemon, socket })
}

/// Connects all interfaces of a device to their LANs, through its node's worker,
/// and calls `done` after each.
///
/// # Errors
/// A text that names device, interface and LAN.
pub fn attach(spec: &LabSpec, state: &StateDirectory, running: &RunningDevice, done: impl Fn()) -> Result<(), String> {
    let Some(device) = spec.lab.devices.get(running.index) else { return Ok(()) };
    if device.interfaces.is_empty() {
        return Ok(());
    }
    let node = Plan::node_name(spec.plan.node_of(running.index));
    let failed = |text: String| format!("device {}: {text} (log: {})", device.name, state.log(&node).display());
    let mut client = Client::connect(&state.cni_socket(&node)).map_err(|error| failed(error.to_string()))?;
    let pod = descriptors(running).map_err(|error| failed(error.to_string()))?;
    for interface in &device.interfaces {
        let context = |text: String| {
            let name = interface.name();
            failed(format!("{name} cannot be connected to LAN {} on {node}: {text}", interface.lan))
        };
        let vni = spec.plan.vni(&interface.lan);
        let request = request(&device.name, interface, vni).map_err(|error| context(error.to_string()))?;
        let attached = client.attach(request, &pod).map_err(|error| context(error.to_string()))?;
        running.attached(InterfaceStatus {
            name: interface.name(),
            lan: interface.lan.clone(),
            vni,
            mac: attached.mac.to_string(),
            mtu: attached.mtu.get(),
        });
        done();
    }
    Ok(())
}

fn descriptors(running: &RunningDevice) -> std::io::Result<PodDescriptors> {
    let network = running.device.network();
    Ok(PodDescriptors {
        netns: network.netns.as_fd().try_clone_to_owned()?,
        netlink: network.netlink.as_fd().try_clone_to_owned()?,
    })
}

fn request(device: &str, interface: &Interface, vni: u32) -> Result<Attach, cni::types::InvalidValue> {
    Ok(Attach {
        attachment: Attachment {
            // A device's name may begin with `_`, a container id may not.
            container_id: format!("device-{device}").parse()?,
            interface: interface.name().parse()?,
        },
        vni: vni.try_into()?,
        lan: interface.lan.parse()?,
        mac: interface.mac.map(|mac| mac.0.try_into()).transpose()?,
        ips: Vec::new(),
        mtu: Some(DEVICE_MTU.try_into()?),
        routes: Vec::new(),
        origin: Origin::default(),
    })
}

/// MTU of a device's interface in bytes, as in Kathará.
const DEVICE_MTU: u32 = 1500;
