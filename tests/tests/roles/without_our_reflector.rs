//! Our worker without our reflector: behind one that matches targets exactly (RFC 4684), as all but ours do, and with a
//! router as its own peer.

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
    Worker::start(host, &format!("10.0.0.{number}"), &[], &["--config", &path])
}

/// A host at 10.0.0.21 with the LAN, and the device behind it.
fn router(underlay: &Underlay) -> (Host, Host) {
    let (host, device) = (underlay.host("router", &["10.0.0.21/24"]), Host::new("there"));
    handmade::lan(&host, LAN, "10.0.0.21");
    handmade::plug(&host, &device, LAN, MACS[1], &format!("{}/24", ADDRESSES[1]));
    (host, device)
}

#[test]
fn a_router_with_targets_of_another_as_is_heard_through_gobgp_where_that_as_is_named() {
    for asn in [64_512, 4_200_000_001_u32] {
        let underlay = Underlay::new(1_500);
        let reflector = underlay.host("rr", &["10.0.0.1/24"]);
        let config = Software::Gobgp.reflector_config("10.0.0.1", "10.0.0.0/24");
        let reflector = Daemon::start(Software::Gobgp, reflector, &config);
        let (host, there) = router(&underlay);
        let export = format!("route-target export {asn}:100");
        let targets = ["vni 100", &export, "route-target import 65000:100", "exit-vni"];
        let config = RouterConfig { evpn_lines: &targets, ..RouterConfig::new("10.0.0.21", "10.0.0.1", 179) };
        let theirs = Daemon::start(Software::FrrSid, host, &config.to_string());
        eprintln!("{} through {}", theirs.version(), reflector.version());

        let peer = "[[peer]]\naddress = \"10.0.0.1\"\n";
        let informed = worker(&underlay, 11, &format!("foreign_asns = [{asn}]\n{peer}"));
        let ignorant = worker(&underlay, 12, peer);
        let [here, elsewhere] = [Host::new("here"), Host::new("elsewhere")];
        for (worker, device, index) in [(&informed, &here, 0), (&ignorant, &elsewhere, 2)] {
            worker.attach(device, LAN, MACS[index], &format!("{}/24", ADDRESSES[index]));
            worker.wait_established();
        }
        here.wait_pings(ADDRESSES[1]);
        there.wait_pings(ADDRESSES[0]);
        informed.wait_row(LAN, MACS[1], "10.0.0.21".parse().ok());
        // The two of ours meet by their own targets; the router's are not even sent to who did not ask.
        informed.wait_row(LAN, MACS[2], "10.0.0.12".parse().ok());
        ignorant.wait_row(LAN, MACS[0], "10.0.0.11".parse().ok());
        let sent = |to: &str| reflector.gobgp(&format!("neighbor {to} adj-out -a evpn -j"));
        wait::until_true("GoBGP to have sent the router's MAC", || sent("10.0.0.11").contains(MACS[1]));
        assert!(!sent("10.0.0.12").contains(MACS[1]), "without `foreign_asns` the router's routes are not asked for");
        assert!(ignorant.routes().iter().all(|row| !row.route.contains(MACS[1])));
    }
}

#[test]
fn a_router_may_be_the_only_peer_of_a_worker_whatever_their_ases() {
    for (ours, theirs, neighbor, settings) in [
        (65_000, 65_000, &[][..], ""),
        (65_000, 64_512, &["password open-sesame"], "password = \"open-sesame\"\n"),
        (4_200_000_001, 64_512, &["ttl-security hops 1"], "gtsm = true\n"),
        (4_200_000_001, 4_200_000_002, &[], ""),
    ] {
        let underlay = Underlay::new(1_500);
        let (host, there) = router(&underlay);
        let config = RouterConfig {
            asn: theirs,
            remote_asn: ours,
            neighbor_lines: neighbor,
            ..RouterConfig::new("10.0.0.21", "10.0.0.11", 179)
        };
        let router = Daemon::start(Software::FrrSid, host, &config.to_string());
        let peer = format!("[[peer]]\naddress = \"10.0.0.21\"\nasn = {theirs}\n{settings}");
        let worker = worker(&underlay, 11, &format!("asn = {ours}\n{peer}"));
        let here = Host::new("here");
        worker.attach(&here, LAN, MACS[0], &format!("{}/24", ADDRESSES[0]));
        worker.wait_established();
        here.wait_pings(ADDRESSES[1]);
        there.wait_pings(ADDRESSES[0]);
        worker.wait_row(LAN, MACS[1], "10.0.0.21".parse().ok());
        wait::until("the router's row", || {
            let row = handmade::vtep_of(&router.host, LAN, MACS[0]);
            if row.as_deref() == Some("10.0.0.11") { Ok(()) } else { Err(format!("{row:?}")) }
        });
        let path = worker.routes().into_iter().find(|row| row.route.contains(MACS[1])).unwrap_or_default().path;
        let expected = if ours == theirs { String::new() } else { theirs.to_string() };
        assert_eq!(path.as_path, expected);
    }
}
