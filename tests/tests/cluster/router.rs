//! A physical router in the underlay, outside Kubernetes, shares a LAN with pods.

use std::time::Instant;

use tests::cluster::exact::Wanted;
use tests::cluster::lans::Station;
use tests::cluster::megalos::NAMESPACE;
use tests::handmade;
use tests::host::Host;
use tests::peers::frr;
use tests::ping::Flow;

use crate::stage::{A, stage};

const ROUTER: &str = "192.0.2.201";
const MAC: &str = "02:00:00:00:70:90";
const ADDRESS: &str = "10.70.0.90";

/// FRR waits for the reflectors, wherever they run.
fn config() -> String {
    format!(
        "frr defaults datacenter
router bgp 65000
 bgp router-id {ROUTER}
 no bgp default ipv4-unicast
 neighbor reflectors peer-group
 neighbor reflectors remote-as internal
 bgp listen range 192.0.2.0/24 peer-group reflectors
 address-family l2vpn evpn
  neighbor reflectors activate
  advertise-all-vni
 exit-address-family
"
    )
}

#[test]
fn a_router_that_is_declared_by_one_flag_shares_a_lan_with_pods() {
    let stage = stage();
    let traffic = stage.traffic();
    let host = Host::new("router");
    stage.cluster.plug(&host, &[&format!("{ROUTER}/24")]);
    handmade::lan(&host, A, ROUTER);
    let device = Host::new("behind");
    handmade::plug(&host, &device, A, MAC, &format!("{ADDRESS}/24"));
    let router = frr::start(host, &config());

    let begin = Instant::now();
    let flag = format!(
        r#"[{{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--router={ROUTER}"}}]"#
    );
    let deployment = "deployment/megalos-reflector";
    stage.cluster.kubectl(&["-n", NAMESPACE, "patch", deployment, "--type=json", "-p", &flag]);
    stage.rolled_out();
    router.wait_established(2);
    // Its device has to be heard before its MAC is known.
    let [a_one, a_two, a_three, ..] = stage.pods();
    let mut flows = Vec::new();
    for pod in [a_one, a_two, a_three] {
        flows.push(Flow::start(&device, &pod.ips[0]));
        flows.push(Flow::within(stage.cluster.inside(pod), ADDRESS));
    }
    let behind = Station {
        name: "behind".to_owned(),
        node: ROUTER.to_owned(),
        vni: A,
        mac: MAC.to_owned(),
        ips: vec![ADDRESS.to_owned()],
    };
    let stations: Vec<Station> = stage.stations.iter().chain([&behind]).cloned().collect();
    let wanted = Wanted { others: 1, ..Wanted::usual(&stations) };
    stage.cluster.wait_exact("a router was declared", begin, wanted);
    for flow in flows {
        flow.wait_for_replies(100);
        let report = flow.stop();
        assert!(report.lost.is_empty(), "router and pods: {report:?}");
    }

    let begin = Instant::now();
    stage.cluster.kubectl(&["-n", NAMESPACE, "rollout", "undo", deployment]);
    stage.rolled_out();
    drop(router);
    stage.exact("the router is not declared any more", begin);
    traffic.assert_nothing_lost("a router");
}
