//! Best path: which of several routes to one destination is used, and why.

/// The step of the decision that settled it (RFC 4271 section 9.1.2.2, RFC 4456 section 9, RFC 7432 section 15).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// There is no other route.
    Only,
    /// Stale routes come last (RFC 4724).
    Stale,
    /// A sticky MAC does not move (RFC 7432 section 15.2).
    Sticky,
    /// Higher MAC mobility sequence.
    MobilitySequence,
    /// Lower next hop, between equal mobility sequences from different ones.
    NextHop,
    /// Own routes come first.
    Local,
    /// Higher LOCAL_PREF.
    LocalPref,
    /// Shorter AS_PATH.
    AsPathLength,
    /// Lower ORIGIN.
    Origin,
    /// Lower MULTI_EXIT_DISC within one neighbour AS.
    Med,
    /// eBGP over iBGP.
    External,
    /// Lower ORIGINATOR_ID or router id.
    RouterId,
    /// Shorter CLUSTER_LIST.
    ClusterListLength,
    /// Lower peer address.
    PeerAddress,
    /// Lower peer number: nothing else differs.
    PeerId,
}
