//! EVPN without I/O: MAC-VRFs, mobility, flood lists; turns routes into desired forwarding state.
