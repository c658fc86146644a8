//! A peer as its owner configures it, and as people see it.

use std::sync::Arc;

use bgp_core::rib::{Forbidden, PeerClass, PeerLimits, Permission, RouteTypes};
use bgp_core::session::{Negotiated, State};
use bgp_core::time::Instant;
use bgp_core::types::PeerId;

use crate::api::PeerSpec;

/// A peer as the owner configures it.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// How its sessions are run.
    pub spec: PeerSpec,
    /// Client or non-client if the session turns out to be internal; an external session is always external.
    pub class: PeerClass,
    /// What it may cost.
    pub limits: PeerLimits,
    /// Whose address it is, where one machine may have several: a Node's uid. Peers of one owner are one speaker.
    pub owner: Option<Arc<str>>,
    /// What people call it: the name of its Node, or of the router.
    pub name: Option<Arc<str>>,
    /// Of whom and of which LANs it may announce routes. A change judges anew what it has announced and disturbs nothing
    /// else.
    pub permission: Arc<Permission>,
    /// Where people change that permission, as it is put into messages.
    pub permission_source: &'static str,
    /// The EVPN route types that it is sent.
    pub sent_types: RouteTypes,
    /// It came by itself from an accepted prefix, and is forgotten when nothing of it is left.
    pub dynamic: bool,
}

impl Neighbor {
    /// Its address, and its name if it has one: `192.0.2.1 (worker-1)`.
    pub fn label(&self) -> String {
        let address = self.spec.address.ip();
        self.name.as_ref().map_or_else(|| address.to_string(), |name| format!("{address} ({name})"))
    }

    /// What was refused, why, and what to do, in words.
    pub(super) fn explain(&self, forbidden: &Forbidden) -> String {
        let (offence, permission, source) = (forbidden.offence, &self.permission, self.permission_source);
        format!("{} announced {offence} and may announce {permission}; if it is right, change {source}", self.label())
    }

    /// What the peer is in this session: whether it is in our AS tells its OPEN, whatever was expected.
    pub fn class_of(&self, negotiated: &Negotiated) -> PeerClass {
        match self.class {
            _ if !negotiated.internal => PeerClass::External,
            PeerClass::External => PeerClass::NonClient,
            class => class,
        }
    }
}

/// A peer, for `show` and metrics.
#[derive(Clone, Debug)]
pub struct PeerStatus<'a> {
    /// Its number.
    pub id: PeerId,
    /// Its configuration.
    pub neighbor: &'a Neighbor,
    /// State of its state machine.
    pub state: State,
    /// What was negotiated, and since when, while a session is up.
    pub session: Option<(&'a Negotiated, Instant)>,
    /// Sessions that came up.
    pub established: u64,
    /// UPDATEs received.
    pub updates: u64,
    /// The last failure, in words.
    pub last_error: Option<&'a str>,
    /// The last refusal of a route that the peer may not announce, in words.
    pub last_refusal: Option<&'a str>,
}
