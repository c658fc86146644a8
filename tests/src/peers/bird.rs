//! BIRD 3: `bird`, asked with `birdc`.

use std::fmt;

use super::place::Place;
use super::table::{Attribute, Route};
use super::{Daemon, Dialect, Life, Program, community, words};
use crate::host::Host;

const CONFIG: &str = "bird.conf";
const SOCKET: &str = "bird.ctl";

#[derive(Debug)]
pub(super) struct Bird;

impl Dialect for Bird {
    fn place(&self, host: &Host) -> Place {
        Place::sid(host.directory().join("bird"))
    }

    fn config_file(&self) -> &'static str {
        CONFIG
    }

    fn programs(&self, place: &Place, _life: Life) -> Vec<Program> {
        let socket = place.file(SOCKET);
        vec![Program {
            name: "bird",
            path: "bird".to_owned(),
            // It recovers from a graceful restart only where told so at its start.
            arguments: words(&["-f", "-R", "-c", &place.file(CONFIG), "-s", &socket, "-P", &place.file("bird.pid")]),
            ready: words(&["birdc", "-s", &socket, "show", "status"]),
            leftovers: words(&[SOCKET, "bird.pid"]),
        }]
    }

    fn version(&self, daemon: &Daemon) -> String {
        daemon.birdc("show status").lines().nth(1).unwrap_or_default().to_owned()
    }

    fn established(&self, daemon: &Daemon) -> usize {
        let table = daemon.birdc("show protocols");
        let is_established =
            |line: &&str| line.split_whitespace().nth(1) == Some("BGP") && line.contains(" Established");
        table.lines().filter(is_established).count()
    }

    fn routes(&self, daemon: &Daemon) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for line in daemon.birdc("show route table fabric all").lines() {
            if let Some(route) = line.strip_prefix("evpn ").and_then(route) {
                routes.push(route);
            } else if let (Some(route), Some((name, value))) = (routes.last_mut(), line.trim().split_once(": ")) {
                add(route, name, value);
            }
        }
        routes
    }

    fn hidden(&self) -> &'static [Attribute] {
        &[Attribute::Unknown]
    }
}

/// The head line of a route, of which a type that BIRD does not know ends in all its octets.
fn route(head: &str) -> Option<Route> {
    let words: Vec<&str> = head.split_whitespace().collect();
    match *words.as_slice() {
        ["imet", rd, tag, ip, ..] => Some(Route::new(format!("[3][{rd}][{tag}][{ip}]"))),
        ["mac", rd, tag, mac, "*", ..] => Some(Route::new(format!("[2][{rd}][{tag}][{mac}]"))),
        ["mac", rd, tag, mac, ip, ..] => Some(Route::new(format!("[2][{rd}][{tag}][{mac}][{ip}]"))),
        ["ead", rd, tag, esi, ..] => Some(Route::new(format!("[1][{rd}][{esi}][{tag}]"))),
        ["es", rd, esi, ip, ..] => Some(Route::new(format!("[4][{rd}][{esi}][{ip}]"))),
        ["type", "5", rd, octets, ..] => prefix_route(rd, octets),
        _ => None,
    }
}

/// A type 5 with an IPv4 prefix (RFC 9136 section 3.1) from its octets in hex.
fn prefix_route(rd: &str, octets: &str) -> Option<Route> {
    let octets: Vec<u8> = octets.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let body: [u8; 34] = octets.try_into().ok()?;
    let [_, _, _, _, _, _, _, _, _esi @ .., t1, t2, t3, t4, length, a, b, c, d, g1, g2, g3, g4, l1, l2, l3] = body;
    let tag = u32::from_be_bytes([t1, t2, t3, t4]);
    let mut route = Route::new(format!("[5][{rd}][{tag}][{a}.{b}.{c}.{d}/{length}]"));
    route.set(Attribute::Label, u32::from_be_bytes([0, l1, l2, l3]).to_string());
    if [g1, g2, g3, g4] != [0; 4] {
        route.set(Attribute::Gateway, format!("{g1}.{g2}.{g3}.{g4}"));
    }
    Some(route)
}

fn add(route: &mut Route, name: &str, value: &str) {
    match name {
        "from" => route.from = value.to_owned(),
        "evpn_esi" => route.set(Attribute::Esi, value),
        "bgp_origin" => route.set(Attribute::Origin, value.to_lowercase()),
        "bgp_path" => route.set(Attribute::AsPath, value),
        "bgp_next_hop" => route.set(Attribute::NextHop, value),
        "bgp_med" => route.set(Attribute::Med, value),
        "bgp_local_pref" => route.set(Attribute::LocalPref, value),
        "bgp_originator_id" => route.set(Attribute::OriginatorId, value),
        "bgp_cluster_list" => route.set(Attribute::ClusterList, value),
        "bgp_community" => route.set_all(Attribute::Communities, groups(value).map(|group| group.replace(',', ":"))),
        "bgp_ext_community" => route.set_all(Attribute::ExtendedCommunities, groups(value).map(extended)),
        "bgp_mpls_label_stack" => {
            let (label, label2) = value.split_once('/').unwrap_or((value, ""));
            route.set(Attribute::Label, label);
            route.set(Attribute::Label2, label2);
        }
        "bgp_pmsi_tunnel" => {
            if let ["ingress-replication", endpoint, "mpls", label] = *value.split(' ').collect::<Vec<_>>().as_slice() {
                route.set(Attribute::Label, label);
                route.set(Attribute::PmsiTunnel, format!("ingress-replication {label} {endpoint}"));
            }
        }
        _ => {}
    }
}

/// What stands between parentheses.
fn groups(value: &str) -> impl Iterator<Item = &str> {
    value.split('(').skip(1).filter_map(|group| Some(group.split_once(')')?.0))
}

fn extended(group: &str) -> String {
    let words: Vec<&str> = group.split(", ").collect();
    let hex = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let known = match *words.as_slice() {
        ["rt", asn, number] => Some(format!("rt:{asn}:{number}")),
        ["ro", asn, number] => community::of_as(3, &format!("{asn}:{number}")),
        ["generic", high, low] => hex(high)
            .zip(hex(low))
            .map(|(high, low)| community::text(((u64::from(high) << 32) | u64::from(low)).to_be_bytes())),
        _ => None,
    };
    known.unwrap_or_else(|| group.to_owned())
}

impl Daemon {
    /// Runs a command of BIRD's shell.
    pub fn birdc(&self, line: &str) -> String {
        let socket = self.place.file(SOCKET);
        let mut arguments = vec!["-s", &socket];
        arguments.extend(line.split_whitespace());
        self.ask("birdc", &arguments)
    }
}

/// What all configurations begin with: log, and the EVPN table `fabric`.
fn preamble(router_id: &str) -> String {
    format!(
        "router id {router_id};
log stderr all;
debug protocols {{ states, events }};
evpn table fabric;
protocol device {{}}
"
    )
}

/// A route reflector for everybody in `prefix`.
pub fn reflector_config(router_id: &str, prefix: &str) -> String {
    format!(
        "{}protocol bgp workers {{
  local as 65000;
  neighbor range {prefix} internal;
  dynamic name \"worker\";
  rr client;
  rr cluster id {router_id};
  evpn {{ table fabric; import all; export all; }};
}}
",
        preamble(router_id)
    )
}

/// A route reflector with graceful restart in both roles for these clients, which it waits for.
pub fn graceful_reflector_config(router_id: &str, clients: &[&str]) -> String {
    let client = |(number, client): (usize, &&str)| {
        format!(
            "protocol bgp worker{number} {{
  local as 65000;
  neighbor {client} internal;
  passive;
  graceful restart on;
  long lived graceful restart on;
  long lived stale time 600;
  rr client;
  rr cluster id {router_id};
  evpn {{ table fabric; import all; export all; }};
}}
"
        )
    };
    preamble(router_id) + &clients.iter().enumerate().map(client).collect::<String>()
}

/// A client whose table `fabric` is exchanged with one reflector.
pub fn client_config(router_id: &str, reflector: &str, port: u16) -> String {
    format!(
        "{}protocol bgp reflector {{
  local as 65000;
  neighbor {reflector} port {port} internal;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  evpn {{ table fabric; import all; export all; }};
}}
",
        preamble(router_id)
    )
}

/// A worker of the default AS with one LAN.
pub fn worker_config(router_id: &str, neighbor: &str, port: u16, vni: u32) -> String {
    let (asn, remote_asn, neighbor_lines, evpn_lines) = (65_000, 65_000, &[], &[]);
    RouterConfig { asn, router_id, neighbor, port, remote_asn, neighbor_lines, vni, evpn_lines }.to_string()
}

/// A worker or router that announces the one VXLAN device `vx<vni>` of `br<vni>` (see [`crate::handmade`]), with one
/// neighbour. It uses no route to whose next hop it has none, and derives neither distinguisher nor targets.
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
    /// What else is said of the neighbour, as in `password "key";`.
    pub neighbor_lines: &'a [&'a str],
    /// The VNI of its only LAN.
    pub vni: u32,
    /// Distinguisher and targets of the LAN; none for `65000:VNI`.
    pub evpn_lines: &'a [&'a str],
}

impl fmt::Display for RouterConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asn, router_id, neighbor, port, remote_asn, neighbor_lines, vni, evpn_lines } = self;
        let default = [format!("rd 65000:{vni};"), format!("route target (rt, 65000, {vni});")];
        let evpn = if evpn_lines.is_empty() { default.join(" ") } else { evpn_lines.join(" ") };
        let more = neighbor_lines.join(" ");
        write!(
            f,
            "{}protocol direct {{ ipv4; ipv6; }}
protocol bgp reflector {{
  local as {asn};
  neighbor {neighbor} port {port} as {remote_asn};
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  {more}
  evpn {{ table fabric; import all; export all; }};
}}
eth table lan;
protocol bridge {{
  eth {{ table lan; export all; }};
  bridge device \"br{vni}\";
}}
protocol evpn {{
  eth {{ table lan; }};
  evpn {{ table fabric; }};
  {evpn}
  vni {vni};
  encapsulation vxlan {{ tunnel device \"vx{vni}\"; }};
}}
",
            preamble(router_id)
        )
    }
}
