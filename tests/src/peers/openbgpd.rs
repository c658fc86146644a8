//! OpenBGPD: `bgpd`, asked with `bgpctl -j`. It carries EVPN routes and originates none.

use super::place::Place;
use super::{Daemon, Dialect, Life, Program, json, words};
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

/// What all configurations begin with.
fn preamble(router_id: &str) -> String {
    format!(
        "AS 65000
router-id {router_id}
fib-update no
socket \"/run/{SOCKET}\"
"
    )
}

/// What every session is given.
const EVPN: &str = "  remote-as 65000
  announce IPv4 none
  announce IPv6 none
  announce EVPN
";

/// A route reflector for everybody in `prefix`.
pub fn reflector_config(router_id: &str, prefix: &str) -> String {
    format!(
        "{}neighbor {prefix} {{
{EVPN}  descr \"worker\"
  route-reflector
}}
allow from any
allow to any
",
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
allow from any
allow to any
",
        preamble(router_id)
    )
}
