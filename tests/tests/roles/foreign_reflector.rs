//! Our worker and a router with targets of another AS behind a reflector that matches targets exactly (RFC 4684), as all
//! but ours do.

use tests::fabric::{LAN, MACS};
use tests::handmade;
use tests::host::{Host, Underlay};
use tests::overlay::Worker;
use tests::peers::frr::RouterConfig;
use tests::peers::{Daemon, Software};
use tests::wait;

const ADDRESSES: [&str; 3] = ["192.168.1.1", "192.168.1.2", "192.168.1.3"];

fn worker(underlay: &Underlay, number: usize, config: &str) -> Worker {
    let host = underlay.host("w", &[&format!("10.0.0.{number}/24")]);
    let path = host.directory().join("speaker.toml");
    std::fs::write(&path, config).unwrap_or_else(|error| panic!("{error}"));
    let path = path.display().to_string();
    Worker::start(host, &format!("10.0.0.{number}"), &["10.0.0.1"], &["--config", &path])
}

#[test]
fn a_router_with_targets_of_another_as_is_heard_through_gobgp_where_that_as_is_named() {
    let underlay = Underlay::new(1_500);
    let reflector = underlay.host("rr", &["10.0.0.1/24"]);
    let config = Software::Gobgp.reflector_config("10.0.0.1", "10.0.0.0/24");
    let reflector = Daemon::start(Software::Gobgp, reflector, &config);
    let theirs = underlay.host("router", &["10.0.0.21/24"]);
    handmade::lan(&theirs, LAN, "10.0.0.21");
    let devices = [Host::new("informed"), Host::new("router"), Host::new("ignorant")];
    handmade::plug(&theirs, &devices[1], LAN, MACS[1], &format!("{}/24", ADDRESSES[1]));
    let targets = ["vni 100", "route-target export 64512:100", "route-target import 65000:100", "exit-vni"];
    let config = RouterConfig { evpn_lines: &targets, ..RouterConfig::new("10.0.0.21", "10.0.0.1", 179) };
    let theirs = Daemon::start(Software::FrrSid, theirs, &config.to_string());
    eprintln!("{} through {}", theirs.version(), reflector.version());

    let informed = worker(&underlay, 11, "foreign_asns = [64512]\n");
    let ignorant = worker(&underlay, 12, "");
    for (worker, index) in [(&informed, 0), (&ignorant, 2)] {
        worker.attach(&devices[index], LAN, MACS[index], &format!("{}/24", ADDRESSES[index]));
        worker.wait_established();
    }
    devices[0].wait_pings(ADDRESSES[1]);
    devices[1].wait_pings(ADDRESSES[0]);
    informed.wait_row(LAN, MACS[1], "10.0.0.21".parse().ok());
    // The two of ours meet by their own targets; the router's are not even sent to who did not ask.
    informed.wait_row(LAN, MACS[2], "10.0.0.12".parse().ok());
    ignorant.wait_row(LAN, MACS[0], "10.0.0.11".parse().ok());
    let sent = |to: &str| reflector.gobgp(&format!("neighbor {to} adj-out -a evpn -j"));
    wait::until_true("GoBGP to have sent the router's MAC", || sent("10.0.0.11").contains(MACS[1]));
    assert!(!sent("10.0.0.12").contains(MACS[1]), "without `foreign_asns` the router's routes are not asked for");
    assert!(ignorant.routes().iter().all(|row| !row.route.contains(MACS[1])));
}
