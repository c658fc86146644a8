//! Addresses by delegation: Debian's `static` and `host-local`, and plugins that misbehave.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tests::host::Host;
use tests::programs;

use crate::runtime::{Call, DEBIAN_PLUGINS, Node, config};

fn require_plugins() {
    programs::require("host-local", "containernetworking-plugins");
}

/// A plugin made of a shell script, in a directory of its own beside Debian's.
fn script(host: &Host, name: &str, text: &str) -> String {
    let directory = host.directory().join("plugins");
    let file = directory.join(name);
    std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap_or_else(|error| panic!("{error}"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
    format!("{}:{DEBIAN_PLUGINS}", directory.display())
}

fn host_local(version: &str, pods: &Host, network: &str) -> Value {
    let mut wanted = config(version, 100);
    wanted["name"] = network.into();
    wanted["ipam"] = json!({
        "type": "host-local",
        "dataDir": pods.directory().join("leases"),
        "ranges": [[{ "subnet": "10.0.0.0/30", "gateway": "10.0.0.1" }], [{ "subnet": "fd00::/64", "gateway": "fd00::1" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "2001:db8::/32" }],
    });
    wanted
}

fn leases(pods: &Host, network: &str) -> Vec<String> {
    let directory = pods.directory().join("leases").join(network);
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.parse::<std::net::IpAddr>().is_ok());
    names
}

#[test]
fn addresses_routes_and_gateways_of_host_local_are_set_and_given_back() {
    require_plugins();
    let node = Node::new();
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let pod = Host::new("pod");
        let call = Call::new("ADD", &pod, "net1", host_local(version, &pod, "blue"));
        let result = node.run(&call).ok();
        assert_eq!(result["ips"][0]["address"], "10.0.0.2/30", "{result}");
        assert_eq!(result["ips"][0]["gateway"], "10.0.0.1");
        assert_eq!(result["ips"][1]["interface"], 1);
        assert_eq!(result["routes"][0]["dst"], "0.0.0.0/0");
        let routes = pod.sh("ip route; ip -6 route");
        assert!(routes.contains("default via 10.0.0.1 dev net1"), "{routes}");
        assert!(routes.contains("2001:db8::/32 via fd00::1 dev net1"), "{routes}");
        assert_eq!(leases(&pod, "blue").len(), 2);
        if version != "0.3.1" {
            node.run(&call.clone().verb("CHECK").key("prevResult", result)).ok();
        }
        // The one address of the subnet is taken, and its refusal is the plugin's own.
        let other = Host::new("other");
        let second = Call::new("ADD", &other, "net1", call.config.clone());
        node.run(&second).error(&["host-local", "10.0.0"]);
        assert!(!other.sh("ip link").contains("net1"));
        node.run(&call.verb("DEL")).ok();
        assert_eq!(leases(&pod, "blue"), [""; 0]);
    }
}

#[test]
fn static_takes_the_addresses_that_the_pod_asks_for() {
    require_plugins();
    let node = Node::new();
    let mut wanted = config("1.0.0", 100);
    wanted["ipam"] = json!({ "type": "static", "routes": [{ "dst": "192.0.2.0/24", "gw": "10.0.0.254" }] });
    wanted["capabilities"] = json!({ "ips": true });
    for (changed, args) in [(json!({ "ips": ["10.0.0.5/24"] }), ""), (json!({}), "IgnoreUnknown=1;IP=10.0.0.5/24")] {
        let pod = Host::new("pod");
        let call = Call::new("ADD", &pod, "net1", wanted.clone()).key("runtimeConfig", changed).with("CNI_ARGS", args);
        let result = node.run(&call).ok();
        // Once, although both read the request.
        assert_eq!(result["ips"], json!([{ "address": "10.0.0.5/24", "interface": 1 }]));
        assert!(pod.sh("ip route").contains("192.0.2.0/24 via 10.0.0.254 dev net1"));
        node.run(&call.verb("DEL")).ok();
    }
}

#[test]
fn an_address_is_given_back_when_the_interface_cannot_be_made() {
    require_plugins();
    let mut node = Node::new();
    let pod = Host::new("pod");
    let call = Call::new("ADD", &pod, "net1", host_local("1.0.0", &pod, "blue")).key("mtu", 9_000.into());
    assert_eq!(node.run(&call).error(&["9000"]), 7);
    assert_eq!(leases(&pod, "blue"), [""; 0]);
    // Without a worker none is taken in the first place, and a DEL gives back all the same.
    let call = call.key("mtu", Value::Null);
    node.run(&call).ok();
    assert_eq!(leases(&pod, "blue").len(), 2);
    node.worker_mut().kill(nix::sys::signal::Signal::SIGKILL);
    node.run(&call.verb("DEL")).ok();
    assert_eq!(leases(&pod, "blue"), [""; 0]);
    assert_eq!(node.ports(), [""; 0], "removed without the worker");
}

#[test]
fn an_ipam_plugin_that_fails_says_why_and_is_asked_to_clean_up() {
    let node = Node::new();
    for (text, code, named) in [
        (
            r#"cat >/dev/null; [ $CNI_COMMAND = ADD ] || exit 0; echo '{"code":11,"msg":"no lease","details":"ask again"}'; exit 1"#,
            11,
            &["no lease", "ask again", "broken"][..],
        ),
        (r#"cat >/dev/null; [ $CNI_COMMAND = ADD ] || exit 0; echo nonsense"#, 6, &["broken", "result"]),
        (
            r#"[ $CNI_COMMAND = ADD ] || exit 0; echo '{"ips":[{"address":"10.0.0.1/99"}]}'"#,
            6,
            &["broken", "10.0.0.1/99"],
        ),
        (
            r#"[ $CNI_COMMAND = ADD ] || exit 0; echo '{"ips":[{"address":"10.0.0.1/24"}],"routes":[{"dst":"192.0.2.0/24","gw":"203.0.113.1"}]}'"#,
            5,
            &["192.0.2.0/24"],
        ),
        (r#"[ $CNI_COMMAND = ADD ] || exit 0; echo '{"code":3,"msg":"unknown"}'; exit 1"#, 100, &["unknown"]),
        (r#"[ $CNI_COMMAND = ADD ] || exit 0; kill -9 $$"#, 100, &["broken", "9"]),
    ] {
        let pod = Host::new("pod");
        let log = pod.directory().join("verbs");
        let path = script(&pod, "broken", &format!("echo $CNI_COMMAND >>{}\n{text}", log.display()));
        let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100)).key("ipam", json!({ "type": "broken" }));
        let call = call.with("CNI_PATH", &path);
        assert_eq!(node.run(&call).error(named), code, "{text}");
        assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "ADD\nDEL\n", "{text}");
        assert!(!pod.sh("ip link").contains("net1"));
        assert_eq!(node.ports(), [""; 0]);
    }
}

#[test]
fn every_verb_but_version_is_delegated_with_the_same_input() {
    let node = Node::new();
    let pod = Host::new("pod");
    let log = pod.directory().join("verbs");
    let path = script(
        &pod,
        "log",
        &format!(
            r#"echo "$CNI_COMMAND $(cat | tr -d '\n' | grep -o '"marker/x":[0-9]*')" >>{}
[ $CNI_COMMAND = ADD ] && echo '{{"ips":[{{"address":"10.0.0.1/24"}}]}}'; exit 0"#,
            log.display()
        ),
    );
    let mut call = Call::new("ADD", &pod, "net1", config("1.1.0", 100)).with("CNI_PATH", &path);
    call.config["ipam"] = json!({ "type": "log" });
    call.config["marker/x"] = 42.into();
    let result = node.run(&call).ok();
    call.config["prevResult"] = result;
    for verb in ["CHECK", "STATUS", "GC", "VERSION", "DEL"] {
        node.run(&call.clone().verb(verb)).ok();
    }
    let seen = std::fs::read_to_string(&log).unwrap_or_default();
    let expected: String =
        ["ADD", "CHECK", "STATUS", "GC", "DEL"].iter().map(|verb| format!("{verb} \"marker/x\":42\n")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_ipam_plugin_that_has_gone_keeps_no_pod() {
    let node = Node::new();
    let pod = Host::new("pod");
    let path = script(&pod, "there", "cat >/dev/null; echo '{\"ips\":[{\"address\":\"10.0.0.1/24\"}]}'");
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100)).key("ipam", json!({ "type": "there" }));
    node.run(&call.clone().with("CNI_PATH", &path)).ok();
    let outcome = node.run(&call.verb("DEL"));
    assert!(outcome.stderr.contains("there"), "{}", outcome.stderr);
    outcome.ok();
    assert_eq!(node.ports(), [""; 0]);
}
