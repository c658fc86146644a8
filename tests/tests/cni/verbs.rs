//! Every verb in every version that has it.

use serde_json::{Value, json};
use tests::frames::Sniffer;
use tests::host::Host;

use crate::runtime::{Call, Node, VERSIONS, config, has};

const MAC: &str = "02:00:00:00:00:01";

#[test]
fn every_verb_works_in_every_version_that_has_it() {
    let node = Node::new();
    for version in VERSIONS {
        let pod = Host::new("pod");
        let mut wanted = config(version, 100);
        wanted["runtimeConfig"] = json!({ "mac": MAC, "ips": ["10.0.0.1/24", "fd00::1/64"] });
        let call = Call::new("ADD", &pod, "net1", wanted);

        let result = node.run(&call).ok();
        check_shape(&result, version, &pod);
        let addresses = pod.sh("ip -o addr show dev net1");
        assert!(addresses.contains("10.0.0.1/24") && addresses.contains("fd00::1/64"), "{addresses}");
        let usable = addresses.lines().filter(|line| line.contains("fd00::1/64"));
        assert!(usable.clone().count() == 1 && usable.clone().all(|line| !line.contains("tentative")), "{addresses}");
        assert!(
            node.worker().routes().iter().any(|route| format!("{route:?}").contains(MAC)),
            "announced before the reply"
        );

        let again = call.clone().key("prevResult", result.clone());
        for verb in ["CHECK", "STATUS", "GC"] {
            let outcome = node.run(&again.clone().verb(verb));
            if has(version, verb) {
                assert_eq!(outcome.ok(), Value::Null, "{verb} in {version}");
            } else {
                assert_eq!(outcome.error(&[verb, version]), 1, "{verb} in {version}");
            }
        }
        let versions = node.run(&again.clone().verb("VERSION")).ok();
        assert_eq!(versions, json!({ "cniVersion": version, "supportedVersions": VERSIONS }));

        for _ in 0..2 {
            assert_eq!(node.run(&again.clone().verb("DEL")).ok(), Value::Null);
            assert!(!pod.try_sh("ip link show dev net1").status.success());
            assert_eq!(node.ports(), [""; 0]);
        }
        assert!(node.worker().vnis().is_empty(), "{:?}", node.worker().vnis());
    }
}

/// The shape of a result as the specification of that version has it.
fn check_shape(result: &Value, version: &str, pod: &Host) {
    let sandbox = format!("/run/netns/{}", pod.name());
    let host_end = result["interfaces"][0]["name"].as_str().unwrap_or_default().to_owned();
    assert!(host_end.starts_with("ve") && host_end.len() == 15, "{result}");
    let mut interfaces = json!([{ "name": host_end }, { "name": "net1", "mac": MAC, "sandbox": sandbox }]);
    let mut ips = json!([{ "address": "10.0.0.1/24", "interface": 1 }, { "address": "fd00::1/64", "interface": 1 }]);
    match version {
        "1.1.0" => (0..2).for_each(|at| interfaces[at]["mtu"] = 1450.into()),
        "0.3.1" | "0.4.0" => (0..2).for_each(|at| ips[at]["version"] = ["4", "6"][at].into()),
        _ => {}
    }
    assert_eq!(*result, json!({ "cniVersion": version, "interfaces": interfaces, "ips": ips, "dns": {} }));
}

#[test]
fn the_shortest_configuration_is_enough_and_a_pods_requests_come_without_capabilities() {
    let node = Node::new();
    let pod = Host::new("pod");
    let args =
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=lab;K8S_POD_NAME=pc1;MAC=02:00:00:00:00:07;IP=10.0.0.7/24,fd00::7/64";
    let call = Call::new("ADD", &pod, "lan0", config("1.1.0", 100)).with("CNI_ARGS", args);
    let result = node.run(&call).ok();
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:07");
    assert_eq!(result["ips"][1]["address"], "fd00::7/64");
    assert!(pod.sh("ip link show dev lan0").contains("mtu 1450"));
    // Without requests there is a MAC all the same.
    let other = Host::new("other");
    let result = node.run(&Call::new("ADD", &other, "lan0", config("1.1.0", 100))).ok();
    assert!(result["interfaces"][1]["mac"].as_str().is_some_and(|mac| mac.len() == 17), "{result}");
    assert_eq!(result.get("ips"), None);
}

#[test]
fn requests_win_in_the_order_runtime_config_args_variables_configuration() {
    let node = Node::new();
    let mac = |last: u8| format!("02:00:00:00:00:{last:02x}");
    let ip = |last: u8| json!([format!("10.0.0.{last}/24")]);
    let mut wanted = config("1.0.0", 100);
    wanted["runtimeConfig"] = json!({ "mac": mac(1), "ips": ip(1) });
    wanted["args"] = json!({ "cni": { "mac": mac(2), "ips": ip(2) } });
    (wanted["mac"], wanted["ips"]) = (mac(4).into(), ip(4));
    let args = format!("IgnoreUnknown=1;MAC={};IP=10.0.0.3/24", mac(3));
    let pod = Host::new("pod");
    let mut call = Call::new("ADD", &pod, "net1", wanted).with("CNI_ARGS", &args);
    for (expected, weaken) in [(1, "runtimeConfig"), (2, "args"), (3, "CNI_ARGS"), (4, "")] {
        let result = node.run(&call).ok();
        assert_eq!(result["interfaces"][1]["mac"], mac(expected));
        assert_eq!(result["ips"][0]["address"], ip(expected)[0]);
        node.run(&call.clone().verb("DEL")).ok();
        call = match weaken {
            "CNI_ARGS" => call.with("CNI_ARGS", "IgnoreUnknown=1"),
            key => call.key(key, Value::Null),
        };
    }
}

#[test]
fn the_lan_hears_of_addresses_before_the_runtime_does() {
    let node = Node::of(2);
    let witness = Host::new("witness");
    let other = Call::new("ADD", &witness, "net1", config("1.1.0", 100));
    node.run_on(1, &other).ok();
    let near = Host::new("near");
    node.run(&Call::new("ADD", &near, "net1", config("1.1.0", 100))).ok();
    // Frames for nobody in particular reach the other node when both know of one another.
    tests::wait::until_true("both nodes to flood to one another", || {
        (0..2).all(|at| !node.fabric.workers[at].overlay_sh("bridge fdb show dev vx100").is_empty())
    });
    let sniffers = [Sniffer::start(&near, "net1"), Sniffer::start(&witness, "net1")];

    let pod = Host::new("pod");
    let mut wanted = config("1.1.0", 100);
    wanted["runtimeConfig"] = json!({ "mac": MAC, "ips": ["10.0.0.1/24", "fd00::1/64"] });
    node.run(&Call::new("ADD", &pod, "net1", wanted)).ok();
    for sniffer in &sniffers {
        let arp = sniffer.wait_for("a gratuitous ARP", |frame| frame.len() >= 42 && frame[12..14] == [8, 6]);
        assert_eq!((&arp[..6], &arp[6..12]), (&[0xff; 6][..], &[2, 0, 0, 0, 0, 1][..]));
        assert_eq!((&arp[28..32], &arp[38..42]), (&[10, 0, 0, 1][..], &[10, 0, 0, 1][..]));
        let address = "fd00::1".parse::<std::net::Ipv6Addr>().map(|ip| ip.octets()).unwrap_or_default();
        let is_advertisement = |frame: &[u8]| frame.len() >= 86 && frame[54] == 136 && frame[62..78] == address;
        let advertisement = sniffer.wait_for("an unsolicited neighbour advertisement", is_advertisement);
        assert_eq!((&advertisement[..6], advertisement[58]), (&[0x33, 0x33, 0, 0, 0, 1][..], 0x20));
    }
}

#[test]
fn in_a_chain_the_interface_is_added_to_the_result_of_those_before() {
    let node = Node::new();
    let pod = Host::new("pod");
    pod.sh("ip link add eth0 type veth peer name other");
    let sandbox = format!("/run/netns/{}", pod.name());
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "cni0", "mac": "02:00:00:00:00:aa" }, { "name": "eth0", "sandbox": sandbox, "pciID": "x" }],
        "ips": [{ "address": "10.244.0.2/24", "interface": 1 }],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dns": { "nameservers": ["10.96.0.10"] },
    });
    let mut wanted = config("1.0.0", 100);
    wanted["prevResult"] = previous.clone();
    wanted["ips"] = json!(["10.0.0.1/24"]);
    let call = Call::new("ADD", &pod, "eth0", wanted);
    // The name is taken: an interface of its own has to have another.
    assert_eq!(node.run(&call).error(&["eth0", "interface"]), 4);
    let call = call.key("interface", "lan0".into());
    let result = node.run(&call).ok();
    for key in ["routes", "dns"] {
        assert_eq!(result[key], previous[key]);
    }
    assert_eq!(result["interfaces"][1], previous["interfaces"][1]);
    assert_eq!(result["interfaces"][3]["name"], "lan0");
    assert_eq!(result["ips"], json!([previous["ips"][0], { "address": "10.0.0.1/24", "interface": 3 }]));
    node.run(&call.clone().key("prevResult", result.clone()).verb("CHECK")).ok();
    node.run(&call.key("prevResult", result).verb("DEL")).ok();
    assert!(pod.sh("ip link").contains("eth0") && !pod.sh("ip link").contains("lan0"));
}

#[test]
fn check_names_what_is_not_as_it_was_made() {
    let node = Node::new();
    let pod = Host::new("pod");
    let mut wanted = config("1.1.0", 100);
    wanted["runtimeConfig"] = json!({ "mac": MAC, "ips": ["10.0.0.1/24"] });
    let call = Call::new("ADD", &pod, "net1", wanted);
    let result = node.run(&call).ok();
    let check = call.clone().verb("CHECK").key("prevResult", result);
    node.run(&check).ok();
    assert_eq!(node.run(&check.clone().key("prevResult", Value::Null)).error(&["prevResult"]), 7);
    assert_eq!(node.run(&check.clone().key("vni", 101.into())).error(&["net1", "VNI 100"]), 101);
    for (disturb, mend, named) in [
        ("ip link set net1 down", "ip link set net1 up", "down"),
        ("ip link set net1 mtu 1400", "ip link set net1 mtu 1450", "MTU is 1400"),
        ("ip link set net1 address 02:00:00:00:00:99", "ip link set net1 address 02:00:00:00:00:01", MAC),
        ("ip addr del 10.0.0.1/24 dev net1", "ip addr add 10.0.0.1/24 dev net1", "10.0.0.1/24"),
    ] {
        pod.sh(disturb);
        assert_eq!(node.run(&check).error(&["net1", named]), 101, "{disturb}");
        pod.sh(mend);
        node.run(&check).ok();
    }
    pod.sh("ip link del net1");
    assert_eq!(node.run(&check).error(&["net1", "gone"]), 101);
}
