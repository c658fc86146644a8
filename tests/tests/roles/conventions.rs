//! A physical router's own conventions: AS, route distinguishers, route targets, address families. The LAN is whole in
//! each of them, with nothing said of it on our side.

use tests::bgp::{Connection, KEEPALIVE, OPEN, Open, UPDATE, attribute, message, update};
use tests::fabric::{Family, LAN, MACS};
use tests::peers::Software;
use tests::wait;

use crate::lab::{Lab, REFLECTOR, Role};

/// A router as somebody may have set it up, and what is then seen of it.
struct Router {
    role: Role<'static>,
    /// The distinguisher on its routes, where it is not left to the router.
    rd: Option<&'static str>,
    /// The target on its routes.
    target: &'static str,
}

const DEFAULT: Role<'static> = Role::of(Software::FrrSid);
/// An AS of 4 octets; its low 16 bits are 59905.
const LONG_ASN: u32 = 4_200_000_001;

const ROUTERS: [Router; 8] = [
    Router { role: DEFAULT, rd: None, target: "rt:65000:100" },
    Router { role: Role { asn: 64_512, ..DEFAULT }, rd: None, target: "rt:64512:100" },
    Router { role: Role { asn: LONG_ASN, ..DEFAULT }, rd: None, target: "rt:59905:100" },
    Router { role: Role { evpn: &["autort rfc8365-compatible"], ..DEFAULT }, rd: None, target: "rt:65000:268435556" },
    Router {
        role: Role { asn: LONG_ASN, evpn: &["autort rfc8365-compatible"], ..DEFAULT },
        rd: None,
        target: "rt:59905:268435556",
    },
    // By hand: it exports what it likes and imports what ours are known to have.
    Router {
        role: Role {
            asn: 64_512,
            evpn: &[
                "vni 100",
                "rd 64512:7",
                "route-target export 64512:100",
                "route-target import 65000:100",
                "exit-vni",
            ],
            ..DEFAULT
        },
        rd: Some("64512:7"),
        target: "rt:64512:100",
    },
    Router {
        role: Role { evpn: &["vni 100", "rd 192.0.2.1:7", "route-target export 192.0.2.1:100", "exit-vni"], ..DEFAULT },
        rd: Some("192.0.2.1:7"),
        target: "rt:192.0.2.1:100",
    },
    Router {
        role: Role {
            asn: LONG_ASN,
            evpn: &[
                "vni 100",
                "rd 4200000001:7",
                "route-target export 4200000001:100",
                "route-target import 65000:100",
                "exit-vni",
            ],
            ..DEFAULT
        },
        rd: Some("4200000001:7"),
        target: "rt:4200000001:100",
    },
];

#[test]
fn a_lan_is_whole_whatever_the_conventions_of_frrs_current_version() {
    for router in &ROUTERS {
        check(router, Software::FrrSid);
    }
}

#[test]
fn a_router_that_is_declared_by_one_flag_shares_the_lan_and_announces_nothing_but_itself() {
    let lab = Lab::established(&Role { asn: 64_512, by_flag: true, ..DEFAULT });
    lab.wait_meeting();
    let peer = lab.reflector.peer(&lab.their_session()).unwrap_or_default();
    assert_eq!((peer.asn, peer.role.as_str(), peer.refused_routes), (64_512, "external", 0), "{peer:?}");
    let own = |family: &str| peer.routes.get(family).copied().unwrap_or_default();
    assert!(own("evpn") >= 2, "{peer:?}");
}

#[test]
fn a_lan_is_whole_whatever_the_conventions_of_debians_frr() {
    for router in &ROUTERS {
        check(router, Software::FrrDebian);
    }
}

#[test]
fn a_lan_is_whole_whatever_the_conventions_of_bird() {
    const BIRD: Role<'static> = Role::of(Software::Bird);
    let (v4, v6) = (Family::V4, Family::V6);
    for (role, rd, target) in [
        (BIRD, "65000:100", "rt:65000:100"),
        (Role { session: v6, vteps: v4, ..BIRD }, "65000:100", "rt:65000:100"),
        (Role { session: v4, vteps: v6, ..BIRD }, "65000:100", "rt:65000:100"),
        (Role { session: v6, vteps: v6, ..BIRD }, "65000:100", "rt:65000:100"),
        (
            Role {
                asn: 64_512,
                evpn: &["rd 64512:7; import target (rt, 65000, 100); export target (rt, 64512, 100);"],
                ..BIRD
            },
            "64512:7",
            "rt:64512:100",
        ),
        (Role { evpn: &["rd 192.0.2.1:7; route target (rt, 65000, 100);"], ..BIRD }, "192.0.2.1:7", "rt:65000:100"),
        (Role { evpn: &["rd 65000:7; route target (rt, 65000, 268435556);"], ..BIRD }, "65000:7", "rt:65000:268435556"),
        (
            Role {
                asn: LONG_ASN,
                evpn: &["rd 4200000001:7; import target (rt, 65000, 100); export target (rt, 4200000001, 100);"],
                ..BIRD
            },
            "4200000001:7",
            "rt:4200000001:100",
        ),
    ] {
        let lab = Lab::established(&role);
        lab.wait_meeting();
        check_theirs_at_ours(&lab, &Router { role, rd: Some(rd), target });
    }
}

/// IPv6 VTEPs came to FRR after Debian's version.
#[test]
fn sessions_and_vteps_of_either_family_carry_a_lan_in_every_combination() {
    let families = [Family::V4, Family::V6];
    for (session, vteps) in families.into_iter().flat_map(|session| families.map(|vteps| (session, vteps))) {
        for (software, asn) in [(Software::FrrSid, 65_000), (Software::FrrSid, 64_512), (Software::FrrDebian, 64_512)] {
            if software == Software::FrrSid || vteps == Family::V4 {
                let role = Role { asn, session, vteps, ..DEFAULT };
                let target = if asn == 65_000 { "rt:65000:100" } else { "rt:64512:100" };
                check(&Router { role, rd: None, target }, software);
            }
        }
    }
}

/// Debian's version takes no tunnel endpoint of 16 octets and ends the session that brings one.
#[test]
fn an_frr_that_knows_no_ipv6_vteps_hurts_its_own_session_only_and_is_quoted() {
    let lab = Lab::start(&Role { vteps: Family::V6, ..Role::of(Software::FrrDebian) });
    lab.ours.wait_established();
    wait::until("FRR's words", || {
        let error = lab.reflector.peer(&lab.their_session()).unwrap_or_default().last_error.unwrap_or_default();
        if error.contains("Attribute Length Error (3/5)") { Ok(()) } else { Err(error) }
    });
    assert!(lab.ours.peers().iter().all(|peer| peer.state == "Established" && peer.established_count == 1));
}

fn check(router: &Router, software: Software) {
    let role = Role { software, ..router.role };
    let lab = Lab::established(&role);
    lab.wait_meeting();
    let is_external = role.asn != 65_000;
    let peer = lab.reflector.peer(&lab.their_session()).unwrap_or_default();
    let expected = if is_external { "external" } else { "client" };
    assert_eq!((peer.asn, peer.role.as_str(), peer.established_count), (role.asn, expected, 1));
    check_theirs_at_ours(&lab, router);
    check_ours_at_theirs(&lab, is_external);
}

fn check_theirs_at_ours(lab: &Lab, router: &Router) {
    let rows: Vec<_> = lab.ours.routes().into_iter().filter(|row| row.route.contains(MACS[1])).collect();
    let [route, ..] = rows.as_slice() else { panic!("no route of their MAC") };
    assert_eq!(route.next_hop, lab.their_vtep(), "nobody is in between");
    assert_eq!(route.label, Some(LAN));
    let path = &route.path;
    if router.role.asn == 65_000 {
        let reflected = (path.as_path.as_str(), path.originator_id.as_deref(), path.cluster_list.len());
        assert_eq!(reflected, ("", Some("10.0.0.21"), 1), "{route:?}");
    } else {
        let passed_on = (path.as_path.clone(), path.originator_id.as_deref());
        assert_eq!(passed_on, (router.role.asn.to_string(), None), "{route:?}");
    }
    assert!(route.communities.iter().any(|community| community == router.target), "{route:?}");
    if let Some(rd) = router.rd {
        assert!(route.route.contains(&format!("[{rd}]")), "{route:?}");
    }
}

fn check_ours_at_theirs(lab: &Lab, is_external: bool) {
    let text = lab.theirs.vtysh("show bgp l2vpn evpn route json");
    let table: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let ours = lab.ours.routes().into_iter().find(|row| row.from == "local" && row.route.starts_with("[2]"));
    let ours = ours.unwrap_or_else(|| panic!("no route of our MAC"));
    let rd = ours.route.split(['[', ']']).nth(3).unwrap_or_default();
    let route = &table[rd][&format!("[2]:[0]:[48]:[{}]", MACS[0])];
    let path = &route["paths"][0][0];
    let path = if path.is_null() { &route["paths"][0] } else { path };
    assert_eq!(path["nexthops"][0]["ip"], lab.our_vtep(), "{route}");
    assert_eq!(path["path"], if is_external { "65000" } else { "" }, "{route}");
    let targets = &path["extendedCommunity"]["string"];
    assert!(targets.as_str().is_some_and(|text| text.contains("RT:65000:100") && text.contains("ET:8")), "{route}");
    // LOCAL_PREF stays within the AS (RFC 4271 section 5.1.5).
    assert_eq!(path["locPrf"].as_u64(), (!is_external).then_some(100), "{route}");
}

#[test]
fn a_client_sees_the_routers_as_path_and_next_hop_as_the_router_sent_them() {
    let lab = Lab::established(&Role { asn: LONG_ASN, ..Role::of(Software::FrrDebian) });
    lab.wait_meeting();
    let source = [10, 0, 0, 31];
    let host = lab.host("hand", 31);
    let to = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
    let mut hand = Connection::open(&host, source.into(), to).unwrap_or_else(|error| panic!("{error}"));
    // With ASNs of 4 octets (RFC 6793).
    hand.send(&Open::of(source).message(&[&[65, 4], &65_000_u32.to_be_bytes()[..]].concat()));
    assert!(hand.receive_kind(OPEN).is_some());
    hand.send(&message(KEEPALIVE, &[]));
    hand.send(&default_membership(source));
    let body = loop {
        let body = hand.receive_kind(UPDATE).unwrap_or_else(|| panic!("closed"));
        if contains(&body, &[2, 0, 0, 0, 0, 2]) {
            break body;
        }
    };
    let path = [&[0x40, 2, 6, 2, 1], &LONG_ASN.to_be_bytes()[..]].concat();
    assert!(contains(&body, &path), "one AS, the router's: {body:02x?}");
    assert!(contains(&body, &[0, 25, 70, 4, 10, 0, 0, 21]), "its own next hop: {body:02x?}");
}

fn contains(body: &[u8], octets: &[u8]) -> bool {
    body.windows(octets.len()).any(|part| part == octets)
}

/// Membership in everything (RFC 4684), without which a reflector sends no routes.
fn default_membership(from: [u8; 4]) -> Vec<u8> {
    let value = [&[0, 1, 132, 4], &from[..], &[0, 0]].concat();
    let base = [attribute(0x40, 1, &[0]), attribute(0x40, 2, &[]), attribute(0x40, 5, &[0, 0, 0, 100])];
    update(&[&base[..], &[attribute(0x80, 14, &value)]].concat())
}
