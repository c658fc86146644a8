//! What the programs say to people: bad input, and the questions that a running daemon answers.

use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::{http, programs, wait};

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program fails with `code` and says each of `parts`.
fn fails(host: &Host, program: &Path, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = host.run(program, arguments);
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{arguments:?}: `{part}` is missing in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists() || Path::new("/run/megalos").join(namespace).exists()
}

/// A host with the address 10.0.0.1 and an overlay namespace's name that no other test uses.
fn machine() -> (Host, String) {
    let host = Host::new("machine");
    host.sh("ip link add eth0 mtu 1500 type dummy 2>/dev/null || ip link add eth0 mtu 1500 type bridge");
    host.sh("ip link set eth0 up && ip address add 10.0.0.1/24 dev eth0");
    let overlay = format!("{}-overlay", host.name());
    (host, overlay)
}

fn file(host: &Host, name: &str, text: &str) -> String {
    let path = host.directory().join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
    path.display().to_string()
}

#[test]
fn what_is_no_flag_is_a_usage_error() {
    let (host, _) = machine();
    for program in ["megalos-rr", "megalos-speaker"].map(programs::path) {
        fails(&host, &program, &["--no-such-flag"], 2, &["--no-such-flag", "--help"]);
        fails(&host, &program, &["--asn", "many"], 2, &["--asn", "many"]);
        assert!(host.run(&program, &["--help"]).status.success());
        assert!(host.run(&program, &["--version"]).status.success());
    }
    let both = ["--adopt", "--overlay-namespace", "x", "--vtep", "10.0.0.1", "--reflector", "10.0.0.2"];
    fails(&host, &programs::path("megalos-speaker"), &both, 2, &["--adopt"]);
    fails(&host, &programs::path("megalos"), &["show", "everything"], 2, &["everything", "peers"]);
}

#[test]
fn a_configuration_that_is_wrong_is_explained_in_whole() {
    let (host, overlay) = machine();
    let [rr, speaker] = ["megalos-rr", "megalos-speaker"].map(programs::path);
    for program in [&rr, &speaker] {
        fails(&host, program, &["--config", "/no/such/file"], 1, &["/no/such/file", "No such file", "readable"]);
        let syntax = file(&host, "syntax.toml", "asn = 65000\nlisten = [\n");
        fails(&host, program, &["--config", &syntax], 1, &["syntax.toml", "line 2"]);
        let unknown = file(&host, "unknown.toml", "asn = 65000\n\nhold_tiem = 3\n");
        fails(&host, program, &["--config", &unknown], 1, &["unknown.toml", "line 3", "hold_tiem"]);
    }
    let many = file(
        &host,
        "many.toml",
        "asn = 0\n[defaults]\nhold_time_secs = 2\n[[peer]]\naddress = \"10.0.0.9\"\npassword_file = \"/no/key\"\n",
    );
    let parts = ["asn is 0", "hold_time_secs is below 3", "/no/key", "no router id"];
    fails(&host, &rr, &["--config", &many], 1, &parts);
    let parts = ["asn is 0", "hold_time_secs is below 3", "/no/key", "no VTEP"];
    fails(&host, &speaker, &["--config", &many, "--overlay-namespace", &overlay], 1, &parts);
    assert!(!exists(&overlay));
}

#[test]
fn a_port_or_socket_in_use_is_named_and_whoever_holds_it_goes_on() {
    let (host, overlay) = machine();
    let control = host.directory().join("rr.sock");
    let first = Reflector::start(host, "10.0.0.1:1179", &["10.0.0.0/24"], &["--http", "10.0.0.1:9180"]);
    let host = &first.host;
    let [rr, speaker] = ["megalos-rr", "megalos-speaker"].map(programs::path);
    let second = host.directory().join("second.sock").display().to_string();
    let base = ["--router-id", "10.0.0.1", "--accept", "10.0.0.0/24", "--control", &second];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    fails(host, &rr, &with(&["--listen", "10.0.0.1:1179"]), 1, &["10.0.0.1:1179", "in use"]);
    let http = with(&["--listen", "10.0.0.1:1180", "--http", "10.0.0.1:9180"]);
    fails(host, &rr, &http, 1, &["--http 10.0.0.1:9180", "choose another port"]);
    assert!(!Path::new(&second).exists(), "nothing left behind");
    let control = control.display().to_string();
    let taken =
        ["--router-id", "10.0.0.1", "--accept", "10.0.0.0/24", "--listen", "10.0.0.1:1180", "--control", &control];
    fails(host, &rr, &taken, 1, &[&control, "in use"]);
    let worker = ["--vtep", "10.0.0.1", "--reflector", "10.0.0.2", "--overlay-namespace", &overlay];
    for more in [
        ["--http", "10.0.0.1:9180"],
        ["--control", &control],
        ["--cni", "/proc/no.sock"],
        ["--control", "/proc/no.sock"],
    ] {
        fails(host, &speaker, &[&worker[..], &more[..]].concat(), 1, &more);
        assert!(!exists(&overlay), "{more:?} left a namespace behind");
    }
    assert!(first.peers().is_empty(), "the first still answers");
}

#[test]
fn addresses_that_the_host_does_not_have_are_refused() {
    let (host, overlay) = machine();
    let [rr, speaker] = ["megalos-rr", "megalos-speaker"].map(programs::path);
    let listen = ["--listen", "192.0.2.1:1179", "--accept", "10.0.0.0/24"];
    fails(&host, &rr, &listen, 1, &["192.0.2.1:1179", "give an address that this machine has"]);
    let mut vtep = ["--vtep", "192.0.2.1", "--reflector", "10.0.0.2", "--overlay-namespace", &overlay];
    fails(&host, &speaker, &vtep, 1, &["192.0.2.1", "is on no interface"]);
    vtep[1] = "fd00::1";
    fails(&host, &speaker, &vtep, 1, &["fd00::1", "is on no interface"]);
    vtep[1] = "127.0.0.1";
    fails(&host, &speaker, &vtep, 1, &["127.0.0.1", "cannot carry VXLAN"]);
    assert!(!exists(&overlay));
}

#[test]
fn missing_privileges_are_named_with_their_cure() {
    let (host, overlay) = machine();
    // Where a user without rights can reach it.
    let copy = |name: &str| {
        let path = host.directory().join(name);
        std::fs::copy(programs::path(name), &path).unwrap_or_else(|error| panic!("{error}"));
        path.display().to_string()
    };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--inh-caps=-all"];
    let setpriv = PathBuf::from("setpriv");
    let [rr, speaker] = ["megalos-rr", "megalos-speaker"].map(copy);
    let worker = [speaker.as_str(), "--vtep", "10.0.0.1", "--reflector", "10.0.0.2"];
    for more in [&["--overlay-namespace", overlay.as_str()][..], &["--adopt"]] {
        let arguments = [&nobody[..], &worker, more].concat();
        fails(&host, &setpriv, &arguments, 1, &["not permitted", "run as root", "NET_ADMIN"]);
    }
    assert!(!exists(&overlay));
    let arguments = [&nobody[..], &[rr.as_str(), "--listen", "10.0.0.1:179", "--accept", "10.0.0.0/24"]].concat();
    fails(&host, &setpriv, &arguments, 1, &["10.0.0.1:179", "Permission denied", "NET_BIND_SERVICE"]);
}

/// What `megalos show TOPIC --json --socket SOCKET` prints.
fn show(host: &Host, topic: &str, socket: &Path) -> Vec<Value> {
    let output =
        host.run(programs::path("megalos"), &["show", topic, "--json", "--socket", &socket.display().to_string()]);
    assert!(output.status.success(), "{}", errors(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn show_tells_peers_routes_lans_and_macs() {
    let fabric = Fabric::new(2);
    let _devices = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    let (worker, reflector) = (&fabric.workers[0], &fabric.reflectors[0]);
    let socket = worker.control();
    let peers = show(&worker.host, "peers", &socket);
    assert_eq!((peers.len(), &peers[0]["address"], &peers[0]["state"]), (1, &"10.0.0.1".into(), &"Established".into()));
    assert_eq!(show(&reflector.host, "peers", &reflector.control()).len(), 2);
    let routes = show(&worker.host, "routes", &socket);
    assert!(routes.iter().any(|route| route["next_hop"] == "10.0.0.12" && route["label"] == LAN), "{routes:?}");
    let lans = show(&worker.host, "vnis", &socket);
    assert_eq!(
        (&lans[0]["vni"], &lans[0]["name"], &lans[0]["inter_node"]),
        (&LAN.into(), &"lan100".into(), &true.into())
    );
    let macs = show(&worker.host, "macs", &socket);
    assert!(macs.iter().any(|mac| mac["mac"] == MACS[1] && mac["at"] == "10.0.0.12"), "{macs:?}");
    let megalos = programs::path("megalos");
    let text = |socket: &Path| socket.display().to_string();
    let table = worker.host.run(&megalos, &["show", "macs", "--socket", &text(&socket)]);
    assert!(String::from_utf8_lossy(&table.stdout).contains(MACS[1]));
    fails(&reflector.host, &megalos, &["show", "vnis", "--socket", &text(&reflector.control())], 1, &["ask a worker"]);
    fails(&worker.host, &megalos, &["show", "peers", "--socket", "/no/such.sock"], 1, &["/no/such.sock", "running"]);
}

#[test]
fn metrics_health_and_readiness_tell_the_truth() {
    let mut fabric = Fabric::empty(Family::V4);
    let host = fabric.host("rr1", 1);
    let base = ["--http", "127.0.0.1:9180"];
    fabric.add_worker_of("10.0.0.1:1179", 0, &base);
    let worker = &fabric.workers[0];
    let ask = |host: &Host, path: &str| http::get(host, "127.0.0.1:9180", path);
    assert_eq!(ask(&worker.host, "/healthz").0, 200);
    assert_eq!(ask(&worker.host, "/readyz").0, 503, "no session yet");
    let reflector = Reflector::start(host, "10.0.0.1:1179", &["10.0.0.0/24"], &base);
    worker.wait_established();
    wait::until_true("the worker to be ready", || ask(&worker.host, "/readyz").0 == 200);
    let device = Host::new("pc1");
    worker.attach(&device, LAN, MACS[0], "192.168.1.1/24");
    let counted = || reflector.peer("10.0.0.11").and_then(|peer| peer.routes.get("evpn").copied()).unwrap_or_default();
    wait::until_true("the routes of the LAN and the MAC", || counted() >= 2);
    let metric = format!("megalos_bgp_peer_routes{{family=\"evpn\",peer=\"10.0.0.11\"}} {}", counted());
    wait::until("the routes to be counted", || match ask(&reflector.host, "/metrics") {
        (200, text) if text.contains(&metric) => Ok(()),
        (status, text) => Err(format!("{status}: {text}")),
    });
    let (_, text) = ask(&reflector.host, "/metrics");
    assert!(text.contains("megalos_bgp_peer_up{peer=\"10.0.0.11\"} 1"), "{text}");
    assert_eq!(ask(&reflector.host, "/else").0, 404);
    assert_eq!(ask(&reflector.host, "/healthz").0, 200);
}

fn reflector_config(peers: &[usize], more: &str) -> String {
    let mut text = format!("listen = [\"10.0.0.1:1179\"]\nrouter_id = \"10.0.0.1\"\n{more}\n");
    for peer in peers {
        text += &format!("[[peer]]\naddress = \"10.0.0.{peer}\"\npassive = true\n");
    }
    text
}

#[test]
fn a_reload_touches_only_the_peers_that_changed() {
    let mut fabric = Fabric::empty(Family::V4);
    let reflector = Reflector::configured(fabric.host("rr1", 1), &reflector_config(&[11, 12], ""));
    for index in 0..3 {
        fabric.add_worker_of("10.0.0.1:1179", index, &[]);
    }
    let up = |address: &str| reflector.peer(address).filter(|peer| peer.state == "Established");
    wait::until_true("two sessions", || up("10.0.0.11").is_some() && up("10.0.0.12").is_some());
    assert_eq!(reflector.peers().len(), 2);
    reflector.reconfigure(&reflector_config(&[11, 13], ""));
    wait::until_true("the third in the second's place", || {
        up("10.0.0.13").is_some() && reflector.peer("10.0.0.12").is_none()
    });
    wait::until_true("the second to be turned away", || fabric.workers[1].peers()[0].state != "Established");
    reflector.reconfigure(&reflector_config(&[11, 12, 13], ""));
    wait::until_true("all three", || ["10.0.0.11", "10.0.0.12", "10.0.0.13"].iter().all(|peer| up(peer).is_some()));
    for address in ["10.0.0.11", "10.0.0.13"] {
        assert_eq!(up(address).map(|peer| peer.established_count), Some(1), "{address} flapped");
    }
    assert_eq!(fabric.workers[0].peers()[0].established_count, 1);
}

#[test]
fn a_reload_with_errors_changes_nothing_and_says_why() {
    let mut fabric = Fabric::empty(Family::V4);
    let reflector = Reflector::configured(fabric.host("rr1", 1), &reflector_config(&[11], ""));
    fabric.add_worker_of("10.0.0.1:1179", 0, &[]);
    fabric.wait_established();
    reflector.reconfigure("asn = 0\n");
    wait::until_true("the complaint", || reflector.host.log("megalos-rr").contains("asn is 0"));
    reflector.reconfigure(&reflector_config(&[11], "asn = 65001"));
    wait::until_true("the warning", || reflector.host.log("megalos-rr").contains("take a restart"));
    let peer = reflector.peer("10.0.0.11").unwrap_or_default();
    assert_eq!((peer.state.as_str(), peer.established_count, peer.asn), ("Established", 1, 65_000));
}

#[test]
fn a_daemon_that_is_told_to_stop_ends_well_and_takes_its_sockets_along() {
    let mut fabric = Fabric::new(1);
    let [worker, reflector] = [fabric.workers[0].control(), fabric.reflectors[0].control()];
    fabric.workers[0].kill(Signal::SIGTERM);
    fabric.reflectors[0].kill(Signal::SIGTERM);
    assert!(!worker.exists() && !reflector.exists());
    for log in [fabric.workers[0].host.log("megalos-speaker"), fabric.reflectors[0].host.log("megalos-rr")] {
        assert!(log.contains("leaving") && !log.contains("ERROR"), "{log}");
    }
}
