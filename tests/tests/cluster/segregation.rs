//! What never meets: LANs one another, a LAN and nodes without a member, LANs and the pods' network.

use std::fs::File;
use std::time::Instant;

use tests::cluster::lans::{INTERFACE, Station};
use tests::frames::{self, Sniffer, vni_of};

use crate::stage::{A, B, Stage, stage};

/// An EtherType for local experiments (IEEE 802).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
/// The pods' interface on the pod network.
const PRIMARY: &str = "eth0";

/// A frame for everybody with this mark.
fn marked(mark: &str) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0x70, 1], &EXPERIMENT, mark.as_bytes()].concat();
    frame.resize(60, 0);
    frame
}

fn has(mark: &'static str) -> impl Fn(&[u8]) -> bool {
    move |frame| frame.windows(mark.len()).any(|window| window == mark.as_bytes())
}

impl Stage {
    fn sniff(&self, station: &Station, interface: &str) -> Sniffer {
        Sniffer::within(&self.cluster.inside(station), interface)
    }

    fn send(&self, station: &Station, interface: &str, mark: &str) {
        frames::send_within(&self.cluster.inside(station), interface, &marked(mark));
    }

    /// What comes out of the switch towards each node.
    fn wires(&self) -> Vec<Sniffer> {
        let path = self.cluster.keeper().process().namespace("net");
        let network = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        self.cluster.nodes().iter().map(|node| Sniffer::within(&network, node.port())).collect()
    }
}

#[test]
fn stations_with_the_same_mac_and_address_on_two_lans_never_mix_and_no_frame_goes_where_its_lan_has_no_member() {
    let stage = stage();
    let [a_one, a_two, a_three, b_one, b_two] = stage.pods();
    assert_eq!((&a_one.mac, &a_one.ips, &a_two.mac), (&b_one.mac, &b_one.ips, &b_two.mac));
    let on_a = [a_two, a_three].map(|station| stage.sniff(station, INTERFACE));
    let on_b = [b_two].map(|station| stage.sniff(station, INTERFACE));
    let wires = stage.wires();
    let traffic = stage.traffic();
    stage.send(a_one, INTERFACE, "of LAN A");
    stage.send(b_one, INTERFACE, "of LAN B");
    on_a.iter().for_each(|sniffer| drop(sniffer.wait_for("LAN A's frame", has("of LAN A"))));
    on_b.iter().for_each(|sniffer| drop(sniffer.wait_for("LAN B's frame", has("of LAN B"))));
    traffic.assert_nothing_lost("two LANs with the same MACs and addresses");
    assert!(on_a.iter().all(|sniffer| sniffer.frames(has("of LAN B")).is_empty()), "LAN A has LAN B's frame");
    assert!(on_b.iter().all(|sniffer| sniffer.frames(has("of LAN A")).is_empty()), "LAN B has LAN A's frame");
    for (node, wire) in stage.cluster.nodes().iter().zip(&wires) {
        let mut vnis = wire.vnis();
        vnis.retain(|vni| [A, B].contains(vni));
        vnis.sort_unstable();
        vnis.dedup();
        let members = |vni: u32| stage.stations.iter().any(|station| station.vni == vni && station.node == node.name());
        let expected: Vec<u32> = [A, B].into_iter().filter(|vni| members(*vni)).collect();
        assert_eq!(vnis, expected, "VNIs to and from {}", node.name());
    }
}

#[test]
fn lans_and_the_pods_network_never_meet_and_no_firewall_of_a_node_touches_lans() {
    const RULES: &str = "nft add table inet closed
        nft add chain inet closed forward \"{ type filter hook forward priority -300; policy drop; }\"
        for family in ip ip6 arp; do sysctl -q -w net.bridge.bridge-nf-call-${family}tables=1; done";
    let stage = stage();
    let [a_one, a_two, _, b_one, b_two] = stage.pods();
    let pods = [a_one, a_two, b_one, b_two];
    let traffic = stage.traffic();
    let restore: Vec<String> = stage
        .cluster
        .nodes()
        .iter()
        .map(|node| node.sh("sysctl net.bridge | grep bridge-nf-call- | sed 's/ = /=/' | tr '\\n' ' '"))
        .collect();
    stage.cluster.nodes().iter().for_each(|node| drop(node.sh(RULES)));
    let on_lans = pods.map(|station| stage.sniff(station, INTERFACE));
    let on_primary = pods.map(|station| stage.sniff(station, PRIMARY));
    let wires = stage.wires();
    stage.send(a_one, INTERFACE, "from a LAN");
    stage.send(a_one, PRIMARY, "from the pods' network");
    on_lans[1].wait_for("the LAN's frame", has("from a LAN"));
    // What is on a node's own network is at the other pod of the node by now, or dropped.
    traffic.go_on();
    assert!(on_primary.iter().skip(1).all(|sniffer| sniffer.frames(has("from a LAN")).is_empty()));
    assert!(on_lans.iter().all(|sniffer| sniffer.frames(has("from the pods' network")).is_empty()));
    assert!(on_primary[0].frames(has("from a LAN")).is_empty(), "it left by the pod network");
    for wire in &wires {
        let bare = wire.frames(|frame| has("from a LAN")(frame) && vni_of(frame) != Some(A));
        assert!(bare.is_empty(), "a LAN's frame left a node as it is");
    }
    // No address of the pod network answers on a LAN.
    let path = "jsonpath={.status.podIP}";
    let primary = stage.cluster.kubectl(&["get", "pod", &b_two.name, "-o", path]);
    let asked = stage.cluster.pod_sh(&a_one.name, &format!("ping -c 1 -W 2 -I {INTERFACE} {primary}"));
    assert!(asked.is_err(), "{primary} answers on a LAN: {asked:?}");
    stage.exact("FORWARD is closed", Instant::now());
    for (node, before) in stage.cluster.nodes().iter().zip(&restore) {
        node.sh(&format!("nft delete table inet closed; sysctl -q -w {before}"));
    }
    traffic.assert_nothing_lost("FORWARD closed on every node");
}
