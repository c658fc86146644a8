//! Nobody speaks for another: a peer that announces what is another's, as everybody else sees it.

use tests::bgp::{
    Connection, KEEPALIVE, Open, ROUTE_REFRESH, base, mac_route, message, multicast_route, pmsi, reach, update,
};
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::ping::Flow;
use tests::rows::RowWatch;
use tests::{http, wait};

use super::limits::{HTTP, REFLECTOR, assert_logged, open};

/// The liar and the one in whose name it speaks: the second worker.
const LIAR: [u8; 4] = [10, 0, 0, 50];
const VICTIM: [u8; 4] = [10, 0, 0, 12];
const LIARS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x50];
const LIARS_MAC_TEXT: &str = "02:00:00:00:00:50";

/// Two workers that may speak for themselves, and the liar, with these keys or not at all.
fn config(liar: Option<&str>) -> String {
    let mut config = format!("listen = [\"{REFLECTOR}\"]\nhttp = \"{HTTP}\"\n");
    for number in [11, 12] {
        let address = Family::V4.address(number);
        config += &format!("[[peer]]\naddress = \"{address}\"\npassive = true\nnext_hops = [\"{address}\"]\n");
    }
    if let Some(keys) = liar {
        config += &format!("[[peer]]\naddress = \"10.0.0.50\"\nname = \"node-3\"\npassive = true\n{keys}\n");
    }
    config
}

const OWN_ONLY: &str = "next_hops = [\"10.0.0.50\"]\nvnis = [100]";
const VICTIMS_TOO: &str = "next_hops = [\"10.0.0.50\", \"10.0.0.12\"]\nvnis = [100]";

/// Two workers with a device each, pinging each other, and the liar's session.
struct Scene {
    fabric: Fabric,
    flows: [Flow; 2],
    watches: Vec<RowWatch>,
    liar: Connection,
    _hosts: (Host, [Host; 2]),
}

impl Scene {
    fn new() -> Self {
        let mut fabric = Fabric::empty(Family::V4);
        fabric.reflectors.push(Reflector::configured(fabric.host("rr1", 1), &config(Some(OWN_ONLY))));
        (0..2).for_each(|index| fabric.add_worker(index, &[]));
        let host = fabric.host("liar", 50);
        let mut liar = open(&host, LIAR).unwrap_or_else(|error| panic!("{error}"));
        // It can be asked to say everything again (RFC 2918).
        liar.establish(&Open { capabilities: &[2, 0], ..Open::of(LIAR) });
        fabric.wait_established();
        let devices = fabric.devices::<2>();
        fabric.wait_row(0, LAN, MACS[1], Some(1));
        fabric.wait_row(1, LAN, MACS[0], Some(0));
        let flows = [Flow::start(&devices[0], "192.168.1.2"), Flow::start(&devices[1], "192.168.1.1")];
        flows.iter().for_each(|flow| flow.wait_for_replies(20));
        let watches = fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
        Self { fabric, flows, watches, liar, _hosts: (host, devices) }
    }

    fn reflector(&self) -> &Reflector {
        &self.fabric.reflectors[0]
    }

    fn counted(&self, rule: &str) -> u64 {
        let series =
            format!("megalos_bgp_findings_total{{action=\"withdraw-route\",peer=\"10.0.0.50\",rule=\"{rule}\"}}");
        let (_, text) = http::get(&self.reflector().host, HTTP, "/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// Says the truth: what was said before has been judged once it has arrived.
    fn say_truth(&mut self) {
        let own = [mac_route(LIAR, LAN, LIARS_MAC)];
        self.liar.send(&update(&[base(LAN), vec![reach(LIAR, &own)]].concat()));
        self.watches.iter().for_each(|watch| _ = watch.wait_for(LIARS_MAC_TEXT));
    }

    /// Rows of others than the liar, which nothing may have touched.
    fn assert_untouched(&self) {
        for watch in &self.watches {
            let others: Vec<_> = watch.events().into_iter().filter(|event| event.mac != LIARS_MAC_TEXT).collect();
            assert!(others.is_empty(), "{others:?}");
        }
    }

    /// Nothing was lost between the others, and every session is the first of its peer.
    fn finish(self) {
        let peers = self.reflector().peers();
        let sessions: Vec<_> = peers.iter().map(|peer| (peer.state.as_str(), peer.established_count)).collect();
        assert!(sessions.iter().all(|session| *session == ("Established", 1)), "{peers:?}");
        for flow in self.flows {
            flow.wait_for_replies(20);
            let report = flow.stop();
            assert!(report.lost.is_empty(), "{report:?}");
        }
    }
}

/// Everything that is another's, one lie in each UPDATE.
fn lies() -> Vec<Vec<u8>> {
    let stolen: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let all = |vni, more: Vec<Vec<u8>>| update(&[base(vni), more].concat());
    vec![
        all(LAN, vec![reach(VICTIM, &[mac_route(LIAR, LAN, stolen)])]),
        all(LAN, vec![pmsi(LAN, &LIAR), reach(LIAR, &[multicast_route(LIAR, LAN, &VICTIM)])]),
        all(LAN, vec![pmsi(LAN, &VICTIM), reach(LIAR, &[multicast_route(LIAR, LAN, &LIAR)])]),
        all(200, vec![reach(LIAR, &[mac_route(LIAR, 200, stolen)])]),
    ]
}

#[test]
fn who_speaks_for_another_is_refused_counted_and_named_and_nobody_else_is_affected() {
    let mut scene = Scene::new();
    lies().iter().for_each(|lie| scene.liar.send(lie));
    scene.say_truth();
    let rules = ["next-hop-not-allowed", "originator-not-allowed", "tunnel-endpoint-not-allowed", "vni-not-allowed"];
    assert_eq!(rules.map(|rule| scene.counted(rule)), [1; 4]);
    let row = scene.reflector().peer("10.0.0.50").unwrap_or_default();
    assert_eq!((row.name.as_deref(), row.refused_routes), (Some("node-3"), 4), "{row:?}");
    for (rule, says) in rules.into_iter().zip(["10.0.0.12", "10.0.0.12", "10.0.0.12", "VNI 200"]) {
        let words = [rule, says, "10.0.0.50 (node-3)", "change next_hops or vnis of this peer"];
        assert_logged(scene.reflector(), &words);
    }
    scene.assert_untouched();
    // Whoever is there may not speak, and is not asked to leave.
    scene.liar.send(&message(KEEPALIVE, &[]));
    scene.finish();
}

#[test]
fn what_a_peer_may_announce_changes_while_it_runs_and_a_peer_that_is_removed_takes_its_rows_along() {
    let mut scene = Scene::new();
    let lie = update(&[base(LAN), vec![reach(VICTIM, &[mac_route(LIAR, LAN, [2, 0, 0, 0, 0, 0x51])])]].concat());
    let mac = "02:00:00:00:00:51";
    scene.liar.send(&lie);
    scene.say_truth();
    assert!(scene.watches.iter().all(|watch| watch.of(mac).is_empty()));
    scene.reflector().reconfigure(&config(Some(VICTIMS_TOO)));
    assert!(scene.liar.receive_kind(ROUTE_REFRESH).is_some(), "it is asked for what was refused");
    scene.liar.send(&lie);
    scene.watches[0].wait_for(mac);
    scene.reflector().reconfigure(&config(Some(OWN_ONLY)));
    wait::until_true("what it may not say any more to go", || scene.watches[0].of(mac).iter().any(|event| event.gone));
    assert!(scene.watches[0].of(LIARS_MAC_TEXT).iter().all(|event| !event.gone), "the rest stays");
    scene.reflector().reconfigure(&config(None));
    for watch in &scene.watches {
        wait::until_true("its rows to go", || watch.of(LIARS_MAC_TEXT).iter().any(|event| event.gone));
        let others = watch.events().into_iter().filter(|event| event.mac != LIARS_MAC_TEXT && event.mac != mac);
        assert_eq!(others.count(), 0);
    }
    scene.finish();
}
