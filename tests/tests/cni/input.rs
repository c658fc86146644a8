//! Bad input: the specification's code, and a text that names the field, its value and what is expected.

use serde_json::{Value, json};
use tests::host::Host;

use crate::runtime::{Call, Node, config};

#[test]
fn a_bad_configuration_is_refused_with_the_code_and_the_field() {
    let node = Node::new();
    let pod = Host::new("pod");
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100));
    let arguments = |text: &str| call.clone().with("CNI_ARGS", &format!("IgnoreUnknown=1;{text}"));
    let key = |key: &str, value: Value| call.clone().key(key, value);
    for (call, code, named) in [
        (key("vni", Value::Null), 7, &["vni", "16777215"][..]),
        (key("vni", 0.into()), 7, &["vni 0", "1 to 16777215"]),
        (key("vni", 16_777_216.into()), 7, &["vni 16777216", "1 to 16777215"]),
        (key("vni", "100".into()), 7, &["vni", "\"100\"", "a number"]),
        (key("mtu", 67.into()), 7, &["mtu 67", "68"]),
        (key("mtu", 9_000.into()), 7, &["9000", "1450"]),
        (key("mac", "02:00".into()), 7, &["mac", "02:00"]),
        (key("mac", "01:00:5e:00:00:01".into()), 7, &["mac", "01:00:5e:00:00:01", "group"]),
        (key("runtimeConfig", json!({ "mac": "zz" })), 7, &["runtimeConfig.mac", "zz"]),
        (arguments("MAC=zz"), 7, &["CNI_ARGS MAC", "zz"]),
        (arguments("IP=10.0.0.300/24"), 7, &["CNI_ARGS IP", "10.0.0.300/24"]),
        (key("ips", json!(["10.0.0.1"])), 7, &["ips", "10.0.0.1", "prefix"]),
        (key("ips", json!(["10.0.0.1/33"])), 7, &["ips", "10.0.0.1/33"]),
        (key("ips", json!(["10.0.0.0/24"])), 7, &["ips", "10.0.0.0/24"]),
        (key("ips", json!(["10.0.0.1/24", "10.0.0.1/24"])), 7, &["ips", "once"]),
        (key("ips", json!(["ff02::1/64"])), 7, &["ips", "ff02::1/64"]),
        (key("args", json!({ "cni": { "ips": 7 } })), 7, &["args.cni.ips", "7"]),
        (key("interface", "sixteen--letters".into()), 7, &["interface", "sixteen--letters"]),
        (key("name", Value::Null), 7, &["name"]),
        (key("name", "a/b".into()), 7, &["name", "a/b"]),
        (key("ipam", "static".into()), 7, &["ipam"]),
        (key("ipam", json!({ "type": "../x" })), 7, &["ipam.type", "../x"]),
        (key("ipam", json!({ "type": "nowhere" })), 7, &["nowhere", "CNI_PATH", "/usr/lib/cni"]),
        (key("prevResult", 7.into()), 7, &["prevResult"]),
        (key("vin", 100.into()), 2, &["vin", "100", "vni"]),
        (key("cniVersion", "0.2.0".into()), 1, &["0.2.0", "1.1.0"]),
        (key("cniVersion", Value::Null), 1, &["cniVersion", "1.1.0"]),
        (call.clone().with("CNI_IFNAME", "lo"), 4, &["CNI_IFNAME", "lo"]),
        (call.clone().with("CNI_IFNAME", "sixteen--letters"), 4, &["CNI_IFNAME", "sixteen--letters"]),
        (call.clone().with("CNI_IFNAME", ""), 4, &["CNI_IFNAME"]),
        (call.clone().with("CNI_CONTAINERID", ""), 4, &["CNI_CONTAINERID"]),
        (call.clone().with("CNI_CONTAINERID", "../x"), 4, &["CNI_CONTAINERID", "../x"]),
        (call.clone().with("CNI_NETNS", "/run/netns/none"), 4, &["CNI_NETNS", "/run/netns/none"]),
        (call.clone().with("CNI_NETNS", "/proc/self/ns/net"), 4, &["CNI_NETNS", "host"]),
        (call.clone().with("CNI_NETNS", "/etc/passwd"), 4, &["CNI_NETNS", "/etc/passwd"]),
        (call.clone().with("CNI_COMMAND", "EXPLODE"), 4, &["CNI_COMMAND", "EXPLODE"]),
    ] {
        let outcome = node.run(&call);
        assert_eq!(outcome.error(named), code, "{call:?}");
        assert_eq!(node.ports(), [""; 0], "after {call:?}");
    }
    for (input, code) in [("", 6), ("[]", 6), ("{", 6), ("null", 6), ("\u{1}\u{2}", 6)] {
        assert_eq!(node.run_with(&call, input).error(&["configuration"]), code, "{input:?}");
    }
    assert!(node.worker().vnis().is_empty());
}

#[test]
fn keys_that_runtimes_and_multus_add_are_taken() {
    let node = Node::new();
    let pod = Host::new("pod");
    let mut wanted = config("1.1.0", 100);
    wanted["capabilities"] = json!({ "mac": true, "ips": true });
    wanted["cniVersions"] = json!(["1.0.0", "1.1.0"]);
    wanted["deviceID"] = "0000:00:00.0".into();
    wanted["pciBusID"] = "0000:00:00.0".into();
    wanted["dns"] = json!({ "nameservers": ["192.0.2.53"] });
    wanted["ipMasq"] = false.into();
    wanted["ipam"] = json!({});
    wanted["disableCheck"] = false.into();
    wanted["cni.dev/anything"] = 1.into();
    wanted["example.org/note"] = "for people".into();
    wanted["args"] = json!({ "cni": { "labels": [] } });
    wanted["runtimeConfig"] = json!({ "portMappings": [] });
    let result = node.run(&Call::new("ADD", &pod, "net1", wanted)).ok();
    assert_eq!(result["dns"], json!({ "nameservers": ["192.0.2.53"] }));
}

#[test]
fn the_version_is_told_whatever_the_input_is() {
    let node = Node::new();
    let pod = Host::new("pod");
    let call = Call::new("VERSION", &pod, "net1", json!({}));
    for (input, version) in [("", "1.1.0"), ("{}", "1.1.0"), ("{\"cniVersion\":\"0.2.0\"}", "0.2.0"), ("x", "1.1.0")] {
        let object = node.run_with(&call, input).ok();
        assert_eq!(object["cniVersion"], version, "{input}");
        assert_eq!(object["supportedVersions"].as_array().map(Vec::len), Some(4));
    }
}
