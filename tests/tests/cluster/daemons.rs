//! Workers and reflectors that die, are replaced, and stay away, while pods talk.

use std::time::{Duration, Instant};

use tests::cluster::image;
use tests::cluster::megalos::NAMESPACE;
use tests::cluster::process::until;

use crate::stage::{Stage, done, stage};

/// How long reflectors and the API stay away.
pub const AWAY: Duration = Duration::from_secs(60);

impl Stage {
    fn megalos(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", NAMESPACE], arguments].concat())
    }

    /// The index of a node with a reflector.
    fn node_of_a_reflector(&self) -> usize {
        let name = self.cluster.reflector_nodes()[0].name().to_owned();
        self.cluster.nodes().iter().position(|node| node.name() == name).unwrap_or_default()
    }
}

#[test]
fn a_worker_that_is_killed_costs_no_frame_and_attachments_go_on() {
    let stage = stage();
    let traffic = stage.traffic();
    let extra = stage.another("extra", 0, 11);
    let begin = Instant::now();
    stage.kill(0, "megalos-speaker");
    stage.plug_in(&extra, "a worker is killed");
    stage.exact_with(&extra, "a worker was killed, and an ADD", begin);
    let begin = Instant::now();
    stage.kill(0, "megalos-speaker");
    // DEL always succeeds, worker or not.
    done(stage.cluster.unplug(&extra));
    stage.exact("a worker was killed, and a DEL", begin);
    traffic.assert_nothing_lost("a worker killed twice");
}

#[test]
fn a_worker_s_pod_that_is_deleted_costs_no_frame() {
    let stage = stage();
    let traffic = stage.traffic();
    let begin = Instant::now();
    let node = format!("spec.nodeName={}", stage.cluster.node(1).name());
    stage.megalos(&["delete", "pod", "-l", "app.kubernetes.io/component=worker", "--field-selector", &node, "--wait"]);
    stage.exact("a worker's pod was deleted", begin);
    stage.rolled_out();
    traffic.assert_nothing_lost("a worker's pod deleted");
}

#[test]
fn workers_that_are_upgraded_cost_no_frame_and_new_pods_start_meanwhile() {
    let mut stage = stage();
    let next = format!("{}-next", image::NAME);
    let tar = image::archive(&next).unwrap_or_else(|error| panic!("{error}"));
    stage.cluster.import_image(&tar);
    let traffic = stage.traffic();
    let extra = stage.another("extra", 0, 12);
    let begin = Instant::now();
    stage.megalos(&["set", "image", "daemonset/megalos-worker", &format!("*={next}")]);
    stage.cluster.deploy(std::slice::from_ref(&extra));
    stage.rolled_out();
    let images = stage.megalos(&[
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/component=worker",
        "-o",
        "jsonpath={.items[*].spec.containers[*].image}",
    ]);
    assert!(images.split_whitespace().all(|image| image == next), "{images}");
    stage.exact_with(&extra, "workers were upgraded, and a pod made", begin);
    let begin = Instant::now();
    stage.megalos(&["rollout", "undo", "daemonset/megalos-worker"]);
    stage.cluster.remove(std::slice::from_ref(&extra));
    stage.rolled_out();
    stage.exact("workers were downgraded, and a pod deleted", begin);
    traffic.assert_nothing_lost("workers upgraded and downgraded");
}

#[test]
fn a_reflector_that_is_killed_costs_no_frame_and_attachments_go_on() {
    let stage = stage();
    let traffic = stage.traffic();
    let extra = stage.another("extra", 1, 13);
    let begin = Instant::now();
    stage.kill(stage.node_of_a_reflector(), "megalos-rr");
    stage.plug_in(&extra, "a reflector is killed");
    stage.exact_with(&extra, "a reflector was killed, and an ADD", begin);
    done(stage.cluster.unplug(&extra));
    stage.exact("a DEL", Instant::now());
    traffic.assert_nothing_lost("a reflector killed");
}

#[test]
fn a_rolling_update_of_the_reflectors_costs_no_frame() {
    let stage = stage();
    let traffic = stage.traffic();
    let begin = Instant::now();
    stage.megalos(&["rollout", "restart", "deployment/megalos-reflector"]);
    stage.rolled_out();
    stage.exact("reflectors were rolled", begin);
    traffic.assert_nothing_lost("reflectors rolled");
}

#[test]
fn reflectors_that_are_away_for_a_minute_cost_no_frame_and_pods_come_and_go_meanwhile() {
    let stage = stage();
    let traffic = stage.traffic();
    let extra = stage.another("extra", 2, 14);
    stage.megalos(&["scale", "deployment/megalos-reflector", "--replicas=0"]);
    done(until("the reflectors to go", || {
        let left = stage.cluster.reflector_nodes().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} are there")) }
    }));
    let gone = Instant::now();
    stage.cluster.deploy(std::slice::from_ref(&extra));
    eprintln!("reflectors away: a pod is Ready after {:.1} s", gone.elapsed().as_secs_f32());
    let begin = Instant::now();
    stage.cluster.remove(std::slice::from_ref(&extra));
    eprintln!("reflectors away: a pod is gone after {:.1} s", begin.elapsed().as_secs_f32());
    // Made while they are away, and there when they come back.
    let kept = stage.another("kept", 2, 15);
    stage.plug_in(&kept, "reflectors are away");
    while gone.elapsed() < AWAY {
        traffic.go_on();
    }
    stage.exact_without_reflectors("reflectors away for a minute", gone);
    let begin = Instant::now();
    stage.megalos(&["scale", "deployment/megalos-reflector", "--replicas=2"]);
    stage.exact_with(&kept, "reflectors are back after a minute", begin);
    stage.rolled_out();
    done(stage.cluster.unplug(&kept));
    stage.exact("a DEL", Instant::now());
    traffic.assert_nothing_lost("reflectors away for a minute");
}
