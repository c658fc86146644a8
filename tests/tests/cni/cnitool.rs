//! `cnitool`, the reference runner, with configuration files as an administrator writes them: alone and in a chain.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tests::cluster::binaries;
use tests::host::Host;
use tests::programs;

use crate::runtime::{DEBIAN_PLUGINS, Node, VERSIONS, has};

/// Runs a verb for the network `network` of the files in the pod's directory.
fn cnitool(node: &Node, pod: &Host, verb: &str, network: &str, variables: &[(&str, &str)]) -> Output {
    let program = binaries::CNITOOL.program("cnitool").unwrap_or_else(|error| panic!("{error}"));
    let mut command = node.command(0, program);
    command.args([verb, network, &format!("/run/netns/{}", pod.name())]);
    command.env("NETCONFPATH", pod.directory());
    command.env("CNI_PATH", format!("{}:{DEBIAN_PLUGINS}", plugins(pod).display()));
    command.envs(variables.iter().copied());
    command.output().unwrap_or_else(|error| panic!("cnitool: {error}"))
}

/// A directory that has our plugin by the name that configurations give it.
fn plugins(pod: &Host) -> std::path::PathBuf {
    let directory = pod.directory().join("bin");
    let link = directory.join("megalos");
    if !link.exists() {
        std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{error}"));
        std::os::unix::fs::symlink(programs::path("megalos-cni"), &link).unwrap_or_else(|error| panic!("{error}"));
    }
    directory
}

fn write(pod: &Host, network: &Value) {
    let name = network["name"].as_str().unwrap_or_default();
    let file = Path::new(pod.directory()).join(format!("{name}.conflist"));
    std::fs::write(file, network.to_string()).unwrap_or_else(|error| panic!("{error}"));
}

#[track_caller]
fn text(output: Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout.into_owned()
}

#[test]
fn cnitool_runs_every_verb_in_every_version() {
    let node = Node::new();
    for version in VERSIONS {
        let pod = Host::new("pod");
        let plugin = json!({ "type": "megalos", "vni": 100, "capabilities": { "ips": true, "mac": true } });
        // cnitool keeps what it has added under the network's name.
        let network = format!("net-{}", pod.name());
        write(&pod, &json!({ "cniVersion": version, "name": network, "plugins": [plugin] }));
        let variables = [("CNI_IFNAME", "lan0"), ("CAP_ARGS", r#"{"ips":["10.0.0.1/24"],"mac":"02:00:00:00:00:01"}"#)];
        let result: Value =
            serde_json::from_str(&text(cnitool(&node, &pod, "add", &network, &variables))).unwrap_or_default();
        assert_eq!(result["ips"][0]["address"], "10.0.0.1/24", "{result}");
        assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:01");
        for verb in ["check", "status", "gc"] {
            let output = cnitool(&node, &pod, verb, &network, &variables);
            // It calls no verb that the version has not got: what it says then is its own.
            if has(version, &verb.to_uppercase()) {
                text(output);
            }
        }
        text(cnitool(&node, &pod, "del", &network, &variables));
        assert_eq!(node.ports(), [""; 0], "{version}");
    }
}

#[test]
fn in_a_chain_behind_the_bridge_plugin_the_pod_has_both_interfaces() {
    programs::require("host-local", "containernetworking-plugins");
    let node = Node::new();
    let pod = Host::new("pod");
    let network = format!("net-{}", pod.name());
    let ipam = json!({ "type": "host-local", "subnet": "10.244.0.0/24", "dataDir": pod.directory().join("leases") });
    write(
        &pod,
        &json!({ "cniVersion": "1.0.0", "name": network, "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam },
            { "type": "megalos", "vni": 100, "interface": "lan0", "mac": "02:00:00:00:00:01" },
        ]}),
    );
    let result: Value = serde_json::from_str(&text(cnitool(&node, &pod, "add", &network, &[]))).unwrap_or_default();
    let names: Vec<_> = result["interfaces"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    assert_eq!((names.len(), &names[2], &names[4]), (5, &json!("eth0"), &json!("lan0")), "{result}");
    let links = pod.sh("ip -o addr show dev eth0");
    assert!(links.contains("10.244.0.2/24"), "{links}");
    assert!(pod.sh("ip link show dev lan0").contains("02:00:00:00:00:01"));
    text(cnitool(&node, &pod, "check", &network, &[]));
    text(cnitool(&node, &pod, "del", &network, &[]));
    assert_eq!(node.ports(), [""; 0]);
    assert!(!pod.sh("ip link").contains("eth0"));
}

#[test]
fn an_error_reaches_the_runtimes_user_with_its_text() {
    let node = Node::new();
    let pod = Host::new("pod");
    let network = format!("net-{}", pod.name());
    write(&pod, &json!({ "cniVersion": "1.1.0", "name": network, "plugins": [{ "type": "megalos", "vni": 0 }] }));
    let output = cnitool(&node, &pod, "add", &network, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("vni 0") && said.contains("1 to 16777215"), "{said}");
}
