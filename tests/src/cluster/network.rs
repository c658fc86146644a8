//! The underlay: one switch that all nodes are plugged into, with the router and the control plane on it.
//!
//! The switch is a bridge in the cluster's own network namespace. Its address is the router's: the way of pods from node
//! to node, as in a data centre whose routers know every node's pod network.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Result;
use super::keeper::Keeper;

/// The router and the control plane.
const FIRST: u8 = 1;
/// The IPv4 address of the router and the control plane.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, FIRST);
/// Pods of all nodes.
pub const PODS: &str = "10.244.0.0/16";
/// Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// The Service of the API.
pub const API_SERVICE: &str = "10.96.0.1";
/// The port of kube-apiserver.
pub const API_PORT: u16 = 6_443;
/// The switch.
const SWITCH: &str = "br0";

/// The addresses that nodes have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum Families {
    /// IPv4 alone.
    #[default]
    V4,
    /// Both, IPv4 first.
    V4V6,
    /// Both, IPv6 first.
    V6V4,
}

/// Where a node is on the underlay: 2 to 99 and unlike all others.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub struct Place(u8);

impl Place {
    /// The place with this number, if there is one.
    pub fn new(number: u8) -> Option<Self> {
        (2..=99).contains(&number).then_some(Self(number))
    }

    /// Its number, 2 to 99.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The pods of the node there.
    pub fn pods(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// The MAC of the node's interface, which stays the same through reboots.
    pub fn mac(self) -> String {
        format!("02:00:5e:10:00:{:02x}", self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Families {
    /// The addresses of a place, in the order in which kubelet is told.
    pub fn addresses(self, place: Place) -> Vec<String> {
        self.of(place.0)
    }

    /// The addresses of the router and the control plane.
    pub fn router(self) -> Vec<String> {
        self.of(FIRST)
    }

    fn of(self, number: u8) -> Vec<String> {
        let (v4, v6) = (format!("192.0.2.{number}"), format!("2001:db8::{number}"));
        match self {
            Self::V4 => vec![v4],
            Self::V4V6 => vec![v4, v6],
            Self::V6V4 => vec![v6, v4],
        }
    }
}

/// With the length of the underlay's prefix.
pub fn with_length(address: &str) -> String {
    let length = if address.contains(':') { 64 } else { 24 };
    format!("{address}/{length}")
}

/// The URL of the API on the underlay.
pub fn server() -> String {
    format!("https://{ROUTER}:{API_PORT}")
}

/// Makes the switch with the router's addresses.
pub fn create(keeper: &Keeper, families: Families, mtu: u32) -> Result<()> {
    let mut script = format!(
        "set -e
        ip link add {SWITCH} mtu {mtu} type bridge mcast_snooping 0
        sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.{SWITCH}.send_redirects=0
        sysctl -q -w net.ipv6.conf.all.forwarding=1
        ip link set {SWITCH} up\n"
    );
    for address in families.router() {
        let flags = if address.contains(':') { "nodad" } else { "" };
        script += &format!("ip address add {} dev {SWITCH} {flags}\n", with_length(&address));
    }
    keeper.network(&script).map(drop)
}

/// Plugs a namespace into the switch: its interface is called eth0. `namespace` is what `ip link` takes for one: a
/// process' number or a name.
pub fn plug(keeper: &Keeper, port: &str, namespace: &str, mac: Option<&str>) -> Result<()> {
    let mac = mac.map(|mac| format!("address {mac}")).unwrap_or_default();
    keeper
        .network(&format!(
            "set -e
            mtu=$(ip -o link show {SWITCH} | sed 's/.* mtu \\([0-9]*\\) .*/\\1/')
            ip link delete {port} 2>/dev/null || :
            ip link add {port} mtu $mtu type veth peer name eth0 mtu $mtu {mac} netns {namespace}
            ip link set {port} master {SWITCH} up"
        ))
        .map(drop)
}

/// Pulls the plug.
pub fn unplug(keeper: &Keeper, port: &str) -> Result<()> {
    keeper.network(&format!("ip link delete {port} 2>/dev/null || :")).map(drop)
}

/// Tells the router which node has which pods.
pub fn route(keeper: &Keeper, pods: &str, place: Place) -> Result<()> {
    keeper.network(&format!("ip route replace {pods} via 192.0.2.{place}")).map(drop)
}

/// Takes a node's pods from the router.
pub fn unroute(keeper: &Keeper, pods: &str) -> Result<()> {
    keeper.network(&format!("ip route delete {pods} 2>/dev/null || :")).map(drop)
}
