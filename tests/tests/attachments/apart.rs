//! What must never meet: LANs, the host's network, and its firewall.

use std::collections::BTreeSet;

use tests::fabric::{Fabric, LAN, MACS};
use tests::frames::{Sniffer, vni_of};
use tests::host::Host;

/// Drops whatever is forwarded, and lets the bridges of the namespace ask for it.
const HOSTILE: &str = "sysctl -q -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 \
     net.bridge.bridge-nf-call-arptables=1 && iptables -P FORWARD DROP && ip6tables -P FORWARD DROP";

/// A bridge in the host's own namespace with two pods on it: does it forward?
fn a_bridge_of_the_host_forwards(host: &Host) -> bool {
    host.sh("ip link add own type bridge && ip link set own up");
    let pods = ["own1", "own2"].map(Host::new);
    for (number, pod) in (1..).zip(&pods) {
        host.sh(&format!(
            "ip link add own{number} type veth peer name eth0 netns {} && ip link set own{number} master own up",
            pod.name()
        ));
        pod.sh(&format!("ip address add 192.168.7.{number}/24 dev eth0 && ip link set eth0 up"));
    }
    let forwards = pods[0].pings("192.168.7.2");
    host.sh("ip link del own");
    forwards
}

#[test]
fn the_hosts_firewall_never_sees_a_frame_of_a_lan() {
    let fabric = Fabric::new(2);
    for worker in &fabric.workers {
        worker.host.sh(HOSTILE);
    }
    // The firewall bites: what the host itself bridges does not pass.
    assert!(!a_bridge_of_the_host_forwards(&fabric.workers[0].host));
    let [a, _b] = fabric.devices::<2>();
    let same_node = Host::new("pc3");
    fabric.workers[0].attach(&same_node, LAN, MACS[2], "192.168.1.3/24");
    a.wait_pings("192.168.1.2");
    a.wait_pings("192.168.1.3");
    a.sh("ip address add fd01::1/64 dev eth0 nodad");
    same_node.sh("ip address add fd01::3/64 dev eth0 nodad");
    a.wait_pings("fd01::3");
    // The namespace of the LANs has its own settings, and no address at which anything could reach the node.
    for worker in &fabric.workers {
        for table in ["iptables", "ip6tables", "arptables"] {
            assert_eq!(worker.overlay_sh(&format!("cat /proc/sys/net/bridge/bridge-nf-call-{table}")).trim(), "0");
        }
        let addresses = worker.overlay_sh("ip -brief address show");
        let others: Vec<&str> = addresses.lines().filter(|line| !line.starts_with("lo")).collect();
        assert!(others.iter().all(|line| line.split_whitespace().count() <= 2), "{others:?}");
        let seen = worker.host.sh("ip -brief link show");
        let devices: BTreeSet<&str> = seen.lines().filter_map(|line| line.split(['@', ' ']).next()).collect();
        assert_eq!(devices, ["lo", "eth0"].into(), "the host sees no device of a LAN");
    }
}

#[test]
fn the_hosts_network_and_the_lans_never_meet() {
    let fabric = Fabric::new(2);
    let [a, b] = fabric.devices::<2>();
    a.wait_pings("192.168.1.2");
    let [first, second] = [0, 1].map(|index: usize| &fabric.workers[index].host);
    let underlay = Sniffer::start(second, "eth0");
    let lan = Sniffer::start(&b, "eth0");
    // A pod that takes the underlay for its own network, and a host that takes the LAN for its own.
    a.sh("ip route add 10.0.0.0/24 dev eth0 && ip route add default via 192.168.1.77");
    assert!(!a.pings("10.0.0.11") && !a.pings("10.0.0.12") && !a.pings("198.51.100.1"));
    for host in [first, second] {
        host.sh("ip route add 192.168.1.0/24 dev eth0");
        assert!(!host.pings("192.168.1.1") && !host.pings("192.168.1.2"));
    }
    a.wait_pings("192.168.1.2");
    // On the underlay a pod's address is seen only inside of VXLAN, and on the LAN a node's is never seen.
    let pods =
        MACS.map(|mac| mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect::<Vec<u8>>());
    let of_a_pod = |frame: &[u8]| pods.iter().any(|mac| frame.get(..6) == Some(mac) || frame.get(6..12) == Some(mac));
    assert_eq!(underlay.frames(of_a_pod), Vec::<Vec<u8>>::new());
    assert!(underlay.vnis().iter().all(|vni| *vni == LAN) && !underlay.vnis().is_empty());
    let node = first.sh("ip -brief link show eth0");
    let node = node.split_whitespace().nth(2).unwrap_or_default();
    let node: Vec<u8> = node.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    assert_eq!(node.len(), 6);
    assert_eq!(lan.frames(|frame| frame.get(6..12) == Some(&node) || vni_of(frame).is_some()), Vec::<Vec<u8>>::new());
}
