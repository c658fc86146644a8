//! GoBGP: `gobgpd`, asked with `gobgp -j`. It has no VXLAN devices; routes are given to it by [`Daemon::gobgp`].

use serde_json::Value;

use super::place::Place;
use super::table::{Attribute, Route};
use super::{Daemon, Dialect, Life, Program, community, json, text_of, words};
use crate::host::Host;

const CONFIG: &str = "gobgpd.toml";

#[derive(Debug)]
pub(super) struct Gobgp;

impl Dialect for Gobgp {
    fn place(&self, host: &Host) -> Place {
        Place::sid(host.directory().join("gobgp"))
    }

    fn config_file(&self) -> &'static str {
        CONFIG
    }

    fn programs(&self, place: &Place, life: Life) -> Vec<Program> {
        let mut arguments = words(&["-f", &place.file(CONFIG), "--pprof-disable", "--api-hosts", "127.0.0.1:50051"]);
        if life == Life::Later {
            // It sets the R and F bits only where told so at its start.
            arguments.push("--graceful-restart".to_owned());
        }
        vec![Program {
            name: "gobgpd",
            path: "gobgpd".to_owned(),
            arguments,
            ready: words(&["gobgp", "global"]),
            leftovers: Vec::new(),
        }]
    }

    fn version(&self, daemon: &Daemon) -> String {
        daemon.ask("gobgpd", &["--version"]).trim().replace("gobgpd version", "GoBGP")
    }

    fn established(&self, daemon: &Daemon) -> usize {
        let neighbors = json(&daemon.gobgp("neighbor -j"));
        let neighbors = neighbors.as_array().into_iter().flatten();
        neighbors.filter(|neighbor| neighbor["state"]["session_state"] == 6).count()
    }

    fn routes(&self, daemon: &Daemon) -> Vec<Route> {
        let table = json(&daemon.gobgp("global rib -a evpn -j"));
        let paths = table.as_object().into_iter().flatten().filter_map(|(_, paths)| paths.as_array());
        paths.flatten().filter_map(route).collect()
    }

    fn hidden(&self) -> &'static [Attribute] {
        &[Attribute::Unknown]
    }
}

fn route(path: &Value) -> Option<Route> {
    let nlri = &path["nlri"]["value"];
    let rd = format!("{}:{}", text_of(&nlri["rd"]["admin"]), text_of(&nlri["rd"]["assigned"]));
    let [tag, mac, ip, prefix] = ["etag", "mac", "ip", "prefix"].map(|name| text_of(&nlri[name]));
    let esi = esi(&text_of(&nlri["esi"]));
    let segment = esi.clone().unwrap_or_else(|| "00:00:00:00:00:00:00:00:00:00".to_owned());
    let (key, in_key) = match path["nlri"]["type"].as_u64()? {
        1 => (format!("[1][{rd}][{segment}][{tag}]"), true),
        2 if ip.is_empty() => (format!("[2][{rd}][{tag}][{mac}]"), false),
        2 => (format!("[2][{rd}][{tag}][{mac}][{ip}]"), false),
        3 => (format!("[3][{rd}][{tag}][{ip}]"), false),
        4 => (format!("[4][{rd}][{segment}][{ip}]"), true),
        5 => (format!("[5][{rd}][{tag}][{prefix}]"), false),
        _ => return None,
    };
    let mut route = Route::new(key);
    route.from = text_of(&path["peer-address"]);
    route.set(Attribute::Esi, if in_key { None } else { esi }.unwrap_or_default());
    let label = |index: usize| text_of(&nlri["labels"][index]);
    route.set(Attribute::Label, label(0));
    route.set(Attribute::Label, text_of(&nlri["label"]));
    route.set(Attribute::Label2, label(1));
    let gateway = text_of(&nlri["gateway"]);
    route.set(Attribute::Gateway, if gateway == "0.0.0.0" || gateway == "::" { String::new() } else { gateway });
    path["attrs"].as_array().into_iter().flatten().for_each(|attribute| add(&mut route, attribute));
    Some(route)
}

/// The ten octets of `ESI_ARBITRARY | 01:…`; nothing of the reserved segment 0.
fn esi(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once(" | ")?;
    let kind = match kind {
        "ESI_ARBITRARY" => "00",
        other => other,
    };
    Some(format!("{kind}:{rest}"))
}

fn add(route: &mut Route, attribute: &Value) {
    let value = &attribute["value"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match attribute["type"].as_u64() {
        Some(1) => {
            let names = ["igp", "egp", "incomplete"];
            let name = value.as_u64().and_then(|code| usize::try_from(code).ok()).and_then(|code| names.get(code));
            route.set(Attribute::Origin, name.copied().unwrap_or_default());
        }
        Some(2) => {
            let segments = list(&attribute["as_paths"]);
            let numbers = segments.iter().flat_map(|segment| list(&segment["asns"]));
            route.set(Attribute::AsPath, numbers.map(|asn| text_of(&asn)).collect::<Vec<_>>().join(" "));
        }
        Some(4) => route.set(Attribute::Med, text_of(&attribute["metric"])),
        Some(5) => route.set(Attribute::LocalPref, text_of(value)),
        Some(8) => {
            let numbers = list(&attribute["communities"]);
            let numbers = numbers.iter().filter_map(Value::as_u64);
            route.set_all(Attribute::Communities, numbers.map(|c| format!("{}:{}", c >> 16, c & 0xffff)));
        }
        Some(9) => route.set(Attribute::OriginatorId, text_of(value)),
        Some(10) => {
            route.set(Attribute::ClusterList, list(value).iter().map(text_of).collect::<Vec<_>>().join(" "));
        }
        Some(14) => route.set(Attribute::NextHop, text_of(&attribute["nexthop"])),
        Some(16) => route.set_all(Attribute::ExtendedCommunities, list(value).iter().map(extended)),
        Some(22) => {
            let [label, endpoint] = ["label", "tunnel-id"].map(|name| text_of(&attribute[name]));
            route.set(Attribute::Label, &*label);
            let kind = match attribute["tunnel-type"].as_u64() {
                Some(6) => "ingress-replication".to_owned(),
                other => format!("type-{}", other.unwrap_or_default()),
            };
            route.set(Attribute::PmsiTunnel, format!("{kind} {label} {endpoint}"));
        }
        other => route.set_all(Attribute::Unknown, other.map(|code| code.to_string())),
    }
}

fn extended(value: &Value) -> String {
    let number = |name: &str| value[name].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    let text = text_of(&value["value"]);
    let known = match (value["type"].as_u64(), value["subtype"].as_u64()) {
        (Some(0..=2), Some(2)) => Some(community::target(&text)),
        (Some(0), Some(3)) => community::of_as(3, &text),
        (Some(3), Some(12)) => Some(format!("encapsulation:{}", number("tunnel_type"))),
        (Some(3), Some(13)) => Some("0x030d000000000000".to_owned()),
        (Some(6), Some(0)) => Some(community::mobility(number("sequence"), value["is_sticky"] == true)),
        (Some(6), Some(1)) => {
            let [_, a, b, c] = number("label").to_be_bytes();
            Some(community::text([6, 1, u8::from(value["is_single_active"] == true), 0, 0, a, b, c]))
        }
        (Some(6), Some(2)) => community::with_mac(6, 2, &text),
        (Some(6), Some(3)) => community::with_mac(6, 3, &text_of(&value["mac"])),
        _ => None,
    };
    known.unwrap_or_else(|| value.to_string())
}

impl Daemon {
    /// Runs `gobgp` with these words.
    pub fn gobgp(&self, line: &str) -> String {
        self.ask("gobgp", &line.split_whitespace().collect::<Vec<_>>())
    }
}

/// A route reflector for everybody in `prefix`, with RT-constrain (RFC 4684).
pub fn reflector_config(router_id: &str, prefix: &str) -> String {
    format!(
        r#"[global.config]
  as = 65000
  router-id = "{router_id}"
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "workers"
    peer-as = 65000
  [peer-groups.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "{router_id}"
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "l2vpn-evpn"
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "rtc"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "{prefix}"
    peer-group = "workers"
"#
    )
}

/// A route reflector with graceful restart in both roles for these clients, which it waits for.
pub fn graceful_reflector_config(router_id: &str, clients: &[&str]) -> String {
    let family = |name: &str| {
        format!(
            r#"  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "{name}"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
    [neighbors.afi-safis.long-lived-graceful-restart.config]
      enabled = true
      restart-time = 600
"#
        )
    };
    let client = |client: &&str| {
        format!(
            r#"[[neighbors]]
  [neighbors.config]
    neighbor-address = "{client}"
    peer-as = 65000
  [neighbors.transport.config]
    passive-mode = true
  [neighbors.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "{router_id}"
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 120
    notification-enabled = true
    long-lived-enabled = true
{}{}"#,
            family("l2vpn-evpn"),
            family("rtc")
        )
    };
    let global = format!("[global.config]\n  as = 65000\n  router-id = \"{router_id}\"\n");
    global + &clients.iter().map(client).collect::<String>()
}

/// A client that is sent everything: with RT-constrain it would name the targets of its VRFs only.
pub fn client_config(router_id: &str, reflector: &str, port: u16) -> String {
    format!(
        r#"[global.config]
  as = 65000
  router-id = "{router_id}"
  port = -1
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{reflector}"
    peer-as = 65000
  [neighbors.transport.config]
    remote-port = {port}
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "l2vpn-evpn"
"#
    )
}
