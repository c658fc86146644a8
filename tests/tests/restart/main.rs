//! Daemons that die and come back, or do not, while traffic flows.
//!
//! | module | subject |
//! | --- | --- |
//! | `daemons` | our own daemons, each for as long as it takes to start it again |
//! | `outage` | our own daemons, away for longer than that |
//! | `rolling` | reflectors that know their workers, updated one after the other |
//! | `foreign` | our workers behind other people's reflectors |

mod daemons;
mod foreign;
mod outage;
mod rolling;

use tests::fabric::{Fabric, LAN, MACS};
use tests::host::Host;
use tests::overlay::Worker;
use tests::ping::{Flow, Report};
use tests::wait;

/// How many replies a flow must have had before, during and after an absence.
const REPLIES: u64 = 50;

/// A fabric with one device on each of two workers, both far tables complete.
fn ready() -> (Fabric, [Host; 2]) {
    let fabric = Fabric::new(2);
    let devices = two_devices(&fabric);
    (fabric, devices)
}

/// One device on each of the first two workers of a fabric, both far tables complete.
fn two_devices(fabric: &Fabric) -> [Host; 2] {
    let devices = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    devices
}

/// Waits until a worker that came back has swept what no route confirmed.
fn wait_swept(worker: &Worker) {
    worker.wait_established();
    wait::until_true("every row to be confirmed or swept", || worker.macs().iter().all(|row| row.state != "stale"));
}

/// Flows between both devices, one each way.
fn both_ways([here, there]: &[Host; 2]) -> [Flow; 2] {
    [Flow::start(here, "192.168.1.2"), Flow::start(there, "192.168.1.1")]
}

/// Ends flows; prints and returns what became of them.
fn stop<const N: usize>(what: &str, flows: [Flow; N]) -> [Report; N] {
    flows.map(|flow| {
        let report = flow.stop();
        let (sent, lost, silence) = (report.sent, report.lost.len(), report.longest_silence);
        eprintln!("{what}: {sent} sent, {lost} lost, longest silence {silence:?}");
        report
    })
}

/// Ends flows of which no frame may have been lost.
fn assert_nothing_lost<const N: usize>(what: &str, flows: [Flow; N]) {
    for report in stop(what, flows) {
        assert!(report.lost.is_empty(), "{what}: {report:?}");
    }
}
