//! One underlay of both address families with our reflector, one worker of ours, one of another make, a device each.

use tests::fabric::{Family, LAN, MACS, PORT};
use tests::handmade;
use tests::host::{Host, Underlay};
use tests::overlay::{Reflector, Worker};
use tests::peers::{Daemon, Software, bird, frr};
use tests::wait;

/// Addresses of the devices behind ours and behind theirs.
pub const ADDRESSES: [&str; 2] = ["192.168.1.1", "192.168.1.2"];
/// Our reflector's socket.
pub const REFLECTOR: &str = "10.0.0.1:1179";
/// The row that frames for everybody follow.
pub const FLOOD: &str = "00:00:00:00:00:00";
/// Host numbers: reflector, our worker, the other.
const NUMBERS: [usize; 3] = [1, 11, 21];
const THEIR_ROUTER_ID: &str = "10.0.0.21";

/// How the other worker speaks, beside what is common to all.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// What it is.
    pub software: Software,
    /// Its AS.
    pub asn: u32,
    /// Of its BGP session.
    pub session: Family,
    /// Of everybody's VXLAN.
    pub vteps: Family,
    /// Of our reflector as neighbour, in its configuration.
    pub neighbor: &'a [&'a str],
    /// In its address family.
    pub evpn: &'a [&'a str],
    /// Of it as peer, in our reflector's configuration.
    pub settings: &'a str,
    /// Our reflector has no configuration and knows it by `--router` alone.
    pub by_flag: bool,
}

impl Role<'_> {
    /// A worker in the default AS over IPv4.
    pub const fn of(software: Software) -> Self {
        let (session, vteps) = (Family::V4, Family::V4);
        Self { software, asn: 65_000, session, vteps, neighbor: &[], evpn: &[], settings: "", by_flag: false }
    }

    fn config(&self) -> String {
        let neighbor = self.session.address(NUMBERS[0]);
        if self.software == Software::Bird {
            let config = bird::RouterConfig {
                asn: self.asn,
                router_id: THEIR_ROUTER_ID,
                neighbor: &neighbor,
                port: PORT,
                remote_asn: 65_000,
                neighbor_lines: self.neighbor,
                vni: LAN,
                evpn_lines: self.evpn,
            };
            return config.to_string();
        }
        let config = frr::RouterConfig {
            asn: self.asn,
            neighbor_lines: self.neighbor,
            evpn_lines: self.evpn,
            ..frr::RouterConfig::new(THEIR_ROUTER_ID, &neighbor, PORT)
        };
        config.to_string()
    }
}

/// Everything, running.
pub struct Lab {
    underlay: Underlay,
    pub reflector: Reflector,
    pub ours: Worker,
    pub theirs: Daemon,
    pub our_device: Host,
    pub their_device: Host,
    pub vteps: Family,
    pub session: Family,
}

impl Lab {
    /// Starts all of it; sessions may come up later.
    pub fn start(role: &Role<'_>) -> Self {
        let underlay = Underlay::new(1_500);
        let reflector = reflector(host(&underlay, "rr", NUMBERS[0]), role);
        let our_vtep = role.vteps.address(NUMBERS[1]);
        let ours = Worker::start(host(&underlay, "ours", NUMBERS[1]), &our_vtep, &[REFLECTOR], &[]);
        let theirs = host(&underlay, "theirs", NUMBERS[2]);
        handmade::lan(&theirs, LAN, &role.vteps.address(NUMBERS[2]));
        let [our_device, their_device] = [Host::new("here"), Host::new("there")];
        handmade::plug(&theirs, &their_device, LAN, MACS[1], &format!("{}/24", ADDRESSES[1]));
        let theirs = Daemon::start(role.software, theirs, &role.config());
        eprintln!("{} as {role:?}", theirs.version());
        ours.attach(&our_device, LAN, MACS[0], &format!("{}/24", ADDRESSES[0]));
        let (vteps, session) = (role.vteps, role.session);
        Self { underlay, reflector, ours, theirs, our_device, their_device, vteps, session }
    }

    /// Starts all of it and waits for the sessions.
    pub fn established(role: &Role<'_>) -> Self {
        let lab = Self::start(role);
        lab.ours.wait_established();
        let peer = lab.their_session();
        wait::until("their session", || match lab.reflector.peer(&peer) {
            Some(row) if row.state == "Established" => Ok(()),
            row => Err(format!("{row:?}")),
        });
        lab
    }

    /// One more host of the underlay.
    pub fn host(&self, label: &str, number: usize) -> Host {
        host(&self.underlay, label, number)
    }

    pub fn their_session(&self) -> String {
        self.session.address(NUMBERS[2])
    }

    pub fn our_vtep(&self) -> String {
        self.vteps.address(NUMBERS[1])
    }

    pub fn their_vtep(&self) -> String {
        self.vteps.address(NUMBERS[2])
    }

    /// Where their kernel sends frames for this MAC: a VTEP, if not to a port of its own.
    pub fn their_row(&self, mac: &str) -> Option<String> {
        // A bridge row that a local frame took over may leave one on the VXLAN device, which nothing reaches any more.
        let port = handmade::port_of(&self.theirs.host, LAN, mac);
        let is_remote = mac == FLOOD || port.is_some_and(|port| port == format!("vx{LAN}"));
        is_remote.then(|| handmade::vtep_of(&self.theirs.host, LAN, mac)).flatten()
    }

    /// Waits until their kernel sends frames for this MAC to our VTEP, or to none.
    pub fn wait_their_row(&self, mac: &str, at_ours: bool) {
        let wanted = at_ours.then(|| self.our_vtep());
        wait::until(&format!("{mac} at theirs to be behind {wanted:?}"), || {
            let found = self.their_row(mac);
            if found == wanted { Ok(()) } else { Err(format!("it is behind {found:?}")) }
        });
    }

    /// Waits until our kernel sends frames for this MAC to their VTEP, or has no row for it.
    pub fn wait_our_row(&self, mac: &str, at_theirs: bool) {
        let vtep = at_theirs.then(|| self.their_vtep().parse().unwrap_or_else(|error| panic!("{error}")));
        self.ours.wait_row(LAN, mac, vtep);
    }

    /// Waits until both devices ping each other and each side has the other's row.
    pub fn wait_meeting(&self) {
        self.our_device.wait_pings(ADDRESSES[1]);
        self.their_device.wait_pings(ADDRESSES[0]);
        self.wait_our_row(MACS[1], true);
        self.wait_their_row(MACS[0], true);
        self.wait_our_row(FLOOD, true);
        self.wait_their_row(FLOOD, true);
    }
}

fn host(underlay: &Underlay, label: &str, number: usize) -> Host {
    let addresses = [format!("{}/24", Family::V4.address(number)), format!("{}/64", Family::V6.address(number))];
    underlay.host(label, &addresses.each_ref().map(String::as_str))
}

fn reflector(host: Host, role: &Role<'_>) -> Reflector {
    let sockets = [Family::V4, Family::V6].map(|family| family.socket(&family.address(NUMBERS[0])));
    let (peer, asn) = (role.session.address(NUMBERS[2]), role.asn);
    if role.by_flag {
        let router = format!("{peer}@{asn}");
        return Reflector::start(host, &sockets.join(","), &[Family::V4.prefix()], &["--router", &router]);
    }
    let config = format!(
        "listen = {sockets:?}\n[[accept]]\nprefix = \"10.0.0.0/24\"\n\
         [[peer]]\naddress = \"{peer}\"\nasn = {asn}\n{}\n",
        role.settings
    );
    Reflector::configured(host, &config)
}
