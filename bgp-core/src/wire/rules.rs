//! The rules that the codec checks.

use super::error::NotificationCode;
use super::message::{Notification, Treatment};
use crate::rule::{Action, Rule};

crate::rules! {
    HEADER_MARKER = "header-marker", "RFC 4271 section 6.1", "The marker of a message is not all ones";
    HEADER_LENGTH = "header-length", "RFC 4271 section 6.1, RFC 8654 section 4",
        "The length of a message is below or above what its type may have";
    HEADER_TYPE = "header-type", "RFC 4271 section 6.1", "The type of a message is not known";
    OPEN_MALFORMED = "open-malformed", "RFC 4271 section 6.2, RFC 5492, RFC 9072",
        "Optional parameters or capabilities of an OPEN overrun what holds them, or have a length that is wrong";
    OPEN_VERSION = "open-version", "RFC 4271 section 6.2", "The version in an OPEN is not 4";
    OPEN_AS = "open-as", "RFC 4271 section 6.2, RFC 7607", "The AS number in an OPEN is zero or not the expected one";
    OPEN_ROUTER_ID = "open-router-id", "RFC 4271 section 6.2, RFC 6286 section 2.2",
        "The BGP identifier in an OPEN is zero, ours, or not the expected one";
    OPEN_PARAMETER = "open-parameter", "RFC 4271 section 6.2, RFC 9072 section 3",
        "An optional parameter of an OPEN is not known";
    OPEN_HOLD_TIME = "open-hold-time", "RFC 4271 section 6.2", "The hold time in an OPEN is one or two seconds";
    OPEN_CAPABILITY = "open-capability", "RFC 5492 section 3", "An OPEN offers no address family that we have";
    UPDATE_LENGTHS = "update-lengths", "RFC 4271 section 6.3, RFC 7606 section 3 b",
        "The lengths of withdrawn routes and attributes do not fit the UPDATE";
    UPDATE_NO_ROUTES = "update-no-routes", "RFC 7606 section 5.2",
        "An UPDATE must be treated as withdrawal and has no routes that could be withdrawn";
    IPV4_PREFIX_LENGTH = "ipv4-prefix-length", "RFC 4271 section 6.3, RFC 7606 section 5.3",
        "IPv4 prefixes of an UPDATE cannot be told apart";
    ROUTE_REFRESH_LENGTH = "route-refresh-length", "RFC 7313 section 5", "The length of a ROUTE-REFRESH is wrong";
    OTHER = "other", "RFC 4271 section 6", "Something else made the message unacceptable";

    ATTRIBUTE_TRUNCATED = "attribute-truncated", "RFC 7606 section 4", "An attribute overruns the attribute field";
    ATTRIBUTE_DUPLICATE = "attribute-duplicate", "RFC 7606 section 3 g", "An attribute came twice; the first one counts";
    ATTRIBUTE_FLAGS = "attribute-flags", "RFC 4271 section 6.3, RFC 7606 section 3 c",
        "The flags of an attribute are not those of its type";
    ATTRIBUTE_UNRECOGNISED = "attribute-unrecognised", "RFC 4271 section 6.3",
        "An attribute that is not known says that it is well-known";
    ATTRIBUTE_INTERNAL = "internal-attribute-from-external", "RFC 7606 sections 7.5, 7.9 and 7.10",
        "LOCAL_PREF, ORIGINATOR_ID or CLUSTER_LIST came from another AS";
    ATTRIBUTE_AS4 = "as4-attribute-from-four-octet-peer", "RFC 6793 section 4.1",
        "AS4_PATH or AS4_AGGREGATOR came from a peer with 4-octet AS numbers";
    ORIGIN_LENGTH = "origin-length", "RFC 7606 section 7.1", "ORIGIN is not one octet";
    ORIGIN_VALUE = "origin-value", "RFC 7606 section 7.1", "ORIGIN has an undefined value";
    ORIGIN_MISSING = "origin-missing", "RFC 7606 section 3 d", "ORIGIN is missing";
    AS_PATH_MISSING = "as-path-missing", "RFC 7606 section 3 d", "AS_PATH is missing";
    AS_PATH_LENGTH = "as-path-length", "RFC 7606 section 7.2", "A segment of AS_PATH overruns the attribute";
    AS_PATH_EMPTY_SEGMENT = "as-path-empty-segment", "RFC 7606 section 7.2", "A segment of AS_PATH is empty";
    AS_PATH_SEGMENT_TYPE = "as-path-segment-type", "RFC 7606 section 7.2", "A segment of AS_PATH has an undefined type";
    AS_PATH_ZERO = "as-path-zero", "RFC 7607 section 2", "AS_PATH holds AS 0";
    AS_PATH_SET = "as-path-set", "RFC 9774 section 3", "AS_PATH holds an AS_SET";
    AS_PATH_CONFEDERATION = "as-path-confederation", "RFC 5065 section 5",
        "AS_PATH holds a confederation segment, and the peer is in no confederation of ours";
    AS4_PATH_LENGTH = "as4-path-length", "RFC 6793 section 6", "AS4_PATH is too short or not a multiple of two octets";
    AS4_PATH_MALFORMED = "as4-path-malformed", "RFC 6793 section 6", "A segment of AS4_PATH is malformed";
    AS4_PATH_SEGMENT_TYPE = "as4-path-segment-type", "RFC 6793 section 6", "A segment of AS4_PATH has an undefined type";
    AS4_PATH_SET = "as4-path-set", "RFC 9774 section 3", "AS4_PATH holds an AS_SET";
    NEXT_HOP_LENGTH = "next-hop-length", "RFC 7606 section 7.3", "NEXT_HOP is not four octets";
    MED_LENGTH = "med-length", "RFC 7606 section 7.4", "MULTI_EXIT_DISC is not four octets";
    LOCAL_PREF_LENGTH = "local-pref-length", "RFC 7606 section 7.5", "LOCAL_PREF is not four octets";
    ATOMIC_AGGREGATE_LENGTH = "atomic-aggregate-length", "RFC 7606 section 7.6", "ATOMIC_AGGREGATE is not empty";
    AGGREGATOR_LENGTH = "aggregator-length", "RFC 7606 section 7.7", "AGGREGATOR or AS4_AGGREGATOR has a wrong length";
    AGGREGATOR_ZERO = "aggregator-zero", "RFC 7607 section 2", "AGGREGATOR names AS 0";
    COMMUNITIES_LENGTH = "communities-length", "RFC 7606 section 7.8", "COMMUNITIES is empty or no multiple of four octets";
    ORIGINATOR_ID_LENGTH = "originator-id-length", "RFC 7606 section 7.9", "ORIGINATOR_ID is not four octets";
    CLUSTER_LIST_LENGTH = "cluster-list-length", "RFC 7606 section 7.10",
        "CLUSTER_LIST is empty or no multiple of four octets";
    EXTENDED_COMMUNITIES_LENGTH = "extended-communities-length", "RFC 7606 section 7.14",
        "EXTENDED_COMMUNITIES is empty or no multiple of eight octets";
    IPV6_EXTENDED_COMMUNITIES_LENGTH = "ipv6-extended-communities-length", "RFC 7606 section 7.15",
        "The IPv6 extended communities are empty or no multiple of twenty octets";
    LARGE_COMMUNITIES_LENGTH = "large-communities-length", "RFC 8092 section 6",
        "LARGE_COMMUNITY is empty or no multiple of twelve octets";
    PMSI_LENGTH = "pmsi-length", "RFC 6514 section 5", "PMSI_TUNNEL is shorter than five octets";
    PMSI_TUNNEL_TYPE = "pmsi-tunnel-type", "RFC 6514 section 5", "PMSI_TUNNEL has an undefined tunnel type";
    PMSI_ENDPOINT_LENGTH = "pmsi-endpoint-length", "RFC 6514 section 5",
        "The endpoint of ingress replication is neither an IPv4 nor an IPv6 address";
    TUNNEL_ENCAPSULATION_EMPTY = "tunnel-encapsulation-empty", "RFC 9012 section 13", "The tunnel encapsulation is empty";
    TUNNEL_ENCAPSULATION_LENGTH = "tunnel-encapsulation-length", "RFC 9012 section 13",
        "A TLV of the tunnel encapsulation overruns it";
    TUNNEL_ENCAPSULATION_SUB_TLV = "tunnel-encapsulation-sub-tlv", "RFC 9012 section 13",
        "A sub-TLV of the tunnel encapsulation overruns its TLV";
    TUNNEL_ENCAPSULATION_COUNT = "tunnel-encapsulation-count", "limit: 1,024 tunnels",
        "The tunnel encapsulation holds too many tunnels";
    ENTROPY_LABEL_LENGTH = "entropy-label-length", "RFC 6790 section 5.2, RFC 7447",
        "The entropy label capability attribute is not empty";
    AIGP_TRANSITIVE = "aigp-transitive", "RFC 7311 section 3", "AIGP says that it is transitive";
    OTC_LENGTH = "otc-length", "RFC 9234 section 5", "ONLY_TO_CUSTOMER is not four octets";
    OTC_ZERO = "otc-zero", "RFC 9234 section 5, RFC 7607", "ONLY_TO_CUSTOMER names AS 0";
    NEXT_HOP_CHARACTERISTICS_LENGTH = "next-hop-characteristics-length", "RFC 7606 section 4",
        "A part of the next hop dependent characteristics overruns the attribute";
    PREFIX_SID_LENGTH = "prefix-sid-length", "RFC 8669 section 6", "A TLV of the prefix SID overruns it";

    MP_DUPLICATE = "mp-duplicate", "RFC 7606 section 3 g", "MP_REACH_NLRI or MP_UNREACH_NLRI came twice";
    MP_REACH_FLAGS = "mp-reach-flags", "RFC 7606 section 5.3", "The flags of MP_REACH_NLRI are wrong";
    MP_REACH_LENGTH = "mp-reach-length", "RFC 7606 section 5.3", "MP_REACH_NLRI is too short for its fields";
    MP_REACH_NEXT_HOP_LENGTH = "mp-reach-next-hop-length", "RFC 7606 section 7.11",
        "The next hop of MP_REACH_NLRI is no address of a known length";
    MP_UNREACH_FLAGS = "mp-unreach-flags", "RFC 7606 section 5.3", "The flags of MP_UNREACH_NLRI are wrong";
    MP_UNREACH_LENGTH = "mp-unreach-length", "RFC 7606 section 5.3", "MP_UNREACH_NLRI is too short for its fields";
    FAMILY_NOT_NEGOTIATED = "family-not-negotiated", "RFC 4760 section 7",
        "Routes of an address family that the session does not carry";
    FAMILY_NOT_SUPPORTED = "family-not-supported", "RFC 4760 section 7",
        "Routes of an address family that cannot be read here";
    IPV4_UNICAST_ROUTES = "ipv4-unicast-routes", "RFC 4760 section 7",
        "IPv4 unicast routes in the fields of RFC 4271, which the session does not carry";
    RT_MEMBERSHIP_LENGTH = "rt-membership-length", "RFC 4684 section 4", "A route target membership has a wrong length";
    RT_MEMBERSHIP_FRAMING = "rt-membership-framing", "RFC 7606 section 5.3",
        "A route target membership overruns its attribute";

    EVPN_FRAMING = "evpn-framing", "RFC 7606 section 5.3", "An EVPN route overruns its attribute";
    EVPN_PATH_IDENTIFIER = "evpn-path-identifier", "RFC 7911 section 5",
        "EVPN routes seem to carry path identifiers, which were not negotiated";
    EVPN_ROUTE_TYPE = "evpn-route-type", "RFC 7606 section 5.4", "An EVPN route type is not known";
    EVPN_ROUTE_LENGTH = "evpn-route-length", "RFC 7432 section 7, RFC 9136 section 3.1",
        "The body of an EVPN route is too short or too long for its type";
    EVPN_MAC_LENGTH = "evpn-mac-length", "RFC 7432 section 7.2", "The MAC address length of a type 2 route is not 48";
    EVPN_IP_LENGTH = "evpn-ip-length", "RFC 7432 section 7.2",
        "The IP address length of a type 2 route is not 0, 32 or 128";
    EVPN_ORIGINATOR_LENGTH = "evpn-originator-length", "RFC 7432 sections 7.3 and 7.4",
        "The originator's address of a type 3 or 4 route is not 32 or 128 bits";
    EVPN_PREFIX_LENGTH = "evpn-prefix-length", "RFC 9136 section 3.1",
        "The prefix of a type 5 route is longer than its address";
    EVPN_MAC_ZERO = "evpn-mac-zero", "policy: a VXLAN device reads the zero MAC as its flood list",
        "A type 2 route announces MAC 00:00:00:00:00:00";
    EVPN_MAC_MULTICAST = "evpn-mac-multicast", "policy: no station owns a group address",
        "A type 2 route announces a multicast or broadcast MAC";
    EVPN_VNI_ZERO = "evpn-vni-zero", "RFC 8365 section 5.1.1", "A type 2 route carries VNI 0";
    EVPN_ROUTER_MAC = "evpn-router-mac", "RFC 9135 section 8.1", "The router's MAC of a type 5 route is zero or a group";
    EVPN_TWO_OVERLAY_INDEXES = "evpn-two-overlay-indexes", "RFC 9136 section 3.2",
        "A type 5 route has both a segment and a gateway";
    EVPN_AD_LABEL = "evpn-ad-label", "RFC 7432 section 8.2.1",
        "A type 1 route of a whole segment carries a label";
    EVPN_AD_SEGMENT = "evpn-ad-segment", "RFC 7432 sections 5 and 7.1",
        "The segment of a type 1 route is zero or the reserved one of all ones";
    MAC_MOBILITY_TWICE = "mac-mobility-twice", "RFC 7432 section 7.7",
        "A route carries several MAC mobility communities; the sticky one counts, else the highest sequence";
    EVPN_NO_OVERLAY_INDEX = "evpn-no-overlay-index", "RFC 9136 section 3.1",
        "A type 5 route has neither a label nor an overlay index";
}

/// An input that ends the session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The rule that it broke.
    pub rule: Rule,
    /// What the peer is told.
    pub notification: Notification,
}

impl From<Notification> for Fault {
    fn from(notification: Notification) -> Self {
        Self { rule: rule_of(notification.error()), notification }
    }
}

impl From<Fault> for Notification {
    fn from(fault: Fault) -> Self {
        fault.notification
    }
}

/// What a NOTIFICATION of ours says about a received message, where nothing more exact is known.
fn rule_of(error: NotificationCode) -> Rule {
    match error {
        NotificationCode::CONNECTION_NOT_SYNCHRONIZED => HEADER_MARKER,
        NotificationCode::BAD_MESSAGE_LENGTH => HEADER_LENGTH,
        NotificationCode::BAD_MESSAGE_TYPE => HEADER_TYPE,
        NotificationCode::OPEN_UNSPECIFIC => OPEN_MALFORMED,
        NotificationCode::UNSUPPORTED_VERSION => OPEN_VERSION,
        NotificationCode::BAD_PEER_AS => OPEN_AS,
        NotificationCode::BAD_BGP_IDENTIFIER => OPEN_ROUTER_ID,
        NotificationCode::UNSUPPORTED_OPTIONAL_PARAMETER => OPEN_PARAMETER,
        NotificationCode::UNACCEPTABLE_HOLD_TIME => OPEN_HOLD_TIME,
        NotificationCode::UNSUPPORTED_CAPABILITY => OPEN_CAPABILITY,
        NotificationCode::MALFORMED_ATTRIBUTE_LIST => UPDATE_LENGTHS,
        NotificationCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE => ATTRIBUTE_UNRECOGNISED,
        NotificationCode::INVALID_NETWORK_FIELD => IPV4_PREFIX_LENGTH,
        NotificationCode::ROUTE_REFRESH_INVALID_LENGTH => ROUTE_REFRESH_LENGTH,
        _ => OTHER,
    }
}

impl From<Treatment> for Action {
    fn from(treatment: Treatment) -> Self {
        match treatment {
            Treatment::Note => Self::Note,
            Treatment::SkipRoute => Self::SkipRoute,
            Treatment::DiscardAttribute => Self::DiscardAttribute,
            Treatment::WithdrawRoute => Self::WithdrawRoute,
            Treatment::Withdraw => Self::Withdraw,
            Treatment::DisableFamily => Self::DisableFamily,
        }
    }
}
