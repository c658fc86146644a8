//! What `megalos show` asks for, the rows that daemons answer with, and their tables.
//!
//! Rows are plain data so that `--json` prints exactly what crossed the socket.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What can be asked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// BGP sessions.
    Peers,
    /// Routes with their best path.
    Routes,
    /// LANs (workers only).
    Vnis,
    /// MAC addresses of the LANs (workers only).
    Macs,
}

/// One BGP peer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PeerRow {
    /// Address of the peer.
    pub address: String,
    /// What people call it: the name of its Node, or of the router.
    #[serde(default)]
    pub name: Option<String>,
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier, once known.
    pub router_id: Option<String>,
    /// `client`, `non-client` or `external`.
    pub role: String,
    /// State of RFC 4271 section 8.
    pub state: String,
    /// Seconds since the session was established.
    pub up_secs: Option<u64>,
    /// Hold time in force, in seconds.
    pub hold_time_secs: Option<u16>,
    /// Routes received and kept, by family.
    pub routes: BTreeMap<String, u64>,
    /// Routes kept from before a restart that the peer has not announced again.
    pub stale_routes: u64,
    /// Of these, routes kept beyond the restart time (RFC 9494).
    pub long_lived_stale_routes: u64,
    /// UPDATEs received.
    pub updates_received: u64,
    /// Times that the session was established.
    pub established_count: u64,
    /// Routes refused in this session because the peer may not announce them.
    #[serde(default)]
    pub refused_routes: u64,
    /// What the last of them said, and how to allow it.
    #[serde(default)]
    pub last_refusal: Option<String>,
    /// Why the last session ended.
    pub last_error: Option<String>,
}

/// One path of one route.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RouteRow {
    /// Family name.
    pub family: String,
    /// The key, as text.
    pub route: String,
    /// Next hop: the VTEP.
    pub next_hop: String,
    /// Who announced it: a peer's address, or `local`.
    pub from: String,
    /// Whether it is the best path of its key.
    pub best: bool,
    /// Why it is, or is not, the best.
    pub reason: String,
    /// Kept from before a restart.
    pub stale: bool,
    /// Its sender is gone for longer than a restart takes, as this daemon or another has seen (RFC 9494).
    pub long_lived_stale: bool,
    /// What a worker makes of it: whether frames go where it says, and why not; none on a reflector, and for what is not
    /// the best path.
    #[serde(default)]
    pub use_here: Option<String>,
    /// VNI or label.
    pub label: Option<u32>,
    /// Extended communities, as text.
    pub communities: Vec<String>,
    /// What else the path says.
    #[serde(flatten)]
    pub path: PathRow,
}

/// The attributes of a path that the table for people leaves out. Absent ones are null or empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PathRow {
    /// ORIGIN: `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// AS_PATH, nearest AS first.
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// COMMUNITIES, as `65000:1`.
    pub standard_communities: Vec<String>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<String>,
    /// CLUSTER_LIST (RFC 4456), nearest cluster first.
    pub cluster_list: Vec<String>,
    /// PMSI_TUNNEL (RFC 6514): type, label, endpoint.
    pub pmsi_tunnel: Option<String>,
    /// Ethernet segment of types 2 and 5, unless it is zero.
    pub esi: Option<String>,
    /// Second label of type 2.
    pub label2: Option<u32>,
    /// Gateway of type 5, if there is one.
    pub gateway: Option<String>,
    /// Type codes of attributes that are passed along without being understood.
    pub unknown_attributes: Vec<u8>,
}

/// One LAN on a worker.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct VniRow {
    /// The VNI.
    pub vni: u32,
    /// Its human name, if one was given.
    pub name: Option<String>,
    /// Local members.
    pub members: u64,
    /// Whether the VXLAN device should exist.
    pub inter_node: bool,
    /// Remote VTEPs that want flooded frames.
    pub vteps: Vec<String>,
    /// Known MAC addresses behind this worker.
    pub local_macs: u64,
    /// Known MAC addresses behind others.
    pub remote_macs: u64,
    /// MTU of the LAN's interfaces, the smallest where they differ.
    pub mtu: Option<u32>,
    /// How that comes, such as `underlay 1500 - 50 for IPv4 = 1450`.
    #[serde(default)]
    pub mtu_reason: Option<String>,
    /// Who has the VNI on this node, so that no LAN can have it.
    #[serde(default)]
    pub reserved_by: Option<String>,
}

/// One MAC address of a LAN on a worker.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MacRow {
    /// The VNI.
    pub vni: u32,
    /// The address.
    pub mac: String,
    /// IP addresses announced with it.
    pub ips: Vec<String>,
    /// `local` or the VTEP behind which it is.
    pub at: String,
    /// Mobility sequence number.
    pub sequence: u32,
    /// It must not move.
    pub sticky: bool,
    /// State in words: how it was learned, or why it is not in use.
    pub state: String,
}

/// An answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Answer to [`Topic::Peers`].
    Peers(Vec<PeerRow>),
    /// Answer to [`Topic::Routes`].
    Routes(Vec<RouteRow>),
    /// Answer to [`Topic::Vnis`].
    Vnis(Vec<VniRow>),
    /// Answer to [`Topic::Macs`].
    Macs(Vec<MacRow>),
}

impl Rows {
    /// A table for people: one line per row under a line of headings.
    pub fn table(&self) -> String {
        match self {
            Self::Peers(rows) => table(
                &["PEER", "NAME", "AS", "ROLE", "STATE", "UP", "ROUTES", "STALE", "REFUSED", "LAST ERROR"],
                rows.iter().map(PeerRow::cells),
            ),
            Self::Routes(rows) => table(
                &["", "ROUTE", "NEXT HOP", "LABEL", "FROM", "REASON", "USE HERE", "COMMUNITIES"],
                rows.iter().map(RouteRow::cells),
            ),
            Self::Vnis(rows) => table(
                &["VNI", "NAME", "MEMBERS", "VTEPS", "LOCAL MACS", "REMOTE MACS", "MTU", "NOTE"],
                rows.iter().map(VniRow::cells),
            ),
            Self::Macs(rows) => table(&["VNI", "MAC", "IP", "AT", "SEQUENCE", "STATE"], rows.iter().map(MacRow::cells)),
        }
    }

    /// The rows as a JSON array.
    pub fn json(&self) -> serde_json::Result<String> {
        match self {
            Self::Peers(rows) => serde_json::to_string_pretty(rows),
            Self::Routes(rows) => serde_json::to_string_pretty(rows),
            Self::Vnis(rows) => serde_json::to_string_pretty(rows),
            Self::Macs(rows) => serde_json::to_string_pretty(rows),
        }
    }
}

impl PeerRow {
    fn cells(&self) -> Vec<String> {
        vec![
            self.address.clone(),
            self.name.clone().unwrap_or_else(|| "-".into()),
            self.asn.to_string(),
            self.role.clone(),
            self.state.clone(),
            self.up_secs.map_or_else(|| "-".into(), duration),
            self.routes.values().sum::<u64>().to_string(),
            match self.long_lived_stale_routes {
                0 => self.stale_routes.to_string(),
                long_lived => format!("{} ({long_lived} long-lived)", self.stale_routes),
            },
            self.refused_routes.to_string(),
            self.last_error.as_ref().or(self.last_refusal.as_ref()).cloned().unwrap_or_else(|| "-".into()),
        ]
    }
}

impl RouteRow {
    fn cells(&self) -> Vec<String> {
        let mut mark = String::from(if self.best { "*" } else { " " });
        if self.stale {
            mark.push('s');
        }
        if self.long_lived_stale {
            mark.push('l');
        }
        vec![
            mark,
            self.route.clone(),
            self.next_hop.clone(),
            self.label.map_or_else(|| "-".into(), |label| label.to_string()),
            self.from.clone(),
            self.reason.clone(),
            self.use_here.clone().unwrap_or_else(|| "-".into()),
            self.communities.join(" "),
        ]
    }
}

impl VniRow {
    fn cells(&self) -> Vec<String> {
        let vteps = if self.vteps.is_empty() { "-".into() } else { self.vteps.join(",") };
        vec![
            self.vni.to_string(),
            self.name.clone().unwrap_or_else(|| "-".into()),
            self.members.to_string(),
            vteps,
            self.local_macs.to_string(),
            self.remote_macs.to_string(),
            self.mtu.map_or_else(|| "-".into(), |mtu| mtu.to_string()),
            self.note(),
        ]
    }

    fn note(&self) -> String {
        let reserved = self.reserved_by.as_ref().map(|user| format!("reserved: in use by {user}"));
        reserved.or_else(|| self.mtu_reason.clone()).unwrap_or_else(|| "-".into())
    }
}

impl MacRow {
    fn cells(&self) -> Vec<String> {
        let ips = if self.ips.is_empty() { "-".into() } else { self.ips.join(",") };
        let sequence = if self.sticky { format!("{} sticky", self.sequence) } else { self.sequence.to_string() };
        vec![self.vni.to_string(), self.mac.clone(), ips, self.at.clone(), sequence, self.state.clone()]
    }
}

fn duration(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3_600..86_400 => format!("{}h{:02}m", secs / 3_600, secs / 60 % 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// Columns as wide as their widest cell, two blanks between; control characters of a cell are made visible.
fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let clean = |cell: String| cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    let mut lines: Vec<Vec<String>> = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
    lines.extend(rows.map(|row| row.into_iter().map(clean).collect::<Vec<_>>()));
    let mut widths = vec![0; headings.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (width, cell) in widths.iter().zip(line) {
            let _ = write!(out, "{cell:width$}  ");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_its_columns() {
        let rows = Rows::Macs(vec![
            MacRow {
                vni: 7,
                mac: "02:00:00:00:00:01".into(),
                at: "local".into(),
                state: "attached".into(),
                ..Default::default()
            },
            MacRow {
                vni: 16_000_000,
                mac: "02:00:00:00:00:02".into(),
                at: "192.0.2.1".into(),
                sticky: true,
                state: "remote\u{1b}".into(),
                ..Default::default()
            },
        ]);
        let text = rows.table();
        let column = |line: &str| line.find("02:").unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(column(lines[1]), column(lines[2]));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(59), "59s");
        assert_eq!(duration(61), "1m01s");
        assert_eq!(duration(7_260), "2h01m");
        assert_eq!(duration(90_000), "1d01h");
    }
}
