//! BIRD 3: `bird`, asked with `birdc`.

use super::place::Place;
use super::{Daemon, Dialect, Life, Program, words};
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

/// A worker that announces the one VXLAN device `vx<vni>` of `br<vni>` (see [`crate::handmade`]), with one reflector.
/// Distinguisher and targets are `65000:VNI`, since BIRD derives none; it uses no route to whose next hop it has none.
pub fn worker_config(router_id: &str, reflector: &str, port: u16, vni: u32) -> String {
    format!(
        "{}protocol direct {{ ipv4; ipv6; }}
eth table lan;
protocol bridge {{
  eth {{ table lan; export all; }};
  bridge device \"br{vni}\";
}}
protocol evpn {{
  eth {{ table lan; }};
  evpn {{ table fabric; }};
  rd 65000:{vni};
  route target (rt, 65000, {vni});
  vni {vni};
  encapsulation vxlan {{ tunnel device \"vx{vni}\"; }};
}}
",
        client_config(router_id, reflector, port)
    )
}
