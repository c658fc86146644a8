//! Nodes that come, go, move and lose their power, while the pods of others talk.

use std::time::Instant;

use tests::cluster::exact::Wanted;
use tests::cluster::lans::Station;
use tests::wait;

use crate::stage::{A, stage};

#[test]
fn a_node_that_loses_its_power_costs_others_no_frame_and_its_pods_are_back_on_their_lans_by_themselves() {
    let stage = stage();
    let [a_one, _, a_three, ..] = stage.pods();
    let traffic = stage.traffic_of_two_nodes();
    let begin = Instant::now();
    stage.cluster.power_off(2);
    traffic.go_on();
    stage.cluster.power_on(2);
    let powered = Instant::now();
    stage.cluster.wait_ready();
    stage.exact("a node was rebooted", begin);
    wait::until_true("the pod of the node that was rebooted to reach another", || {
        tests::ping::answers(&stage.cluster.inside(a_three), &a_one.ips[0])
    });
    eprintln!("power to first reply of a pod: {:.1} s", powered.elapsed().as_secs_f32());
    stage.rolled_out();
    traffic.assert_nothing_lost("a node rebooted");
}

#[test]
fn nodes_that_are_added_renumbered_and_deleted_cost_others_no_frame() {
    let mut stage = stage();
    let traffic = stage.traffic();
    let begin = Instant::now();
    let index = stage.cluster.add_node();
    let fourth = Station::new("a-four", stage.cluster.node(index), A, "02:00:00:00:70:04", "10.70.0.4");
    stage.cluster.deploy(std::slice::from_ref(&fourth));
    stage.exact_with(&fourth, "a node was added, with a pod", begin);
    let flow = tests::ping::Flow::within(stage.cluster.inside(&fourth), &stage.stations[0].ips[0]);
    drop(flow);

    let begin = Instant::now();
    stage.cluster.renumber(index, 44);
    stage.exact_with(&fourth, "a node was renumbered", begin);
    wait::until_true("the pod of the node that was renumbered to reach another", || {
        tests::ping::answers(&stage.cluster.inside(&fourth), &stage.stations[0].ips[0])
    });

    let begin = Instant::now();
    stage.cluster.delete_node(index);
    stage.cluster.wait_exact("a node was deleted", begin, Wanted::usual(&stage.stations));
    stage.cluster.kubectl(&["delete", "pod", "a-four", "--ignore-not-found", "--force", "--grace-period=0"]);
    stage.rolled_out();
    traffic.assert_nothing_lost("nodes added, renumbered and deleted");
}
