//! What a user sees who wrote something wrong: an event on the pod that names the field.

use serde_json::{Value, json};
use tests::cluster::{Cluster, with_megalos};
use tests::wait::until;

use crate::pods;

/// A mistake and the words that its author must find in the pod's events.
struct Mistake {
    name: &'static str,
    config: Value,
    network: Value,
    words: &'static [&'static str],
}

fn config(more: &Value) -> Value {
    let mut config = json!({ "cniVersion": "1.1.0", "type": "megalos", "vni": 900 });
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    config
}

fn mistakes() -> Vec<Mistake> {
    let row = |name, more: Value, network: Value, words| Mistake { name, config: config(&more), network, words };
    let none = json!({});
    vec![
        row("vni-zero", json!({ "vni": 0 }), none.clone(), &["vni", "16777215", "CNI error 7"]),
        row("vni-large", json!({ "vni": 16_777_216 }), none.clone(), &["vni", "16777215", "CNI error 7"]),
        row("vni-text", json!({ "vni": "100" }), none.clone(), &["vni", "CNI error 7"]),
        row("vni-none", json!({ "vni": null }), none.clone(), &["vni", "CNI error 7"]),
        row("unknown-key", json!({ "vin": 100 }), none.clone(), &["vin", "CNI error 2"]),
        row("mac-in-config", json!({ "mac": "02:00:00" }), none.clone(), &["mac", "02:00:00", "CNI error 7"]),
        row(
            "mac-multicast",
            none.clone(),
            json!({ "mac": "01:00:5e:00:00:01" }),
            &["MAC", "01:00:5e:00:00:01", "CNI error 7"],
        ),
        row(
            "ip-in-config",
            json!({ "ips": ["10.0.0.300/24"] }),
            none.clone(),
            &["ips", "10.0.0.300/24", "CNI error 7"],
        ),
        row("mtu-small", json!({ "mtu": 10 }), none.clone(), &["mtu", "CNI error 7"]),
        // What Multus itself refuses, in its own words.
        row("mac-annotation", none.clone(), json!({ "mac": "02:00:00" }), &["mac", "02:00:00"]),
        row("ip-annotation", none.clone(), json!({ "ips": ["10.0.0.300/24"] }), &["10.0.0.300/24"]),
        row("interface-exists", none, json!({ "interface": "eth0" }), &["eth0", "already exists"]),
    ]
}

#[test]
fn a_mistake_in_a_definition_or_annotation_is_named_in_the_pod_s_events_and_hurts_nobody_else() {
    let cluster = with_megalos();
    let mistakes = mistakes();
    let mut objects = Vec::new();
    for mistake in &mistakes {
        let name = format!("bad-{}", mistake.name);
        let mut network = json!({ "name": name });
        if let (Some(network), Some(more)) = (network.as_object_mut(), mistake.network.as_object()) {
            network.extend(more.clone());
        }
        objects.push(pods::definition(&name, &mistake.config));
        objects.push(pods::pod(&name, &json!([network])));
    }
    objects.push(pods::lan("bad-neighbour", 901));
    objects.push(pods::pod("bad-neighbour", &json!([{ "name": "bad-neighbour", "interface": "lan0" }])));
    let text = pods::list(objects);
    cluster.apply(&text);
    for mistake in &mistakes {
        let name = format!("bad-{}", mistake.name);
        let event = until(&format!("an event on {name} with {:?}", mistake.words), || {
            event_with(&cluster, &name, mistake.words)
        });
        println!("{}: {event}\n", mistake.name);
    }
    // Beside all of them, a pod without a mistake starts.
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/bad-neighbour", "--timeout=120s"]);
    cluster.delete(&text);
}

/// The first event of a pod that has all of `words`, or what its events say.
fn event_with(cluster: &Cluster, pod: &str, words: &[&str]) -> Result<String, String> {
    let selector = format!("--field-selector=involvedObject.name={pod}");
    let printed = cluster.try_kubectl(&[
        "get",
        "events",
        &selector,
        "-o",
        "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
    ])?;
    let found = printed.lines().find(|line| words.iter().all(|word| line.contains(word)));
    found.map(str::to_owned).ok_or(printed)
}
