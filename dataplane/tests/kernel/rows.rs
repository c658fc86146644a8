//! Rows: remote MACs, flood lists, and what happens to them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::sandbox::*;
use dataplane::linux::{Config, Linux};
use dataplane::{BridgeRow, Change, ChangeError, Dataplane, Observation, PortId, RemoteRow, plan};
use evpn::forwarding::{Desired, Key};
use nix::sys::socket::{setsockopt, sockopt};

fn vtep(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn port(pod: &str) -> PortId {
    PortId::attachment(pod, "eth0")
}

#[test]
fn rows_are_written_moved_and_removed() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let refused = linux.apply(&[flood(7, "192.0.2.2"), remote(7, mac(1), "192.0.2.2", false), tunnel(8)]);
        assert!(matches!(refused[0], Err(ChangeError::NoTunnel { .. })));
        assert!(matches!(refused[1], Err(ChangeError::NoTunnel { .. })));
        assert!(matches!(refused[2], Err(ChangeError::NoLan { .. })));

        let changes = [tunnel(7), flood(7, "192.0.2.2"), flood(7, "192.0.2.3"), remote(7, mac(1), "192.0.2.2", false)];
        apply(&mut linux, &changes);
        apply(&mut linux, &changes);
        let lan = linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
        assert_eq!(lan.flood.len(), 2);
        assert_eq!(lan.remote[&mac(1)], RemoteRow { vtep: vtep("192.0.2.2"), bridge: Some(BridgeRow::External) });
        let shown = sh("bridge -n overlay fdb show dev vx7");
        assert!(shown.contains("02:00:00:00:00:01 extern_learn master br7"), "{shown}");
        let own = shown.lines().find(|line| line.contains("02:00:00:00:00:01 dst 192.0.2.2")).unwrap();
        assert!(own.contains("self extern_learn"), "{own}");

        apply(&mut linux, &[remote(7, mac(1), "192.0.2.3", false), without(flood(7, "192.0.2.2").key)]);
        let lan = linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
        assert_eq!(lan.remote[&mac(1)].vtep, vtep("192.0.2.3"));
        assert_eq!(lan.flood.len(), 1);

        apply(&mut linux, &[without(Key::Mac(vni(7), mac(1))), without(Key::Mac(vni(7), mac(9)))]);
        apply(&mut linux, &[without(flood(7, "192.0.2.3").key), without(flood(7, "192.0.2.3").key)]);
        let lan = linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
        assert!(lan.remote.is_empty() && lan.flood.is_empty());
        assert!(observed(&mut linux).is_empty(), "own work is no news");
    });
}

#[test]
fn a_remote_row_yields_to_a_local_frame_and_says_so() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        apply(&mut linux, &[tunnel(7), remote(7, mac(1), "192.0.2.2", false)]);
        speak("a", mac(1));
        let moved = Observation::RowTakenOver { vni: vni(7), mac: mac(1), port: port("a"), sticky: false };
        observe(&mut linux, &moved);
        // The other half is removed without harm to the row that is now local.
        apply(&mut linux, &[without(Key::Mac(vni(7), mac(1)))]);
        let lan = linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
        assert!(lan.remote.is_empty());
        assert_eq!(lan.local[&mac(1)].port, port("a"));

        // And back: nothing of the local row is left.
        apply(&mut linux, &[remote(7, mac(1), "192.0.2.3", false)]);
        let lan = linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
        assert!(!lan.local.contains_key(&mac(1)));
        assert_eq!(lan.remote[&mac(1)], RemoteRow { vtep: vtep("192.0.2.3"), bridge: Some(BridgeRow::External) });
        assert!(observed(&mut linux).is_empty(), "own work is no news");
    });
}

#[test]
fn a_sticky_row_does_not_yield_and_changes_its_kind_both_ways() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        apply(&mut linux, &[tunnel(7), remote(7, mac(1), "192.0.2.2", true)]);
        speak("a", mac(1));
        speak("a", mac(2));
        let learned = Observation::LocalMac { vni: vni(7), mac: mac(2), port: port("a"), sticky: false };
        let seen = observe(&mut linux, &learned);
        assert!(!seen.iter().any(|o| matches!(o, Observation::RowTakenOver { .. })), "{seen:?}");
        let row = |linux: &mut Linux| linux.snapshot().unwrap().lans[&vni(7)].remote[&mac(1)];
        assert_eq!(row(&mut linux), RemoteRow { vtep: vtep("192.0.2.2"), bridge: Some(BridgeRow::Sticky) });
        for sticky in [false, true, false] {
            apply(&mut linux, &[remote(7, mac(1), "192.0.2.2", sticky)]);
            let wanted = if sticky { BridgeRow::Sticky } else { BridgeRow::External };
            assert_eq!(row(&mut linux).bridge, Some(wanted));
            assert!(observed(&mut linux).is_empty(), "own work is no news");
        }
        speak("a", mac(1));
        observe(&mut linux, &Observation::RowTakenOver { vni: vni(7), mac: mac(1), port: port("a"), sticky: false });
    });
}

#[test]
fn local_macs_come_move_and_go() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let b = pod(&mut linux, "b", 7, None);
        let local = |pod: &str| Observation::LocalMac { vni: vni(7), mac: mac(5), port: port(pod), sticky: false };
        speak("a", mac(5));
        observe(&mut linux, &local("a"));
        speak("b", mac(5));
        observe(&mut linux, &local("b"));
        // Permanent rows are addresses of the node, not stations.
        let device = port("b").device_name();
        sh(&format!("bridge -n overlay fdb add 02:00:00:00:00:66 dev {device} master permanent"));
        sh(&format!("bridge -n overlay fdb add 02:00:00:00:00:67 dev {device} master static sticky"));
        let sticky = Observation::LocalMac {
            vni: vni(7),
            mac: "02:00:00:00:00:67".parse().unwrap(),
            port: port("b"),
            sticky: true,
        };
        let seen = observe(&mut linux, &sticky);
        let own = Observation::DeviceMac { vni: vni(7), mac: "02:00:00:00:00:66".parse().unwrap(), present: true };
        assert!(seen.contains(&own) && format!("{seen:?}").matches("00:66").count() == 1, "{seen:?}");
        sh(&format!("bridge -n overlay fdb del 02:00:00:00:00:05 dev {device} master"));
        observe(&mut linux, &Observation::LocalMacGone { vni: vni(7), mac: mac(5), port: port("b") });
        sh("ip netns del b");
        observe(&mut linux, &Observation::PortGone { vni: vni(7), port: port("b"), index: b.host_index });
        linux.detach(&[port("b")]).unwrap();
        assert!(linux.snapshot().unwrap().lans[&vni(7)].local.is_empty());
    });
}

#[test]
fn foreign_changes_of_our_rows_are_reported_and_own_ones_are_not() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let all: Vec<_> = (1..=50).map(|n| remote(7, mac(n), "192.0.2.2", n % 2 == 0)).collect();
        apply(&mut linux, &[tunnel(7), flood(7, "192.0.2.2")]);
        apply(&mut linux, &all);
        assert!(observed(&mut linux).is_empty(), "own work is no news");

        let disturbed = |key| Observation::RowDisturbed { key };
        sh("bridge -n overlay fdb del 02:00:00:00:00:01 dev vx7 self");
        observe(&mut linux, &disturbed(Key::Mac(vni(7), mac(1))));
        sh("bridge -n overlay fdb del 02:00:00:00:00:03 dev vx7 master");
        observe(&mut linux, &disturbed(Key::Mac(vni(7), mac(3))));
        sh("bridge -n overlay fdb replace 02:00:00:00:00:05 dev vx7 self dst 192.0.2.9 extern_learn");
        observe(&mut linux, &disturbed(Key::Mac(vni(7), mac(5))));
        sh("bridge -n overlay fdb add 02:00:00:00:00:99 dev vx7 self dst 192.0.2.9");
        observe(&mut linux, &disturbed(Key::Mac(vni(7), "02:00:00:00:00:99".parse().unwrap())));
        sh("bridge -n overlay fdb del 00:00:00:00:00:00 dev vx7 dst 192.0.2.2");
        observe(&mut linux, &disturbed(flood(7, "192.0.2.2").key));
        sh("bridge -n overlay fdb append 00:00:00:00:00:00 dev vx7 dst 192.0.2.9");
        observe(&mut linux, &disturbed(flood(7, "192.0.2.9").key));

        // What a caller does with the news: everything as it should be.
        let desired: BTreeMap<_, _> = [tunnel(7), flood(7, "192.0.2.2")]
            .iter()
            .chain(&all)
            .filter_map(|change| Some((change.key, change.desired?)))
            .collect();
        let changes = plan(&desired, &linux.snapshot().unwrap());
        assert_eq!(changes.len(), 6, "{changes:?}");
        apply(&mut linux, &changes);
        assert_eq!(plan(&desired, &linux.snapshot().unwrap()), []);
    });
}

#[test]
fn after_an_overrun_a_resync_brings_what_is_desired() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let all: Vec<_> = (1..=500).map(|n| remote(7, mac(n), "192.0.2.2", false)).collect();
        apply(&mut linux, &[tunnel(7)]);
        apply(&mut linux, &all);
        setsockopt(&linux.notifications(), sockopt::RcvBuf, &4096).unwrap();
        let deletions: String = (1..=300).map(|n| format!("fdb del {} dev vx7 self\n", mac(n))).collect();
        std::fs::write("/run/batch", deletions).unwrap();
        sh("bridge -n overlay -b /run/batch");
        observe(&mut linux, &Observation::Overrun);
        let desired: BTreeMap<Key, Desired> =
            [tunnel(7)].iter().chain(&all).filter_map(|change| Some((change.key, change.desired?))).collect();
        let changes = plan(&desired, &linux.snapshot().unwrap());
        assert_eq!(changes.len(), 300);
        apply(&mut linux, &changes);
        assert_eq!(plan(&desired, &linux.snapshot().unwrap()), []);
    });
}

#[test]
fn ten_thousand_rows_are_as_desired_and_outlive_their_writer() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let mut desired: BTreeMap<Key, Desired> = BTreeMap::new();
        for change in (1..=10_000).map(|n| remote(7, mac(n), &format!("192.0.2.{}", n % 200 + 2), n % 100 == 0)) {
            desired.insert(change.key, change.desired.unwrap());
        }
        desired.insert(Key::Tunnel(vni(7)), Desired::Tunnel);
        let changes = plan(&desired, &linux.snapshot().unwrap());
        assert_eq!(changes.len(), 10_001);
        apply(&mut linux, &changes);
        assert_eq!(observed(&mut linux), [], "own work is no news, and none was lost");
        assert_eq!(plan(&desired, &linux.snapshot().unwrap()), []);

        drop(linux);
        let monitor = Monitor::new("overlay");
        let mut linux = open();
        let snapshot = linux.snapshot().unwrap();
        assert_eq!(plan(&desired, &snapshot), []);
        assert_eq!(snapshot.lans[&vni(7)].ports.len(), 1);
        assert_eq!(monitor.count(), 0, "adoption changes no row");
    });
}

#[test]
fn a_removed_tunnel_is_reported_and_comes_back_with_its_rows() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let changes = [tunnel(7), flood(7, "192.0.2.2"), remote(7, mac(1), "192.0.2.2", false)];
        for harm in ["link del vx7", "link set vx7 down", "link set vx7 nomaster", "link del br7"] {
            apply(&mut linux, &changes);
            assert!(observed(&mut linux).is_empty());
            sh(&format!("ip -n overlay {harm}"));
            let seen = observe(&mut linux, &Observation::TunnelGone { vni: vni(7) });
            assert!(!seen.iter().any(|o| matches!(o, Observation::PortGone { .. })), "{harm}: {seen:?}");
            apply(&mut linux, &changes);
            let lan = linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
            assert!(lan.tunnel && lan.flood.len() == 1 && lan.remote.len() == 1, "{harm}: {lan:?}");
            assert_eq!((lan.name.as_str(), lan.ports.len()), ("lan 7", 1), "{harm}");
        }
        let device = port("a").device_name();
        sh(&format!("ip -n overlay link set {device} nomaster"));
        eventually("the port is back in its bridge", || {
            assert!(!observed(&mut linux).iter().any(|o| matches!(o, Observation::PortGone { .. })));
            sh(&format!("ip -n overlay link show {device}")).contains("master br7")
        });
    });
}

#[test]
fn rows_of_another_address_family_are_refused() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let results =
            linux.apply(&[tunnel(7), remote(7, mac(1), "2001:db8::1", false), remote(7, mac(2), "192.0.2.2", false)]);
        assert!(results[0].is_ok() && results[2].is_ok());
        let error = results[1].as_ref().unwrap_err();
        assert!(matches!(error, ChangeError::AddressFamily { .. }) && !error.is_retryable());
        let invalid = linux.apply(&[remote(7, "01:00:5e:00:00:01".parse().unwrap(), "192.0.2.2", false)]);
        assert!(matches!(invalid[0], Err(ChangeError::Invalid { .. })));
    });
}

#[test]
fn the_bridge_answers_for_remote_neighbours_where_wanted() {
    sandbox(|| {
        let neighbor = |ip: &str, of: u32| {
            let key = Key::Neighbor(vni(7), ip.parse().unwrap());
            Change { key, desired: Some(Desired::Neighbor { mac: mac(of) }) }
        };
        let all = [neighbor("10.0.0.2", 9), neighbor("fd00::2", 9)];
        let mut plain = node();
        pod(&mut plain, "a", 7, Some("10.0.0.1/24"));
        apply(&mut plain, &[tunnel(7), remote(7, mac(9), "192.0.2.2", false)]);
        apply(&mut plain, &all);
        let desired: BTreeMap<Key, Desired> =
            all.iter().filter_map(|change| Some((change.key, change.desired?))).collect();
        let surplus = plan(&desired, &plain.snapshot().unwrap());
        assert!(surplus.iter().all(|change| change.desired.is_none()), "accepted, not kept, not asked for again");
        apply(&mut plain, &[without(Key::Tunnel(vni(7)))]);
        drop(plain);

        let mut config = Config::new("192.0.2.1".parse().unwrap(), "overlay");
        config.suppress_neighbors = true;
        let mut linux = Linux::open(config).unwrap();
        apply(&mut linux, &[tunnel(7), remote(7, mac(9), "192.0.2.2", false)]);
        apply(&mut linux, &all);
        assert!(observed(&mut linux).is_empty(), "own work is no news");
        assert_eq!(linux.snapshot().unwrap().lans[&vni(7)].neighbors.len(), 2);
        try_sh("ip netns exec a ping -c1 -W1 10.0.0.2");
        assert!(sh("ip -n a neigh show 10.0.0.2").contains(&mac(9).to_string()));

        sh("ip -n overlay neigh del fd00::2 dev br7");
        observe(&mut linux, &Observation::RowDisturbed { key: all[1].key });
        apply(&mut linux, &all.map(|change| without(change.key)));
        assert!(linux.snapshot().unwrap().lans[&vni(7)].neighbors.is_empty());
    });
}
