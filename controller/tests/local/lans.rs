//! Labs with LANs: nodes, reflectors and workers as `megalos up` runs them.

use crate::support::{Outcome, TestLab, User, for_both_users, is_alive, wait_until};

for_both_users!(
    devices_on_two_nodes_reach_one_another,
    a_check_that_fails_is_told_by_matrix_and_exit_code,
    a_killed_worker_comes_back_and_no_ping_is_lost,
    a_killed_reflector_comes_back_and_no_ping_is_lost,
    one_node_and_several_reflectors_work_as_well,
    daemons_are_asked_through_the_lab,
);

/// Three devices on a LAN, and a router between two of them and a second LAN.
const LAB: &[(&str, &str)] = &[
    (
        "lab.conf",
        "pc1[0]=\"A/02:00:00:00:01:01\"\npc2[0]=\"A\"\nr1[0]=\"A\"\nr1[1]=\"B\"\npc3[0]=\"B\"\npc3[ipv6]=\"true\"\nr1[ipv6]=\"true\"\n",
    ),
    ("pc1.startup", "ip address add 10.0.0.1/24 dev eth0\nip route add default via 10.0.0.254\n"),
    ("pc2.startup", "ip address add 10.0.0.2/24 dev eth0\n"),
    ("r1.startup", "ip address add 10.0.0.254/24 dev eth0\nip address add 10.1.0.254/24 dev eth1\n"),
    ("pc3.startup", "ip address add 10.1.0.3/24 dev eth0\nip route add default via 10.1.0.254\n"),
];

const APART: &[&str] = &["--place", "pc1=node1", "--place", "pc2=node2", "--place", "r1=node2", "--place", "pc3=node1"];

fn up_apart(lab: &TestLab, more: &[&str]) -> Outcome {
    let arguments: Vec<&str> = ["up"].iter().chain(APART).chain(more).copied().collect();
    lab.ok(&arguments)
}

fn devices_on_two_nodes_reach_one_another(user: User) {
    let lab = TestLab::new("reach", user, LAB);
    let up = up_apart(&lab, &["--check"]);
    assert!(up.stdout.contains("pings answered"), "{up:?}");
    assert!(!up.stdout.contains("FAIL"), "{up:?}");
    // Across the router, from node 1 over node 2 and back to node 1.
    lab.ok(&["exec", "pc1", "--", "ping", "-c1", "-W5", "10.1.0.3"]);
    let link = lab.ok(&["exec", "pc1", "--", "ip", "link", "show", "eth0"]).stdout;
    assert!(link.contains("02:00:00:00:01:01") && link.contains("mtu 1500"), "{link}");
    let status = lab.ok(&["status", "--json"]).json();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["devices"][0]["interfaces"][0]["mac"], "02:00:00:00:01:01");
    assert_eq!(status["lans"][0]["nodes"].as_array().unwrap().len(), 2);
    lab.ok(&["down"]);
    assert!(lab.left_behind().is_empty());
}

fn a_check_that_fails_is_told_by_matrix_and_exit_code(user: User) {
    let lab = TestLab::new("silent", user, LAB);
    lab.write("pc2.startup", "ip address add 10.0.0.2/24 dev eth0\nip link set eth0 down\n");
    let arguments: Vec<&str> = ["up", "--check"].iter().chain(APART).copied().collect();
    let up = lab.run(&arguments);
    assert_eq!(up.code, 1, "{up:?}");
    assert!(up.stdout.contains("pc1: no answer from 10.0.0.2 (pc2 on A)"), "{up:?}");
    assert!(up.stdout.contains("FAIL"), "{up:?}");
    lab.ok(&["exec", "pc1", "true"]);
}

/// Pings every 10 ms while something happens to a daemon; nothing may be lost.
fn no_ping_is_lost_while_killed(user: User, daemons: &str, name: &str) {
    let lab = TestLab::new(&format!("killed-{daemons}"), user, LAB);
    up_apart(&lab, &["--check"]);
    let pid = outer_pid(&lab, daemons, 0).expect("it runs");
    let mut ping = lab.spawn(&["exec", "pc1", "--", "ping", "-q", "-i", "0.01", "-c", "300", "-W2", "10.0.0.2"]);
    wait_until("pings fly", || lab.run(&["exec", "pc1", "pgrep", "-x", "ping"]).code == 0);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_until("it is gone", || !is_alive(pid));
    wait_until("it is back", || outer_pid(&lab, daemons, 0).is_some_and(|new| new != pid));
    ping.wait().unwrap();
    let mut output = String::new();
    std::io::Read::read_to_string(&mut ping.stdout.take().unwrap(), &mut output).unwrap();
    assert!(output.contains("300 received"), "{output}");
    let status = lab.ok(&["status", "--json"]).json();
    assert_eq!(status[daemons][0]["name"], name);
    assert_eq!(status[daemons][0]["restarts"], 1);
    assert_eq!(status[daemons][0]["last_end"], "was ended by SIGKILL");
    lab.ok(&["exec", "pc1", "--", "ping", "-c1", "-W5", "10.1.0.3"]);
}

fn outer_pid(lab: &TestLab, daemons: &str, index: usize) -> Option<i32> {
    let status = lab.ok(&["status", "--json"]).json();
    status[daemons][index]["outer_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
}

fn a_killed_worker_comes_back_and_no_ping_is_lost(user: User) {
    no_ping_is_lost_while_killed(user, "nodes", "node1");
}

fn a_killed_reflector_comes_back_and_no_ping_is_lost(user: User) {
    no_ping_is_lost_while_killed(user, "reflectors", "rr1");
}

fn one_node_and_several_reflectors_work_as_well(user: User) {
    let lab = TestLab::new("shapes", user, LAB);
    lab.ok(&["up", "--nodes", "1", "--check"]);
    lab.ok(&["down"]);
    lab.ok(&["up", "--nodes", "4", "--reflectors", "2", "--check"]);
    let status = lab.ok(&["status", "--json"]).json();
    assert_eq!(status["reflectors"].as_array().unwrap().len(), 2);
}

fn daemons_are_asked_through_the_lab(user: User) {
    let lab = TestLab::new("show", user, LAB);
    up_apart(&lab, &["--check"]);
    let peers = lab.ok(&["show", "peers", "--json"]).json();
    let rows = peers["node1"]["peers"].as_array().or(peers["node1"].as_array());
    assert_eq!(rows.unwrap().len(), 1, "{peers}");
    assert!(lab.ok(&["show", "macs", "--node", "node2"]).stdout.contains("02:00:00:00:01:01"));
    assert!(lab.ok(&["show", "vnis"]).stdout.contains("node2:"));
    assert!(lab.ok(&["show", "routes"]).stdout.contains("rr1:"));
    let wrong = lab.run(&["show", "macs", "--node", "node9"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("it has rr1, node1, node2"), "{wrong:?}");
}
