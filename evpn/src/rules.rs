//! The rules of this crate: why a route of a peer is not used, and what else an operator should know.

bgp_core::rules! {
    VNI_MISMATCH = "vni-mismatch", "RFC 8365 section 5.1.2.1",
        "The route target of a route names a LAN of this worker, its label another VNI";
    ENCAPSULATION = "encapsulation", "RFC 8365 section 5.1.3", "No encapsulation that a route offers is VXLAN";
    GROUP_MAC = "group-mac", "policy: no station owns a group address",
        "The MAC of a route is zero or a group address";
    TOO_MANY_ROUTES = "too-many-routes", "limit: 4,096 routes for one MAC or IP address",
        "One of too many routes for one MAC or IP address";
    OWN_VTEP = "own-vtep", "RFC 4271 section 5.1.3", "The next hop of a route is this node's own VTEP";
    NEXT_HOP_FAMILY = "next-hop-family", "RFC 8365 section 5.1.3",
        "The next hop of a route is not of this VTEP's address family";
    NEXT_HOP_NOT_VTEP = "next-hop-not-vtep", "RFC 8365 section 5.1.3",
        "The next hop of a route cannot be a VTEP: unspecified, loopback, link-local, multicast, reserved or broadcast";
    PMSI_MISSING = "pmsi-missing", "RFC 7432 section 11.2", "A type 3 route has no PMSI_TUNNEL";
    PMSI_NOT_INGRESS_REPLICATION = "pmsi-not-ingress-replication", "RFC 8365 section 9",
        "The tunnel of a type 3 route is not ingress replication";
    PMSI_ENDPOINT = "pmsi-endpoint", "RFC 7432 section 11.2",
        "The flood endpoint of a type 3 route is not its next hop";
    OWN_DEVICE = "own-device", "RFC 9135 section 4.1",
        "The MAC of a route is that of a device of this node: the bridge, a port, or what stands on the bridge";
    FLOOD_LIMIT = "flood-limit", "limit: max_flood_vteps", "The flood list of a LAN is full";
    REMOTE_MAC_LIMIT = "remote-mac-limit", "limit: max_remote_macs", "The remote MACs of a LAN are at their limit";
    LEARNED_MAC_LIMIT = "learned-mac-limit", "limit: max_learned_macs",
        "The MACs learned on the local ports of a LAN are at their limit";
    PORT_MAC_LIMIT = "port-mac-limit", "limit: max_port_macs", "The MACs on a local port are at their limit";
    DUPLICATE_MAC = "duplicate-mac", "RFC 7432 section 15.1", "A MAC moved too often in too short a time";
    DUPLICATE_CLEARED = "duplicate-cleared", "RFC 7432 section 15.1", "A MAC that was frozen may move again";
    STICKY_SEEN_LOCALLY = "sticky-seen-locally", "RFC 7432 section 15.2",
        "A station here sent from a MAC that is sticky at another VTEP";
    STICKY_ANNOUNCED = "sticky-announced", "RFC 7432 section 15.2", "A VTEP announces a MAC that is sticky here";
    STICKY_CONTESTED = "sticky-contested", "RFC 7432 section 15.2",
        "A VTEP announces a MAC that is sticky at another VTEP";
    CLAIM_MOVED = "claim-moved", "RFC 7432 section 15", "A MAC was claimed here that another VTEP had";
    CLAIM_CONTESTED = "claim-contested", "RFC 7432 section 15", "Another VTEP announced a MAC that was claimed here just now";
    CLAIM_YIELDED = "claim-yielded", "RFC 7432 section 15", "A MAC that was claimed here is another VTEP's now";
}
