//! Another daemon as the reflector between two of our workers.

use std::collections::BTreeMap;

use tests::fabric::{LAN, MACS};
use tests::host::{Host, Underlay};
use tests::overlay::Worker;
use tests::peers::table::{Route, compare, ours};
use tests::peers::{Daemon, Software};
use tests::wait;

use crate::for_each_peer;
use crate::samples::{self, Form, Speaker};
use crate::waivers::{Way, check};

const REFLECTOR: &str = "10.0.0.1";
const VTEPS: [&str; 2] = ["10.0.0.11", "10.0.0.12"];
/// The LANs of the devices: what keeps their routes apart is the route distinguisher alone.
const LANS: [u32; 2] = [LAN, 200];

/// A reflector, two workers with a device each in both LANs, and a speaker made by hand with the samples.
pub struct Setup {
    pub reflector: Daemon,
    workers: [Worker; 2],
    /// Two in each LAN.
    devices: Vec<[Host; 2]>,
    speaker: Speaker,
    samples: Vec<samples::Sample>,
    _underlay: Underlay,
}

/// Starts everybody.
pub fn set_up(software: Software, lans: &[u32]) -> Setup {
    let underlay = Underlay::new(1_500);
    let config = software.reflector_config(REFLECTOR, "10.0.0.0/24");
    let reflector = Daemon::start(software, underlay.host("rr", &["10.0.0.1/24"]), &config);
    eprintln!("{}", reflector.version());
    let workers =
        VTEPS.map(|vtep| Worker::start(underlay.host("w", &[&format!("{vtep}/24")]), vtep, &[REFLECTOR], &[]));
    let devices = lans.iter().map(|lan| {
        [0, 1].map(|index: usize| {
            let device = Host::new(&format!("pc{index}"));
            workers[index].attach(&device, *lan, MACS[index], &format!("192.168.1.{}/24", index + 1));
            device
        })
    });
    let devices = devices.collect();
    workers.iter().for_each(Worker::wait_established);
    let mut speaker = Speaker::start(underlay.host("hand", &["10.0.0.13/24"]), REFLECTOR, 179);
    reflector.wait_established(3);
    let samples = samples::of_types(software.route_types());
    speaker.announce(&samples);
    Setup { reflector, workers, devices, speaker, samples, _underlay: underlay }
}

impl Setup {
    /// What everybody announces, by who does.
    pub fn announced(&self) -> BTreeMap<&'static str, Vec<Route>> {
        let own = |worker: &Worker| {
            let routes = ours(&worker.routes()).into_iter();
            routes.filter(|route| route.from.is_empty()).collect::<Vec<_>>()
        };
        let samples = self.samples.iter().map(|sample| sample.route.clone()).collect();
        let [first, second] = [own(&self.workers[0]), own(&self.workers[1])];
        BTreeMap::from([(VTEPS[0], first), (VTEPS[1], second), (samples::ADDRESS_TEXT, samples)])
    }

    /// Withdraws the samples in this form and waits until of them only those are left that begin with one of `left`.
    fn wait_left(&mut self, what: &str, form: Form, left: &[&str]) {
        self.speaker.withdraw(&self.samples, form);
        wait::until(what, || {
            let keys = self.reflector.routes().into_iter().map(|route| route.key);
            let found: Vec<String> = keys.filter(|key| key.contains("[10.0.0.13:")).collect();
            let is_known = |key: &String| left.iter().any(|left| key.starts_with(left));
            let all_seen = left.iter().all(|left| found.iter().any(|key| key.starts_with(left)));
            if all_seen && found.iter().all(is_known) { Ok(()) } else { Err(found.join(" ")) }
        });
    }

    /// Their table against what was sent to them, and what each worker got against what the others sent.
    fn compare(&self) -> Result<(), String> {
        let software = self.reflector.software();
        let announced = self.announced();
        let arrived = |(address, routes): (&&str, &Vec<Route>)| {
            // OpenBGPD keeps a route as it will pass it on.
            let is_stamped = software == Software::Openbgpd;
            let stamp = |route: Route| if is_stamped { route.reflected(address, REFLECTOR) } else { route };
            routes.iter().cloned().map(stamp).collect::<Vec<_>>()
        };
        let sent: Vec<Route> = announced.iter().flat_map(arrived).collect();
        let held = self.reflector.routes();
        check(software, Way::ToReflector, &compare(&sent, &held, self.reflector.hidden()))?;
        let mut differences = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let others = announced.iter().filter(|(address, _)| **address != VTEPS[index]);
            let sent: Vec<Route> = others
                .flat_map(|(address, routes)| routes.iter().map(|route| route.clone().reflected(address, REFLECTOR)))
                .collect();
            let held: Vec<Route> = ours(&worker.routes()).into_iter().filter(|route| route.from == REFLECTOR).collect();
            differences.extend(compare(&sent, &held, &[]));
        }
        check(software, Way::ThroughReflector, &differences)
    }
}

/// Samples that outlive their withdrawal with the octets of their announcement. BIRD takes a type 2 with an Ethernet
/// segment for an announcement without attributes and keeps what it has, although the segment is no part of the key (RFC
/// 7432 section 7.2).
const fn left_over(software: Software) -> &'static [&'static str] {
    match software {
        Software::Bird => &["[2][10.0.0.13:100][0][02:00:00:00:00:33]"],
        _ => &[],
    }
}

fn reflects(software: Software) {
    // OpenBGPD serves one; see the module about it.
    let lans = if software == Software::Openbgpd { &LANS[..1] } else { &LANS };
    let mut setup = set_up(software, lans);
    wait::until("tables to agree", || setup.compare());
    for [first, second] in &setup.devices {
        first.wait_pings("192.168.1.2");
        second.wait_pings("192.168.1.1");
    }
    // A MAC that moves is followed, and what is withdrawn goes everywhere.
    let [moved, keeper] = [Host::new("moved"), Host::new("keeper")];
    setup.workers[0].attach(&keeper, LAN, MACS[2], "192.168.1.3/24");
    if software == Software::Openbgpd {
        // To it, both places are one route, and it prefers the old one whatever the mobility says.
        setup.workers[0].detach(&setup.devices[0][0]);
    }
    setup.workers[1].attach(&moved, LAN, MACS[0], "192.168.1.1/24");
    setup.workers[0].wait_row(LAN, MACS[0], VTEPS[1].parse().ok());
    setup.workers[0].detach(&setup.devices[0][0]);
    setup.devices[0][1].wait_pings("192.168.1.1");
    setup.workers[1].detach(&moved);
    setup.workers[0].wait_row(LAN, MACS[0], None);
    setup.wait_left("withdrawals with the octets of the announcement", Form::AsAnnounced, left_over(software));
    setup.wait_left("withdrawals of the bare key", Form::Bare, &[]);
    let has_moved = |route: &Route| route.key.contains(MACS[0]) && route.key.contains(":100]");
    wait::until_true("the moved MAC to go", || !setup.reflector.routes().iter().any(has_moved));
}

mod between_two_of_our_workers {
    use super::*;
    for_each_peer!(reflects);
}
