//! EVPN without I/O: MAC-VRFs, mobility, flood lists; turns routes into desired forwarding state.
#![forbid(unsafe_code)]

pub mod forwarding;
