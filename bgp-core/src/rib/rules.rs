//! The rules that the table checks: what is well-formed and still not used, and what costs too much.

crate::rules! {
    AS_PATH_LOOP = "as-path-loop", "RFC 4271 section 9.1.2", "AS_PATH holds our own AS";
    ORIGINATOR_LOOP = "originator-loop", "RFC 4456 section 8", "ORIGINATOR_ID is our own router id";
    CLUSTER_LOOP = "cluster-loop", "RFC 4456 section 8", "CLUSTER_LIST holds our own cluster id";
    NEXT_HOP_INVALID = "next-hop-invalid", "RFC 4271 section 6.3",
        "No host can have the next hop: unspecified, loopback, link-local, multicast, reserved or broadcast";
    NEXT_HOP_NOT_ALLOWED = "next-hop-not-allowed", "policy: next_hops",
        "The next hop of a route is not an address that the peer may announce";
    ORIGINATOR_NOT_ALLOWED = "originator-not-allowed", "policy: next_hops",
        "The originator of a type 3 or 4 route is not an address that the peer may announce";
    TUNNEL_ENDPOINT_NOT_ALLOWED = "tunnel-endpoint-not-allowed", "policy: next_hops",
        "The endpoint of a PMSI tunnel is not an address that the peer may announce";
    VNI_NOT_ALLOWED = "vni-not-allowed", "policy: vnis",
        "A label or route target of a route names a VNI that the peer may not announce";
    WITHDRAWAL_UNKNOWN = "withdrawal-unknown", "RFC 4271 section 3.1", "A route was withdrawn that the peer had not announced";
    ROUTES_UNEXPECTED = "routes-unexpected", "RFC 7606 section 2",
        "Routes came for an address family that is disabled or not negotiated";
    MAX_ROUTES = "max-routes", "RFC 4486 section 4, limit: max_routes", "The peer announced more routes than it may";
    MAX_ROUTES_NEAR = "max-routes-near", "RFC 4486 section 4, limit: max_routes_warning_percent",
        "The peer comes near the most routes or memberships that it may announce";
    MAX_MEMBERSHIPS = "max-memberships", "RFC 4486 section 4, limit: max_memberships",
        "The peer announced more route target memberships than it may";
    MAX_ATTRIBUTE_SETS = "max-attribute-sets", "RFC 4486 section 4, limit: max_attribute_sets",
        "The routes of the peer have more distinct attribute sets than they may";
    ROUTE_ATTRIBUTES = "route-attributes", "limit: max_route_attribute_octets",
        "The path attributes of a route are larger than they may be";
    MAX_ATTRIBUTE_OCTETS = "max-attribute-octets", "RFC 4486 section 4, limit: max_attribute_octets",
        "The distinct attribute sets of the peer take more memory than they may";
}
