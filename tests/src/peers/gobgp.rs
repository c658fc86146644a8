//! GoBGP: `gobgpd`, asked with `gobgp -j`. It has no VXLAN devices; routes are given to it by [`Daemon::gobgp`].

use super::place::Place;
use super::{Daemon, Dialect, Program, json, words};
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

    fn programs(&self, place: &Place) -> Vec<Program> {
        vec![Program {
            name: "gobgpd",
            path: "gobgpd".to_owned(),
            arguments: words(&["-f", &place.file(CONFIG), "--pprof-disable", "--api-hosts", "127.0.0.1:50051"]),
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
