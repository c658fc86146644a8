//! The cluster itself, before anything of ours is on it.

use std::process::{Command, Stdio};

use tests::cluster::binaries::{CNITOOL, KUBERNETES};
use tests::cluster::forward;
use tests::cluster::images::TOOLS;
use tests::cluster::network::Families;
use tests::cluster::{Cluster, Config, shared};
use tests::host::Host;
use tests::wait;

/// A pod of the tool image that waits, on one node.
fn pod(name: &str, node: &str, annotations: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: default, annotations: {{ {annotations} }} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
    - {{ name: main, image: "{TOOLS}", command: [sleep, infinity] }}
---"#
    )
}

fn wait_running(cluster: &Cluster, pods: &[&str]) {
    let mut arguments = vec!["wait", "--for=condition=Ready", "--timeout=120s", "pod"];
    arguments.extend(pods);
    cluster.kubectl(&arguments);
}

fn delete(cluster: &Cluster, pods: &[&str]) {
    let mut arguments = vec!["delete", "--wait", "pod"];
    arguments.extend(pods);
    cluster.kubectl(&arguments);
}

fn get(cluster: &Cluster, what: &[&str], path: &str) -> String {
    let path = format!("jsonpath={path}");
    let mut arguments = vec!["get"];
    arguments.extend(what);
    arguments.extend(["-o", &path]);
    cluster.kubectl(&arguments)
}

#[test]
fn pods_of_two_nodes_reach_each_other_and_the_api() {
    let cluster = shared();
    assert_eq!(get(&cluster, &["nodes"], "{.items[*].metadata.name}"), "node1 node2 node3");
    cluster.apply(&(pod("bed-a", "node1", "") + &pod("bed-b", "node2", "")));
    wait_running(&cluster, &["bed-a", "bed-b"]);
    let there = get(&cluster, &["pod", "bed-b"], "{.status.podIP}");
    assert!(there.starts_with("10.244.12."), "{there}");
    for line in
        [&format!("ping -c 1 -W 5 {there}"), "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null"]
    {
        let answer = cluster.pod_sh("bed-a", line);
        assert!(answer.is_ok(), "{answer:?}");
    }
    delete(&cluster, &["bed-a", "bed-b"]);
}

#[test]
fn a_pod_gets_the_interface_that_its_annotation_names() {
    let cluster = shared();
    cluster.apply(
        r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: { name: bed-bridge, namespace: default }
spec: { config: '{ "cniVersion": "1.0.0", "type": "bridge", "bridge": "bed0" }' }
"#,
    );
    cluster.apply(&pod("bed-c", "node3", "k8s.v1.cni.cncf.io/networks: bed-bridge@lab0"));
    wait_running(&cluster, &["bed-c"]);
    let links = cluster.pod_sh("bed-c", "ip link show lab0");
    assert!(links.is_ok(), "{links:?}");
    let status = get(&cluster, &["pod", "bed-c"], r"{.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}");
    assert!(status.contains("\"interface\": \"lab0\""), "{status}");
    delete(&cluster, &["bed-c"]);
    cluster.kubectl(&["delete", "network-attachment-definition", "bed-bridge"]);
}

#[test]
fn a_node_that_lost_its_power_comes_back_with_its_disk_alone() {
    let cluster = shared();
    cluster.apply(&pod("bed-d", "node2", ""));
    wait_running(&cluster, &["bed-d"]);
    let node = cluster.node(1);
    node.sh("for directory in /var/lib /run /tmp; do echo here >$directory/mark; done");
    let boot = node.sh("cat /proc/sys/kernel/random/boot_id");
    let first = get(&cluster, &["pod", "bed-d"], "{.status.containerStatuses[0].containerID}");
    cluster.power_off(1);
    assert!(cluster.node(1).process().is_none());
    cluster.power_on(1);
    cluster.wait_ready();
    let node = cluster.node(1);
    assert_eq!(node.sh("cat /var/lib/mark; ls /run/mark /tmp/mark 2>/dev/null || :"), "here\n");
    assert_ne!(node.sh("cat /proc/sys/kernel/random/boot_id"), boot);
    wait::until_true("the pod to run again", || {
        let now = get(&cluster, &["pod", "bed-d"], "{.status.containerStatuses[0].containerID}");
        now != first && cluster.pod_sh("bed-d", "ping -c 1 -W 5 192.0.2.11").is_ok()
    });
    delete(&cluster, &["bed-d"]);
    node.sh("rm /var/lib/mark");
}

#[test]
fn nodes_come_move_and_go() {
    let mut cluster = shared();
    let index = cluster.add_node();
    assert_eq!(cluster.node(index).name(), "node4");
    cluster.apply(&(pod("bed-e", "node1", "") + &pod("bed-f", "node4", "")));
    wait_running(&cluster, &["bed-e", "bed-f"]);
    let there = get(&cluster, &["pod", "bed-f"], "{.status.podIP}");
    cluster.renumber(index, 44);
    assert_eq!(cluster.node(index).address(), "192.0.2.44");
    let address = get(&cluster, &["node", "node4"], "{.status.addresses[?(@.type==\"InternalIP\")].address}");
    assert_eq!(address, "192.0.2.44");
    // Its pods stay where they are, and the network knows the new way.
    let pinged = cluster.pod_sh("bed-e", &format!("ping -c 1 -W 5 {there}"));
    assert!(pinged.is_ok(), "{pinged:?}");
    delete(&cluster, &["bed-e", "bed-f"]);
    cluster.delete_node(index);
    assert_eq!(get(&cluster, &["nodes"], "{.items[*].metadata.name}"), "node1 node2 node3");
}

#[test]
fn the_api_goes_away_and_comes_back_with_what_it_knew() {
    let cluster = shared();
    cluster.kubectl(&["create", "configmap", "bed", "--from-literal=key=value"]);
    cluster.stop_api();
    assert!(cluster.try_kubectl(&["get", "nodes", "--request-timeout=2s"]).is_err());
    cluster.start_api();
    assert_eq!(get(&cluster, &["configmap", "bed"], "{.data.key}"), "value");
    cluster.kubectl(&["delete", "configmap", "bed"]);
}

#[test]
fn a_host_outside_kubernetes_shares_the_underlay() {
    let cluster = shared();
    let host = Host::new("router");
    cluster.plug(&host, &["192.0.2.200/24"]);
    for node in cluster.nodes() {
        host.wait_pings(&node.address());
    }
}

#[test]
fn programs_of_this_machine_reach_the_api_by_its_loopback() {
    let cluster = shared();
    forward::serve(cluster.keeper()).unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(KUBERNETES.program("kubectl").unwrap_or_else(|error| panic!("{error}")));
    let output = command.env("KUBECONFIG", forward::kubeconfig(cluster.keeper())).args(["get", "nodes"]).output();
    let output = output.unwrap_or_else(|error| panic!("{error}"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("node3"), "{output:?}");
}

#[test]
fn nodes_have_addresses_of_both_families() {
    let cluster = Cluster::up(Config { nodes: 1, families: Families::V6V4, has_multus: false, ..Config::default() });
    let path = "{.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    assert_eq!(get(&cluster, &["nodes"], path), "2001:db8::11 192.0.2.11");
    cluster.node(0).sh("ping -c 1 -W 5 2001:db8::1");
}

#[test]
fn a_program_is_built_once_by_processes_that_run_side_by_side() {
    let cache = std::env::temp_dir().join(format!("megalos-cache-{}", std::process::id()));
    let prepare = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        command.args(["prepare", "cnitool"]).env("MEGALOS_CACHE", &cache).env_remove("KUBEBUILDER_ASSETS");
        command.stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{error}"))
    };
    let said: Vec<String> = [prepare(), prepare()]
        .map(|child| {
            let output = child.wait_with_output().unwrap_or_else(|error| panic!("{error}"));
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        })
        .to_vec();
    assert_eq!(said.iter().filter(|text| text.contains("built in")).count(), 1, "{said:?}");
    let version = CNITOOL.version().unwrap_or_else(|error| panic!("{error}"));
    let program = cache.join("cnitool").join(version).join("cnitool");
    let output = Command::new(&program).arg("--help").output().unwrap_or_else(|error| panic!("{error}"));
    assert!(output.status.success(), "{output:?}");
    let _ = std::fs::remove_dir_all(cache);
}

/// What is there of a cluster whose owner is the process `pid`: files and control groups.
fn remains(pid: u32) -> String {
    let script = format!("find /var/tmp /sys/fs/cgroup -maxdepth 2 -name '*mgk-{pid}-*' 2>/dev/null");
    let output = Command::new("sh").args(["-c", &script]).env_remove("TMPDIR").output();
    let output = output.unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nothing_is_left_when_the_owner_of_a_cluster_is_killed() {
    let settings = || {
        let files = ["kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory"];
        files.map(|file| std::fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default())
    };
    let before = settings();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(["run", "--nodes", "1", "--", "sh", "-c", "kubectl get nodes && sleep infinity"]);
    command.env_remove("TMPDIR").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut owner = command.spawn().unwrap_or_else(|error| panic!("{error}"));
    let mut output = std::io::BufReader::new(owner.stdout.take().unwrap_or_else(|| panic!("no output")));
    let mut text = String::new();
    while !text.contains("node1") {
        let length = std::io::BufRead::read_line(&mut output, &mut text).unwrap_or_else(|error| panic!("{error}"));
        assert!(length > 0, "the command ended: {text}");
    }
    assert!(remains(owner.id()).contains("/sys/fs/cgroup"), "{}", remains(owner.id()));
    owner.kill().and_then(|()| owner.wait()).unwrap_or_else(|error| panic!("{error}"));
    wait::until("all to be gone", || {
        let remains = remains(owner.id());
        if remains.is_empty() { Ok(()) } else { Err(remains) }
    });
    assert_eq!(settings(), before);
}
