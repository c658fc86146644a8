//! The rules that transport and owner check.

bgp_core::rules! {
    SOURCE_UNKNOWN = "source-unknown", "RFC 4271 section 8.2.1, RFC 4272",
        "A connection came from an address that is neither a peer's nor in an accepted prefix";
    TTL = "ttl", "RFC 5082 section 3", "A connection did not come with TTL 255, which GTSM demands";
    MD5_MISSING = "md5-missing", "RFC 2385 section 2",
        "Segments came without the TCP-MD5 signature that is demanded of their sender";
    MD5_UNEXPECTED = "md5-unexpected", "RFC 2385 section 2",
        "Segments came with a TCP-MD5 signature though no key is set for their sender";
    MD5_WRONG = "md5-wrong", "RFC 2385 section 2",
        "Segments came with a TCP-MD5 signature that was not made with the key of their sender";
    ACCEPT_BUSY = "accept-busy", "limit: queue of strangers", "A connection came while too many others wait to be judged";
    ACCEPT_FAILED = "accept-failed", "kernel: EMFILE, ENFILE, ENOBUFS, ENOMEM",
        "A connection could not be accepted for want of descriptors or memory; it is tried again soon";
    CONNECTION_SUPERSEDED = "connection-superseded", "limit: 2 connections waiting for a peer",
        "A peer opened connections faster than they could be taken over; the oldest was closed";
    TOO_MANY_PEERS = "too-many-peers", "RFC 4486 section 4, limit: max_dynamic_peers",
        "A connection came from an accepted prefix while too many peers came by themselves";
    ROUTER_ID_SHARED = "router-id-shared", "RFC 6286 section 2.1", "Two peers have the same router id";
    SLOW_PEER = "slow-peer", "RFC 4486 section 4, limit: what waits for slow peers",
        "The peer reads so slowly that what others withdrew cannot be forgotten";
}
