//! The API server away for a minute, while pods talk.
//!
//! kubelet and Multus need the API server for a new pod, so that none is started: what Multus would do, calling the plugin, is
//! done by hand. It works, and so do workers and reflectors that die meanwhile.

use std::time::Instant;

use crate::daemons::AWAY;
use crate::stage::{done, stage};

#[test]
fn the_api_server_away_for_a_minute_costs_no_frame_and_attachments_and_restarts_work_meanwhile() {
    let stage = stage();
    let reflector = stage.cluster.reflector_nodes()[0].name().to_owned();
    let reflector = stage.cluster.nodes().iter().position(|node| node.name() == reflector).unwrap_or_default();
    let extra = stage.another("extra", 0, 21);
    let traffic = stage.traffic();
    stage.cluster.stop_api();
    let gone = Instant::now();

    stage.plug_in(&extra, "the API server is away");
    stage.exact_with(&extra, "an ADD without the API server", gone);
    let begin = Instant::now();
    done(stage.cluster.unplug(&extra));
    stage.exact("a DEL without the API server", begin);

    let begin = Instant::now();
    stage.kill(1, "megalos-speaker");
    stage.exact("a worker was killed without the API server", begin);
    let begin = Instant::now();
    stage.kill(reflector, "megalos-rr");
    stage.exact("a reflector was killed without the API server", begin);

    while gone.elapsed() < AWAY {
        traffic.go_on();
    }
    stage.exact("the API server away for a minute", gone);
    let begin = Instant::now();
    stage.cluster.start_api();
    stage.cluster.wait_ready();
    let fresh = stage.another("fresh", 2, 22);
    stage.cluster.deploy(std::slice::from_ref(&fresh));
    stage.exact_with(&fresh, "the API server is back, and a pod made", begin);
    stage.cluster.remove(&[fresh]);
    stage.exact("the pod is deleted", Instant::now());
    stage.rolled_out();
    traffic.assert_nothing_lost("the API server away for a minute");
}
