//! Who may speak to the reflectors, and for whom.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::bgp::{Connection, MacRoute, Open, base, default_membership, end_of_memberships, reach, update};
use tests::cluster::exact::Wanted;
use tests::cluster::megalos::NAMESPACE;
use tests::cluster::process::until;
use tests::host::Host;
use tests::inside;

use crate::stage::{A, Stage, done, stage};

const PORT: u16 = 1_179;
/// The MAC that the rogue has itself.
const ROGUE_MAC: [u8; 6] = [2, 0, 0, 0, 0x70, 0x99];
/// The MAC of a-two, which it would like to have behind another node.
const STOLEN_MAC: [u8; 6] = [2, 0, 0, 0, 0x70, 2];

impl Stage {
    /// The reflectors' sockets.
    fn reflectors(&self) -> Vec<SocketAddr> {
        let nodes = self.cluster.reflector_nodes();
        nodes.iter().map(|node| SocketAddr::new(address(&node.address()), PORT)).collect()
    }

    fn reflector_metrics(&self, name: &str, label: &str) -> Vec<usize> {
        let nodes = self.cluster.reflector_nodes();
        nodes.iter().map(|node| done(self.cluster.reflector_metric(node, name, label))).collect()
    }

    /// The key of all sessions.
    fn key(&self) -> String {
        let template = "go-template={{ .data.md5 | base64decode }}";
        self.cluster.kubectl(&["-n", NAMESPACE, "get", "secret", "megalos-bgp", "-o", template])
    }

    /// What each reflector says of a peer.
    fn peer_rows(&self, peer: &str) -> Vec<Value> {
        let names = "jsonpath={.items[*].metadata.name}";
        let selector = "app.kubernetes.io/component=reflector";
        let pods = self.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", selector, "-o", names]);
        let show = ["/megalos", "show", "peers", "--json", "--socket", "/run/megalos/rr.sock"];
        let rows = pods.split_whitespace().flat_map(|pod| {
            let text = self.cluster.kubectl(&[&["-n", NAMESPACE, "exec", pod, "--"], &show[..]].concat());
            let rows: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            rows.as_array().cloned().unwrap_or_else(|| panic!("no rows: {text}"))
        });
        rows.filter(|row| row["address"] == peer).collect()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_connection_from_an_address_that_is_no_node_is_refused_and_counted() {
    const STRANGER: &str = "192.0.2.200";
    let stage = stage();
    let host = Host::new("stranger");
    stage.cluster.plug(&host, &[&format!("{STRANGER}/24")]);
    host.wait_pings(&stage.cluster.node(0).address());
    let refused = || stage.reflector_metrics("megalos_bgp_refused_connections", "");
    let before = refused();
    for reflector in stage.reflectors() {
        let mut connection = Connection::open(&host, address(STRANGER), reflector)
            .unwrap_or_else(|error| panic!("{reflector}: {error}"));
        connection.send(&Open::of([192, 0, 2, 200]).message(&[]));
        assert_eq!(connection.receive(), None, "{reflector} answers a stranger");
    }
    done(until("the connections to be counted", || {
        let now = refused();
        if now.iter().zip(&before).all(|(now, before)| now > before) {
            Ok(())
        } else {
            Err(format!("{before:?}, {now:?}"))
        }
    }));
    stage.exact("a stranger was refused", Instant::now());
}

#[test]
fn a_node_that_announces_another_node_s_tunnel_endpoint_is_refused_counted_and_visible_and_nobody_else_is_affected() {
    const ROGUE: &str = "192.0.2.210";
    let stage = stage();
    let traffic = stage.traffic();
    let host = Host::new("rogue");
    stage.cluster.plug(&host, &[&format!("{ROGUE}/24")]);
    let node = json!({ "apiVersion": "v1", "kind": "Node",
                       "metadata": { "name": "rogue", "labels": { "kubernetes.io/os": "linux" } } });
    stage.cluster.apply(&node.to_string());
    let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": ROGUE }] } }).to_string();
    stage.cluster.kubectl(&["patch", "node", "rogue", "--subresource=status", "--type=merge", "-p", &status]);

    let victim: IpAddr = address(&stage.cluster.node(0).address());
    let IpAddr::V4(victim) = victim else { panic!("{victim} is no IPv4 address") };
    let mut sessions = Vec::new();
    for reflector in stage.reflectors() {
        let mut session = done(until(&format!("{reflector} to take the rogue's connection"), || {
            Connection::open_with_key(&host, address(ROGUE), reflector, &stage.key()).map_err(|error| error.to_string())
        }));
        let id = [192, 0, 2, 210];
        session.establish(&Open::of(id));
        session.send(&default_membership(id));
        session.send(&end_of_memberships());
        let announce = |next_hop, mac| {
            let route = MacRoute::of(id, A, mac).nlri();
            update(&[base(A), vec![reach(next_hop, &[route])]].concat())
        };
        session.send(&announce(victim.octets(), STOLEN_MAC));
        session.send(&announce(id, ROGUE_MAC));
        sessions.push(session);
    }
    let counted = || {
        stage
            .reflector_metrics("megalos_bgp_findings_total", &format!("peer=\"{ROGUE}\",rule=\"next-hop-not-allowed\""))
    };
    done(until("what the rogue says of others to be counted", || {
        let counted = counted();
        if counted.iter().all(|count| *count > 0) { Ok(()) } else { Err(format!("{counted:?}")) }
    }));
    for row in stage.peer_rows(ROGUE) {
        assert_eq!((&row["name"], &row["refused_routes"]), (&json!("rogue"), &json!(1)), "{row}");
        assert!(row["last_refusal"].as_str().is_some_and(|text| text.contains(&victim.to_string())), "{row}");
    }
    // What it says of itself came later, and is believed: all before it has been dealt with.
    let mut stations = stage.stations.clone();
    let mut own = stage.another("rogue", 0, 99);
    (own.node, own.mac) = (ROGUE.to_owned(), "02:00:00:00:70:99".to_owned());
    stations.push(own);
    let wanted = Wanted { others: 1, ..Wanted::usual(&stations) };
    done(until("the rogue's own route to arrive", || {
        // It announced no endpoint for flooding.
        let found = stage.cluster.differences(wanted);
        let found: Vec<_> = found.into_iter().filter(|line| !line.contains("00:00:00:00:00:00")).collect();
        if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
    }));

    let begin = Instant::now();
    stage.cluster.kubectl(&["delete", "node", "rogue"]);
    stage.exact("the rogue's Node was deleted", begin);
    drop(sessions);
    // No kubelet ever took the pods that DaemonSets made for it, and nobody else deletes them soon.
    let pending = ["delete", "pods", "-A", "--field-selector", "status.phase=Pending", "--force", "--grace-period=0"];
    stage.cluster.kubectl(&pending);
    stage.rolled_out();
    traffic.assert_nothing_lost("a rogue node");
}

#[test]
fn a_pod_that_is_masqueraded_as_its_node_is_refused_and_the_node_s_session_stays() {
    let stage = stage();
    let traffic = stage.traffic();
    let reflectors = stage.reflectors();
    // Of another node than the reflector's: only what leaves its node is masqueraded.
    let target = reflectors[0];
    let name = stage.cluster.reflector_nodes()[0].name().to_owned();
    let pod = stage.stations.iter().find(|station| station.node != name).unwrap_or_else(|| panic!("no such pod"));
    let source = stage.cluster.node_named(&pod.node).address();
    let sessions = || {
        let node = stage.cluster.node_named(&name);
        done(stage.cluster.reflector_metric(node, "megalos_bgp_peer_established_count", &format!("peer=\"{source}\"")))
    };
    let unsigned = || {
        let table = stage.cluster.node_named(&name).sh("nstat -asz TcpExtTCPMD5NotFound");
        let count = table.lines().find_map(|line| line.strip_prefix("TcpExtTCPMD5NotFound")?.split_whitespace().next());
        count.and_then(|count| count.parse::<u64>().ok()).unwrap_or_else(|| panic!("{table}"))
    };
    let before = (sessions(), unsigned());
    let answer =
        inside::run(&stage.cluster.inside(pod), || TcpStream::connect_timeout(&target, Duration::from_secs(3)));
    assert!(answer.is_err(), "a pod reached {target} as {source}");
    let after = (sessions(), unsigned());
    assert_eq!(after.0, before.0, "the session of {source} began anew");
    assert!(after.1 > before.1, "no segment without a signature came to {name}: {before:?}, {after:?}");
    stage.exact("a pod was refused", Instant::now());
    traffic.assert_nothing_lost("a pod masqueraded as its node");
}
