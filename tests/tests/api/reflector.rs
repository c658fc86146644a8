//! A reflector whose peers are the Nodes of a cluster, with real workers on hosts.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::api_server::{ApiServer, Fault, Verb, What, node};
use tests::fabric::{LAN, MACS};
use tests::host::{Host, Underlay};
use tests::overlay::{Reflector, Worker};
use tests::ping::Flow;
use tests::{http, wait};

/// `open-sesame`, `close-sesame`.
const KEYS: [(&str, &str); 2] = [("open-sesame", "b3Blbi1zZXNhbWU="), ("close-sesame", "Y2xvc2Utc2VzYW1l")];
const HTTP: &str = "127.0.0.1:9180";

/// An API server at 10.0.0.100, reflectors from 10.0.0.1 on, workers wherever a test wants them.
struct Bed {
    underlay: Underlay,
    api: ApiServer,
    _api_host: Host,
}

impl Bed {
    /// With these Nodes, and a Secret that holds the first key.
    fn new(nodes: &[(&str, &str)]) -> Self {
        let underlay = Underlay::new(1_500);
        let host = underlay.host("api", &["10.0.0.100/24"]);
        let api = ApiServer::on(&host, "10.0.0.100:6443".parse().unwrap());
        let bed = Self { underlay, api, _api_host: host };
        for (name, address) in nodes {
            bed.api.apply("nodes", node(name, &[address]));
        }
        bed.set_key(Some(KEYS[0].1));
        bed
    }

    fn set_key(&self, key: Option<&str>) {
        let data = key.map(|key| json!({"md5": key}));
        let meta = json!({"name": "megalos-bgp", "namespace": "megalos-system"});
        self.api.apply("secrets", json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}));
    }

    fn reflector(&self, number: usize) -> Reflector {
        let addresses = [format!("10.0.0.{number}/24"), format!("fd00::{number}/64")];
        let host = self.underlay.host(&format!("rr{number}"), &addresses.each_ref().map(String::as_str));
        let kubeconfig = self.api.kubeconfig(host.directory()).display().to_string();
        let state = host.directory().join("state").display().to_string();
        let router_id = format!("10.0.0.{number}");
        Reflector::with_flags(host, &["--kubeconfig", &kubeconfig, "--state", &state, "--router-id", &router_id])
    }

    /// A worker at this address with this key and a session to each of these reflectors.
    fn worker(&self, label: &str, address: &str, key: &str, reflectors: &[usize]) -> Worker {
        let is_ipv6 = address.contains(':');
        let host = self.underlay.host(label, &[&format!("{address}/{}", if is_ipv6 { 64 } else { 24 })]);
        let config = host.directory().join("worker.toml");
        std::fs::write(&config, format!("[defaults]\npassword = \"{key}\"\n")).unwrap();
        let socket = |number| if is_ipv6 { format!("[fd00::{number}]:1179") } else { format!("10.0.0.{number}:1179") };
        let reflectors: Vec<_> = reflectors.iter().map(socket).collect();
        Worker::start(host, address, &[&reflectors.join(",")], &["--config", &config.display().to_string()])
    }
}

fn wait_peer(reflector: &Reflector, address: &str, name: &str) {
    wait::until(&format!("{address} to be the established peer {name}"), || {
        let peer = reflector.peer(address);
        match &peer {
            Some(peer) if peer.state == "Established" && peer.name.as_deref() == Some(name) => Ok(()),
            _ => Err(format!("it is {peer:?}")),
        }
    });
}

fn wait_log(reflector: &Reflector, parts: &[&str]) {
    wait::until(&format!("{parts:?} in the log"), || {
        let log = reflector.host.log("megalos-rr");
        let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if found { Ok(()) } else { Err(log) }
    });
}

fn metric(reflector: &Reflector, name: &str) -> Option<i64> {
    let (_, text) = http::get(&reflector.host, HTTP, "/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn wait_metric(reflector: &Reflector, name: &str, value: i64) {
    wait::until(&format!("{name} to be {value}"), || match metric(reflector, name) {
        Some(found) if found == value => Ok(()),
        other => Err(format!("it is {other:?}")),
    });
}

fn is_ready(reflector: &Reflector) -> bool {
    http::get(&reflector.host, HTTP, "/readyz").0 == 200
}

/// A device on the LAN of each worker, which reach each other.
fn devices(workers: [&Worker; 2]) -> [Host; 2] {
    let devices = [0, 1].map(|index| {
        let device = Host::new(&format!("pc{}", index + 1));
        workers[index].attach(&device, LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
        device
    });
    devices[0].wait_pings("192.168.1.2");
    devices
}

#[test]
fn a_node_is_a_peer_as_long_as_it_is_there_and_nobody_else_is() {
    let bed = Bed::new(&[("n1", "10.0.0.11")]);
    let reflector = bed.reflector(1);
    let w1 = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    let w2 = bed.worker("w2", "10.0.0.12", KEYS[0].0, &[1]);
    wait_peer(&reflector, "10.0.0.11", "n1");
    // The key is for Nodes' addresses; whoever comes from another one is a stranger.
    assert_eq!(reflector.peer("10.0.0.12"), None);
    assert_eq!(metric(&reflector, "megalos_cluster_nodes"), Some(1));

    let begin = Instant::now();
    bed.api.apply("nodes", node("n2", &["10.0.0.12"]));
    wait_peer(&reflector, "10.0.0.12", "n2");
    println!("a Node that joins has a session after {:?}", begin.elapsed());
    let [here, _there] = devices([&w1, &w2]);
    wait_log(&reflector, &["Node added", "n2", "10.0.0.12"]);

    let begin = Instant::now();
    bed.api.delete("nodes", "n2");
    w1.wait_row(LAN, MACS[1], None);
    println!("a Node that is deleted is out of the others' kernels after {:?}", begin.elapsed());
    assert_eq!(reflector.peer("10.0.0.12"), None);
    assert!(reflector.routes().iter().all(|route| route.next_hop != "10.0.0.12"), "nothing of it is kept");
    wait_log(&reflector, &["Node deleted", "n2"]);
    assert_eq!(reflector.peer("10.0.0.11").unwrap().established_count, 1, "who stays is not touched");

    // It joins again under the same name.
    bed.api.apply("nodes", node("n2", &["10.0.0.12"]));
    here.wait_pings("192.168.1.2");
}

#[test]
fn a_node_announces_its_own_endpoint_only_and_that_is_its_annotation_if_it_has_one() {
    let bed = Bed::new(&[("n1", "10.0.0.11"), ("n2", "10.0.0.12")]);
    let reflector = bed.reflector(1);
    let w1 = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    let w2 = bed.worker("w2", "10.0.0.12", KEYS[0].0, &[1]);
    w1.wait_established();
    w2.wait_established();
    let [here, _there] = devices([&w1, &w2]);
    let annotated = |vtep: &str| {
        let mut object = node("n2", &["10.0.0.12"]);
        object["metadata"]["annotations"] = json!({"megalos.dev/vtep": vtep});
        object
    };
    // Its worker has not heard of it: what it announces now leads to an address that is not the Node's endpoint.
    bed.api.apply("nodes", annotated("10.0.0.99"));
    w1.wait_row(LAN, MACS[1], None);
    let peer = reflector.peer("10.0.0.12").unwrap();
    assert!(peer.refused_routes > 0 && peer.state == "Established", "{peer:?}");
    assert!(peer.last_refusal.is_some_and(|why| why.contains("megalos.dev/vtep")));
    // Another Node's address is no endpoint of it.
    bed.api.apply("nodes", annotated("10.0.0.11"));
    here.wait_pings("192.168.1.2");
    wait_metric(&reflector, "megalos_cluster_node_problems{node=\"n2\",reason=\"DuplicateVtep\"}", 1);
    wait_log(&reflector, &["WARN", "n2", "10.0.0.11", "remove the annotation"]);
    assert_eq!(reflector.peer("10.0.0.12").unwrap().established_count, 1);
}

#[test]
fn a_node_of_two_families_may_come_by_either_and_what_its_other_address_does_is_nothing_to_the_session() {
    let bed = Bed::new(&[]);
    bed.api.apply("nodes", node("n1", &["10.0.0.11", "fd00::11"]));
    bed.api.apply("nodes", node("n2", &["10.0.0.12", "fd00::12"]));
    let reflector = bed.reflector(1);
    let _w1 = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    let _w2 = bed.worker("w2", "fd00::12", KEYS[0].0, &[1]);
    wait_peer(&reflector, "10.0.0.11", "n1");
    wait_peer(&reflector, "fd00::12", "n2");
    wait::until_true("the reflector to be ready", || is_ready(&reflector));
    // Listed the other way round, then without the one, then with another in its place.
    bed.api.apply("nodes", node("n1", &["fd00::11", "10.0.0.11"]));
    bed.api.apply("nodes", node("n1", &["10.0.0.11"]));
    bed.api.apply("nodes", node("n2", &["10.0.0.22", "fd00::12"]));
    wait::until("the peers to be the addresses that are left", || {
        let addresses: Vec<_> = reflector.peers().into_iter().map(|peer| peer.address).collect();
        if addresses == ["10.0.0.11", "10.0.0.22", "fd00::12"] { Ok(()) } else { Err(format!("{addresses:?}")) }
    });
    for address in ["10.0.0.11", "fd00::12"] {
        let peer = reflector.peer(address).unwrap();
        assert_eq!((peer.state.as_str(), peer.established_count), ("Established", 1), "{address}");
    }
}

#[test]
fn a_node_with_another_address_is_moved_and_nobody_else_is_touched() {
    let bed = Bed::new(&[("n1", "10.0.0.11"), ("n2", "10.0.0.12")]);
    let reflector = bed.reflector(1);
    let w1 = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    let mut w2 = bed.worker("w2", "10.0.0.12", KEYS[0].0, &[1]);
    w1.wait_established();
    w2.wait_established();
    let [_here, there] = devices([&w1, &w2]);
    w2.kill(Signal::SIGKILL);
    drop(there);
    let moved = bed.worker("w2b", "10.0.0.22", KEYS[0].0, &[1]);
    let begin = Instant::now();
    bed.api.apply("nodes", node("n2", &["10.0.0.22"]));
    wait_peer(&reflector, "10.0.0.22", "n2");
    println!("a Node with another address has a session after {:?}", begin.elapsed());
    assert_eq!(reflector.peer("10.0.0.12"), None);
    wait_log(&reflector, &["Node has other addresses", "10.0.0.12", "10.0.0.22"]);
    let device = Host::new("pc3");
    moved.attach(&device, LAN, MACS[1], "192.168.1.2/24");
    w1.wait_row(LAN, MACS[1], Some("10.0.0.22".parse().unwrap()));
    assert_eq!(reflector.peer("10.0.0.11").unwrap().established_count, 1);
}

#[test]
fn without_the_api_server_everything_goes_on_a_restart_of_the_reflector_included() {
    let bed = Bed::new(&[("n1", "10.0.0.11"), ("n2", "10.0.0.12"), ("n3", "10.0.0.13")]);
    let mut reflector = bed.reflector(1);
    let w1 = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    let w2 = bed.worker("w2", "10.0.0.12", KEYS[0].0, &[1]);
    let w3 = bed.worker("w3", "10.0.0.13", KEYS[0].0, &[1]);
    for worker in [&w1, &w2, &w3] {
        worker.wait_established();
    }
    let [here, _there] = devices([&w1, &w2]);
    let state = reflector.host.directory().join("state");
    let kept = |file: &str, what: &str| std::fs::read_to_string(state.join(file)).is_ok_and(|text| text.contains(what));
    wait::until_true("the last known state on disk", || {
        kept("reflector-nodes.json", "10.0.0.13") && kept("reflector-key.json", KEYS[0].0)
    });
    let flow = Flow::start(&here, "192.168.1.2");
    bed.api.leave();
    wait_metric(&reflector, "megalos_cluster_api_up{resource=\"nodes\"}", 0);
    reflector.kill(Signal::SIGKILL);
    reflector.restart();
    let begin = Instant::now();
    for (address, name) in [("10.0.0.11", "n1"), ("10.0.0.12", "n2"), ("10.0.0.13", "n3")] {
        wait_peer(&reflector, address, name);
    }
    wait::until_true("the reflector to be ready", || is_ready(&reflector));
    println!("a reflector that starts without the API server is complete after {:?}", begin.elapsed());
    assert_eq!(metric(&reflector, "megalos_cluster_synchronised{resource=\"nodes\"}"), Some(0));
    // A LAN that comes to be meanwhile works as ever.
    let late = Host::new("pc3");
    w3.attach(&late, LAN, MACS[2], "192.168.1.3/24");
    late.wait_pings("192.168.1.1");
    // What was deleted meanwhile goes as soon as that can be known.
    bed.api.delete("nodes", "n3");
    bed.api.come_back();
    w1.wait_row(LAN, MACS[2], None);
    wait_metric(&reflector, "megalos_cluster_api_up{resource=\"nodes\"}", 1);
    flow.wait_for_replies(10);
    let report = flow.stop();
    assert!(report.lost.is_empty(), "lost {:?} of {}", report.lost, report.sent);
    assert_eq!(reflector.peers().len(), 2);
}

#[test]
fn nobody_is_let_in_or_told_that_is_all_before_it_is_known_who_may_come() {
    let bed = Bed::new(&[("n1", "10.0.0.11")]);
    bed.api.leave();
    let reflector = bed.reflector(1);
    let worker = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    wait_metric(&reflector, "megalos_cluster_api_up{resource=\"nodes\"}", 0);
    assert!(!is_ready(&reflector) && reflector.peers().is_empty());
    // The Nodes alone are not enough: without the key anybody could speak for them.
    bed.api.fault(Fault::always(Verb::List, "secrets", What::Status(403)));
    bed.api.come_back();
    wait_metric(&reflector, "megalos_cluster_nodes", 1);
    wait_log(&reflector, &["secrets", "a Role in namespace megalos-system", "verbs: [\"list\"]"]);
    assert!(!is_ready(&reflector) && reflector.peers().is_empty());
    bed.api.mend();
    worker.wait_established();
    wait::until_true("the reflector to be ready", || is_ready(&reflector));
}

#[test]
fn a_role_that_lacks_a_rule_is_named_and_its_repair_is_noticed() {
    let bed = Bed::new(&[("n1", "10.0.0.11")]);
    bed.api.fault(Fault::always(Verb::List, "nodes", What::Status(403)));
    let reflector = bed.reflector(1);
    wait_log(&reflector, &["WARN", "a ClusterRole", r#"resources: ["nodes"], verbs: ["list"]"#, "install.yaml"]);
    bed.api.mend();
    wait_metric(&reflector, "megalos_cluster_nodes", 1);
    bed.api.fault(Fault::always(Verb::Watch, "nodes", What::Status(403)));
    bed.api.end_watches();
    wait_log(&reflector, &["WARN", r#"resources: ["nodes"], verbs: ["watch"]"#]);
    assert_eq!(metric(&reflector, "megalos_cluster_nodes"), Some(1));
}

#[test]
fn of_two_reflectors_that_start_together_one_makes_the_key_and_both_use_it() {
    let bed = Bed::new(&[("n1", "10.0.0.11")]);
    bed.set_key(None);
    // Both have looked and found nothing before either writes.
    bed.api.fault(Fault {
        times: 2,
        ..Fault::always(Verb::Update, "secrets", What::Slow(std::time::Duration::from_secs(1)))
    });
    let reflectors = [bed.reflector(1), bed.reflector(2)];
    for reflector in &reflectors {
        wait_metric(reflector, "megalos_cluster_key_known", 1);
    }
    wait::until_true("both attempts", || bed.api.asked(Verb::Update, "secrets") == 2);
    wait_log(&reflectors[0], &["the TCP-MD5 key is made"]);
    wait_log(&reflectors[1], &["the TCP-MD5 key is made"]);
    assert_eq!(bed.api.replaced("secrets"), 1, "one of them");
    let secret = bed.api.get("secrets", "megalos-bgp").unwrap();
    let key = decoded(secret["data"]["md5"].as_str().unwrap());
    assert_eq!(key.len(), 64);
    let worker = bed.worker("w1", "10.0.0.11", &key, &[1, 2]);
    worker.wait_established();
    for reflector in &reflectors {
        assert!(!reflector.host.log("megalos-rr").contains(&key), "a key is no text for a log");
    }
    // Somebody empties the Secret: the key that is known is put back, so nothing changes.
    bed.set_key(None);
    wait::until_true("the key to be back", || {
        bed.api.get("secrets", "megalos-bgp").is_some_and(|now| now["data"]["md5"] == secret["data"]["md5"])
    });
    assert!(worker.peers().iter().all(|peer| peer.state == "Established" && peer.established_count == 1));
}

#[test]
fn a_key_that_is_replaced_is_for_new_sessions_and_those_that_run_stay() {
    let bed = Bed::new(&[("n1", "10.0.0.11"), ("n2", "10.0.0.12")]);
    let reflector = bed.reflector(1);
    let w1 = bed.worker("w1", "10.0.0.11", KEYS[0].0, &[1]);
    wait_peer(&reflector, "10.0.0.11", "n1");
    bed.set_key(Some(KEYS[1].1));
    // It has the new key, and so has the reflector.
    let w2 = bed.worker("w2", "10.0.0.12", KEYS[1].0, &[1]);
    wait_peer(&reflector, "10.0.0.12", "n2");
    let [here, _there] = devices([&w1, &w2]);
    assert_eq!(reflector.peer("10.0.0.11").unwrap().established_count, 1, "the one with the old key stays");
    here.wait_pings("192.168.1.2");
}

/// Base64 (RFC 4648) without a library.
fn decoded(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|octet| ALPHABET.iter().position(|digit| *digit == octet));
    let (mut octets, mut bits, mut count) = (Vec::new(), 0_usize, 0);
    for digit in digits {
        bits = bits << 6 | digit;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count & 0xff) as u8);
        }
    }
    String::from_utf8(octets).unwrap()
}
