//! Our workers behind other people's reflectors: what a restart of either costs, which is what their graceful restart
//! makes of EVPN.
//!
//! Each reflector is told to do what it can. Where frames are lost even so, the case says why and docs/interop.md says it at
//! length; a version that does better fails the test, so that the page stays true.

use nix::sys::signal::Signal;
use tests::fabric::{LAN, MACS};
use tests::host::{Host, Underlay};
use tests::overlay::Worker;
use tests::peers::{Daemon, Software};
use tests::wait;

use super::{REPLIES, both_ways, stop, wait_swept};

const VTEPS: [&str; 2] = ["10.0.0.11", "10.0.0.12"];

/// Who goes, and how.
#[derive(Clone, Copy, Debug)]
enum Absence {
    Worker(Signal),
    Reflector(Signal),
    /// By the reflector's own command for it.
    ReflectorGracefully,
}

/// What that costs.
#[derive(Clone, Copy, Debug)]
enum Cost {
    Nothing,
    /// Frames, because of this.
    Frames(&'static str),
}

use Absence::{Reflector, ReflectorGracefully, Worker as OurWorker};
use Cost::{Frames, Nothing};
use Signal::{SIGKILL, SIGTERM};

/// A reflector, two workers and a device on each.
struct Scene {
    reflector: Daemon,
    workers: [Worker; 2],
    devices: [Host; 2],
    _underlay: Underlay,
}

impl Scene {
    fn new(software: Software) -> Self {
        let underlay = Underlay::new(1_500);
        let config = software.graceful_reflector_config("10.0.0.1", &VTEPS);
        let reflector = Daemon::start(software, underlay.host("rr", &["10.0.0.1/24"]), &config);
        let worker = |vtep: &str| Worker::start(underlay.host("w", &[&format!("{vtep}/24")]), vtep, &["10.0.0.1"], &[]);
        let workers = VTEPS.map(worker);
        let devices = [Host::new("pc1"), Host::new("pc2")];
        for (index, worker) in workers.iter().enumerate() {
            worker.attach(&devices[index], LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
        }
        let scene = Self { reflector, workers, devices, _underlay: underlay };
        scene.wait_complete();
        scene
    }

    /// Waits until both workers have what the other has, confirmed.
    fn wait_complete(&self) {
        for (index, worker) in self.workers.iter().enumerate() {
            worker.wait_established();
            let nothing_stale = || worker.peers().iter().all(|peer| peer.stale_routes == 0);
            wait::until_true("nothing stale", nothing_stale);
            worker.wait_row(LAN, MACS[1 - index], VTEPS[1 - index].parse().ok());
            wait_swept(worker);
        }
    }

    fn leave(&mut self, absence: Absence) {
        match absence {
            OurWorker(signal) => self.workers[0].kill(signal),
            Reflector(signal) => self.reflector.kill(signal),
            ReflectorGracefully => self.reflector.leave_gracefully(),
        }
    }

    fn come_back(&mut self, absence: Absence) {
        match absence {
            OurWorker(_) => self.workers[0].restart(),
            Reflector(_) | ReflectorGracefully => self.reflector.restart(),
        }
    }
}

/// Plays all absences one after the other.
fn absences_cost(software: Software, cases: &[(Absence, Cost)]) {
    let mut scene = Scene::new(software);
    let version = scene.reflector.version();
    for (absence, cost) in cases {
        let flows = both_ways(&scene.devices);
        scene.leave(*absence);
        flows.iter().for_each(|flow| flow.wait_for_requests(REPLIES));
        scene.come_back(*absence);
        scene.wait_complete();
        flows.iter().for_each(|flow| flow.wait_for_replies(REPLIES));
        let why = match cost {
            Nothing => "expected to cost nothing",
            Frames(why) => why,
        };
        let what = format!("{version}: {absence:?} away, {why}");
        let lost: usize = stop(&what, flows).iter().map(|report| report.lost.len()).sum();
        match cost {
            Nothing => assert_eq!(lost, 0, "{what}"),
            Frames(_) => assert!(lost > 0, "{what}: it does better than docs/interop.md says; bring that up to date"),
        }
    }
}

#[test]
fn behind_bird_restarts_cost_nothing_unless_it_says_goodbye() {
    absences_cost(
        Software::Bird,
        &[
            (OurWorker(SIGTERM), Nothing),
            (OurWorker(SIGKILL), Nothing),
            (Reflector(SIGKILL), Nothing),
            (ReflectorGracefully, Nothing),
            (Reflector(SIGTERM), Frames("it sends Cease 6/2 and has no N bit: RFC 4724 section 4, base BGP")),
        ],
    );
}

#[test]
fn behind_gobgp_restarts_cost_nothing_unless_it_says_goodbye() {
    absences_cost(
        Software::Gobgp,
        &[
            (OurWorker(SIGTERM), Nothing),
            (OurWorker(SIGKILL), Nothing),
            (Reflector(SIGKILL), Nothing),
            (Reflector(SIGTERM), Frames("it sends a hard reset, Cease 6/9: RFC 8538 section 4")),
        ],
    );
}

#[test]
fn behind_debians_frr_restarts_of_the_reflector_cost_nothing() {
    const DROPS: &str = "its helper mode leaves EVPN out and drops the routes";
    absences_cost(
        Software::FrrDebian,
        &[
            (OurWorker(SIGTERM), Frames(DROPS)),
            (OurWorker(SIGKILL), Frames(DROPS)),
            (Reflector(SIGTERM), Nothing),
            (Reflector(SIGKILL), Nothing),
        ],
    );
}

#[test]
fn behind_sids_frr_restarts_of_workers_cost_nothing() {
    const EARLY: &str = "it sends end-of-RIB before the routes: RFC 4724 section 4.1";
    absences_cost(
        Software::FrrSid,
        &[
            (OurWorker(SIGTERM), Nothing),
            (OurWorker(SIGKILL), Nothing),
            (Reflector(SIGTERM), Frames(EARLY)),
            (Reflector(SIGKILL), Frames(EARLY)),
        ],
    );
}
