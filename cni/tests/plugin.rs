//! The plugin as a function: whatever a runtime passes, a result or an error object of the specification comes out.

use cni::plugin::config::Config;
use cni::plugin::environment::{Args, Verb};
use cni::plugin::version::SpecVersion;
use cni::plugin::{OVERLAY_VARIABLE, Output, SOCKET_VARIABLE, run};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Runs the plugin where no worker, no other plugin and no overlay namespace is.
fn run_nowhere(variables: &[(String, String)], input: &[u8]) -> Output {
    let nowhere = [("CNI_PATH", "/nowhere"), (SOCKET_VARIABLE, "/nowhere/cni.sock"), (OVERLAY_VARIABLE, "no-such")];
    let get = |name: &str| {
        let fixed = nowhere.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        fixed.or_else(|| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    };
    run(get, Ok(input.to_vec()), |_| ())
}

fn check(output: &Output, verb: &str) {
    match (&output.object, output.failed) {
        (Some(Value::Object(object)), true) => {
            let keys: Vec<_> = object.keys().map(String::as_str).collect();
            assert_eq!(keys, ["cniVersion", "code", "details", "msg"]);
            assert!(object["code"].as_u64().is_some_and(|code| code > 0), "{object:?}");
        }
        (Some(object), false) => assert!(verb == "VERSION" && object["supportedVersions"].is_array(), "{object}"),
        // Silence is success; without a worker only these can have it.
        (None, false) => assert!(verb == "DEL" || verb == "GC", "{verb}"),
        other => panic!("{verb}: {other:?}"),
    }
}

/// JSON that is often nearly right.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..200).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![Just("02:00:00:00:00:01"), Just("10.0.0.1/24"), Just("fd00::1/64"), Just("static"), Just("net1")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key(), inner), 0..4)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    const KEYS: [&str; 20] = [
        "cniVersion",
        "name",
        "type",
        "vni",
        "mac",
        "ips",
        "mtu",
        "lan",
        "interface",
        "ipam",
        "runtimeConfig",
        "args",
        "cni",
        "prevResult",
        "interfaces",
        "routes",
        "dns",
        "address",
        "cni.dev/valid-attachments",
        "sandbox",
    ];
    prop_oneof![proptest::sample::select(&KEYS[..]).prop_map(str::to_owned), "[a-z]{1,6}"]
}

fn configuration() -> impl Strategy<Value = Value> {
    let versions = SpecVersion::ALL.map(SpecVersion::as_str);
    (proptest::sample::select(versions.to_vec()), proptest::collection::vec((key(), value()), 0..4)).prop_map(
        |(version, changes)| {
            let mut config = json!({ "cniVersion": version, "name": "blue", "type": "megalos", "vni": 100 });
            changes.into_iter().for_each(|(key, value)| config[key] = value);
            config
        },
    )
}

fn environment() -> impl Strategy<Value = Vec<(String, String)>> {
    let verb = proptest::sample::select(Verb::ALL.map(Verb::as_str).to_vec());
    let odd =
        proptest::option::weighted(0.3, ("[A-Z_]{1,16}|CNI_(COMMAND|CONTAINERID|NETNS|IFNAME|ARGS)", "\\PC{0,20}"));
    (verb, odd).prop_map(|(verb, odd)| {
        let usual = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "pod1"),
            ("CNI_NETNS", "/proc/self/ns/net"),
            ("CNI_IFNAME", "net1"),
            ("CNI_ARGS", "IgnoreUnknown=1;MAC=02:00:00:00:00:09;IP=10.0.0.9/24"),
        ];
        let usual = usual.map(|(name, value)| (name.to_owned(), value.to_owned()));
        odd.into_iter().chain(usual).collect()
    })
}

fn verb_of(variables: &[(String, String)]) -> String {
    variables.iter().find(|(name, _)| name == "CNI_COMMAND").map(|(_, verb)| verb.clone()).unwrap_or_default()
}

proptest! {
    #[test]
    fn any_configuration_and_environment_is_a_result_or_an_error_object(
        variables in environment(), config in configuration(),
    ) {
        let output = run_nowhere(&variables, config.to_string().as_bytes());
        check(&output, &verb_of(&variables));
    }

    #[test]
    fn any_input_is_a_result_or_an_error_object(
        variables in environment(), input in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        check(&run_nowhere(&variables, &input), &verb_of(&variables));
    }

    #[test]
    fn a_del_takes_any_configuration(input in proptest::collection::vec(any::<u8>(), 0..200), config in configuration()) {
        prop_assert!(Config::parse(&input, Verb::Del, &Args::default()).is_ok());
        prop_assert!(Config::parse(config.to_string().as_bytes(), Verb::Del, &Args::default()).is_ok());
    }
}

#[test]
fn a_del_succeeds_with_nothing_there() {
    let variables = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "pod1"), ("CNI_IFNAME", "eth0")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for input in ["", "{}", "[]", r#"{"type":"megalos","ipam":{"type":"gone"}}"#] {
        assert_eq!(run_nowhere(&variables, input.as_bytes()), Output { object: None, failed: false }, "{input}");
    }
}
