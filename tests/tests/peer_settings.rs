//! What a configuration file says of a peer holds on the wire; a peer by hand sees it octet by octet.

use std::net::{IpAddr, Ipv4Addr};

use nix::sys::signal::Signal;
use tests::bgp::{
    Connection, NOTIFICATION, Open, UPDATE, attribute, base, default_membership, evpn_route, mac_route, message, reach,
    update,
};
use tests::fabric::{Fabric, Family, LAN};
use tests::host::Host;
use tests::overlay::{Reflector, Worker};
use tests::{http, wait};

const REFLECTOR: &str = "10.0.0.1:1179";
const HTTP: &str = "127.0.0.1:9180";

/// A peer that may come and is remembered when it has gone.
const EXPECTED: &str = "[[peer]]\naddress = \"10.0.0.50\"\npassive = true";

/// A reflector that accepts the whole underlay with these settings, in AS 65000.
fn reflector(fabric: &Fabric, settings: &str) -> Reflector {
    let config =
        format!("listen = [\"{REFLECTOR}\"]\nhttp = \"{HTTP}\"\n[[accept]]\nprefix = \"10.0.0.0/24\"\n{settings}\n");
    Reflector::configured(fabric.host("rr1", 1), &config)
}

fn connect(host: &Host, last: u8) -> Connection {
    let to = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
    let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    Connection::open(host, source, to).unwrap_or_else(|error| panic!("{error}"))
}

fn establish(host: &Host, last: u8) -> Connection {
    let mut connection = connect(host, last);
    connection.establish(&Open::of([10, 0, 0, last]));
    connection
}

/// A route of LAN 100 from `10.0.0.LAST`, with these attributes and routes beside it.
fn announcement(last: u8, mac: u8, attributes: &[Vec<u8>], routes: &[Vec<u8>]) -> Vec<u8> {
    let source = [10, 0, 0, last];
    let routes = [routes, &[mac_route(source, LAN, [2, 0, 0, 0, 0, mac])]].concat();
    update(&[base(LAN), attributes.to_vec(), vec![reach(source, &routes)]].concat())
}

/// The first UPDATE that holds these octets.
fn update_with(connection: &mut Connection, octets: &[u8]) -> Vec<u8> {
    loop {
        let body = connection.receive_kind(UPDATE).unwrap_or_else(|| panic!("closed before {octets:02x?}"));
        if body.windows(octets.len()).any(|part| part == octets) {
            return body;
        }
    }
}

#[test]
fn routes_beyond_the_limit_end_only_the_session_that_sent_them() {
    let fabric = Fabric::empty(Family::V4);
    let reflector = reflector(&fabric, "max_routes = 3");
    let host = fabric.host("peers", 50);
    host.sh("ip address add 10.0.0.51/24 dev eth0");
    let _modest = establish(&host, 51);
    let mut greedy = establish(&host, 50);
    for mac in 1..=4 {
        greedy.send(&announcement(50, mac, &[], &[]));
    }
    assert_eq!(greedy.last_words(), Some((6, 1)), "RFC 4486: maximum number of prefixes reached");
    wait::until_true("its routes to be gone", || reflector.routes().iter().all(|route| route.from != "10.0.0.50"));
    let modest = reflector.peer("10.0.0.51").unwrap_or_default();
    assert_eq!((modest.state.as_str(), modest.established_count), ("Established", 1));
}

#[test]
fn an_unknown_transitive_attribute_crosses_octet_by_octet_with_the_partial_bit() {
    let fabric = Fabric::empty(Family::V4);
    let _reflector = reflector(&fabric, "");
    let host = fabric.host("peers", 50);
    host.sh("ip address add 10.0.0.51/24 dev eth0");
    let (mut sender, mut receiver) = (establish(&host, 50), establish(&host, 51));
    receiver.send(&default_membership([10, 0, 0, 51]));
    let not_transitive = attribute(0x80, 223, &[9, 9, 9]);
    sender.send(&announcement(50, 1, &[attribute(0xc0, 222, &[1, 2, 3]), not_transitive], &[]));
    let body = update_with(&mut receiver, &[2, 0, 0, 0, 0, 1]);
    let has = |octets: &[u8]| body.windows(octets.len()).any(|part| part == octets);
    assert!(has(&[0xe0, 222, 3, 1, 2, 3]), "{body:02x?}");
    assert!(!has(&[9, 9, 9]), "what is not transitive goes no further: {body:02x?}");
}

#[test]
fn unknown_route_types_are_skipped_and_counted_or_reflected_as_they_are() {
    for (settings, reflected) in [("", false), ("unknown_route_types = true", true)] {
        let fabric = Fabric::empty(Family::V4);
        let reflector = reflector(&fabric, settings);
        let host = fabric.host("peers", 50);
        host.sh("ip address add 10.0.0.51/24 dev eth0");
        let (mut sender, mut receiver) = (establish(&host, 50), establish(&host, 51));
        receiver.send(&default_membership([10, 0, 0, 51]));
        let strange = evpn_route(99, b"what nobody knows yet");
        sender.send(&announcement(50, 1, &[], std::slice::from_ref(&strange)));
        if reflected {
            update_with(&mut receiver, &strange);
        } else {
            update_with(&mut receiver, &[2, 0, 0, 0, 0, 1]);
            let finding =
                "megalos_bgp_findings_total{action=\"skip-route\",peer=\"10.0.0.50\",rule=\"evpn-route-type\"} 1";
            wait::until("the finding to be counted", || match http::get(&reflector.host, HTTP, "/metrics") {
                (200, text) if text.contains(finding) => Ok(()),
                (status, text) => Err(format!("{status}: {text}")),
            });
        }
    }
}

#[test]
fn another_as_is_refused_and_both_sides_say_so() {
    let fabric = Fabric::empty(Family::V4);
    let reflector = reflector(&fabric, EXPECTED);
    let host = fabric.host("peers", 50);
    let mut connection = connect(&host, 50);
    connection.send(&Open { asn: 64_999, ..Open::of([10, 0, 0, 50]) }.message(&[]));
    assert_eq!(connection.last_words(), Some((2, 2)), "RFC 4271 section 6.2: bad peer AS");
    wait::until("the reason", || {
        let error = reflector.peer("10.0.0.50").unwrap_or_default().last_error.unwrap_or_default();
        if error.contains("64999") && error.contains("65000") { Ok(()) } else { Err(error) }
    });
}

#[test]
fn the_words_of_a_shutdown_are_shown() {
    let fabric = Fabric::empty(Family::V4);
    let reflector = reflector(&fabric, EXPECTED);
    let host = fabric.host("peers", 50);
    let mut connection = establish(&host, 50);
    let words = "power works until noon";
    let mut body = vec![6, 2, u8::try_from(words.len()).unwrap_or_default()];
    body.extend(words.as_bytes());
    connection.send(&message(NOTIFICATION, &body));
    wait::until("the words", || {
        let error = reflector.peer("10.0.0.50").unwrap_or_default().last_error.unwrap_or_default();
        if error.contains(words) { Ok(()) } else { Err(error) }
    });
}

#[test]
fn leaving_for_good_is_told_by_a_hard_reset_and_leaving_to_return_by_silence() {
    // Graceful restart of 120 s with the N bit, for EVPN (RFC 4724, RFC 8538).
    let graceful: [u8; 8] = [64, 6, 0x40, 120, 0, 25, 70, 0x80];
    for (flags, capabilities, expected) in
        [(&[][..], &graceful[..], None), (&[], &[], Some((6, 2))), (&["--flush-on-exit"], &graceful, Some((6, 9)))]
    {
        let fabric = Fabric::empty(Family::V4);
        let mut reflector = Reflector::start(fabric.host("rr1", 1), REFLECTOR, &["10.0.0.0/24"], flags);
        let host = fabric.host("peers", 50);
        let mut connection = connect(&host, 50);
        connection.send(&Open::of([10, 0, 0, 50]).message(capabilities));
        connection.receive_kind(tests::bgp::OPEN);
        connection.send(&message(tests::bgp::KEEPALIVE, &[]));
        wait::until_true("the session", || reflector.peer("10.0.0.50").is_some_and(|peer| peer.state == "Established"));
        reflector.kill(Signal::SIGTERM);
        assert_eq!(connection.last_words(), expected, "{flags:?} {capabilities:?}");
    }
}

#[test]
fn key_and_gtsm_of_the_file_are_asked_of_both_sides() {
    let fabric = Fabric::empty(Family::V4);
    let host = fabric.host("rr1", 1);
    let key = host.directory().join("key");
    std::fs::write(&key, "open sesame\n").unwrap_or_else(|error| panic!("{error}"));
    let key = key.display().to_string();
    let accept = format!("[[accept]]\nprefix = \"10.0.0.0/24\"\npassword_file = \"{key}\"\ngtsm = true\n");
    let reflector = Reflector::configured(host, &format!("listen = [\"{REFLECTOR}\"]\n{accept}"));
    let worker = |index: usize, settings: &str| {
        let host = fabric.host(&format!("w{index}"), index);
        let path = host.directory().join("speaker.toml");
        let text = format!("[defaults]\npassword = \"of others\"\n[[peer]]\naddress = \"{REFLECTOR}\"\n{settings}\n");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
        let config = path.display().to_string();
        Worker::start(host, &format!("10.0.0.{index}"), &[], &["--config", &config])
    };
    let right = worker(11, &format!("password_file = \"{key}\"\ngtsm = true"));
    let wrong = worker(12, "gtsm = true");
    right.wait_established();
    wait::until("the wrong key to be named as a cause", || {
        let peer = wrong.peers().swap_remove(0);
        let error = peer.last_error.unwrap_or_default();
        if error.contains("MD5") { Ok(()) } else { Err(format!("{}: {error}", peer.state)) }
    });
    assert_eq!(reflector.peers().iter().filter(|peer| peer.state == "Established").count(), 1);
}

#[test]
fn a_peer_of_our_own_as_is_internal_even_where_others_are_expected() {
    let fabric = Fabric::empty(Family::V4);
    let reflector = reflector(&fabric, "role = \"external\"");
    let host = fabric.host("peers", 50);
    host.sh("ip address add 10.0.0.51/24 dev eth0");
    let _internal = establish(&host, 50);
    let mut other = connect(&host, 51);
    other.establish(&Open { asn: 64_999, ..Open::of([10, 0, 0, 51]) });
    let is = |address: &str, role: &str| {
        reflector.peer(address).is_some_and(|peer| peer.state == "Established" && peer.role == role)
    };
    wait::until_true("both sessions", || is("10.0.0.50", "non-client") && is("10.0.0.51", "external"));
}
