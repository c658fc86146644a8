//! The rules of the kernel's side: what it refuses, loses, or has changed by others.

bgp_core::rules! {
    NO_MEMORY = "kernel-no-memory", "kernel: ENOMEM, ENOBUFS", "The kernel has no memory for a row or a device; it is tried again";
    TABLE_FULL = "kernel-table-full", "kernel: ENOSPC, EXFULL, E2BIG",
        "A table of the kernel is full; it is tried again, and succeeds once there is room";
    EXISTS = "kernel-exists", "kernel: EEXIST", "Somebody else has made what was to be made; it is tried again";
    DEVICE_GONE = "kernel-device-gone", "kernel: ENODEV, ENXIO", "Somebody removed a device while rows were written to it; both come back";
    REFUSED = "kernel-refused", "kernel: any other error number", "The kernel refused a row or a device; it is tried again";
    VNI_IN_USE = "vni-in-use", "RFC 7348 section 4", "A device outside the overlay namespace has the VNI on the same UDP port";
    VNI_RESERVED = "vni-reserved", "RFC 7348 section 4",
        "A device of the host's network namespace has a VNI on the LANs' UDP port: no LAN may have it here";
    VXLAN_PORT_TAKEN = "vxlan-port-taken", "kernel: EADDRINUSE",
        "A device of the host's network namespace in external mode has the LANs' UDP port: no LAN leaves this node";
    VTEP_FAMILY = "vtep-family", "RFC 8365 section 5.1.3", "A row was to lead to a VTEP of the other address family";
    INVALID_ROW = "invalid-row", "policy: no station owns a group address", "A row was to be made that no host can have";
    ROW_DISTURBED = "row-disturbed", "policy: every row on our VXLAN ports is ours",
        "Somebody changed or removed a row on a VXLAN device of ours; it is put right";
    TUNNEL_GONE = "tunnel-gone", "policy: every device in the overlay namespace is ours",
        "Somebody removed, disabled or took out of its bridge a VXLAN device; it is put right";
    NOTIFICATIONS_LOST = "notifications-lost", "kernel: ENOBUFS on a notification socket",
        "The kernel dropped notifications; everything is read again and compared";
    TABLES_UNSTEADY = "tables-unsteady", "kernel: NLM_F_DUMP_INTR",
        "The kernel's tables changed during every try to read them; they are read again soon";
}
