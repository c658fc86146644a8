//! Many pods at once, beside a plugin that everybody knows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Cluster, with_megalos};

use crate::pods;

const PODS: usize = 60;
const WAIT: &str = "--timeout=300s";

#[test]
fn sixty_pods_with_a_second_interface_start_and_go() {
    let cluster = with_megalos();
    // The plain bridge plugin does its work in the plugin and on one node: the fastest that there is to compare with.
    let bridge = json!({ "cniVersion": "1.0.0", "type": "bridge", "bridge": "plain0" });
    for (name, definition) in
        [("bridge", pods::definition("many-bridge", &bridge)), ("megalos", pods::lan("many-megalos", 960))]
    {
        let (ready, gone) = timed(&cluster, name, definition);
        println!(
            "{PODS} pods with a second interface of {name}: ready in {:.1} s, gone in {:.1} s",
            ready.as_secs_f32(),
            gone.as_secs_f32()
        );
    }
}

fn timed(cluster: &Cluster, name: &str, definition: Value) -> (Duration, Duration) {
    let network = json!([{ "name": format!("many-{name}"), "interface": "lan0" }]);
    let mut objects = vec![definition];
    let mut names = Vec::new();
    for number in 0..PODS {
        let name = format!("many-{name}-{number}");
        objects.push(pods::pod(&name, &network));
        names.push(format!("pod/{name}"));
    }
    let text = pods::list(objects);
    let begin = Instant::now();
    cluster.apply(&text);
    let mut wait = vec!["wait", "--for=condition=Ready", WAIT];
    wait.extend(names.iter().map(String::as_str));
    cluster.kubectl(&wait);
    let ready = begin.elapsed();
    let begin = Instant::now();
    cluster.delete(&text);
    (ready, begin.elapsed())
}
