//! What a node can run out of: rows of a LAN, room in a kernel's table, open files, readers of its log.

use std::net::IpAddr;

use tests::bgp::{Connection, attribute, base, evpn_route, mac_route, reach, update, withdraw};
use tests::fabric::{Fabric, Family, LAN};
use tests::host::Host;
use tests::overlay::{Reflector, Worker};
use tests::{http, wait};

use super::limits::{GREEDY, HTTP, MODEST, REFLECTOR, establish, mac, open, routes, text};

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
