//! How a lab is: what `status` and `up --json` print.

use std::fmt::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::daemons::DaemonState;

/// Where a lab is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not all devices have been started.
    Starting,
    /// All devices have been started.
    Up,
    /// Shutdown scripts run.
    Stopping,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Stopping => "stopping",
        }
    }
}

/// How a lab is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStatus {
    /// The lab's name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Where it is in its life.
    pub phase: Phase,
    /// Seconds since it began.
    pub uptime_secs: u64,
    /// Reflectors.
    pub reflectors: Vec<MemberStatus>,
    /// Nodes, each with its worker.
    pub nodes: Vec<MemberStatus>,
    /// Devices.
    pub devices: Vec<DeviceStatus>,
    /// LANs.
    pub lans: Vec<LanStatus>,
}

/// A node or reflector, and the daemon on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// `node1`, `rr1` and so on.
    pub name: String,
    /// Its address on the underlay.
    pub address: String,
    /// Its daemon.
    #[serde(flatten)]
    pub daemon: DaemonState,
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// The daemon's log.
    pub log: PathBuf,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// The node that it runs on.
    pub node: String,
    /// Where it is in its life.
    pub state: DeviceState,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// What failed while it started, one text each.
    pub failures: Vec<String>,
}

/// Where a device is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It exists; its scripts have not ended.
    Starting,
    /// Its scripts have ended.
    Running,
    /// Its process 1 is gone.
    Ended,
}

impl DeviceState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

/// An interface of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// `ethN`.
    pub name: String,
    /// The LAN that it is on.
    pub lan: String,
    /// The LAN's VNI.
    pub vni: u32,
    /// Its MAC address.
    pub mac: String,
    /// Its MTU.
    pub mtu: u32,
}

/// A LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanStatus {
    /// Its name.
    pub name: String,
    /// Its VNI.
    pub vni: u32,
    /// Its members, as `device/ethN`.
    pub members: Vec<String>,
    /// The nodes that it spans.
    pub nodes: Vec<String>,
}

impl LabStatus {
    /// The tables for people.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} ({}) is {} for {}\n",
            self.name,
            self.directory.display(),
            self.phase.as_str(),
            duration_text(self.uptime_secs),
        );
        let members = self.reflectors.iter().map(|m| (m, "reflector"));
        let members = members.chain(self.nodes.iter().map(|m| (m, "worker")));
        let rows = members.map(|(member, role)| {
            let pid = match member.daemon.outer_pid.or(member.daemon.pid) {
                Some(pid) => pid.to_string(),
                None => "-".to_owned(),
            };
            vec![
                member.name.clone(),
                role.to_owned(),
                member.address.clone(),
                pid,
                member.daemon.restarts.to_string(),
                member.daemon.last_end.clone(),
            ]
        });
        let head = ["NODE", "ROLE", "ADDRESS", "PID", "RESTARTS", "LAST END"];
        table(&mut text, &head, rows);
        let rows = self.devices.iter().map(|device| {
            let interfaces: Vec<String> =
                device.interfaces.iter().map(|interface| format!("{}:{}", interface.name, interface.lan)).collect();
            vec![device.name.clone(), device.node.clone(), device.state.as_str().to_owned(), interfaces.join(" ")]
        });
        table(&mut text, &["DEVICE", "NODE", "STATE", "INTERFACES"], rows);
        let rows = self
            .lans
            .iter()
            .map(|lan| vec![lan.name.clone(), lan.vni.to_string(), lan.nodes.join(" "), lan.members.join(" ")]);
        table(&mut text, &["LAN", "VNI", "NODES", "MEMBERS"], rows);
        for device in &self.devices {
            for failure in &device.failures {
                let _ = writeln!(text, "\n{failure}");
            }
        }
        text
    }
}

/// Appends a table with an empty line before it; nothing where there are no rows.
pub fn table(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head.get(column).map_or(0, |cell| cell.chars().count()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    };
    line(&mut std::iter::once(""));
    line(&mut head.iter().copied());
    for row in &rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// A duration in its two largest units.
fn duration_text(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}
