//! What one peer, one address or one station may cost: each limit past its edge, as a peer sees it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tests::bgp::{Connection, Open, attribute, base, evpn_route, mac_route, reach, update, withdraw};
use tests::fabric::{Fabric, Family, LAN};
use tests::host::Host;
use tests::overlay::{Reflector, Worker};
use tests::{http, wait};

const REFLECTOR: &str = "10.0.0.1:1179";
const HTTP: &str = "127.0.0.1:9180";
/// Two addresses of the host that means harm, and one that does not.
const GREEDY: [u8; 4] = [10, 0, 0, 50];
const MODEST: [u8; 4] = [10, 0, 0, 51];

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
        wait::until(&format!("a line with {words:?}"), || {
            let log = self.reflector.host.log("megalos-rr");
            let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
            if found { Ok(()) } else { Err(log) }
        });
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

fn text(address: [u8; 4]) -> String {
    Ipv4Addr::from(address).to_string()
}

fn open(host: &Host, source: [u8; 4]) -> std::io::Result<Connection> {
    let to: SocketAddr = REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}"));
    Connection::open(host, IpAddr::from(source), to)
}

fn establish(host: &Host, source: [u8; 4]) -> Connection {
    let mut connection = open(host, source).unwrap_or_else(|error| panic!("{error}"));
    connection.establish(&Open::of(source));
    connection
}

fn mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, 0, 0, 0, high, low]
}

/// One route of type 2, with these attributes beside the usual ones.
fn routes(source: [u8; 4], vni: u32, number: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
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
        scene.assert_logged(&[&text(GREEDY), rule, settings.split(' ').next().unwrap_or_default()]);
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

/// A worker whose LANs may hold little, behind a reflector.
fn small_worker(fabric: &mut Fabric) -> Worker {
    let host = fabric.host("reflector", 1);
    let reflector = Reflector::start(host, REFLECTOR, &["10.0.0.0/24"], &[]);
    let host = fabric.host("small", 11);
    let path = host.directory().join("worker.toml");
    let limits = "max_remote_macs = 3\nmax_flood_vteps = 2\nmax_port_macs = 3\nmax_learned_macs = 100\n";
    std::fs::write(&path, format!("http = \"{HTTP}\"\n{limits}")).unwrap_or_else(|error| panic!("{error}"));
    let worker = Worker::start(host, "10.0.0.11", &[REFLECTOR], &["--config", &path.display().to_string()]);
    fabric.reflectors.push(reflector);
    worker.wait_established();
    worker
}

/// A route of type 3 (RFC 7432 section 7.3) with ingress replication.
fn multicast(source: [u8; 4], vni: u32) -> Vec<u8> {
    let [_, high, middle, low] = vni.to_be_bytes();
    let body = [&[0, 1][..], &source, &[middle, low, 0, 0, 0, 0, 32], &source].concat();
    let pmsi = attribute(0xc0, 22, &[&[0, 6, high, middle, low][..], &source].concat());
    update(&[base(vni), vec![pmsi, reach(source, &[evpn_route(3, &body)])]].concat())
}

#[test]
fn what_a_worker_puts_into_its_kernel_for_one_lan_is_limited() {
    let mut fabric = Fabric::empty(Family::V4);
    let worker = small_worker(&mut fabric);
    let device = Host::new("pc");
    worker.attach(&device, LAN, "02:00:00:00:00:aa", "192.168.1.1/24");
    let hostile = fabric.host("peers", 50);
    let sources: Vec<[u8; 4]> = (50..54).map(|last| [10, 0, 0, last]).collect();
    sources.iter().skip(1).for_each(|source| _ = hostile.sh(&format!("ip address add {}/24 dev eth0", text(*source))));
    let mut sessions: Vec<_> = sources.iter().map(|source| (establish(&hostile, *source), *source)).collect();
    for (session, source) in &mut sessions {
        session.send(&multicast(*source, LAN));
    }
    for number in 1..=5 {
        sessions[0].0.send(&routes(sources[0], LAN, number, &[]));
    }
    let counted = |rule: &str| {
        let (_, text) = http::get(&worker.host, HTTP, "/metrics");
        text.lines().any(|line| line.starts_with("megalos_bgp_findings_total") && line.contains(&format!("\"{rule}\"")))
    };
    for rule in ["remote-mac-limit", "flood-limit"] {
        wait::until_true(&format!("{rule} to be counted"), || counted(rule));
    }
    // A station that invents addresses.
    for number in 0..6 {
        device
            .sh(&format!("ip link set eth0 address 02:00:00:00:bb:{number:02x} && ping -c 1 -W 0.2 192.168.1.2; true"));
    }
    wait::until_true("port-mac-limit to be counted", || counted("port-mac-limit"));
    let macs = worker.macs();
    let remote = macs.iter().filter(|mac| mac.at.parse::<IpAddr>().is_ok()).count();
    let local = macs.iter().filter(|mac| mac.at == "local").count();
    assert_eq!((remote, local), (3, 3), "{macs:?}");
    let rows = worker.overlay_sh("bridge fdb show");
    let in_kernel = rows.lines().filter(|row| row.contains(" dst ") && !row.starts_with("00:00:00:00:00:00")).count();
    let floods = rows.lines().filter(|row| row.contains(" dst ") && row.starts_with("00:00:00:00:00:00")).count();
    assert_eq!((in_kernel, floods), (3, 2), "{rows}");
    // What goes makes room for what waits.
    sessions[0].0.send(&withdraw(&[mac_route(sources[0], LAN, mac(1))]));
    worker.wait_row(LAN, "02:00:00:00:00:01", None);
    worker.wait_row(LAN, "02:00:00:00:00:04", Some(IpAddr::from(sources[0])));
}

/// The arguments of a reflector that may have so many open files, with this configuration.
fn with_files(host: &Host, files: u32, config: &str) -> Vec<String> {
    let path = host.directory().join("rr.toml");
    std::fs::write(&path, config).unwrap_or_else(|error| panic!("{error}"));
    let program = tests::programs::path("megalos-rr");
    let line = format!("ulimit -n {files}; exec {} --config {}", program.display(), path.display());
    vec!["-c".to_owned(), line]
}

fn accepting(keys: &str) -> String {
    format!("listen = [\"{REFLECTOR}\"]\nhttp = \"{HTTP}\"\n{keys}\n[[accept]]\nprefix = \"10.0.0.0/24\"\n")
}

#[test]
fn more_peers_than_open_files_are_refused_at_the_start() {
    let fabric = Fabric::empty(Family::V4);
    let host = fabric.host("rr1", 1);
    let arguments = with_files(&host, 200, &accepting("max_dynamic_peers = 1000"));
    let output = host.run("sh", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["1000 peers need 2160 open files", "may have 200", "ulimit -n", "max_dynamic_peers"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_reflector_without_descriptors_keeps_its_sessions_and_accepts_again_once_it_has_some() {
    let fabric = Fabric::empty(Family::V4);
    let mut host = fabric.host("rr1", 1);
    let arguments = with_files(&host, 400, &accepting(""));
    let mut command = host.command("sh");
    command.args(&arguments);
    let pid = host.spawn("megalos-rr", command);
    wait::until_true("the reflector to listen", || host.try_sh("ss -tln | grep -q :1179").status.success());
    assert!(host.log("megalos-rr").contains("limit of open files leaves room"), "{}", host.log("megalos-rr"));
    let peers = fabric.host("peers", 50);
    for last in 51..=90 {
        peers.sh(&format!("ip address add 10.0.0.{last}/24 dev eth0"));
    }
    let mut good = establish(&peers, GREEDY);
    host.sh(&format!("prlimit --pid {pid} --nofile=40:400"));
    // Each is a peer by itself; at some point there is no descriptor for the next.
    let crowd: Vec<_> = (51..=90).filter_map(|last| open(&peers, [10, 0, 0, last]).ok()).collect();
    wait::until_true("the want of descriptors to be logged", || host.log("megalos-rr").contains("accept-failed"));
    // Who is there is served meanwhile: what it sends is answered.
    good.send(&tests::bgp::default_membership(GREEDY));
    good.send(&tests::bgp::end_of_memberships());
    good.send(&withdraw(&[]));
    assert!(good.receive_kind(tests::bgp::UPDATE).is_some(), "the session was lost");
    host.sh(&format!("prlimit --pid {pid} --nofile=400:400"));
    drop(crowd);
    let mut late = establish(&peers, MODEST);
    late.send(&tests::bgp::message(tests::bgp::KEEPALIVE, &[]));
    wait::until_true("the failures to be counted", || {
        let (_, text) = http::get(&host, HTTP, "/metrics");
        text.lines().any(|line| line.contains("\"accept-failed\"") && line.contains("peer=\"host\""))
    });
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_session() {
    let fabric = Fabric::empty(Family::V4);
    let mut host = fabric.host("rr1", 1);
    let path = host.directory().join("rr.toml");
    std::fs::write(&path, accepting("")).unwrap_or_else(|error| panic!("{error}"));
    // The pipe's reader never reads: 64 KiB, and a write would wait for ever.
    let program = tests::programs::path("megalos-rr");
    let line = format!("MEGALOS_LOG=trace {} --config {} 2>&1 | sleep 600", program.display(), path.display());
    let mut command = host.command("sh");
    command.args(["-c", &line]);
    host.spawn("shell", command);
    wait::until_true("the reflector to listen", || host.try_sh("ss -tln | grep -q :1179").status.success());
    let peers = fabric.host("peers", 50);
    peers.sh("ip address add 10.0.0.51/24 dev eth0");
    let (mut sender, mut receiver) = (establish(&peers, GREEDY), establish(&peers, MODEST));
    receiver.send(&tests::bgp::default_membership(MODEST));
    receiver.send(&tests::bgp::end_of_memberships());
    // Each of these is worth a line; their messages alone fill the pipe many times over.
    let strange = evpn_route(99, &[7; 200]);
    for number in 1..=3_000 {
        let both = [strange.clone(), mac_route(GREEDY, LAN, mac(number))];
        sender.send(&update(&[base(LAN), vec![reach(GREEDY, &both)]].concat()));
    }
    for _ in 0..200 {
        // Connections that are refused are logged at once, by the listener.
        let stranger =
            Connection::open(&peers, IpAddr::from(MODEST), REFLECTOR.parse().unwrap_or_else(|e| panic!("{e}")));
        drop(stranger);
    }
    let last = mac(3_000);
    loop {
        let body = receiver.receive_kind(tests::bgp::UPDATE).unwrap_or_else(|| panic!("the session was lost"));
        if body.windows(6).any(|part| part == last) {
            break;
        }
    }
    let (status, text) = http::get(&host, HTTP, "/metrics");
    assert!(status == 200 && text.contains("rule=\"evpn-route-type\"} 3000"), "{status}: {text}");
}

#[test]
fn a_kernel_table_that_is_full_is_named_and_filled_once_there_is_room() {
    let fabric = Fabric::empty(Family::V4);
    let _reflector = Reflector::start(fabric.host("rr1", 1), REFLECTOR, &["10.0.0.0/24"], &[]);
    let host = fabric.host("small", 11);
    host.sh(&format!(
        "ip link add br{LAN} up type bridge &&
         ip link add vx{LAN} up master br{LAN} type vxlan id {LAN} dstport 4789 local 10.0.0.11 nolearning maxaddress 4"
    ));
    let worker = Worker::adopt(host, "10.0.0.11", &[REFLECTOR]);
    worker.wait_established();
    let peers = fabric.host("peers", 50);
    let mut session = establish(&peers, GREEDY);
    session.send(&multicast(GREEDY, LAN));
    (1..=6).for_each(|number| session.send(&routes(GREEDY, LAN, number, &[])));
    let rows = || {
        let table = worker.host.sh(&format!("bridge fdb show dev vx{LAN}"));
        table.lines().filter(|row| row.contains("dst 10.0.0.50")).count()
    };
    wait::until("the full table to be named with its cure", || {
        let log = worker.host.log("megalos-speaker");
        let named = log.lines().any(|line| line.contains("kernel-table-full") && line.contains("maxaddress"));
        if named && rows() == 4 { Ok(()) } else { Err(format!("{} rows, {log}", rows())) }
    });
    // Two go, of those that are in the table or of those that wait: all that is announced then is there.
    (1..=3).for_each(|number| session.send(&withdraw(&[mac_route(GREEDY, LAN, mac(number))])));
    for number in 4..=6 {
        let wanted = mac(number).map(|octet| format!("{octet:02x}")).join(":");
        wait::until(&format!("{wanted} in the kernel"), || {
            match tests::handmade::vtep_of(&worker.host, LAN, &wanted) {
                Some(vtep) if vtep == "10.0.0.50" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}
