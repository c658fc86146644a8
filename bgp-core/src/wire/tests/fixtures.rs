//! Whole messages as they stand on the wire, field by field, in the shape that FRR gives them.

use bytes::BytesMut;

/// A message with the names of its fields: octets in hexadecimal, a comment behind `#` on each line.
pub(super) struct Fixture {
    /// What it is called in the fuzzing corpus.
    pub name: &'static str,
    text: &'static str,
}

impl Fixture {
    /// The octets.
    pub fn octets(&self) -> BytesMut {
        let digits: Vec<u32> = self
            .text
            .lines()
            .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
            .filter_map(|character| character.to_digit(16))
            .collect();
        assert!(digits.len().is_multiple_of(2), "{}: half an octet", self.name);
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }
}

/// An OPEN in the form that FRR sends: one capability per parameter, several that are not understood.
pub(super) const OPEN: Fixture = Fixture {
    name: "open",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0084 01  # length, OPEN
        04  # version
        fde8  # AS 65000
        0009  # hold time
        0a000001  # BGP identifier
        67  # optional parameters length
        02 06  # parameter: capability, length
        01 04  # multiprotocol, length
        00010001  # value
        02 06  # parameter: capability, length
        01 04  # multiprotocol, length
        00190046  # value
        02 02  # parameter: capability, length
        80 00  # route refresh, old, length
        02 02  # parameter: capability, length
        02 00  # route refresh, length
        02 02  # parameter: capability, length
        46 00  # enhanced route refresh, length
        02 06  # parameter: capability, length
        41 04  # 4-octet AS, length
        0000fde8  # value
        02 02  # parameter: capability, length
        06 00  # extended message, length
        02 0a  # parameter: capability, length
        45 08  # add-path, length
        0001010100194601  # value
        02 08  # parameter: capability, length
        49 06  # FQDN, length
        046c65616600  # value
        02 08  # parameter: capability, length
        40 06  # graceful restart, length
        407800194600  # value
        02 09  # parameter: capability, length
        47 07  # long-lived graceful restart, length
        00194680000e10  # value
        02 12  # parameter: capability, length
        4b 10  # software version, length
        0f4652526f7574696e672f31302e372e  # value
    ",
};

/// An OPEN with the extended optional parameters length (RFC 9072).
pub(super) const OPEN_EXTENDED: Fixture = Fixture {
    name: "open-extended",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0032 01  # length, OPEN
        04  # version
        5ba0  # AS_TRANS
        005a  # hold time
        0a000002  # BGP identifier
        ff  # non-extended length
        ff  # extended form
        0012  # extended length
        02  # parameter: capability
        0006  # length, two octets
        01  # multiprotocol
        04  # length
        00190046  # EVPN
        02  # parameter: capability
        0006  # length, two octets
        41  # 4-octet AS
        04  # length
        000186a0  # 100000
    ",
};

/// A KEEPALIVE.
pub(super) const KEEPALIVE: Fixture = Fixture {
    name: "keepalive",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0013 04  # length, KEEPALIVE
    ",
};

/// A Cease with a shutdown communication.
pub(super) const NOTIFICATION: Fixture = Fixture {
    name: "notification",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0021 03  # length, NOTIFICATION
        06  # Cease
        02  # administrative shutdown
        0b  # text length
        6d61696e74656e616e6365  # text
    ",
};

/// A request for all EVPN routes.
pub(super) const ROUTE_REFRESH: Fixture = Fixture {
    name: "route-refresh",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0017 05  # length, ROUTE-REFRESH
        0019  # AFI
        00  # request
        46  # SAFI
    ",
};

/// A type 2 route without IP address.
pub(super) const MAC_ONLY: Fixture = Fixture {
    name: "mac-only",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0069 02  # length, UPDATE
        0000  # withdrawn routes length
        0052  # path attributes length
        90 0e 002c  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        02 21  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        00  # IP length
        000064  # label: VNI 100
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 10  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
    ",
};

/// A type 2 route with an IPv4 address and MAC mobility.
pub(super) const MAC_IPV4: Fixture = Fixture {
    name: "mac-ipv4",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0075 02  # length, UPDATE
        0000  # withdrawn routes length
        005e  # path attributes length
        90 0e 0030  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        02 25  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        20  # IP length
        c0a80101  # IP
        000064  # label: VNI 100
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 18  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        0600010000000007  # MAC mobility, sticky, sequence 7
    ",
};

/// A type 2 route with an IPv6 address and a second label, over an IPv6 underlay.
pub(super) const MAC_IPV6: Fixture = Fixture {
    name: "mac-ipv6",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0090 02  # length, UPDATE
        0000  # withdrawn routes length
        0079  # path attributes length
        90 0e 004b  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        10 20010db800000000000000000000000a 00  # next hop length, next hop, reserved
        02 34  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        80  # IP length
        20010db8000000000000000000000001  # IP
        000064  # label: VNI 100
        001388  # second label: L3VNI 5000
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 18  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        0603020000000001  # router's MAC
    ",
};

/// A type 3 route with a PMSI tunnel of 9 octets.
pub(super) const MULTICAST_IPV4: Fixture = Fixture {
    name: "multicast-ipv4",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0065 02  # length, UPDATE
        0000  # withdrawn routes length
        004e  # path attributes length
        90 0e 001c  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        03 11  # route type 3 (inclusive multicast), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000  # Ethernet tag
        20  # IP length
        0a000001  # originator
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 10  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        c0 16 09  # PMSI_TUNNEL: flags, type, length
        00  # flags
        06  # ingress replication
        000064  # label: VNI 100
        0a000001  # endpoint
    ",
};

/// A type 3 route with a PMSI tunnel of 21 octets.
pub(super) const MULTICAST_IPV6: Fixture = Fixture {
    name: "multicast-ipv6",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0089 02  # length, UPDATE
        0000  # withdrawn routes length
        0072  # path attributes length
        90 0e 0034  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        10 20010db800000000000000000000000a 00  # next hop length, next hop, reserved
        03 1d  # route type 3 (inclusive multicast), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000  # Ethernet tag
        80  # IP length
        20010db800000000000000000000000a  # originator
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 10  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        c0 16 15  # PMSI_TUNNEL: flags, type, length
        00  # flags
        06  # ingress replication
        000064  # label: VNI 100
        20010db800000000000000000000000a  # endpoint
    ",
};

/// A type 1 route for a whole Ethernet segment.
pub(super) const AUTO_DISCOVERY: Fixture = Fixture {
    name: "auto-discovery",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0069 02  # length, UPDATE
        0000  # withdrawn routes length
        0052  # path attributes length
        90 0e 0024  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        01 19  # route type 1 (Ethernet auto-discovery), length
        00010a0000010064  # RD 10.0.0.1:100
        03021122334455000001  # ESI
        ffffffff  # Ethernet tag MAX-ET
        000000  # label
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 18  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        0601000000000000  # ESI label, all-active
    ",
};

/// A type 4 route.
pub(super) const ETHERNET_SEGMENT: Fixture = Fixture {
    name: "ethernet-segment",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        005f 02  # length, UPDATE
        0000  # withdrawn routes length
        0048  # path attributes length
        90 0e 0022  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        04 17  # route type 4 (Ethernet segment), length
        00010a0000010064  # RD 10.0.0.1:100
        03021122334455000001  # ESI
        20  # IP length
        0a000001  # originator
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 10  # EXTENDED_COMMUNITIES: flags, type, length
        030c000000000008  # encapsulation VXLAN
        0602021122334455  # ES-import
    ",
};

/// A type 5 route of a default gateway.
pub(super) const IP_PREFIX: Fixture = Fixture {
    name: "ip-prefix",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0072 02  # length, UPDATE
        0000  # withdrawn routes length
        005b  # path attributes length
        90 0e 002d  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        05 22  # route type 5 (IP prefix), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        18  # prefix length
        c0a80100  # prefix
        00000000  # gateway
        001388  # label: VNI 5000
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 10 18  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        0603020000000001  # router's MAC
    ",
};

/// A withdrawn type 2 and a withdrawn type 3 route.
pub(super) const WITHDRAWAL: Fixture = Fixture {
    name: "withdrawal",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0058 02  # length, UPDATE
        0000  # withdrawn routes length
        0041  # path attributes length
        90 0f 003d  # MP_UNREACH_NLRI: flags, type, length
        0019  # AFI
        46  # SAFI
        02 25  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        20  # IP length
        c0a80101  # IP
        000064  # label: VNI 100
        03 11  # route type 3 (inclusive multicast), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000  # Ethernet tag
        20  # IP length
        0a000001  # originator
    ",
};

/// Interest in one route target and in all.
pub(super) const MEMBERSHIP: Fixture = Fixture {
    name: "membership",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0040 02  # length, UPDATE
        0000  # withdrawn routes length
        0029  # path attributes length
        80 0e 17  # MP_REACH_NLRI: flags, type, length
        0001  # AFI IPv4
        84  # SAFI route target
        04  # next hop length
        0a000001  # next hop
        00  # reserved
        60  # length in bits
        0000fde8  # origin AS
        0002fde800000064  # route target
        00  # default, length in bits
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
    ",
};

/// End-of-RIB of EVPN.
pub(super) const END_OF_RIB: Fixture = Fixture {
    name: "end-of-rib",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        001d 02  # length, UPDATE
        0000  # withdrawn routes length
        0006  # path attributes length
        80 0f 03  # MP_UNREACH_NLRI: flags, type, length
        0019  # AFI
        46  # SAFI
    ",
};

/// A route of a type that is not known, with attributes that are not understood.
pub(super) const CARRIED: Fixture = Fixture {
    name: "carried",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0050 02  # length, UPDATE
        0000  # withdrawn routes length
        0039  # path attributes length
        90 0e 0018  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        09 0d  # route type 9 (S-PMSI), length
        00010a0000010064  # RD 10.0.0.1:100
        0102030405  # rest
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        50 02 0000  # AS_PATH: flags, type, length
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 17 04  # TUNNEL_ENCAPSULATION: flags, type, length
        0008  # VXLAN
        0000  # length
        e0 fe 04  # unknown, partial: flags, type, length
        deadbeef  # value
    ",
};

/// Every attribute that is understood, with two routes.
pub(super) const ALL_ATTRIBUTES: Fixture = Fixture {
    name: "all-attributes",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        00f1 02  # length, UPDATE
        0000  # withdrawn routes length
        00da  # path attributes length
        90 0e 0053  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        02 21  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        00  # IP length
        000064  # label: VNI 100
        02 25  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        20  # IP length
        c0a80101  # IP
        000064  # label: VNI 100
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        40 02 0a  # AS_PATH: flags, type, length
        02  # AS_SEQUENCE
        02  # count
        0000fde9  # 65001
        000186a0  # 100000
        80 04 04  # MULTI_EXIT_DISC: flags, type, length
        00000005  # 5
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        40 06 00  # ATOMIC_AGGREGATE: flags, type, length
        c0 07 08  # AGGREGATOR: flags, type, length
        0000fde9  # 65001
        0a000009  # 10.0.0.9
        c0 08 08  # COMMUNITIES: flags, type, length
        fde80001  # 65000:1
        ffffff01  # no-export
        80 09 04  # ORIGINATOR_ID: flags, type, length
        0a000009  # 10.0.0.9
        80 0a 08  # CLUSTER_LIST: flags, type, length
        0a0000fe  # 10.0.0.254
        0a0000fd  # 10.0.0.253
        c0 10 10  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        030c000000000008  # encapsulation VXLAN
        c0 19 14  # IPV6_EXTENDED_COMMUNITIES: flags, type, length
        000220010db80000000000000000000000010064  # route target, IPv6
        c0 20 0c  # LARGE_COMMUNITY: flags, type, length
        0000fde80000000100000002  # 65000:1:2
    ",
};

/// From a peer without 4-octet AS numbers, through an AS that needs them.
pub(super) const TWO_OCTET_PEER: Fixture = Fixture {
    name: "two-octet-peer",
    text: "
        ffffffffffffffffffffffffffffffff  # marker
        0083 02  # length, UPDATE
        0000  # withdrawn routes length
        006c  # path attributes length
        90 0e 002c  # MP_REACH_NLRI: flags, type, length
        0019 46  # L2VPN EVPN
        04 0a000001 00  # next hop length, next hop, reserved
        02 21  # route type 2 (MAC/IP), length
        00010a0000010064  # RD 10.0.0.1:100
        00000000000000000000  # ESI
        00000000  # Ethernet tag
        30 020000000001  # MAC length, MAC
        00  # IP length
        000064  # label: VNI 100
        40 01 01  # ORIGIN: flags, type, length
        00  # IGP
        40 02 06  # AS_PATH: flags, type, length
        02  # AS_SEQUENCE
        02  # count
        fde9  # 65001
        5ba0  # AS_TRANS
        40 05 04  # LOCAL_PREF: flags, type, length
        00000064  # 100
        c0 07 06  # AGGREGATOR: flags, type, length
        5ba0  # AS_TRANS
        0a000009  # 10.0.0.9
        c0 10 08  # EXTENDED_COMMUNITIES: flags, type, length
        0002fde800000064  # route target 65000:100
        c0 11 06  # AS4_PATH: flags, type, length
        02  # AS_SEQUENCE
        01  # count
        000186a0  # 100000
        c0 12 08  # AS4_AGGREGATOR: flags, type, length
        000186a0  # 100000
        0a000009  # 10.0.0.9
    ",
};

/// All of them.
pub(super) const ALL: &[Fixture] = &[
    OPEN,
    OPEN_EXTENDED,
    KEEPALIVE,
    NOTIFICATION,
    ROUTE_REFRESH,
    MAC_ONLY,
    MAC_IPV4,
    MAC_IPV6,
    MULTICAST_IPV4,
    MULTICAST_IPV6,
    AUTO_DISCOVERY,
    ETHERNET_SEGMENT,
    IP_PREFIX,
    WITHDRAWAL,
    MEMBERSHIP,
    END_OF_RIB,
    CARRIED,
    ALL_ATTRIBUTES,
    TWO_OCTET_PEER,
];
