//! Linux forwarding for EVPN: bridges, VXLAN, veth, FDB and neighbours over netlink; an in-memory kernel with the same trait.
