//! GC: what the runtime no longer knows goes, and nothing else.

use serde_json::{Value, json};
use tests::host::Host;

use crate::runtime::{Call, Node, config, finish};

/// A GC of a network whose valid attachments are these.
fn gc(pod: &Host, valid: Value) -> Call {
    let call = Call::new("GC", pod, "net1", config("1.1.0", 100));
    call.key("cni.dev/valid-attachments", valid)
}

fn entry(pod: &Host, interface: &str) -> Value {
    json!({ "containerID": pod.name(), "ifname": interface })
}

#[test]
fn gc_removes_what_its_network_has_beyond_the_valid_attachments() {
    let node = Node::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Host::new);
    let add = |pod, interface| Call::new("ADD", pod, interface, config("1.1.0", 100));
    for call in [
        add(&a, "net1"),
        add(&a, "net2"),
        add(&b, "net1"),
        add(&c, "net1").key("name", "red".into()),
        add(&d, "net1").key("vni", 101.into()),
    ] {
        node.run(&call).ok();
    }
    let has = |pod: &Host, interface: &str| pod.try_sh(&format!("ip link show dev {interface}")).status.success();
    let all = || [has(&a, "net1"), has(&a, "net2"), has(&b, "net1"), has(&c, "net1"), has(&d, "net1")];
    // Silence does not mean that none is valid, and a list that cannot be read removes nothing.
    node.run(&gc(&a, Value::Null)).ok();
    assert_eq!(
        node.run(&gc(&a, json!([{ "containerID": "../x", "ifname": "net1" }]))).error(&["valid-attachments"]),
        7
    );
    assert_eq!(all(), [true; 5]);
    node.run(&gc(&a, json!([entry(&a, "net1"), entry(&d, "net9")]))).ok();
    assert_eq!(all(), [true, false, false, true, true], "other networks and other LANs stay");
    // A worker that was started anew knows the networks still.
    let mut node = node;
    node.worker_mut().kill(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(node.run(&gc(&a, json!([]))).error(&["worker"]), 11);
    node.worker_mut().restart();
    node.run(&gc(&a, json!([]))).ok();
    let has = |pod: &Host, interface: &str| pod.try_sh(&format!("ip link show dev {interface}")).status.success();
    assert_eq!([has(&a, "net1"), has(&c, "net1"), has(&d, "net1")], [false, true, true]);
}

#[test]
fn gc_goes_through_more_attachments_than_fit_one_reply() {
    const ATTACHMENTS: usize = cni::protocol::MAX_PAGE + 20;
    let node = Node::new();
    let pod = Host::new("pod");
    let calls = (0..ATTACHMENTS).map(|at| Call::new("ADD", &pod, &format!("net{at}"), config("1.1.0", 100)));
    let children: Vec<_> = calls.map(|call| node.start(0, &call, &call.config.to_string())).collect();
    for child in children {
        finish(child).ok();
    }
    // Of the first page and of the last one survive; names sort as text.
    let valid = ["net0", "net5", "net99"];
    node.run(&gc(&pod, valid.iter().map(|name| entry(&pod, name)).collect())).ok();
    let links = pod.sh("ip -brief link show type veth");
    let mut left: Vec<_> = links.lines().filter_map(|line| line.split('@').next()).collect();
    left.sort_unstable();
    assert_eq!(left, valid);
}

#[test]
fn in_a_chain_an_attachment_is_valid_while_its_container_is() {
    let node = Node::new();
    let [a, b] = ["a", "b"].map(Host::new);
    for pod in [&a, &b] {
        node.run(&Call::new("ADD", pod, "eth0", config("1.1.0", 100)).key("interface", "lan0".into())).ok();
    }
    // The runtime knows it by the name of the chain's first interface.
    node.run(&gc(&a, json!([entry(&a, "eth0")])).key("interface", "lan0".into())).ok();
    assert!(a.sh("ip link").contains("lan0"));
    assert!(!b.sh("ip link").contains("lan0"));
}
