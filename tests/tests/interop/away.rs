//! A client of our reflector that goes and comes back while traffic runs: what it costs others is nothing, what it costs
//! itself is what its own restart makes of EVPN and of the kernel's rows.
//!
//! Where frames are lost the case says why; a version that does better fails the test, so that docs/interop.md stays true.
//! The same with the roles exchanged is in the suite `restart`.

use nix::sys::signal::Signal::{self, SIGKILL, SIGTERM};
use tests::fabric::LAN;
use tests::peers::Software;
use tests::ping::{Flow, Report};
use tests::wait;

use crate::client::{self, Setup};
use crate::originate::{self, ADDRESS, Restarts};

/// Requests sent while the client is away, and answered before and after.
const REQUESTS: u64 = 50;

/// Which processes end, and how.
#[derive(Clone, Copy, Debug)]
enum Absence {
    All(Signal),
    /// FRR's bgpd, while zebra goes on.
    Bgpd(Signal),
}

/// What becomes of the flow to the device behind the client.
#[derive(Clone, Copy, Debug)]
enum Cost {
    /// There is no device: it has no LAN.
    NoLan,
    Nothing,
    /// Frames, because of this.
    Frames(&'static str),
}

use Absence::{All, Bgpd};
use Cost::{Frames, NoLan, Nothing};

fn absences_cost(software: Software, cases: &[(Absence, Cost)]) {
    let mut setup = client::set_up(software, client::settings(software), Restarts::Graceful);
    let version = setup.client.version();
    wait::until("tables to agree", || setup.compare());
    for (absence, cost) in cases {
        let what = format!("{version}: {absence:?} away");
        let beside = Flow::start(&setup.devices[0], "192.168.1.2");
        let to_it = setup.client_device.as_ref().map(|_| Flow::start(&setup.devices[0], "192.168.1.4"));
        match absence {
            All(signal) => setup.client.kill(*signal),
            Bgpd(signal) => setup.client.kill_one("bgpd", *signal),
        }
        beside.wait_for_requests(REQUESTS);
        eprintln!("{what}: {}", kept(&setup));
        setup.client.restart();
        if software == Software::Gobgp {
            originate::gobgp(&setup.client, "add");
        }
        wait::until("tables to agree again", || complete(&setup));
        to_it.iter().for_each(|flow| flow.wait_for_replies(REQUESTS));
        let lost = lost(&what, "beside it", beside.stop());
        assert_eq!(lost, 0, "{what}: a flow that is none of its business");
        let lost = to_it.map(|flow| lost_to(&what, flow.stop()));
        match (cost, lost) {
            (NoLan, None) | (Nothing, Some(0)) => {}
            (Frames(why), Some(lost)) => {
                assert!(lost > 0, "{what}, {why}: it does better; bring docs/interop.md up to date");
            }
            (cost, lost) => panic!("{what}: {lost:?} frames lost, expected {cost:?}"),
        }
    }
}

/// What both sides keep while the client is away: our reflector of its routes, its kernel of the rows that lead to us.
fn kept(setup: &Setup) -> String {
    let stale = setup.fabric.reflectors[0].peer(ADDRESS).unwrap_or_default().stale_routes;
    let rows = setup.client.host.try_sh(&format!("bridge fdb show dev vx{LAN}")).stdout;
    let rows = String::from_utf8_lossy(&rows).lines().filter(|row| row.contains(" dst ")).count();
    format!("our reflector keeps {stale} of its routes, its kernel {rows} rows")
}

/// Established, nothing left from before, and the tables agree.
fn complete(setup: &Setup) -> Result<(), String> {
    let peer = setup.fabric.reflectors[0].peer(ADDRESS).unwrap_or_default();
    if peer.state != "Established" || peer.stale_routes > 0 {
        return Err(format!("{} with {} stale routes", peer.state, peer.stale_routes));
    }
    setup.compare()
}

fn lost_to(what: &str, report: Report) -> usize {
    lost(what, "to it", report)
}

fn lost(what: &str, flow: &str, report: Report) -> usize {
    let lost = report.lost.len();
    eprintln!("{what}, {flow}: {} sent, {lost} lost, longest silence {:?}", report.sent, report.longest_silence);
    lost
}

/// Our reflector keeps FRR's routes in every case; what fails is the way back.
const FRR: [(Absence, Cost); 4] = [
    (Bgpd(SIGTERM), Frames("zebra removes the rows of a bgpd that goes, graceful restart or not")),
    (Bgpd(SIGKILL), Frames("the same")),
    (All(SIGTERM), Frames("zebra removes its rows when it ends")),
    (All(SIGKILL), Nothing),
];

#[test]
fn frr_of_this_debian() {
    absences_cost(Software::FrrDebian, &FRR);
}

#[test]
fn frr_of_sid() {
    absences_cost(Software::FrrSid, &FRR);
}

#[test]
fn bird() {
    absences_cost(
        Software::Bird,
        &[
            (All(SIGTERM), Frames("it sends Cease 6/2 and has no N bit: RFC 4724 section 4, base BGP")),
            (All(SIGKILL), Frames("it removes its rows at its start and adds them with the routes")),
        ],
    );
}

#[test]
fn gobgp() {
    absences_cost(Software::Gobgp, &[(All(SIGTERM), NoLan), (All(SIGKILL), NoLan)]);
}

#[test]
fn openbgpd() {
    absences_cost(Software::Openbgpd, &[(All(SIGTERM), NoLan), (All(SIGKILL), NoLan)]);
}
