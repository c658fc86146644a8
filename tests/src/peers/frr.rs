//! FRR: zebra and bgpd, and mgmtd where there is one.

use std::fmt;

use serde_json::Value;

use super::place::Place;
use super::table::{Attribute, Route};
use super::{Daemon, Dialect, Life, Program, Software, community, json, text_of, words};
use crate::host::Host;
use crate::programs;

/// Where both Debian's packages keep the daemons.
const LIBRARY: &str = "/usr/lib/frr";

/// The configuration of zebra, which has none: some of bgpd's lines mean another thing to it.
const ZEBRA_CONFIG: &str = "zebra.conf";

/// FRR of the system's own Debian: its sockets are told to be in its place, beside those of an FRR that serves the
/// machine.
pub(super) static DEBIAN: Frr = Frr { is_sid: false };
/// FRR of the sid root, with its sockets where it wants them.
pub(super) static SID: Frr = Frr { is_sid: true };

#[derive(Debug)]
pub(super) struct Frr {
    is_sid: bool,
}

impl Frr {
    /// Where the sockets are, as the programs see it.
    fn sockets(&self, place: &Place) -> String {
        place.file("frr")
    }

    fn program(&self, place: &Place, name: &'static str, mut arguments: Vec<String>) -> Program {
        let sockets = self.sockets(place);
        arguments.extend(words(&["--log", "stdout", "--log-level", "informational"]));
        arguments.extend(["-i".to_owned(), format!("{sockets}/{name}.pid")]);
        arguments.extend(["-z".to_owned(), format!("{sockets}/zserv.api")]);
        arguments.extend(["--vty_socket".to_owned(), sockets.clone()]);
        let ready = words(&["vtysh", "--vty_socket", &sockets, "-d", name, "-c", "show version"]);
        let leftovers = vec![format!("frr/{name}.vty"), format!("frr/{name}.pid")];
        Program { name, path: format!("{LIBRARY}/{name}"), arguments, ready, leftovers }
    }
}

impl Dialect for Frr {
    fn place(&self, host: &Host) -> Place {
        let state = host.directory().join("frr");
        let place = if self.is_sid {
            Place::sid(state)
        } else {
            programs::require("bgpd", "frr");
            let place = Place::system(state);
            place.write(ZEBRA_CONFIG, "");
            place
        };
        let sockets = self.sockets(&place);
        let made = place.run(host, "sh", &["-c", &format!("mkdir -p {sockets} && chown frr:frr {sockets}")]);
        assert!(made.status.success(), "{sockets}: {}", String::from_utf8_lossy(&made.stderr));
        place
    }

    fn config_file(&self) -> &'static str {
        "frr.conf"
    }

    fn programs(&self, place: &Place, _life: Life) -> Vec<Program> {
        let config = words(&["-f", &place.file("frr.conf")]);
        let mut programs = vec![
            self.program(
                place,
                "zebra",
                if self.is_sid { Vec::new() } else { words(&["-f", &place.file(ZEBRA_CONFIG)]) },
            ),
            self.program(place, "bgpd", config),
        ];
        if self.is_sid {
            programs.insert(0, self.program(place, "mgmtd", Vec::new()));
        }
        programs
    }

    fn version(&self, daemon: &Daemon) -> String {
        daemon.vtysh("show version").lines().next().unwrap_or_default().to_owned()
    }

    fn established(&self, daemon: &Daemon) -> usize {
        let summary = json(&daemon.vtysh("show bgp l2vpn evpn summary json"));
        let peers = summary["peers"].as_object().into_iter().flatten();
        peers.filter(|(_, peer)| peer["state"] == "Established").count()
    }

    fn routes(&self, daemon: &Daemon) -> Vec<Route> {
        let table = json(&daemon.vtysh("show bgp l2vpn evpn route detail json"));
        let distinguishers = table.as_object().into_iter().flatten();
        let prefixes = distinguishers.flat_map(|(rd, routes)| {
            routes.as_object().into_iter().flatten().map(move |(prefix, route)| (rd, prefix, route))
        });
        let paths = |route: &Value| route["paths"].as_array().cloned().unwrap_or_default();
        let flat = |path: Value| path.as_array().cloned().unwrap_or_else(|| vec![path]);
        prefixes
            .flat_map(|(rd, prefix, value)| {
                let paths = paths(value).into_iter().flat_map(flat);
                paths.filter_map(move |path| route(key(rd, prefix)?, &path)).collect::<Vec<_>>()
            })
            .collect()
    }

    fn hidden(&self) -> &'static [Attribute] {
        // 8.4 prints neither the endpoint of a PMSI tunnel nor the label of a type 1, nor a gateway.
        if self.is_sid { &[Attribute::Unknown] } else { &[Attribute::Unknown, Attribute::PmsiTunnel] }
    }
}

/// `[2]:[0]:[48]:[02:…]` of a route distinguisher in our form.
fn key(rd: &str, prefix: &str) -> Option<String> {
    let parts: Vec<&str> = prefix.strip_prefix('[')?.strip_suffix(']')?.split("]:[").collect();
    match *parts.as_slice() {
        ["1", tag, esi, ..] => Some(format!("[1][{rd}][{esi}][{tag}]")),
        ["2", tag, _, mac] => Some(format!("[2][{rd}][{tag}][{mac}]")),
        ["2", tag, _, mac, _, ip] => Some(format!("[2][{rd}][{tag}][{mac}][{ip}]")),
        ["3", tag, _, ip] => Some(format!("[3][{rd}][{tag}][{ip}]")),
        ["4", esi, _, ip] => Some(format!("[4][{rd}][{esi}][{ip}]")),
        ["5", tag, length, ip] => Some(format!("[5][{rd}][{tag}][{ip}/{length}]")),
        _ => None,
    }
}

fn route(key: String, path: &Value) -> Option<Route> {
    let mut route = Route::new(key);
    let own = path["peer"]["peerId"].as_str()? == "0.0.0.0" || path["peer"]["peerId"] == "::";
    route.from = if own { String::new() } else { text_of(&path["peer"]["peerId"]) };
    route.set(Attribute::NextHop, text_of(&path["nexthops"][0]["ip"]));
    route.set(Attribute::Origin, text_of(&path["origin"]).to_lowercase());
    let as_path = text_of(&path["aspath"]["string"]);
    route.set(Attribute::AsPath, if as_path == "Local" { String::new() } else { as_path });
    route.set(Attribute::Med, text_of(&path["metric"]));
    route.set(Attribute::LocalPref, text_of(&path["locPrf"]));
    let words = |value: &Value| text_of(value).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    route.set_all(Attribute::Communities, words(&path["community"]["string"]));
    route.set_all(Attribute::ExtendedCommunities, communities(&text_of(&path["extendedCommunity"]["string"])));
    route.set(Attribute::OriginatorId, text_of(&path["originatorId"]));
    let clusters = path["clusterList"]["list"].as_array().into_iter().flatten().map(text_of);
    route.set(Attribute::ClusterList, clusters.collect::<Vec<_>>().join(" "));
    let labels = text_of(&path["vni"]);
    let (label, label2) = labels.split_once('/').unwrap_or((&labels, ""));
    route.set(Attribute::Label, label);
    route.set(Attribute::Label2, label2);
    route.set(Attribute::Esi, text_of(&path["esi"]));
    route.set(Attribute::Gateway, text_of(&path["gatewayIP"]));
    let pmsi = &path["pmsi"];
    if pmsi["tunnelType"] == "Ingress Replication" {
        route.set(Attribute::Label, text_of(&pmsi["label"]));
        route.set(
            Attribute::PmsiTunnel,
            format!("ingress-replication {} {}", text_of(&pmsi["label"]), text_of(&pmsi["id"])),
        );
    }
    Some(route)
}

/// What FRR prints in one line, where some names contain blanks.
fn communities(line: &str) -> Vec<String> {
    let line = line.replace(", sticky MAC", ",sticky").replace("Default Gateway", "DefaultGateway");
    // Of what it does not know it prints type and sub-type and no value.
    let line = line.replace("UNK:6, ", "UNK:6,");
    line.split_whitespace().map(community).collect()
}

fn community(word: &str) -> String {
    let known = word.split_once(':').and_then(|(name, value)| match name {
        "RT" => Some(community::target(value)),
        "SoO" => community::of_as(3, value),
        "ET" => Some(format!("encapsulation:{value}")),
        "MM" => {
            let (sequence, sticky) = value.split_once(',').unwrap_or((value, ""));
            Some(community::mobility(sequence.parse().ok()?, sticky == "sticky"))
        }
        "ES-Import-Rt" => community::with_mac(6, 2, value),
        "Rmac" => community::with_mac(6, 3, value),
        _ => None,
    });
    let unknown = || if word == "DefaultGateway" { "0x030d000000000000".to_owned() } else { word.to_owned() };
    known.unwrap_or_else(unknown)
}

impl Daemon {
    /// Runs a vtysh command of an FRR.
    pub fn vtysh(&self, line: &str) -> String {
        self.ask("vtysh", &["--vty_socket", &self.place.file("frr"), "-c", line])
    }
}

/// Starts FRR of the system's own Debian.
pub fn start(host: Host, config: &str) -> Daemon {
    Daemon::start(Software::FrrDebian, host, config)
}

/// A route reflector for everybody in `prefix`, in the default AS.
pub fn reflector_config(router_id: &str, prefix: &str) -> String {
    format!(
        "frr defaults datacenter
router bgp 65000
 bgp router-id {router_id}
 no bgp default ipv4-unicast
 neighbor workers peer-group
 neighbor workers remote-as internal
 bgp listen range {prefix} peer-group workers
 address-family l2vpn evpn
  neighbor workers activate
  neighbor workers route-reflector-client
 exit-address-family
"
    )
}

/// A route reflector with graceful restart in both roles for these clients, which it waits for.
pub fn graceful_reflector_config(router_id: &str, clients: &[&str]) -> String {
    let mut config = format!(
        "frr defaults datacenter
router bgp 65000
 bgp router-id {router_id}
 no bgp default ipv4-unicast
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 bgp graceful-restart select-defer-time 1
 bgp long-lived-graceful-restart stale-time 600
 neighbor workers peer-group
 neighbor workers remote-as internal
"
    );
    clients
        .iter()
        .for_each(|client| config += &format!(" neighbor {client} peer-group workers\n neighbor {client} passive\n"));
    config
        + " address-family l2vpn evpn
  neighbor workers activate
  neighbor workers route-reflector-client
 exit-address-family
"
}

/// A client that announces nothing of its own.
pub fn client_config(router_id: &str, reflector: &str, port: u16) -> String {
    worker_config(router_id, reflector, port).replace("  advertise-all-vni\n", "")
}

/// A worker that announces every VXLAN device of its namespace, with one reflector at `reflector` and `port`.
pub fn worker_config(router_id: &str, reflector: &str, port: u16) -> String {
    RouterConfig::new(router_id, reflector, port).to_string()
}

/// A worker or router that announces every VXLAN device of its namespace, with one neighbour.
#[derive(Clone, Copy, Debug)]
pub struct RouterConfig<'a> {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: &'a str,
    /// The neighbour's address.
    pub neighbor: &'a str,
    /// The neighbour's port.
    pub port: u16,
    /// The neighbour's AS.
    pub remote_asn: u32,
    /// What else is said of the neighbour, as in `password key`.
    pub neighbor_lines: &'a [&'a str],
    /// What else stands in the address family.
    pub evpn_lines: &'a [&'a str],
}

impl<'a> RouterConfig<'a> {
    /// In the default AS, as is the neighbour.
    pub const fn new(router_id: &'a str, neighbor: &'a str, port: u16) -> Self {
        let (neighbor_lines, evpn_lines) = (&[], &[]);
        Self { asn: 65_000, router_id, neighbor, port, remote_asn: 65_000, neighbor_lines, evpn_lines }
    }
}

impl fmt::Display for RouterConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asn, router_id, neighbor, port, remote_asn, neighbor_lines, evpn_lines } = self;
        writeln!(f, "frr defaults datacenter")?;
        writeln!(f, "router bgp {asn}")?;
        writeln!(f, " bgp router-id {router_id}")?;
        writeln!(f, " no bgp default ipv4-unicast")?;
        writeln!(f, " neighbor {neighbor} remote-as {remote_asn}")?;
        writeln!(f, " neighbor {neighbor} port {port}")?;
        writeln!(f, " neighbor {neighbor} timers connect 1")?;
        for line in *neighbor_lines {
            writeln!(f, " neighbor {neighbor} {line}")?;
        }
        writeln!(f, " address-family l2vpn evpn")?;
        writeln!(f, "  neighbor {neighbor} activate")?;
        writeln!(f, "  advertise-all-vni")?;
        for line in *evpn_lines {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, " exit-address-family")
    }
}
