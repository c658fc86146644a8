//! Connections of others than peers: from an address that is nobody's, and from a pod whose node masquerades it.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tests::bgp::{Connection, Open};
use tests::fabric::{Fabric, Family, LAN, MACS, PORT};
use tests::host::Host;
use tests::overlay::{Reflector, Worker};
use tests::{http, inside, programs, wait};

use super::limits::{HTTP, assert_logged};

/// A reflector whose only peer is a worker, with a pod on the worker's node.
struct Scene {
    family: Family,
    reflector: Reflector,
    worker: Worker,
    pod: Host,
    fabric: Fabric,
}

impl Scene {
    /// With a TCP-MD5 key or without. The reflector listens on all of its addresses, of both families, as in a cluster.
    fn new(family: Family, key: Option<&str>) -> Self {
        let fabric = Fabric::empty(family);
        let key = key.map(|key| format!("password = \"{key}\"\n")).unwrap_or_default();
        let (socket, node) = (family.socket(&family.address(1)), family.address(11));
        let config = format!(
            "listen = [\"0.0.0.0:{PORT}\", \"[::]:{PORT}\"]\nrouter_id = \"10.0.0.1\"\nhttp = \"{HTTP}\"\n\
             [[peer]]\naddress = \"{node}\"\nname = \"node-1\"\npassive = true\nnext_hops = [\"{node}\"]\n{key}"
        );
        let reflector = Reflector::configured(fabric.host("rr1", 1), &config);
        let host = fabric.host("node", 11);
        let pod = pod_of(&host);
        let path = host.directory().join("worker.toml");
        std::fs::write(&path, format!("[defaults]\n{key}")).unwrap_or_else(|error| panic!("{error}"));
        let worker = Worker::start(host, &node, &[&socket], &["--config", &path.display().to_string()]);
        worker.wait_established();
        Self { family, reflector, worker, pod, fabric }
    }

    fn to(&self) -> SocketAddr {
        self.family.socket(&self.family.address(1)).parse().unwrap_or_else(|error| panic!("{error}"))
    }

    /// How often this was counted under this name.
    fn counted(&self, peer: &str, rule: &str) -> u64 {
        let (_, text) = http::get(&self.reflector.host, HTTP, "/metrics");
        let of = |line: &str| line.contains(&format!("peer=\"{peer}\"")) && line.contains(&format!("rule=\"{rule}\""));
        let found = text.lines().find(|line| line.starts_with("megalos_bgp_findings_total") && of(line));
        found.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
    }

    fn wait_counted(&self, peer: &str, rule: &str) {
        wait::until(&format!("{rule} of {peer} to be counted"), || match self.counted(peer, rule) {
            0 => Err(self.reflector.host.log("megalos-rr")),
            count => Ok(count),
        });
    }

    /// The node's session is its first one, and what it says is heard.
    fn assert_session_works(&self) {
        let device = Host::new("device");
        self.worker.attach(&device, LAN, MACS[0], "192.168.1.1/24");
        wait::until_true("the worker's route", || {
            self.reflector.routes().iter().any(|route| route.route.contains(MACS[0]))
        });
        let node = self.family.address(11);
        let row = self.reflector.peer(&node).unwrap_or_default();
        assert_eq!((row.state.as_str(), row.established_count), ("Established", 1), "{row:?}");
    }
}

/// A pod whose connections to the underlay its node masquerades, as most cluster networks do.
fn pod_of(node: &Host) -> Host {
    programs::require("nft", "nftables");
    let pod = Host::new("pod");
    node.sh(&format!("ip link add pod type veth peer name eth0 netns {}", pod.name()));
    node.sh("ip address add 172.16.0.1/24 dev pod && ip address add fd01::1/64 dev pod nodad && ip link set pod up");
    pod.sh("ip address add 172.16.0.2/24 dev eth0 && ip address add fd01::2/64 dev eth0 nodad && ip link set eth0 up");
    pod.sh("ip route add default via 172.16.0.1 && ip -6 route add default via fd01::1");
    node.sh("echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    node.sh("nft add table inet pods");
    node.sh("nft 'add chain inet pods post { type nat hook postrouting priority 100 ; }'");
    node.sh("nft add rule inet pods post iifname pod oifname eth0 masquerade");
    pod
}

/// Begins to connect and does not wait for an answer.
fn knock(from: &Host, to: SocketAddr) -> Socket {
    inside::run(&from.open(), || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP));
        let socket = socket.unwrap_or_else(|error| panic!("{error}"));
        socket.set_nonblocking(true).unwrap_or_else(|error| panic!("{error}"));
        let begun = socket.connect(&to.into()).map_err(|error| error.raw_os_error());
        assert_eq!(begun, Err(Some(libc::EINPROGRESS)), "no route to {to}");
        socket
    })
}

fn connect(from: &Host, family: Family, to: SocketAddr) -> Connection {
    let source = if family == Family::V4 { "172.16.0.2" } else { "fd01::2" };
    let source = source.parse().unwrap_or_else(|error| panic!("{error}"));
    Connection::open(from, source, to).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_pod_that_comes_as_its_node_lacks_the_key_is_refused_and_leaves_a_trace() {
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new(family, Some("of-the-nodes"));
        let socket = knock(&scene.pod, scene.to());
        // Only who comes from the node's address lacks a key.
        scene.wait_counted("host", "md5-missing");
        assert!(socket.peer_addr().is_err(), "{family:?}: the pod has a connection");
        assert_logged(&scene.reflector, &["md5-missing", "show peers", "RFC 2385"]);
        scene.assert_session_works();
    }
}

#[test]
fn a_pod_that_comes_as_its_node_disturbs_no_session_without_a_key_either() {
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new(family, None);
        // It says nothing; it says that it is somebody else; it says that it is the node, which lives.
        let silent = connect(&scene.pod, family, scene.to());
        for (router_id, restarting) in
            [([10, 9, 9, 9], false), (own_router_id(&scene), false), (own_router_id(&scene), true)]
        {
            let mut pod = connect(&scene.pod, family, scene.to());
            // Graceful restart for EVPN, with the R bit or without (RFC 4724 section 3).
            let flags = if restarting { 0x80 } else { 0 };
            pod.send(&Open { hold_time_secs: 9, ..Open::of(router_id) }.message(&[64, 6, flags, 120, 0, 25, 70, 0x80]));
            assert_eq!(pod.last_words(), Some((6, 7)), "{family:?}: {router_id:?} {restarting}");
        }
        drop(silent);
        assert!(scene.counted(&family.address(11), "collision") >= 3);
        scene.assert_session_works();
    }
}

fn own_router_id(scene: &Scene) -> [u8; 4] {
    let row = scene.reflector.peer(&scene.family.address(11)).unwrap_or_default();
    let id: std::net::Ipv4Addr = row.router_id.unwrap_or_default().parse().unwrap_or_else(|error| panic!("{error}"));
    id.octets()
}

#[test]
fn who_is_no_peer_is_refused_and_counted_each_time_and_logged_a_few_times() {
    const TIMES: u64 = 200;
    let scene = Scene::new(Family::V4, None);
    let stranger = scene.fabric.host("stranger", 66);
    for _ in 0..TIMES {
        let source = [10, 0, 0, 66].into();
        let mut connection = Connection::open(&stranger, source, scene.to()).unwrap_or_else(|error| panic!("{error}"));
        assert!(connection.receive().is_none(), "it is closed without a word");
    }
    assert_eq!(scene.counted("stranger", "source-unknown"), TIMES);
    // What was not told one by one is summed up: at most 5 lines and a sum for each 10 s.
    wait::until("every connection to be told of", || {
        let log = scene.reflector.host.log("megalos-rr");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("source-unknown")).collect();
        let sums: Vec<u64> = lines
            .iter()
            .filter_map(|line| line.split(" more suppressed").next()?.rsplit(' ').next()?.parse().ok())
            .collect();
        let single = lines.len() - sums.len();
        assert!(single <= 5 * (sums.len() + 1), "{log}");
        let told = single as u64 + sums.iter().sum::<u64>();
        if told == TIMES { Ok(()) } else { Err(format!("{told} are: {log}")) }
    });
    scene.assert_session_works();
}
