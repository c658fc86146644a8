//! The worker of a node: what its process may do, and what it says of a node that is not as it should be.

use tests::cluster::node::Node;
use tests::cluster::{Cluster, with_megalos};
use tests::{http, wait};

/// CAP_NET_ADMIN as /proc shows it.
const NET_ADMIN: &str = "0000000000001000";
const NOTHING: &str = "0000000000000000";
/// Prints what /proc says of every thread of a node's worker.
const THREADS: &str = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = megalos-speaker ] && cat $p/task/*/status; done; true";

fn condition(cluster: &Cluster, node: &str) -> Vec<String> {
    let field = |name: &str| {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"MegalosReady\")].{name}}}");
        cluster.kubectl(&["get", "node", node, "-o", &path])
    };
    ["status", "reason", "message"].map(field).to_vec()
}

/// Waits until the Node's condition has this status and reason; its message.
fn wait_condition(cluster: &Cluster, node: &str, status: &str, reason: &str) -> String {
    wait::until(&format!("MegalosReady of {node} to be {status}, {reason}"), || {
        let mut found = condition(cluster, node);
        if found[0] == status && found[1] == reason { Ok(found.remove(2)) } else { Err(format!("it is {found:?}")) }
    })
}

fn worker_of(cluster: &Cluster, node: &str) -> String {
    let (field, label) = (format!("spec.nodeName={node}"), "app.kubernetes.io/component=worker");
    let pod = ["-n", "megalos-system", "get", "pod", "-l", label, "--field-selector", &field, "-o", "name"];
    cluster.kubectl(&pod).trim().to_owned()
}

/// A problem is told by log, metric and Event, and its cure with it.
fn assert_told(cluster: &Cluster, node: &Node, reason: &str, cure: &str) {
    let pod = worker_of(cluster, node.name());
    let log = cluster.kubectl(&["-n", "megalos-system", "logs", &pod]);
    assert!(log.contains(cure), "{reason}: {log}");
    let (_, metrics) = http::get_in(&node.network(), &format!("{}:9181", node.address()), "/metrics");
    assert!(metrics.contains(&format!("megalos_node_problems{{reason=\"{reason}\"}} 1")), "{metrics}");
    let wanted = format!("reason={reason},involvedObject.name={}", node.name());
    wait::until(&format!("the Event {reason}"), || {
        let events = cluster.kubectl(&["-n", "default", "get", "events", "--field-selector", &wanted, "-o", "yaml"]);
        if events.contains("megalos-speaker") { Ok(()) } else { Err(events) }
    });
}

#[test]
fn every_thread_of_a_worker_has_net_admin_and_can_get_nothing_else() {
    let cluster = with_megalos();
    for node in cluster.nodes() {
        let status = node.sh(THREADS);
        let lines: Vec<_> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
        let threads = lines.iter().filter(|(name, _)| *name == "Pid").count();
        assert!(threads >= 5, "{}: {status}", node.name());
        for (name, wanted) in [
            ("CapInh", NOTHING),
            ("CapPrm", NET_ADMIN),
            ("CapEff", NET_ADMIN),
            ("CapBnd", NET_ADMIN),
            ("CapAmb", NOTHING),
            ("NoNewPrivs", "1"),
        ] {
            let of_threads: Vec<_> =
                lines.iter().filter(|(found, _)| *found == name).map(|(_, value)| *value).collect();
            assert_eq!(of_threads, vec![wanted; threads], "{name} on {}", node.name());
        }
    }
}

#[test]
fn an_address_that_cannot_be_a_node_s_is_said_with_its_cure_and_costs_nothing_that_works() {
    let cluster = with_megalos();
    let node = cluster.node(1);
    let other = cluster.node(0).address();
    wait_condition(&cluster, node.name(), "True", "Ready");
    let cases = [
        ("192.0.2.250", "VtepNotLocal", "is on no interface of this node"),
        (other.as_str(), "DuplicateVtep", "remove the annotation"),
        ("eth0", "InvalidVtep", "remove the annotation"),
    ];
    for (vtep, reason, cure) in cases {
        cluster.kubectl(&["annotate", "--overwrite", "node", node.name(), &format!("megalos.dev/vtep={vtep}")]);
        let message = wait_condition(&cluster, node.name(), "False", reason);
        assert!(message.contains(cure), "{reason}: {message}");
        assert_told(&cluster, node, reason, cure);
        let (ready, _) = http::get_in(&node.network(), &format!("{}:9181", node.address()), "/readyz");
        assert_eq!(ready, 200, "{reason}");
    }
    cluster.kubectl(&["annotate", "node", node.name(), "megalos.dev/vtep-"]);
    wait_condition(&cluster, node.name(), "True", "Ready");
}

#[test]
fn a_vni_that_the_node_s_own_vxlan_uses_is_reserved_and_reported() {
    let cluster = with_megalos();
    let node = cluster.node(2);
    wait_condition(&cluster, node.name(), "True", "Ready");
    node.sh("ip link add foreign type vxlan id 4097 dstport 4789 dev eth0");
    let restart = || {
        let pod = worker_of(&cluster, node.name());
        cluster.kubectl(&["-n", "megalos-system", "delete", "--wait", &pod]);
        cluster.wait_megalos().unwrap_or_else(|error| panic!("{error}"));
    };
    restart();
    let message = wait_condition(&cluster, node.name(), "True", "VniReserved");
    assert!(message.contains("VNI 4097") && message.contains("foreign"), "{message}");
    assert_told(&cluster, node, "VniReserved", "give the LAN another VNI");
    node.sh("ip link del foreign");
    restart();
    wait_condition(&cluster, node.name(), "True", "Ready");
}
