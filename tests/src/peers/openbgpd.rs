//! OpenBGPD: `bgpd`, asked with `bgpctl -j`. It carries EVPN routes and originates none.

use serde_json::Value;

use super::place::Place;
use super::table::{Attribute, Route};
use super::{Daemon, Dialect, Life, Program, community, json, text_of, words};
use crate::host::Host;

const CONFIG: &str = "bgpd.conf";
const SOCKET: &str = "bgpd.sock";

#[derive(Debug)]
pub(super) struct Openbgpd;

impl Dialect for Openbgpd {
    fn place(&self, host: &Host) -> Place {
        let place = Place::sid(host.directory().join("openbgpd"));
        // Its processes give up their rights in this directory.
        let made = place.run(host, "mkdir", &["-p", &place.file("openbgpd")]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        place
    }

    fn config_file(&self) -> &'static str {
        CONFIG
    }

    fn programs(&self, place: &Place, _life: Life) -> Vec<Program> {
        vec![Program {
            name: "bgpd",
            path: "bgpd".to_owned(),
            arguments: words(&["-d", "-v", "-f", &place.file(CONFIG)]),
            ready: words(&["bgpctl", "-s", &place.file(SOCKET), "show"]),
            leftovers: words(&[SOCKET]),
        }]
    }

    fn version(&self, daemon: &Daemon) -> String {
        // It says so on its standard error.
        let output = daemon.run("bgpd", &["-V"]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
    }

    fn established(&self, daemon: &Daemon) -> usize {
        let answer = json(&daemon.bgpctl("show neighbor"));
        let neighbors = answer["neighbors"].as_array().into_iter().flatten();
        neighbors.filter(|neighbor| neighbor["state"] == "Established").count()
    }

    fn routes(&self, daemon: &Daemon) -> Vec<Route> {
        let table = json(&daemon.bgpctl("show rib table fabric detail"));
        table["rib"].as_array().into_iter().flatten().filter_map(route).collect()
    }

    fn hidden(&self) -> &'static [Attribute] {
        &[Attribute::Unknown, Attribute::Label2]
    }
}

fn route(path: &Value) -> Option<Route> {
    let prefix = text_of(&path["prefix"]);
    let parts: Vec<&str> = prefix.strip_prefix('[')?.rsplit_once("]/")?.0.split("]:[").collect();
    // It prints no Ethernet tag.
    let mut route = match *parts.as_slice() {
        ["2", rd, esi, label, _, mac] => type_2(format!("[2][{}][0][{mac}]", rd.strip_prefix("rd ")?), esi, label),
        ["2", rd, esi, label, _, mac, _, ip] => {
            type_2(format!("[2][{}][0][{mac}][{ip}]", rd.strip_prefix("rd ")?), esi, label)
        }
        ["3", rd, _, ip] => Route::new(format!("[3][{}][0][{ip}]", rd.strip_prefix("rd ")?)),
        _ => return None,
    };
    route.from = text_of(&path["neighbor"]["remote_addr"]);
    route.set(Attribute::NextHop, text_of(&path["exit_nexthop"]));
    route.set(Attribute::Origin, text_of(&path["origin"]).to_lowercase());
    route.set(Attribute::AsPath, text_of(&path["aspath"]));
    // It prints 0 for none, and keeps them apart nowhere else.
    route.set(Attribute::Med, Some(text_of(&path["metric"])).filter(|med| med != "0").unwrap_or_default());
    route.set(Attribute::LocalPref, text_of(&path["localpref"]));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    route.set_all(Attribute::Communities, list(&path["communities"]).iter().map(text_of));
    let extended = list(&path["extended_communities"]);
    route.set_all(Attribute::ExtendedCommunities, extended.iter().map(|value| community(&text_of(value))));
    for attribute in list(&path["attributes"]) {
        route.set(Attribute::OriginatorId, text_of(&attribute["originator"]));
        let clusters = list(&attribute["cluster_list"]);
        route.set(Attribute::ClusterList, clusters.iter().map(text_of).collect::<Vec<_>>().join(" "));
        if attribute["type"] == "Unknown Attribute #22" {
            pmsi_tunnel(&mut route, &text_of(&attribute["data"]));
        }
    }
    Some(route)
}

fn type_2(key: String, esi: &str, label: &str) -> Route {
    let mut route = Route::new(key);
    route.set(Attribute::Label, label);
    route.set(Attribute::Esi, esi);
    route
}

/// PMSI_TUNNEL (RFC 6514 section 5), which it carries without understanding it, from its octets in hex.
fn pmsi_tunnel(route: &mut Route, data: &str) {
    let octet = |index: usize| data.get(index * 2..index * 2 + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let octets: Vec<u8> = (0..).map_while(octet).collect();
    if let [_, 6, l1, l2, l3, a, b, c, d] = *octets.as_slice() {
        let label = u32::from_be_bytes([0, l1, l2, l3]).to_string();
        route.set(Attribute::PmsiTunnel, format!("ingress-replication {label} {a}.{b}.{c}.{d}"));
        route.set(Attribute::Label, label);
    }
}

/// Type and sub-type of a community that it prints as a number; of what it has no name for, it prints both.
fn code(name: &str) -> Option<[u8; 2]> {
    match name {
        "mac-mob" => Some([6, 0]),
        "esi-lab" => Some([6, 1]),
        "esi-rt" => Some([6, 2]),
        "defgw" => Some([3, 0x0d]),
        _ => {
            let (kind, sub_type) = name.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
            Some([u8::from_str_radix(kind, 16).ok()?, u8::from_str_radix(sub_type, 16).ok()?])
        }
    }
}

fn community(text: &str) -> String {
    let known = text.split_once(' ').and_then(|(name, value)| match name {
        "rt" => Some(community::target(value)),
        "soo" => community::of_as(3, value),
        "encap" => Some(format!("encapsulation:{}", u16::from_str_radix(value.strip_prefix("0x")?, 16).ok()?)),
        name => {
            let [kind, sub_type] = code(name)?;
            let [_, _, rest @ ..] = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?.to_be_bytes();
            let [a, b, c, d, e, g] = rest;
            Some(community::text([kind, sub_type, a, b, c, d, e, g]))
        }
    });
    known.unwrap_or_else(|| text.to_owned())
}

impl Daemon {
    /// Runs a command of OpenBGPD's shell and returns its JSON.
    pub fn bgpctl(&self, line: &str) -> String {
        let socket = self.place.file(SOCKET);
        let mut arguments = vec!["-j", "-s", &socket];
        arguments.extend(line.split_whitespace());
        self.ask("bgpctl", &arguments)
    }
}

/// What all configurations begin with. EVPN routes must not come into the RIB that OpenBGPD's portable version hands to
/// the kernel: it does not know them there and ends (`kr_change: not handled AID`), whatever `fib-update` says. A RIB
/// of another name is never handed to the kernel.
fn preamble(router_id: &str) -> String {
    format!(
        "AS 65000
router-id {router_id}
fib-update no
socket \"/run/{SOCKET}\"
rde rib fabric
"
    )
}

/// What every session is given.
const EVPN: &str = "  remote-as 65000
  rib fabric
  announce IPv4 none
  announce IPv6 none
  announce EVPN
";

const FILTER: &str = "deny rib Loc-RIB from any
allow rib fabric from any
allow to any
";

/// A route reflector for everybody in `prefix`.
pub fn reflector_config(router_id: &str, prefix: &str) -> String {
    format!(
        "{}neighbor {prefix} {{
{EVPN}  descr \"worker\"
  route-reflector
}}
{FILTER}",
        preamble(router_id)
    )
}

/// A client of one reflector.
pub fn client_config(router_id: &str, reflector: &str, port: u16) -> String {
    format!(
        "{}connect-retry 1
neighbor {reflector} {{
{EVPN}  descr \"reflector\"
  port {port}
}}
{FILTER}",
        preamble(router_id)
    )
}
