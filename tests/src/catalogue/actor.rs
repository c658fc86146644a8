//! Who sends: an address of the hostile host, and routes that are its own.

use std::net::{IpAddr, Ipv4Addr};

use super::Profile;
use crate::bgp::{self, Open};
use crate::fabric::LAN;

/// The AS of actors that are external.
pub const EXTERNAL_ASN: u16 = 64_999;

/// A hostile speaker.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// Its address, its BGP identifier and the next hop of its routes.
    pub address: Ipv4Addr,
    /// The MAC that the row is about.
    pub key: [u8; 6],
    /// Another MAC, announced after the input to tell that all of it was processed.
    pub marker: [u8; 6],
    /// Whether it is of another AS.
    pub external: bool,
    /// The BGP identifier of the daemon that it speaks with.
    pub daemon: [u8; 4],
    /// Capabilities that a daemon insists on, beside EVPN.
    pub capabilities: &'static [u8],
}

impl Actor {
    /// Actor number `number` of a scene.
    pub fn new(profile: Profile, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self {
            address: Ipv4Addr::new(10, profile.octet(), high, low),
            key: [0x02, 0xca, profile.octet(), high, low, 1],
            marker: [0x02, 0xca, profile.octet(), high, low, 2],
            external: profile == Profile::External,
            daemon: [10, 0, 0, 1],
            capabilities: &[],
        }
    }

    /// The same actor, towards a daemon with this BGP identifier.
    #[must_use]
    pub fn towards(self, daemon: [u8; 4]) -> Self {
        Self { daemon, ..self }
    }

    /// The octets of its address.
    pub const fn octets(&self) -> [u8; 4] {
        self.address.octets()
    }

    /// Its address.
    pub const fn ip(&self) -> IpAddr {
        IpAddr::V4(self.address)
    }

    /// Its AS.
    pub const fn asn(&self) -> u16 {
        if self.external { EXTERNAL_ASN } else { 65_000 }
    }

    /// A right OPEN.
    pub const fn open(&self) -> Open {
        Open { asn: self.asn(), capabilities: self.capabilities, ..Open::of(self.octets()) }
    }

    /// The attributes of a right route of [`LAN`] beside MP_REACH_NLRI: ORIGIN, AS_PATH, LOCAL_PREF (inside an AS), and
    /// extended communities.
    pub fn base(&self) -> Vec<Vec<u8>> {
        let mut attributes = bgp::base(LAN);
        if self.external {
            let [high, low] = EXTERNAL_ASN.to_be_bytes();
            attributes[1] = bgp::attribute(0x40, 2, &[2, 1, high, low]);
            attributes.remove(2);
        }
        attributes
    }

    /// A route of type 2 for a MAC of [`LAN`].
    pub fn route(&self, mac: [u8; 6]) -> Vec<u8> {
        bgp::mac_route(self.octets(), LAN, mac)
    }

    /// The route of its key.
    pub fn key_route(&self) -> Vec<u8> {
        self.route(self.key)
    }

    /// MP_REACH_NLRI with these routes and the actor as next hop.
    pub fn reach(&self, routes: &[Vec<u8>]) -> Vec<u8> {
        bgp::reach(self.octets(), routes)
    }

    /// A right UPDATE that announces a MAC.
    pub fn announce(&self, mac: [u8; 6]) -> Vec<u8> {
        self.update_with(self.base(), &[self.route(mac)])
    }

    /// A right UPDATE that withdraws a MAC.
    pub fn withdraw(&self, mac: [u8; 6]) -> Vec<u8> {
        bgp::withdraw(&[self.route(mac)])
    }

    /// An UPDATE of these attributes and MP_REACH_NLRI with these routes.
    pub fn update_with(&self, attributes: Vec<Vec<u8>>, routes: &[Vec<u8>]) -> Vec<u8> {
        bgp::update(&[attributes, vec![self.reach(routes)]].concat())
    }

    /// An UPDATE that announces the key with these attributes beside the right ones.
    pub fn key_and(&self, more: &[Vec<u8>]) -> Vec<u8> {
        self.update_with([self.base(), more.to_vec()].concat(), &[self.key_route()])
    }

    /// An UPDATE that announces the key with the attribute of this type replaced.
    pub fn key_but(&self, kind: u8, attribute: Vec<u8>) -> Vec<u8> {
        let mut attributes = self.base();
        attributes.retain(|attribute| attribute.get(1) != Some(&kind));
        attributes.push(attribute);
        self.update_with(attributes, &[self.key_route()])
    }
}

/// A MAC as the tools print it.
pub fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
