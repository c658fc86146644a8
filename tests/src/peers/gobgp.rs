//! GoBGP: `gobgpd`, asked with `gobgp -j`. It has no VXLAN devices; routes are given to it by [`Daemon::gobgp`].

use super::place::Place;
use super::{Daemon, Dialect, Life, Program, json, words};
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
