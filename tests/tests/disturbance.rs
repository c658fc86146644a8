//! What happens to a node from outside: rows and devices changed by others, cables cut, MACs learned from frames.

use std::net::IpAddr;

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::frames;
use tests::host::Host;
use tests::overlay::{Reflector, Worker};
use tests::ping::Flow;
use tests::wait;

fn ready() -> (Fabric, [Host; 2]) {
    let fabric = Fabric::new(2);
    let devices = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    (fabric, devices)
}

#[test]
fn rows_that_somebody_removes_or_changes_are_put_right_at_once() {
    let (fabric, [here, _there]) = ready();
    let worker = &fabric.workers[0];
    let flood = "00:00:00:00:00:00";
    let mac = MACS[1];
    for damage in [
        format!("bridge fdb del {mac} dev vx100 self"),
        format!("bridge fdb del {mac} dev vx100 master"),
        format!("bridge fdb replace {mac} dev vx100 self dst 10.0.0.99"),
        format!("bridge fdb del {flood} dev vx100 self dst 10.0.0.12"),
        format!("bridge fdb append {flood} dev vx100 self dst 10.0.0.99"),
        "bridge fdb add 02:00:00:00:00:ee dev vx100 self dst 10.0.0.99".to_owned(),
    ] {
        worker.host.sh(&format!("ip netns exec {}-overlay {damage}", worker.host.name()));
        wait::until(&format!("{damage} to be mended"), || {
            let table = worker.overlay_sh("bridge fdb show dev vx100");
            let has = |needle: &[&str]| table.lines().any(|line| needle.iter().all(|part| line.contains(part)));
            let right = has(&[mac, "dst 10.0.0.12"]) && has(&[mac, "master br100"]) && has(&[flood, "dst 10.0.0.12"]);
            if right && !table.contains("10.0.0.99") { Ok(()) } else { Err(table) }
        });
        here.wait_pings("192.168.1.2");
    }
    wait_named(worker, "row-disturbed");
}

/// Waits until the worker's log names what others did, and that it is to be looked into.
fn wait_named(worker: &Worker, rule: &str) {
    wait::until(&format!("{rule} in the log"), || {
        let log = worker.host.log("megalos-speaker");
        let named = log.lines().any(|line| line.contains(rule) && line.contains("find out who"));
        if named { Ok(()) } else { Err(log) }
    });
}

#[test]
fn devices_that_somebody_removes_or_shuts_are_put_right() {
    let (fabric, [here, _there]) = ready();
    let worker = &fabric.workers[0];
    for damage in [
        "ip link del vx100",
        "ip link set vx100 down",
        "ip link set vx100 nomaster",
        "ip link set br100 down",
        "ip link del br100",
    ] {
        worker.host.sh(&format!("ip netns exec {}-overlay {damage}", worker.host.name()));
        wait::until_true(&format!("a ping after `{damage}`"), || here.pings("192.168.1.2"));
        fabric.wait_row(0, LAN, MACS[1], Some(1));
    }
    wait_named(worker, "tunnel-gone");
}

#[test]
fn a_cut_cable_costs_no_route_once_it_is_mended() {
    let mut fabric = Fabric::empty(Family::V4);
    let config = "listen = [\"10.0.0.1:1179\"]\n[defaults]\nhold_time_secs = 3\n[[accept]]\nprefix = \"10.0.0.0/24\"\n";
    let reflector = Reflector::configured(fabric.host("rr1", 1), config);
    for index in 0..2 {
        fabric.add_worker_of("10.0.0.1:1179", index, &[]);
    }
    fabric.wait_established();
    let [here, _there] = fabric.devices::<2>();
    fabric.wait_row(0, LAN, MACS[1], Some(1));
    fabric.wait_row(1, LAN, MACS[0], Some(0));
    fabric.workers[0].host.sh("ip link set eth0 down");
    let established = |address: &str| reflector.peer(address).is_some_and(|peer| peer.state == "Established");
    wait::until_true("the reflector to miss the worker", || !established("10.0.0.11"));
    wait::until_true("the worker to miss the reflector", || fabric.workers[0].peers()[0].state != "Established");
    // Both keep what they have for the restart time.
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[1]), Some(fabric.vtep(1)));
    assert_eq!(fabric.workers[1].fdb(LAN, MACS[0]), Some(fabric.vtep(0)));
    // What happens meanwhile is not lost.
    let late = Host::new("pc3");
    fabric.workers[0].attach(&late, LAN, MACS[2], "192.168.1.3/24");
    fabric.workers[0].host.sh("ip link set eth0 up");
    fabric.wait_established();
    here.wait_pings("192.168.1.2");
    fabric.wait_row(1, LAN, MACS[2], Some(0));
    wait::until_true("nothing stale", || reflector.peers().iter().all(|peer| peer.stale_routes == 0));
}

#[test]
fn a_flow_goes_on_while_no_reflector_is_there_at_all() {
    let (mut fabric, [here, _there]) = ready();
    let flow = Flow::start(&here, "192.168.1.2");
    fabric.reflectors[0].kill(Signal::SIGKILL);
    wait::until_true("both to miss it", || {
        fabric.workers.iter().all(|worker| worker.peers()[0].state != "Established")
    });
    fabric.workers[0].kill(Signal::SIGKILL);
    fabric.workers[0].restart();
    flow.wait_for_replies(50);
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[1]), Some(fabric.vtep(1)));
    fabric.reflectors[0].restart();
    fabric.wait_established();
    flow.wait_for_replies(50);
    let report = flow.stop();
    assert!(report.lost.is_empty(), "{report:?}");
}

/// A frame from `mac` to everybody.
fn shout(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    frame
}

fn state(worker: &Worker, mac: &str) -> Option<(String, String)> {
    worker.macs().into_iter().find(|row| row.mac == mac).map(|row| (row.at, row.state))
}

#[test]
fn macs_behind_a_device_are_learned_announced_and_followed() {
    let (fabric, [here, there]) = ready();
    let (mac, text) = ([2, 0, 0, 0, 0, 0x55], "02:00:00:00:00:55");
    frames::send(&here, "eth0", &shout(mac));
    fabric.wait_row(1, LAN, text, Some(0));
    assert_eq!(state(&fabric.workers[0], text), Some(("local".into(), "learned".into())));
    // It speaks elsewhere: it has moved, and again.
    frames::send(&there, "eth0", &shout(mac));
    fabric.wait_row(0, LAN, text, Some(1));
    fabric.wait_row(1, LAN, text, None);
    frames::send(&here, "eth0", &shout(mac));
    fabric.wait_row(1, LAN, text, Some(0));
    fabric.wait_row(0, LAN, text, None);
    // The bridge forgets it: it is withdrawn.
    let port = fabric.workers[0].overlay_sh("bridge fdb show br br100");
    let line = port.lines().find(|line| line.starts_with(text)).unwrap_or_default().to_owned();
    let device = line.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap_or_default().to_owned();
    fabric.workers[0].overlay_sh(&format!("bridge fdb del {text} dev {device} master"));
    fabric.wait_row(1, LAN, text, None);
}

#[test]
fn a_mac_that_speaks_on_two_nodes_at_once_is_reported_as_a_duplicate() {
    let (fabric, [here, there]) = ready();
    let (mac, text) = ([2, 0, 0, 0, 0, 0x55], "02:00:00:00:00:55");
    let frozen = || {
        let states = fabric.workers.iter().filter_map(|worker| state(worker, text));
        states.into_iter().any(|(_, state)| state.contains("duplicate"))
    };
    wait::until_true("the duplicate to be noticed", || {
        frames::send(&here, "eth0", &shout(mac));
        frames::send(&there, "eth0", &shout(mac));
        frozen()
    });
    let log = fabric.workers.iter().map(|worker| worker.host.log("megalos-speaker")).collect::<String>();
    assert!(log.contains(text), "{log}");
    // Claims of others are not touched.
    here.wait_pings("192.168.1.2");
    assert_eq!(fabric.workers[0].fdb(LAN, MACS[1]).map(|vtep| vtep.parse()), Some(Ok(IpAddr::from([10, 0, 0, 12]))));
}

#[test]
fn sessions_with_a_key_come_up_and_those_with_another_do_not() {
    let mut fabric = Fabric::empty(Family::V4);
    let accept = |key: &str| {
        format!(
            "listen = [\"10.0.0.1:1179\"]\n[[accept]]\nprefix = \"10.0.0.0/24\"\ngtsm = true\npassword = \"{key}\"\n"
        )
    };
    let reflector = Reflector::configured(fabric.host("rr1", 1), &accept("one"));
    let dir = reflector.host.directory().clone();
    for (index, key) in ["one", "two"].into_iter().enumerate() {
        let path = dir.join(format!("{key}.toml"));
        let text = format!("[[peer]]\naddress = \"10.0.0.1:1179\"\ngtsm = true\npassword = \"{key}\"\n");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
        fabric.add_worker_of("", index, &["--config", &path.display().to_string()]);
    }
    fabric.workers[0].wait_established();
    assert_ne!(fabric.workers[1].peers()[0].state, "Established");
    assert!(reflector.peer("10.0.0.12").is_none_or(|peer| peer.established_count == 0));
    // The reflector changes its key: now it is the other's turn.
    reflector.reconfigure(&accept("two"));
    fabric.workers[1].wait_established();
}
