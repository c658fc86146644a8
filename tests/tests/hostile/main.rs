//! A peer that means harm, or is broken: it costs its own session and nothing else.

mod limits;
mod node;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tests::bgp::{
    self, Connection, KEEPALIVE, OPEN, Open, UPDATE, attribute, base, evpn_route, mac_route, message, reach, update,
};
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::rows::RowWatch;
use tests::{http, wait};

const REFLECTOR: &str = "10.0.0.1:1179";
/// Addresses of the hostile host: one for every case, so that none waits for another's back-off.
const FIRST_SOURCE: u8 = 100;

/// A fabric in good order, and a host with many accepted addresses.
struct Scene {
    fabric: Fabric,
    _devices: [Host; 2],
    hostile: Host,
    routes: BTreeSet<(String, String)>,
    watches: Vec<RowWatch>,
    sources: std::ops::RangeInclusive<u8>,
}

impl Scene {
    fn new() -> Self {
        let fabric = Fabric::new(2);
        let devices = fabric.devices::<2>();
        fabric.wait_row(0, LAN, MACS[1], Some(1));
        fabric.wait_row(1, LAN, MACS[0], Some(0));
        let hostile = fabric.host("hostile", 99);
        for number in FIRST_SOURCE..=200 {
            hostile.sh(&format!("ip address add 10.0.0.{number}/24 dev eth0"));
        }
        let watches = fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
        let routes = workers_routes(&fabric);
        assert!(routes.len() >= 4, "{routes:?}");
        Self { fabric, _devices: devices, hostile, routes, watches, sources: FIRST_SOURCE..=200 }
    }

    fn connect(&mut self) -> (Connection, [u8; 4]) {
        let last = self.sources.next().unwrap_or_else(|| panic!("more cases than addresses"));
        let source = [10, 0, 0, last];
        let to: SocketAddr = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
        let connection = Connection::open(&self.hostile, IpAddr::V4(Ipv4Addr::from(source)), to);
        (connection.unwrap_or_else(|error| panic!("{error}")), source)
    }

    /// A session that is up, and the octets of its address.
    fn establish(&mut self) -> (Connection, [u8; 4]) {
        let (mut connection, source) = self.connect();
        connection.establish(&Open::of(source));
        (connection, source)
    }

    /// Nobody else has noticed anything.
    fn assert_unharmed(&self, case: &str) {
        let reflector = &self.fabric.reflectors[0];
        for worker in ["10.0.0.11", "10.0.0.12"] {
            let peer = reflector.peer(worker).unwrap_or_default();
            assert_eq!((peer.state.as_str(), peer.established_count), ("Established", 1), "{case}: {worker}");
        }
        assert_eq!(workers_routes(&self.fabric), self.routes, "{case}");
        for watch in &self.watches {
            let changes: Vec<_> =
                watch.events().into_iter().filter(|event| MACS.contains(&event.mac.as_str())).collect();
            assert!(changes.is_empty(), "{case}: {changes:?}");
        }
    }
}

/// The routes of the workers, as the reflector has them.
fn workers_routes(fabric: &Fabric) -> BTreeSet<(String, String)> {
    let routes = fabric.reflectors[0].routes().into_iter();
    let of_workers = routes.filter(|route| ["10.0.0.11", "10.0.0.12"].contains(&route.from.as_str()));
    of_workers.map(|route| (route.route, route.from)).collect()
}

fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![marker; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets
}

#[test]
fn what_is_no_bgp_ends_only_its_own_connection() {
    let mut scene = Scene::new();
    let cases: [(&str, Vec<u8>, (u8, u8)); 12] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: reflector\r\n\r\n".to_vec(), (1, 1)),
        ("zeros", vec![0; 4_096], (1, 1)),
        ("a bad marker", header(0xfe, 19, KEEPALIVE), (1, 1)),
        ("length 0", header(0xff, 0, KEEPALIVE), (1, 2)),
        ("length 18", header(0xff, 18, KEEPALIVE), (1, 2)),
        ("length 65535", header(0xff, 65_535, OPEN), (1, 2)),
        ("an OPEN of 28 octets", header(0xff, 28, OPEN), (1, 2)),
        ("a KEEPALIVE of 20 octets", header(0xff, 20, KEEPALIVE), (1, 2)),
        ("type 0", header(0xff, 19, 0), (1, 3)),
        ("type 6", header(0xff, 19, 6), (1, 3)),
        ("a KEEPALIVE before the OPEN", message(KEEPALIVE, &[]), (5, 1)),
        ("an UPDATE before the OPEN", message(UPDATE, &[0, 0, 0, 0]), (5, 1)),
    ];
    for (case, octets, wanted) in cases {
        let (mut connection, _) = scene.connect();
        connection.send(&octets);
        assert_eq!(connection.last_words(), Some(wanted), "{case}");
    }
    scene.assert_unharmed("no BGP");
}

#[test]
fn an_open_that_is_wrong_is_answered_with_what_is_wrong() {
    let mut scene = Scene::new();
    let right = Open::of([10, 0, 0, 250]);
    let cases: [(&str, Vec<u8>, (u8, u8)); 8] = [
        ("version 5", Open { version: 5, ..right }.message(&[]), (2, 1)),
        ("AS 0", Open { asn: 0, ..right }.message(&[]), (2, 2)),
        ("another AS", Open { asn: 65_001, ..right }.message(&[]), (2, 2)),
        ("identifier 0", Open { router_id: [0; 4], ..right }.message(&[]), (2, 3)),
        ("the reflector's identifier", Open { router_id: [10, 0, 0, 1], ..right }.message(&[]), (2, 3)),
        ("hold time 1", Open { hold_time_secs: 1, ..right }.message(&[]), (2, 6)),
        ("a parameter longer than the message", right.with_parameters(&[2, 200, 1, 4, 0, 25]), (2, 0)),
        ("a capability longer than its parameter", right.with_parameters(&[2, 6, 1, 200, 0, 25, 0, 70]), (2, 0)),
    ];
    for (case, octets, wanted) in cases {
        let (mut connection, _) = scene.connect();
        connection.send(&octets);
        assert_eq!(connection.last_words(), Some(wanted), "{case}");
    }
    scene.assert_unharmed("OPEN");
}

#[test]
fn half_an_open_and_silence_hold_up_nobody() {
    let mut scene = Scene::new();
    let mut idle: Vec<_> = (0..40).map(|_| scene.connect().0).collect();
    for (index, connection) in idle.iter_mut().enumerate() {
        let open = Open::of([10, 0, 1, 1]).message(&[]);
        connection.send(&open[..index.min(open.len())]);
    }
    // A worker that comes meanwhile is served.
    let (mut connection, source) = scene.establish();
    let good = [base(LAN), vec![reach(source, &[mac_route(source, LAN, [2, 0, 0, 0, 0, 0x66])])]].concat();
    connection.send(&update(&good));
    scene.fabric.workers[0].wait_row(LAN, "02:00:00:00:00:66", Some(IpAddr::from(source)));
    // Each of the idle is told to go in the end.
    for connection in &mut idle {
        connection.last_words();
    }
    scene.assert_unharmed("half an OPEN");
}

/// What a malformed UPDATE does to the session that it comes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// It goes on, and the route is not there.
    Withdrawn,
    /// It goes on, and the route is there: only the faulty part was left out.
    Kept,
    /// It ends with an UPDATE error.
    Ended,
}

/// UPDATEs that carry a route for `mac` and one fault each.
fn faulty(source: [u8; 4], mac: [u8; 6]) -> Vec<(&'static str, Vec<u8>, Fate)> {
    let route = mac_route(source, LAN, mac);
    let with =
        |attributes: Vec<Vec<u8>>, routes: &[Vec<u8>]| update(&[attributes, vec![reach(source, routes)]].concat());
    let replaced = |index: usize, with: Vec<u8>| {
        let mut attributes = base(LAN);
        attributes[index] = with;
        attributes
    };
    let added = |attribute: Vec<u8>| [base(LAN), vec![attribute]].concat();
    let only = [route.clone()];
    let mut bad_mac_length = mac_route(source, LAN, [2, 0, 0, 0, 0, 0xbb]);
    bad_mac_length[2 + 8 + 10 + 4] = 40;
    let mut cut = route.clone();
    cut.truncate(20);
    let mut bad_next_hop = reach(source, &only);
    bad_next_hop[3 + 3] = 3;
    let lost_withdrawn = message(UPDATE, &[0xff, 0xff, 0, 0]);
    let lost_attributes = message(UPDATE, &[0, 0, 0xff, 0xff, 0x40, 1, 1, 0]);
    vec![
        ("ORIGIN 9", with(replaced(0, attribute(0x40, 1, &[9])), &only), Fate::Withdrawn),
        (
            "an AS_PATH segment beyond its end",
            with(replaced(1, attribute(0x40, 2, &[2, 9, 0, 1])), &only),
            Fate::Withdrawn,
        ),
        ("LOCAL_PREF of two octets", with(replaced(2, attribute(0x40, 5, &[0, 1])), &only), Fate::Withdrawn),
        (
            "seven octets of extended communities",
            with(replaced(3, attribute(0xc0, 16, &[0; 7])), &only),
            Fate::Withdrawn,
        ),
        (
            "ORIGIN with the flags of an optional attribute",
            with(replaced(0, attribute(0xc0, 1, &[0])), &only),
            Fate::Withdrawn,
        ),
        ("no ORIGIN", with(base(LAN).split_off(1), &only), Fate::Withdrawn),
        ("a second ORIGIN", with(added(attribute(0x40, 1, &[1])), &only), Fate::Kept),
        ("an unknown transitive attribute", with(added(attribute(0xc0, 222, &[1, 2, 3])), &only), Fate::Kept),
        ("an unknown EVPN route type beside", with(base(LAN), &[evpn_route(99, &[7; 30]), route.clone()]), Fate::Kept),
        ("a MAC of 40 bits beside", with(base(LAN), &[bad_mac_length, route.clone()]), Fate::Kept),
        ("an EVPN route cut short", with(base(LAN), &[cut]), Fate::Ended),
        ("a next hop of three octets", update(&[base(LAN), vec![bad_next_hop]].concat()), Fate::Ended),
        (
            "MP_REACH_NLRI twice",
            update(&[base(LAN), vec![reach(source, &only), reach(source, &only)]].concat()),
            Fate::Ended,
        ),
        ("an unknown well-known attribute", with(added(attribute(0x40, 222, &[1])), &only), Fate::Ended),
        ("withdrawn routes beyond the end", lost_withdrawn, Fate::Ended),
        ("attributes beyond the end", lost_attributes, Fate::Ended),
    ]
}

#[test]
fn malformed_updates_are_contained() {
    let mut scene = Scene::new();
    let octets = [2, 0, 0, 0, 0, 0x66];
    let mac = "02:00:00:00:00:66";
    let count = faulty([0; 4], octets).len();
    for index in 0..count {
        let (mut connection, source) = scene.establish();
        let (case, fault, fate) = faulty(source, octets).swap_remove(index);
        let announce =
            |mac: [u8; 6]| update(&[base(LAN), vec![reach(source, &[mac_route(source, LAN, mac)])]].concat());
        let worker = &scene.fabric.workers[0];
        // First the route is good, then its like is faulty, then another route tells that all is through.
        connection.send(&announce(octets));
        worker.wait_row(LAN, mac, Some(IpAddr::from(source)));
        connection.send(&fault);
        connection.send(&announce([2, 0, 0, 0, 0, 0x77]));
        if fate == Fate::Ended {
            let code = connection.last_words().map(|(code, _)| code);
            assert_eq!(code, Some(3), "{case}");
        } else {
            worker.wait_row(LAN, "02:00:00:00:00:77", Some(IpAddr::from(source)));
            let there = worker.fdb(LAN, mac).is_some();
            assert_eq!(there, fate == Fate::Kept, "{case}");
        }
        drop(connection);
        worker.wait_row(LAN, mac, None);
        worker.wait_row(LAN, "02:00:00:00:00:77", None);
        scene.assert_unharmed(case);
    }
}

#[test]
fn a_stranger_is_closed_at_once_and_counted() {
    let fabric = Fabric::empty(Family::V4);
    let http = "127.0.0.1:9180";
    let reflector = Reflector::start(fabric.host("rr1", 1), REFLECTOR, &["10.0.0.0/24"], &["--http", http]);
    reflector.host.sh("ip route add 10.2.0.0/24 dev eth0");
    let stranger = fabric.host("stranger", 99);
    stranger.sh("ip address add 10.2.0.99/24 dev eth0");
    let to: SocketAddr = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
    let connection = Connection::open(&stranger, IpAddr::from([10, 2, 0, 99]), to);
    // It may be gone before it knows that it was there.
    if let Ok(mut connection) = connection {
        connection.send(&Open::of([10, 2, 0, 99]).message(&[]));
        assert!(connection.receive().is_none_or(|(kind, _)| kind == bgp::NOTIFICATION), "no OPEN for a stranger");
    }
    wait::until_true("the refusal to be counted", || {
        http::get(&reflector.host, http, "/metrics").1.contains("megalos_bgp_refused_connections 1")
    });
    assert!(reflector.peers().is_empty());
}

#[test]
fn connections_without_end_from_one_address_cost_nobody_else() {
    let mut scene = Scene::new();
    let source = IpAddr::from([10, 0, 0, 200]);
    let to: SocketAddr = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
    let open: Vec<_> = (0..300).filter_map(|_| Connection::open(&scene.hostile, source, to).ok()).collect();
    assert!(open.len() > 100);
    let device = Host::new("pc3");
    scene.fabric.workers[0].attach(&device, LAN, "02:00:00:00:00:88", "192.168.1.88/24");
    scene.fabric.workers[1].wait_row(LAN, "02:00:00:00:00:88", "10.0.0.11".parse().ok());
    scene.fabric.workers[0].detach(&device);
    scene.fabric.workers[1].wait_row(LAN, "02:00:00:00:00:88", None);
    let (_connection, _) = scene.establish();
    drop(open);
    wait::until_true("the routes as they were", || workers_routes(&scene.fabric) == scene.routes);
    scene.assert_unharmed("connections without end");
}
