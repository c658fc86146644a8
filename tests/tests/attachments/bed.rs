//! Workers with attachments of any name, and whether a node holds exactly what it should.

use std::collections::BTreeSet;

use cni::client::ClientError;
use cni::{Attach, Attachment, ErrorCode, Origin};
use dataplane::PortId;
use tests::fabric::{Fabric, Family};
use tests::host::Host;
use tests::overlay::{Worker, descriptors};
use tests::wait;

/// A worker alone: its reflector does not exist.
pub fn lone_worker(more: &[&str]) -> Fabric {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_worker_of("10.0.0.1:1179", 0, more);
    fabric
}

/// One attachment, whose MAC follows from a number.
pub fn wanted(container: &str, interface: &str, vni: u32, number: u16) -> Attach {
    let [high, low] = number.to_be_bytes();
    Attach {
        attachment: attachment(container, interface),
        vni: vni.try_into().unwrap_or_else(|error| panic!("{error}")),
        lan: format!("lan{vni}").parse().unwrap_or_else(|error| panic!("{error}")),
        mac: Some([2, 0, 0, 1, high, low].try_into().unwrap_or_else(|error| panic!("{error}"))),
        ips: Vec::new(),
        mtu: None,
        routes: Vec::new(),
        origin: Origin::default(),
    }
}

pub fn attachment(container: &str, interface: &str) -> Attachment {
    Attachment {
        container_id: container.parse().unwrap_or_else(|error| panic!("{error}")),
        interface: interface.parse().unwrap_or_else(|error| panic!("{error}")),
    }
}

/// The MAC of [`wanted`] with this number.
pub fn mac(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("02:00:00:01:{high:02x}:{low:02x}")
}

/// Attaches the container's `eth0`, whose namespace is the pod's.
pub fn add(worker: &Worker, pod: &Host, container: &str, vni: u32, number: u16) -> Result<cni::Attached, ClientError> {
    worker.cni().attach(wanted(container, "eth0", vni, number), &descriptors(pod))
}

/// Detaches the container's `eth0`.
pub fn delete(worker: &Worker, container: &str) {
    worker.cni().detach(attachment(container, "eth0")).unwrap_or_else(|error| panic!("DEL {container}: {error}"));
}

/// The code of a refusal.
pub fn code<T>(result: &Result<T, ClientError>) -> Option<ErrorCode> {
    match result {
        Err(ClientError::Worker(error)) => Some(error.code),
        _ => None,
    }
}

/// The devices of the overlay namespace, VXLAN devices and the loopback left out.
fn devices(worker: &Worker) -> BTreeSet<String> {
    let listed = worker.overlay_sh("ip -brief link show");
    let names = listed.lines().filter_map(|line| line.split(['@', ' ']).next());
    names.filter(|name| *name != "lo" && !name.starts_with("vx")).map(str::to_owned).collect()
}

/// The files of attachments.
pub fn files(worker: &Worker) -> BTreeSet<String> {
    let entries = std::fs::read_dir(worker.attachment_files()).unwrap_or_else(|error| panic!("{error}"));
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What differs from a node with exactly these attachments, each with its VNI: devices, files, what the worker says.
pub fn difference(worker: &Worker, attachments: &[(&Attachment, u32)]) -> Result<(), String> {
    let port = |one: &Attachment| PortId::attachment(one.container_id.as_str(), one.interface.as_str()).device_name();
    let ports: BTreeSet<String> = attachments.iter().map(|(one, _)| port(one)).collect();
    let bridges = attachments.iter().map(|(_, vni)| format!("br{vni}"));
    let (devices_wanted, files_wanted): (BTreeSet<String>, BTreeSet<String>) =
        (ports.iter().cloned().chain(bridges).collect(), ports.iter().map(|port| format!("{port}.json")).collect());
    let (devices, files) = (devices(worker), files(worker));
    let members: u64 = worker.vnis().iter().map(|row| row.members).sum();
    if devices != devices_wanted {
        return Err(format!("devices {devices:?}, not {devices_wanted:?}"));
    }
    if files != files_wanted {
        return Err(format!("files {files:?}, not {files_wanted:?}"));
    }
    let claimed = worker.macs().iter().filter(|row| row.state == "claimed").count();
    if (members, claimed) != (attachments.len() as u64, attachments.len()) {
        return Err(format!("{members} members, {claimed} claims, not {}", attachments.len()));
    }
    Ok(())
}

/// Waits until a node has exactly these attachments, each with its VNI.
pub fn wait_exact(worker: &Worker, attachments: &[(&Attachment, u32)]) {
    wait::until("a node with exactly what is attached", || difference(worker, attachments));
}
