//! FRR on a host: its daemons with configuration and sockets of their own.

use std::path::PathBuf;

use crate::host::Host;
use crate::{programs, wait};

const LIBRARY: &str = "/usr/lib/frr";

/// FRR daemons on one host.
#[derive(Debug)]
pub struct Frr {
    directory: PathBuf,
}

impl Frr {
    /// Starts zebra and bgpd with this configuration.
    ///
    /// # Panics
    ///
    /// If FRR cannot be installed or does not start.
    pub fn start(host: &mut Host, config: &str) -> Self {
        programs::require("bgpd", "frr");
        let directory = host.directory().join("frr");
        std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{error}"));
        let file = directory.join("frr.conf");
        std::fs::write(&file, config).unwrap_or_else(|error| panic!("{error}"));
        host.sh(&format!("chown -R frr:frr {0} && chmod 755 {0}", directory.display()));
        let frr = Self { directory };
        for daemon in ["zebra", "bgpd"] {
            frr.spawn(host, daemon);
        }
        frr
    }

    fn spawn(&self, host: &mut Host, daemon: &str) {
        let directory = self.directory.display();
        let mut command = host.command(format!("{LIBRARY}/{daemon}"));
        command.args(["-f", &format!("{directory}/frr.conf")]);
        command.args(["-i", &format!("{directory}/{daemon}.pid")]);
        command.args(["-z", &format!("{directory}/zserv.api")]);
        command.args(["--vty_socket", &directory.to_string()]);
        command.args(["--log", "stdout", "--log-level", "informational"]);
        host.spawn(daemon, command);
        let socket = self.directory.join(format!("{daemon}.vty"));
        wait::until_true(&format!("{daemon} to open {}", socket.display()), || socket.exists());
    }

    /// Runs a vtysh command.
    pub fn vtysh(&self, host: &Host, line: &str) -> String {
        let directory = self.directory.display();
        let output = host.try_sh(&format!("vtysh --vty_socket {directory} -c '{line}'"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The version that runs.
    pub fn version(&self, host: &Host) -> String {
        self.vtysh(host, "show version").lines().next().unwrap_or_default().to_owned()
    }

    /// How many BGP sessions are established.
    ///
    /// # Panics
    ///
    /// If bgpd's answer is not understood.
    pub fn established(&self, host: &Host) -> usize {
        let answer = self.vtysh(host, "show bgp l2vpn evpn summary json");
        let Ok(summary) = serde_json::from_str::<serde_json::Value>(&answer) else { return 0 };
        let peers = summary["peers"].as_object().into_iter().flatten();
        peers.filter(|(_, peer)| peer["state"] == "Established").count()
    }
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

/// A worker that announces every VXLAN device of its namespace, with one reflector at `ADDR` and `port`.
pub fn worker_config(router_id: &str, reflector: &str, port: u16) -> String {
    format!(
        "frr defaults datacenter
router bgp 65000
 bgp router-id {router_id}
 no bgp default ipv4-unicast
 neighbor {reflector} remote-as internal
 neighbor {reflector} port {port}
 neighbor {reflector} timers connect 1
 address-family l2vpn evpn
  neighbor {reflector} activate
  advertise-all-vni
 exit-address-family
"
    )
}
