//! What each daemon announces of its own: FRR and BIRD a LAN of the kernel, GoBGP routes of all types by its shell.
//! OpenBGPD has no way to originate EVPN routes.

use tests::fabric::{LAN, MACS};
use tests::handmade;
use tests::host::Host;
use tests::peers::{Daemon, Software, bird, frr};

/// Where the daemon is, VTEP and router id.
pub const ADDRESS: &str = "10.0.0.21";

/// GoBGP's routes, in the words of its shell; 0.0.0.0 stands for no address.
const ROUTES: [&str; 6] = [
    "macadv 02:00:00:00:00:77 0.0.0.0 etag 0 label 100 rd 10.0.0.21:100 rt 65000:100 encap vxlan nexthop 10.0.0.21",
    "macadv 02:00:00:00:00:77 192.168.1.77 etag 0 label 100 rd 10.0.0.21:100 rt 65000:100 encap vxlan nexthop 10.0.0.21",
    "multicast 10.0.0.21 etag 0 rd 10.0.0.21:100 rt 65000:100 encap vxlan pmsi ingress-repl 100 10.0.0.21 nexthop 10.0.0.21",
    "a-d esi ARBITRARY 1 2 3 4 5 6 7 8 9 etag 0 label 100 rd 10.0.0.21:100 rt 65000:100 esi-label 100 all-active nexthop 10.0.0.21",
    "esi 10.0.0.21 esi ARBITRARY 1 2 3 4 5 6 7 8 9 rd 10.0.0.21:100 rt 65000:100 nexthop 10.0.0.21",
    "prefix 172.16.2.0/24 gw 192.168.1.77 etag 0 label 100 rd 10.0.0.21:100 rt 65000:100 encap vxlan nexthop 10.0.0.21",
];

/// How many routes [`start`] makes the daemon announce at least: those of types 2 and 3, or GoBGP's.
pub fn count(software: Software) -> usize {
    match software {
        Software::FrrDebian | Software::FrrSid | Software::Bird => 2,
        Software::Gobgp => ROUTES.len(),
        Software::Openbgpd => 0,
    }
}

/// What a client's configuration says of restarts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restarts {
    /// Nothing: what the daemon does by itself.
    Default,
    /// All that it can do to be missed by nobody.
    Graceful,
}

/// Starts the daemon as a client of a reflector, with what it announces, and a device behind it where it has a LAN.
pub fn start(software: Software, host: Host, reflector: &str, port: u16, restarts: Restarts) -> (Daemon, Option<Host>) {
    let has_lan = matches!(software, Software::FrrDebian | Software::FrrSid | Software::Bird);
    let device = has_lan.then(|| Host::new("theirs"));
    if let Some(device) = &device {
        handmade::lan(&host, LAN, ADDRESS);
        handmade::plug(&host, device, LAN, MACS[3], "192.168.1.4/24");
    }
    let config = match software {
        Software::FrrDebian | Software::FrrSid => frr::worker_config(ADDRESS, reflector, port),
        Software::Bird => bird::worker_config(ADDRESS, reflector, port, LAN),
        Software::Gobgp | Software::Openbgpd => software.client_config(ADDRESS, reflector, port),
    };
    let config = if restarts == Restarts::Graceful { graceful(software, &config) } else { config };
    let daemon = Daemon::start(software, host, &config);
    if software == Software::Gobgp {
        gobgp(&daemon, "add");
    }
    (daemon, device)
}

/// The client's configuration with graceful restart.
fn graceful(software: Software, config: &str) -> String {
    match software {
        Software::FrrDebian | Software::FrrSid => config.replacen(
            " no bgp default",
            " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n no bgp default",
            1,
        ),
        Software::Bird => config.replacen(
            "  connect delay",
            "  graceful restart on;\n  long lived graceful restart on;\n  connect delay",
            1,
        ),
        Software::Gobgp => format!(
            "{config}    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n  \
             [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 120\n    \
             notification-enabled = true\n"
        ),
        // It is a helper by itself, and never asks for help.
        Software::Openbgpd => config.to_owned(),
    }
}

/// Withdraws what [`start`] made it announce, as far as the kernel's LAN may stay.
pub fn withdraw(daemon: &Daemon, device: Option<&Host>) {
    if daemon.software() == Software::Gobgp {
        gobgp(daemon, "del");
    }
    if let Some(device) = device {
        handmade::unplug(&daemon.host, device);
    }
}

/// Gives GoBGP its routes, or takes them away; it keeps none across a restart.
pub fn gobgp(daemon: &Daemon, verb: &str) {
    for route in ROUTES {
        let answer = daemon.gobgp(&format!("global rib {verb} -a evpn {route}"));
        assert!(answer.is_empty(), "{route}: {answer}");
    }
}
