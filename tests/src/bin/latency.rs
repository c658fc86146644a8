//! Measures how long a MAC takes from one worker to the forwarding table of another, through one reflector.
//!
//! ```text
//! cargo run --release -p tests --bin latency -- [--runs N] [--daemons megalos|frr] [--how attach|row]
//! ```
//!
//! `attach` is a CNI ADD: from the request, and from its reply, to the row. `row` is a MAC added to a bridge port: from the
//! netlink message to the row, which compares daemons. The end is the kernel's notification of the VXLAN device's row.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::handmade;
use tests::host::{Host, Underlay};
use tests::overlay;
use tests::peers::frr;
use tests::rows::{self, RowWatch};
use tests::wait;

/// Measures the time from a MAC on one worker to the row on another.
#[derive(Debug, Parser)]
struct Options {
    /// How many MACs, 1 to 200
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=200))]
    runs: u8,
    /// Whose workers and reflector
    #[arg(long, value_enum, default_value_t = Daemons::Megalos)]
    daemons: Daemons,
    /// How a MAC comes to be
    #[arg(long, value_enum, default_value_t = How::Attach)]
    how: How,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Daemons {
    Megalos,
    Frr,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum How {
    Attach,
    Row,
}

fn main() {
    let options = Options::parse();
    match (options.daemons, options.how) {
        (Daemons::Megalos, How::Attach) => attach(options.runs),
        (Daemons::Megalos, How::Row) => megalos_rows(options.runs),
        (Daemons::Frr, _) => frr_rows(options.runs),
    }
}

fn mac(run: u8) -> [u8; 6] {
    [0x02, 0, 0, 1, 0, run]
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn attach(runs: u8) {
    let fabric = Fabric::with(Family::V4, 1, 2);
    let _devices = fabric.devices::<2>();
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    let watch = RowWatch::start(&fabric.workers[1].overlay());
    let (mut from_request, mut from_reply) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let device = Host::new(&format!("run{run}"));
        let mac = text(mac(run));
        let wanted = overlay::attach(&device, LAN, &mac, &format!("192.168.9.{run}/24"));
        let (requested, replied) = fabric.workers[0].timed_attach(&device, wanted);
        let row = watch.wait_for(&mac);
        from_request.push(row.at.saturating_duration_since(requested));
        from_reply.push(row.at.saturating_duration_since(replied));
    }
    print("megalos, CNI ADD: request to row", from_request);
    print("megalos, CNI ADD: reply to row (0: the row was there first)", from_reply);
}

fn megalos_rows(runs: u8) {
    let fabric = Fabric::with(Family::V4, 1, 2);
    let [device, other] = [Host::new("pc1"), Host::new("pc2")];
    let port = fabric.workers[0].attach(&device, LAN, MACS[0], "192.168.1.1/24").host_interface;
    fabric.workers[1].attach(&other, LAN, MACS[1], "192.168.1.2/24");
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    let watch = RowWatch::start(&fabric.workers[1].overlay());
    let overlay = fabric.workers[0].overlay();
    print(
        "megalos, MAC on a bridge port to row",
        measure(&watch, runs, |mac| rows::add_static(&overlay, port.as_str(), mac)),
    );
}

fn frr_rows(runs: u8) {
    let underlay = Underlay::new(1_500);
    let rr = frr::start(underlay.host("rr", &["10.0.0.1/24"]), &frr::reflector_config("10.0.0.1", "10.0.0.0/24"));
    let devices = [Host::new("pc1"), Host::new("pc2")];
    let workers = [1, 2].map(|number| {
        let vtep = format!("10.0.0.1{number}");
        let worker = underlay.host(&format!("w{number}"), &[&format!("{vtep}/24")]);
        handmade::lan(&worker, LAN, &vtep);
        let device = &devices[number - 1];
        handmade::plug(&worker, device, LAN, MACS[number - 1], &format!("192.168.1.{number}/24"));
        frr::start(worker, &frr::worker_config(&vtep, "10.0.0.1", 179))
    });
    rr.wait_established(2);
    devices[0].wait_pings("192.168.1.2");
    wait::until_true("the first row", || handmade::vtep_of(&workers[1].host, LAN, MACS[0]).is_some());
    let watch = RowWatch::start(&workers[1].host.open());
    let here = workers[0].host.open();
    let times = measure(&watch, runs, |mac| rows::add_static(&here, "to-pc1", mac));
    print(&format!("{}, MAC on a bridge port to row", rr.version()), times);
}

fn measure(watch: &RowWatch, runs: u8, add: impl Fn([u8; 6]) -> std::time::Instant) -> Vec<Duration> {
    let one = |run| {
        let added = add(mac(run));
        watch.wait_for(&text(mac(run))).at.saturating_duration_since(added)
    };
    (1..=runs).map(one).collect()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    };
    println!("{what}: {} runs, p50 {:.2?}, p90 {:.2?}, max {:.2?}", times.len(), at(50), at(90), at(100));
}
