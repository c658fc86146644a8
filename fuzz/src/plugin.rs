//! The CNI plugin: any environment and standard input is a result or an error object; what others' plugins print is
//! taken over whole or refused.
//!
//! An input is three parts with NULs between: lines `NAME=value` of the environment, standard input, and what an IPAM
//! plugin prints.

use std::collections::BTreeMap;

use cni::plugin::config::Config;
use cni::plugin::environment::{Environment, Verb};
use cni::plugin::result::{AddResult, Assigned};
use cni::plugin::version::SpecVersion;
use cni::plugin::{OVERLAY_VARIABLE, SOCKET_VARIABLE, run as execute};
use cni::protocol::{Attached, MAX_IPS, MAX_ROUTES};
use serde_json::Value;

/// What the plugin may reach while it is fuzzed: nothing.
const NOWHERE: [(&str, &str); 3] =
    [("CNI_PATH", "/nowhere"), (SOCKET_VARIABLE, "/nowhere/cni.sock"), (OVERLAY_VARIABLE, "no-such-namespace")];

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(3, |&octet| octet == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (environment, config, printed) = (part(), part(), part());
    let variables = variables(environment);
    let get = |name: &str| variables.get(name).cloned();
    check_output(&get, config);
    let assigned = Assigned::parse(printed);
    if let Ok(assigned) = &assigned {
        check_assigned(assigned);
    }
    for verb in Verb::ALL {
        let args = Environment::parse(get).map(|environment| environment.args).unwrap_or_default();
        match Config::parse(config, verb, &args) {
            Ok(config) => check_config(&config, verb, assigned.as_ref().ok()),
            Err(error) => assert!(verb != Verb::Del, "a DEL takes any configuration: {error}"),
        }
    }
}

fn variables(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let mut variables: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.extend(NOWHERE.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // A path that opens and is no pod's.
    variables.entry("CNI_NETNS".to_owned()).and_modify(|path| *path = "/proc/self/ns/net".to_owned());
    variables
}

fn check_output(get: &impl Fn(&str) -> Option<String>, config: &[u8]) {
    let output = execute(get, Ok(config.to_vec()), |_| ());
    let verb = get("CNI_COMMAND").unwrap_or_default();
    match (&output.object, output.failed) {
        (Some(Value::Object(object)), true) => {
            let keys: Vec<&str> = object.keys().map(String::as_str).collect();
            assert_eq!(keys, ["cniVersion", "code", "details", "msg"]);
            assert!(object["code"].as_u64().is_some_and(|code| code != 0 && code != 3), "{object:?}");
            assert!(object["msg"].as_str().is_some_and(|text| !text.is_empty()), "{object:?}");
        }
        (Some(object), false) => {
            assert!(verb == "VERSION" && object["supportedVersions"].is_array(), "{verb}: {object}");
        }
        (None, false) => assert!(verb == "DEL" || verb == "GC", "{verb} succeeds without a worker"),
        other => panic!("{verb}: {other:?}"),
    }
}

fn check_assigned(assigned: &Assigned) {
    assert!(assigned.ips.len() <= MAX_IPS && assigned.routes.len() <= MAX_ROUTES);
    for route in &assigned.routes {
        let family = |ip: std::net::IpAddr| ip.is_ipv4();
        assert!(route.gateway.is_none_or(|gateway| family(gateway) == family(route.destination.addr())));
    }
}

fn check_config(config: &Config, verb: Verb, assigned: Option<&Assigned>) {
    assert!(verb == Verb::Del || config.version.has(verb));
    let Some(interface) = &config.interface else { return };
    assert!((1..=0x00ff_ffff).contains(&interface.vni.get()));
    assert!(interface.ips.len() <= MAX_IPS && config.network.is_some());
    // What others printed, with our interface added, is a result again in which that is found.
    let assigned = assigned.cloned().unwrap_or_default().and_requested(&interface.ips);
    let name = "net1".parse().expect("a name");
    let sandbox = "/run/netns/pod".parse().expect("a path");
    let attached = Attached {
        mac: "02:00:00:00:00:01".parse().expect("a MAC address"),
        mtu: 1_450.try_into().expect("an MTU"),
        host_interface: "ve0".parse().expect("a name"),
    };
    let previous = config.previous.clone().unwrap_or_default();
    if previous.find(&name, &sandbox).is_some() {
        return;
    }
    for version in SpecVersion::ALL {
        let mut result = previous.clone();
        result.add(version, &name, &sandbox, &attached, &assigned);
        let printed = result.to_json(version);
        if let Ok(again) = AddResult::parse(&printed) {
            let found = again.find(&name, &sandbox).expect("our interface is listed");
            assert_eq!(found.mac, Some(attached.mac));
            assert!(found.ips.len() >= assigned.ips.len());
        }
    }
}
