//! From an empty cluster to the first LAN, with kubectl and nothing else.

use std::time::Instant;

use serde_json::Value;
use tests::cluster::megalos::deploy;
use tests::cluster::{Cluster, without_megalos};
use tests::wait::until;

const WAIT: &str = "--timeout=180s";

/// What the example asks for.
const ASKED: [(&str, &str, &str); 2] =
    [("pc1", "02:00:00:00:00:01", "10.0.0.1"), ("pc2", "02:00:00:00:00:02", "10.0.0.2")];

#[test]
fn two_pods_on_two_nodes_reach_each_other_over_the_example_s_lan_as_they_asked() {
    let mut cluster = without_megalos();
    done(cluster.give_megalos());

    let begin = Instant::now();
    done(cluster.apply_megalos());
    let example = deploy("examples/two-pods.yaml").display().to_string();
    cluster.kubectl(&["apply", "-f", &example]);
    done(cluster.try_kubectl(&["wait", "--for=condition=Ready", "pod/pc1", "pod/pc2", WAIT]));
    let running = begin.elapsed();
    until("the first reply", || cluster.try_kubectl(&["exec", "pc1", "--", "ping", "-c", "1", "-W", "1", "10.0.0.2"]));
    println!(
        "install to pods running: {:.1} s, to the first reply: {:.1} s",
        running.as_secs_f32(),
        begin.elapsed().as_secs_f32()
    );

    done(cluster.wait_megalos());
    println!("install to all reflectors and workers ready: {:.1} s", begin.elapsed().as_secs_f32());
    let nodes = ASKED.map(|(pod, _, _)| cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"]));
    assert_ne!(nodes[0], nodes[1], "the example's pods are to be on two nodes");
    for (pod, mac, ip) in ASKED {
        interface_is_as_asked(&cluster, pod, mac, ip);
        status_says_it(&cluster, pod, mac, ip);
    }
    let replies = cluster.kubectl(&["exec", "pc2", "--", "ping", "-c", "3", "-W", "1", "10.0.0.1"]);
    assert!(replies.contains("3 packets received"), "{replies}");
    let neighbours = cluster.kubectl(&["exec", "pc2", "--", "ip", "neigh", "show", "dev", "lan0"]);
    assert!(neighbours.contains(ASKED[0].1), "{neighbours}");
    cluster.kubectl(&["delete", "-f", &example]);
}

fn done<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn interface_is_as_asked(cluster: &Cluster, pod: &str, mac: &str, ip: &str) {
    let link = cluster.kubectl(&["exec", pod, "--", "ip", "link", "show", "lan0"]);
    // The underlay has 1500 and VXLAN over IPv4 takes 50.
    assert!(link.contains(mac) && link.contains("mtu 1450") && link.contains("LOWER_UP"), "{pod}: {link}");
    let address = cluster.kubectl(&["exec", pod, "--", "ip", "addr", "show", "lan0"]);
    assert!(address.contains(&format!("inet {ip}/24")), "{pod}: {address}");
}

/// Multus puts the plugin's result into an annotation, which is where other programs look.
fn status_says_it(cluster: &Cluster, pod: &str, mac: &str, ip: &str) {
    let path = r"jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}";
    let text = cluster.kubectl(&["get", "pod", pod, "-o", path]);
    let status: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{pod}: {error}: {text}"));
    let lan = status.iter().find(|network| network["name"] == "default/lan100");
    let lan = lan.unwrap_or_else(|| panic!("{pod}: no default/lan100 in {text}"));
    assert_eq!((&lan["interface"], &lan["mac"], &lan["mtu"]), (&"lan0".into(), &mac.into(), &1450.into()), "{pod}");
    assert_eq!(lan["ips"], serde_json::json!([ip]), "{pod}");
    assert_ne!(lan["default"], true, "{pod}: {text}");
}
