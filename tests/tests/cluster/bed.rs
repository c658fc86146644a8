//! The cluster itself, before anything of ours is on it.

use tests::cluster::images::TOOLS;
use tests::cluster::{Cluster, shared};

/// A pod of the tool image that waits, on one node.
fn pod(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: default }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
    - {{ name: main, image: "{TOOLS}", command: [sleep, infinity] }}
---"#
    )
}

fn ip(cluster: &Cluster, pod: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
}

#[test]
fn pods_of_two_nodes_reach_each_other_and_the_api() {
    let cluster = shared();
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(nodes, "node1 node2 node3");
    cluster.apply(&(pod("bed-a", "node1") + &pod("bed-b", "node2")));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/bed-a", "pod/bed-b", "--timeout=60s"]);
    let there = ip(&cluster, "bed-b");
    assert!(there.starts_with("10.244.12."), "{there}");
    let pinged = cluster.pod_sh("bed-a", &format!("ping -c 1 -W 5 {there}"));
    assert!(pinged.is_ok(), "{pinged:?}");
    let answer = cluster.pod_sh("bed-a", "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null");
    assert!(answer.is_ok(), "{answer:?}");
    cluster.kubectl(&["delete", "pod", "bed-a", "bed-b", "--wait"]);
}
