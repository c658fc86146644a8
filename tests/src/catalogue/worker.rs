//! A hostile reflector in front of a worker: the same rows, the other way round.
//!
//! A worker dials its reflectors. For each row its configuration is given one more of them, which is the actor; beside it the
//! worker keeps its session with a healthy reflector, behind which another worker has a device.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::sys::signal::Signal;

use super::actor::{self, Actor};
use super::dialogue::{self, Ground};
use super::run::Trials;
use super::scene::{self, HTTP};
use super::vitals::Vitals;
use super::{Play, Profile, Row, Verdict};
use crate::bgp::Connection;
use crate::fabric::{Fabric, Family, LAN, MACS, PORT};
use crate::host::Host;
use crate::overlay::Worker;
use crate::{inside, wait};

/// The BGP identifier of the worker under test.
const ROUTER_ID: [u8; 4] = [10, 0, 0, 11];
/// See [`scene`]: how much more it may hold after a row.
const GROWTH_KB: u64 = 48 << 10;

/// The worker under test and what is around it.
#[derive(Debug)]
struct WorkerScene {
    fabric: Fabric,
    hostile: Host,
    vitals: Vitals,
    resident_kb: u64,
    rows: BTreeSet<(String, String)>,
    /// Route and origin of everything that the healthy reflector knows.
    routes: BTreeSet<(String, String)>,
    _devices: [Host; 2],
}

impl WorkerScene {
    fn new() -> Self {
        let mut fabric = Fabric::empty(Family::V4);
        fabric.add_reflector(1);
        let path = fabric.reflectors[0].host.directory().join("speaker.toml");
        write(&path, "");
        let config = path.display().to_string();
        fabric.add_worker(0, &["--config", &config, "--http", HTTP]);
        fabric.add_worker(1, &[]);
        fabric.wait_established();
        let devices = fabric.devices::<2>();
        fabric.wait_row(0, LAN, MACS[1], Some(1));
        fabric.wait_row(1, LAN, MACS[0], Some(0));
        let hostile = fabric.host("hostile", 99);
        let worker = &fabric.workers[0];
        for profile in Profile::ALL {
            hostile.sh(&format!("ip route add local 10.{}.0.0/16 dev lo", profile.octet()));
        }
        worker.host.sh("ip route add 10.0.0.0/8 dev eth0");
        let vitals = Vitals::of(worker.pid(), "megalos-speaker");
        let rows = scene::rows(worker);
        let resident_kb = vitals.resident_kb();
        let routes = known(&fabric);
        Self { fabric, hostile, vitals, resident_kb, rows, routes, _devices: devices }
    }

    fn worker(&self) -> &Worker {
        &self.fabric.workers[0]
    }

    /// Gives the worker these reflectors beside the healthy one.
    fn configure(&self, sections: &str) {
        write(&self.fabric.reflectors[0].host.directory().join("speaker.toml"), sections);
        self.worker().host.signal(self.worker().pid(), Signal::SIGHUP);
    }

    fn has_row(&self, mac: [u8; 6]) -> bool {
        let text = actor::text(mac);
        scene::rows(self.worker()).iter().any(|(mac, _)| *mac == text)
    }

    fn wait_row(&self, mac: [u8; 6], there: bool) {
        let what = if there { "a row" } else { "no row" };
        wait::until_true(&format!("{what} for {}", actor::text(mac)), || self.has_row(mac) == there);
    }

    /// What must hold after each row, once the actor is no peer any more.
    fn assert_unharmed(&self) {
        self.configure("");
        let worker = self.worker();
        self.vitals.assert_alive(&worker.host);
        wait::until("everything to be as before", || {
            let peers: Vec<_> = worker.peers().into_iter().map(|peer| (peer.state, peer.established_count)).collect();
            let healthy = [("Established".to_owned(), 1)];
            let (rows, routes) = (scene::rows(worker), known(&self.fabric));
            if peers == healthy && rows == self.rows && routes == self.routes {
                Ok(())
            } else {
                Err(format!("{peers:?}, {rows:?}, {routes:?}"))
            }
        });
        scene::wait_follows(worker);
        let now = self.vitals.resident_kb();
        assert!(now <= self.resident_kb + GROWTH_KB, "it holds {now} kB, and held {} kB", self.resident_kb);
        self.vitals.wait_idle();
    }
}

fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn known(fabric: &Fabric) -> BTreeSet<(String, String)> {
    fabric.reflectors[0].routes().into_iter().map(|route| (route.route, route.from)).collect()
}

impl Ground for WorkerScene {
    fn connect(&self, actor: &Actor) -> std::io::Result<Connection> {
        let address = SocketAddr::new(actor.ip(), PORT);
        let listener = inside::run(&self.hostile.open(), || TcpListener::bind(address))?;
        listener.set_nonblocking(true)?;
        let profile = Profile::ALL.into_iter().find(|profile| profile.octet() == actor.octets()[1]);
        let settings = profile.and_then(Profile::settings).unwrap_or_default();
        self.configure(&format!("[[peer]]\naddress = \"{address}\"\n{settings}\n"));
        let stream = wait::until("the worker to connect", || listener.accept().map(|(stream, _)| stream));
        stream.set_nonblocking(false)?;
        Connection::over(stream)
    }

    fn wait_installed(&self, mac: [u8; 6]) {
        self.wait_row(mac, true);
    }

    fn wait_gone(&self, mac: [u8; 6]) {
        self.wait_row(mac, false);
    }

    fn assert_places(&self, mac: [u8; 6], known: bool) {
        assert_eq!(self.has_row(mac), known, "a row for {}", actor::text(mac));
    }

    fn assert_up(&self, actor: &Actor) {
        let address = IpAddr::from(actor.address).to_string();
        let peers = self.worker().peers();
        let peer = peers.into_iter().find(|peer| peer.address == address).unwrap_or_default();
        assert_eq!((peer.state.as_str(), peer.established_count), ("Established", 1), "{:?}", peer.last_error);
    }

    fn wait_kernels_follow(&self) {
        scene::wait_follows(self.worker());
    }
}

/// Plays the rows that are octets and a verdict at a worker. What a row asks for besides is asked of reflectors only.
///
/// # Panics
///
/// With all rows that failed, by id, and why.
pub fn run(group: &str, rows: &[Row]) {
    let scene = WorkerScene::new();
    let mut trials = Trials::new(group);
    let mut number = 0;
    for row in rows.iter().filter(|row| !matches!(row.play, Play::Script(_) | Play::NotApplicable(_))) {
        for (profile, verdict) in row.trials() {
            trials.play(row, profile, verdict, || {
                number += 1;
                let actor = Actor::new(profile, number).towards(ROUTER_ID);
                play(&scene, &actor, row, verdict);
            });
        }
    }
    trials.finish();
}

fn play(scene: &WorkerScene, actor: &Actor, row: &Row, verdict: Verdict) {
    let played = dialogue::play(scene, actor, row, verdict);
    let findings = scene::findings(&scene.worker().host, &actor.address.to_string());
    match verdict {
        Verdict::Reset(..) | Verdict::Withdrawn | Verdict::Trimmed => {
            assert!(!findings.is_empty(), "nothing was counted");
        }
        Verdict::Accepted => assert!(findings.is_empty(), "something was counted that is right: {findings:?}"),
        Verdict::Closed | Verdict::Ignored | Verdict::Scripted => {}
    }
    drop(played);
    scene.assert_unharmed();
}
