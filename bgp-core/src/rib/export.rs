//! Which routes an update group is sent, and with which attributes.
//!
//! ```text
//!   from \ to     client       non-client    external
//!   local         as is        as is         AS prepended
//!   client        reflected    reflected     AS prepended
//!   non-client    reflected    -             AS prepended
//!   external      as is        as is         AS prepended
//! ```
//!
//! *As is*: LOCAL_PREF is added where there is none. *Reflected* (RFC 4456 section 8): ORIGINATOR_ID is set unless there
//! is one, the cluster id is prepended to CLUSTER_LIST. *AS prepended*: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST do
//! not leave the AS, nor does a MED that came from another one (RFC 4271 section 5.1.4). The next hop, the VTEP, is never
//! touched.
//!
//! A long-lived stale route goes as it is to peers that sent the capability (RFC 9494 section 4.3). To those that did not
//! it goes within the AS only, with LOCAL_PREF 0 and NO_EXPORT (section 4.6): a worker that knows nothing of all this
//! would otherwise stop forwarding to a node whose only fault is that its control plane is away.
//!
//! Nothing of this depends on the receiver beyond its group's key, so one encoding serves a group.

use super::attribute_store::{AttributeSet, value_octets};
use super::config::{PeerLimits, RibConfig};
use super::decision::DEFAULT_LOCAL_PREF;
use super::family::Family;
use super::peer::PeerClass;
use super::route_types::RouteTypes;
use super::rules;
use super::table::{DestinationId, Table};
use super::update_group::GroupKey;
use crate::rule::Rule;
use crate::types::Asn;
use crate::wire::PathAttributes;
use crate::wire::attributes::{AsSegment, community};

/// A segment of an AS_PATH counts its numbers in one octet.
const MAX_SEGMENT: usize = 255;

/// How routes are exported to peers of one class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExportPolicy {
    class: PeerClass,
    local_asn: Asn,
    cluster_id: u32,
    reflected: bool,
    long_lived: bool,
    types: RouteTypes,
}

impl ExportPolicy {
    /// The policy towards a group; `reflected` is false for a family of which only own routes are sent.
    pub fn new(key: &GroupKey, config: &RibConfig, reflected: bool) -> Self {
        let cluster_id = config.cluster_id().unwrap_or(config.router_id.0);
        let GroupKey { class, long_lived, types, .. } = *key;
        Self { class, local_asn: config.local_asn, cluster_id, reflected, long_lived, types }
    }

    /// Whether routes with these attributes are exported at all.
    pub fn allows(&self, set: &AttributeSet) -> bool {
        let split = match (set.source.class, self.class) {
            (PeerClass::Local, _) => true,
            (PeerClass::NonClient, PeerClass::NonClient) => false,
            _ => self.reflected,
        };
        let known = self.long_lived || !set.long_lived_stale || self.class != PeerClass::External;
        let communities = &set.attributes.communities;
        split && known && !communities.iter().any(|community| self.is_stopped_by(*community))
    }

    /// Whether routes of this destination are of a type that is exported.
    pub fn sends<F: Family>(&self, id: DestinationId, table: &Table<F>) -> bool {
        let is_sent = |key| F::route_type(key).is_none_or(|route_type| self.types.contains(route_type));
        self.types == RouteTypes::ALL || table.get(id).is_none_or(|destination| is_sent(&destination.key))
    }

    fn is_stopped_by(&self, community: u32) -> bool {
        match community {
            community::NO_ADVERTISE => true,
            community::NO_EXPORT | community::NO_EXPORT_SUBCONFED => self.class == PeerClass::External,
            _ => false,
        }
    }

    /// The attributes as sent.
    pub fn as_sent(&self, set: &AttributeSet) -> PathAttributes {
        let mut attributes = PathAttributes::clone(&set.attributes);
        match self.class {
            PeerClass::External => self.leave_as(set, &mut attributes),
            _ => self.stay_in_as(set, &mut attributes),
        }
        attributes
    }

    fn stay_in_as(&self, set: &AttributeSet, attributes: &mut PathAttributes) {
        attributes.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
        if set.long_lived_stale && !self.long_lived {
            attributes.local_pref = Some(0);
            if !attributes.communities.contains(&community::NO_EXPORT) {
                attributes.communities.push(community::NO_EXPORT);
            }
        }
        if matches!(set.source.class, PeerClass::Client | PeerClass::NonClient) {
            attributes.originator_id.get_or_insert(set.source.router_id);
            attributes.cluster_list.insert(0, self.cluster_id);
        }
    }

    fn leave_as(&self, set: &AttributeSet, attributes: &mut PathAttributes) {
        if set.source.class != PeerClass::Local && !attributes.as_path.is_empty() {
            attributes.med = None;
        }
        attributes.local_pref = None;
        attributes.originator_id = None;
        attributes.cluster_list.clear();
        match attributes.as_path.segments.first_mut() {
            Some(first) if first.0.len() < MAX_SEGMENT => first.0.insert(0, self.local_asn),
            _ => attributes.as_path.segments.insert(0, AsSegment(vec![self.local_asn])),
        }
    }
}

/// Whether a speaker with this configuration may use what a peer announced.
///
/// # Errors
///
/// The rule that keeps it from doing so.
pub fn admit(
    config: &RibConfig,
    limits: &PeerLimits,
    attributes: &PathAttributes,
    next_hop_is_usable: fn(std::net::IpAddr) -> bool,
) -> Result<(), Rule> {
    if attributes.as_path.iter().any(|asn| asn == config.local_asn) {
        return Err(rules::AS_PATH_LOOP);
    }
    if attributes.originator_id == Some(config.router_id) {
        return Err(rules::ORIGINATOR_LOOP);
    }
    if config.cluster_id().is_some_and(|cluster| attributes.cluster_list.contains(&cluster)) {
        return Err(rules::CLUSTER_LOOP);
    }
    if !next_hop_is_usable(attributes.next_hop) {
        return Err(rules::NEXT_HOP_INVALID);
    }
    if value_octets(attributes) > limits.max_route_attribute_octets { Err(rules::ROUTE_ATTRIBUTES) } else { Ok(()) }
}
