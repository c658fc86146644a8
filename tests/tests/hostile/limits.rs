//! What one peer, one address or one station may cost: each limit past its edge, as a peer sees it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tests::bgp::{Connection, Open, attribute, base, mac_route, reach, update, withdraw};
use tests::fabric::{Fabric, Family, LAN};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::{http, wait};

pub const REFLECTOR: &str = "10.0.0.1:1179";
pub const HTTP: &str = "127.0.0.1:9180";
/// Two addresses of the host that means harm, and one that does not.
pub const GREEDY: [u8; 4] = [10, 0, 0, 50];
pub const MODEST: [u8; 4] = [10, 0, 0, 51];

/// A reflector with `global` keys, that accepts everybody with `settings`; a modest peer; a host of a greedy one.
struct Scene {
    reflector: Reflector,
    host: Host,
    modest: Connection,
    _fabric: Fabric,
}

impl Scene {
    fn new(global: &str, settings: &str) -> Self {
        let fabric = Fabric::empty(Family::V4);
        let config = format!(
            "listen = [\"{REFLECTOR}\"]\nhttp = \"{HTTP}\"\n{global}\n[[accept]]\nprefix = \"10.0.0.0/24\"\n{settings}\n"
        );
        let reflector = Reflector::configured(fabric.host("rr1", 1), &config);
        let host = fabric.host("peers", 50);
        for last in 51..=60 {
            host.sh(&format!("ip address add 10.0.0.{last}/24 dev eth0"));
        }
        let modest = establish(&host, MODEST);
        Self { reflector, host, modest, _fabric: fabric }
    }

    fn is_counted(&self, peer: &str, rule: &str, action: &str) -> bool {
        let series = format!("megalos_bgp_findings_total{{action=\"{action}\",peer=\"{peer}\",rule=\"{rule}\"}}");
        let (_, text) = http::get(&self.reflector.host, HTTP, "/metrics");
        text.lines().any(|line| line.starts_with(&series))
    }

    fn wait_counted(&self, peer: &str, rule: &str, action: &str) {
        wait::until(&format!("{rule} of {peer} to be counted as {action}"), || {
            if self.is_counted(peer, rule, action) { Ok(()) } else { Err(self.reflector.host.log("megalos-rr")) }
        });
    }

    /// The log names peer and rule on one line.
    fn assert_logged(&self, words: &[&str]) {
        assert_logged(&self.reflector, words);
    }

    /// The modest peer has noticed nothing: its session stands, and what it says is taken.
    fn assert_modest_is_well(&mut self) {
        self.modest.send(&routes(MODEST, LAN, 1, &[]));
        wait::until_true("the modest peer's route", || {
            self.reflector.routes().iter().any(|route| route.from == text(MODEST))
        });
        self.modest.send(&withdraw(&[mac_route(MODEST, LAN, mac(1))]));
        let peer = self.reflector.peer(&text(MODEST)).unwrap_or_default();
        assert_eq!((peer.state.as_str(), peer.established_count), ("Established", 1), "{:?}", peer.last_error);
    }
}

/// Waits for a log line with all of these words: lines are written when nothing else is to be done.
pub fn assert_logged(reflector: &Reflector, words: &[&str]) {
    wait::until(&format!("a line with {words:?}"), || {
        let log = reflector.host.log("megalos-rr");
        let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if found { Ok(()) } else { Err(log) }
    });
}

pub fn text(address: [u8; 4]) -> String {
    Ipv4Addr::from(address).to_string()
}

pub fn open(host: &Host, source: [u8; 4]) -> std::io::Result<Connection> {
    let to: SocketAddr = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
    Connection::open(host, IpAddr::from(source), to)
}

pub fn establish(host: &Host, source: [u8; 4]) -> Connection {
    let mut connection = open(host, source).unwrap_or_else(|error| panic!("{error}"));
    connection.establish(&Open::of(source));
    connection
}

pub fn mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, 0, 0, 0, high, low]
}

/// One route of type 2, with these attributes beside the usual ones.
pub fn routes(source: [u8; 4], vni: u32, number: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let only = [mac_route(source, vni, mac(number))];
    update(&[base(vni), attributes.to_vec(), vec![reach(source, &only)]].concat())
}

/// One membership of RT-constrain.
fn membership(source: [u8; 4], vni: u16) -> Vec<u8> {
    let mut value = vec![0, 1, 132, 4];
    value.extend(source);
    value.extend([0, 96, 0, 0, 0xfd, 0xe8, 0, 2, 0xfd, 0xe8, 0, 0]);
    value.extend(vni.to_be_bytes());
    let common = [attribute(0x40, 1, &[0]), attribute(0x40, 2, &[]), attribute(0x40, 5, &[0, 0, 0, 100])];
    update(&[&common[..], &[attribute(0x80, 14, &value)]].concat())
}

fn med(number: u16) -> Vec<u8> {
    attribute(0x80, 4, &u32::from(number).to_be_bytes())
}

#[test]
fn a_peer_beyond_a_limit_is_warned_then_ended_and_held_off_for_a_while() {
    struct Case {
        settings: &'static str,
        step: fn(u16) -> Vec<u8>,
        end: (u8, u8),
        rule: &'static str,
    }
    let cases = [
        Case {
            settings: "max_routes = 8",
            step: |number| routes(GREEDY, LAN, number, &[]),
            end: (6, 1),
            rule: "max-routes",
        },
        Case {
            settings: "max_memberships = 8",
            step: |number| membership(GREEDY, number),
            end: (6, 1),
            rule: "max-memberships",
        },
        Case {
            settings: "max_attribute_sets = 8",
            step: |number| routes(GREEDY, LAN, number, &[med(number)]),
            end: (6, 8),
            rule: "max-attribute-sets",
        },
        Case {
            settings: "max_attribute_octets = 8000",
            step: |number| routes(GREEDY, LAN, number, &[med(number), attribute(0xc0, 222, &[7; 200])]),
            end: (6, 8),
            rule: "max-attribute-octets",
        },
    ];
    for Case { settings, step, end, rule } in cases {
        let mut scene = Scene::new("", &format!("{settings}\nidle_hold_max_secs = 2\nconnect_retry_secs = 1"));
        let mut greedy = establish(&scene.host, GREEDY);
        (1..=40).for_each(|number| greedy.send(&step(number)));
        assert_eq!(greedy.last_words(), Some(end), "{rule}");
        scene.wait_counted(&text(GREEDY), rule, "reset");
        scene.assert_logged(&[&text(GREEDY), rule, settings.split(' ').next().unwrap_or_default(), "message ffff"]);
        assert_eq!(scene.is_counted(&text(GREEDY), "max-routes-near", "note"), end == (6, 1), "{rule}");
        wait::until_true("its routes to be gone", || {
            scene.reflector.routes().iter().all(|route| route.from != text(GREEDY))
        });
        // The first attempts are refused; once the pause is over the peer is taken again.
        wait::until("the peer to be taken again", || {
            let mut again = open(&scene.host, GREEDY).map_err(|error| error.to_string())?;
            again.send(&Open::of(GREEDY).message(&[]));
            again.receive().map(drop).ok_or_else(|| "closed".to_owned())
        });
        assert!(scene.is_counted(&text(GREEDY), "idle-hold", "close"), "{rule}: it was taken at once");
        scene.assert_modest_is_well();
    }
}

#[test]
fn a_route_with_too_large_attributes_is_withdrawn_and_its_session_stays() {
    let mut scene = Scene::new("", "max_route_attribute_octets = 200");
    let mut greedy = establish(&scene.host, GREEDY);
    greedy.send(&routes(GREEDY, LAN, 1, &[]));
    let held = |scene: &Scene, number: u16| {
        let mac = mac(number).map(|octet| format!("{octet:02x}")).join(":");
        scene.reflector.routes().iter().any(|route| route.route.contains(&mac))
    };
    wait::until_true("the small route", || held(&scene, 1));
    greedy.send(&routes(GREEDY, LAN, 1, &[attribute(0xc0, 222, &[7; 250])]));
    greedy.send(&routes(GREEDY, LAN, 2, &[attribute(0xc0, 222, &[7; 150])]));
    wait::until_true("the route behind it", || held(&scene, 2));
    assert!(!held(&scene, 1), "the earlier route of the key must go too");
    // Noise is shown with its routes, too.
    greedy.send(&withdraw(&[mac_route(GREEDY, LAN, mac(3))]));
    scene.wait_counted(&text(GREEDY), "withdrawal-unknown", "ignore");
    scene.assert_logged(&[&text(GREEDY), "withdrawal-unknown", "[02:00:00:00:00:03]", "message ffff"]);
    scene.wait_counted(&text(GREEDY), "route-attributes", "withdraw-route");
    scene.assert_logged(&[
        &text(GREEDY),
        "route-attributes",
        "max_route_attribute_octets",
        "[02:00:00:00:00:01]",
        "ffff",
    ]);
    scene.assert_modest_is_well();
}

#[test]
fn what_cannot_be_read_costs_the_route_the_family_or_the_session_as_configured() {
    let short_mac = |mut route: Vec<u8>| {
        // The length of the MAC address, in bits.
        let at = 2 + 8 + 10 + 4;
        assert_eq!(route[at], 48);
        route[at] = 40;
        route
    };
    let bad_body = short_mac(mac_route(GREEDY, LAN, mac(2)));
    let bad_frame = vec![2, 200, 0, 1];
    for (settings, bad, end, rule, action) in [
        ("", &bad_body, None, "evpn-mac-length", "withdraw-route"),
        ("evpn_errors = \"strict\"", &bad_body, Some((3, 9)), "evpn-mac-length", "reset"),
        (
            "evpn_errors = \"strict\"\nunreadable_routes = \"disable-family\"",
            &bad_body,
            None,
            "evpn-mac-length",
            "disable-family",
        ),
        ("", &bad_frame, Some((3, 9)), "evpn-framing", "reset"),
        ("unreadable_routes = \"disable-family\"", &bad_frame, None, "evpn-framing", "disable-family"),
    ] {
        let mut scene = Scene::new("", settings);
        let mut greedy = establish(&scene.host, GREEDY);
        greedy.send(&routes(GREEDY, LAN, 1, &[]));
        let held = |scene: &Scene| scene.reflector.routes().iter().any(|route| route.from == text(GREEDY));
        wait::until_true("a good route", || held(&scene));
        greedy.send(&update(&[base(LAN), vec![reach(GREEDY, std::slice::from_ref(bad))]].concat()));
        scene.wait_counted(&text(GREEDY), rule, action);
        scene.assert_logged(&[&text(GREEDY), rule, action, "ffff"]);
        match end {
            Some(code) => assert_eq!(greedy.last_words(), Some(code), "{settings}: {rule}"),
            // The session answers still.
            None => {
                greedy.send(&membership(GREEDY, 7));
                let is_member = |route: &daemon::show::RouteRow| route.from == text(GREEDY) && route.family != "evpn";
                wait::until_true("a membership", || scene.reflector.routes().iter().any(is_member));
            }
        }
        let is_contained = action == "withdraw-route";
        let evpn = |route: &daemon::show::RouteRow| route.from == text(GREEDY) && route.family == "evpn";
        wait::until_true(&format!("{settings}: what becomes of the good route"), || {
            scene.reflector.routes().iter().any(evpn) == is_contained
        });
        scene.assert_modest_is_well();
    }
}

#[test]
fn peers_that_come_by_themselves_are_limited_and_the_idle_make_room() {
    let mut scene = Scene::new("max_dynamic_peers = 3", "open_timeout_secs = 1");
    let held: Vec<_> = [52, 53].map(|last| establish(&scene.host, [10, 0, 0, last])).into_iter().collect();
    // The fourth is a stranger, and stays one as long as all places are taken.
    let mut fourth = open(&scene.host, [10, 0, 0, 54]).unwrap_or_else(|error| panic!("{error}"));
    fourth.send(&Open::of([10, 0, 0, 54]).message(&[]));
    assert!(fourth.receive().is_none(), "no place, and yet an answer");
    scene.wait_counted("stranger", "too-many-peers", "close");
    scene.assert_logged(&["10.0.0.54", "too-many-peers", "max_dynamic_peers"]);
    drop(held);
    wait::until("a place for another peer", || {
        let mut another = open(&scene.host, [10, 0, 0, 54]).map_err(|error| error.to_string())?;
        another.send(&Open::of([10, 0, 0, 54]).message(&[]));
        another.receive().map(drop).ok_or_else(|| "closed".to_owned())
    });
    scene.assert_modest_is_well();
}

#[test]
fn who_reads_so_slowly_that_withdrawn_routes_pile_up_is_ended() {
    const ROUTES: u16 = 6_000;
    let mut scene = Scene::new("max_withdrawn_routes = 1024\nmax_shared_log_octets = 65536", "hold_time_secs = 0");
    let mut silent = establish(&scene.host, GREEDY);
    silent.send(&tests::bgp::default_membership(GREEDY));
    // Each route has attributes of its own, so that the socket's buffers are full long before the last.
    let source = [10, 0, 0, 52];
    let mut busy = establish(&scene.host, source);
    let round = |number: u16| routes(source, LAN, number, &[med(number), attribute(0xc0, 222, &[7; 250])]);
    for number in 0..ROUTES {
        busy.send(&round(number));
    }
    for number in 0..ROUTES {
        busy.send(&withdraw(&[mac_route(source, LAN, mac(number))]));
    }
    // Until buffers everywhere are full the peer only seems slow: more of the same.
    wait::until("the slow peer to be ended", || {
        (0..ROUTES).step_by(7).for_each(|number| busy.send(&round(number)));
        (0..ROUTES).step_by(7).for_each(|number| busy.send(&withdraw(&[mac_route(source, LAN, mac(number))])));
        let found = scene.is_counted(&text(GREEDY), "slow-peer", "reset");
        if found { Ok(()) } else { Err(format!("{:?}", scene.reflector.peer(&text(GREEDY)))) }
    });
    scene.assert_logged(&[&text(GREEDY), "slow-peer"]);
    let busy = scene.reflector.peer(&text(source)).unwrap_or_default();
    assert_eq!((busy.state.as_str(), busy.established_count), ("Established", 1), "{:?}", busy.last_error);
    scene.assert_modest_is_well();
}
