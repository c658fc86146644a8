//! A kernel that others change too, that runs out of room, and that loses notifications: what is desired comes true all the
//! same, and what is not ours stays as it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::sandbox::*;
use dataplane::linux::{Config, Linux, Mode};
use dataplane::{AttachError, Change, ChangeError, Dataplane, Error, Observation, PortId, plan, rules};
use evpn::forwarding::{Desired, Key};
use nix::sys::socket::{setsockopt, sockopt};

/// Does the duties of a caller, and nothing more.
struct Caller {
    linux: Linux,
    desired: BTreeMap<Key, Desired>,
    dirty: Vec<Key>,
    overruns: usize,
}

impl Caller {
    fn new(linux: Linux, changes: &[Change]) -> Self {
        let desired = changes.iter().filter_map(|change| Some((change.key, change.desired?))).collect();
        let mut caller = Self { linux, desired, dirty: Vec::new(), overruns: 0 };
        caller.dirty.extend(caller.desired.keys());
        caller.follow();
        caller
    }

    fn follow(&mut self) {
        for observation in self.linux.poll_events(Duration::ZERO).unwrap() {
            match observation {
                Observation::RowDisturbed { key } => self.dirty.push(key),
                Observation::RowTakenOver { vni, mac, .. } => self.dirty.push(Key::Mac(vni, mac)),
                Observation::TunnelGone { .. } => self.dirty.extend(self.desired.keys()),
                Observation::Overrun => {
                    self.overruns += 1;
                    self.audit();
                }
                _ => {}
            }
        }
        self.dirty.sort_unstable();
        self.dirty.dedup();
        let keys = std::mem::take(&mut self.dirty);
        for part in keys.chunks(dataplane::MAX_BATCH) {
            let changes: Vec<Change> =
                part.iter().map(|&key| Change { key, desired: self.desired.get(&key).copied() }).collect();
            let results = self.linux.apply(&changes);
            self.dirty.extend(part.iter().zip(results).filter(|(_, result)| result.is_err()).map(|(key, _)| *key));
        }
    }

    /// Reads everything, and marks what differs.
    fn audit(&mut self) {
        match self.linux.snapshot() {
            Ok(snapshot) => self.dirty.extend(plan(&self.desired, &snapshot).into_iter().map(|change| change.key)),
            // Too much goes on: once more with the next round.
            Err(Error::Unsteady) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn differences(&mut self) -> Vec<Change> {
        match self.linux.snapshot() {
            Ok(snapshot) => plan(&self.desired, &snapshot),
            Err(error) => panic!("{error}"),
        }
    }

    /// Follows until what is observed is what is desired. Without an audit: notifications alone must do.
    fn settle(&mut self) {
        eventually("nothing is left to do", || {
            self.follow();
            self.dirty.is_empty() && !self.linux.has_pending_events()
        });
        assert_eq!(self.differences(), []);
    }
}

fn rows(count: u32) -> Vec<Change> {
    let mut changes = vec![tunnel(7), flood(7, "192.0.2.2"), flood(7, "192.0.2.3")];
    changes.extend((1..=count).map(|number| remote(7, mac(number), "192.0.2.2", number % 5 == 0)));
    changes
}

/// What a foreign hand may do to a LAN, on devices that are ours.
const HARM: [&str; 14] = [
    "link set vx7 down",
    "link set vx7 nomaster",
    "link del vx7",
    "link del br7",
    "link set br7 down",
    // The same name again, with another index and as another kind of device.
    "link del vx7; ip -n overlay link add vx7 type bridge",
    "link del vx7; ip -n overlay link add vx7 up master br7 type vxlan id 7 dstport 4789 local 192.0.2.1",
    "link del br7; ip -n overlay link add br7 up type bridge",
    "link set vx7 mtu 600",
    "link set vx7 promisc on",
    "fdb",
    "flush",
    "flood",
    "foreign",
];

fn harm(kind: &str, round: u32) -> String {
    let one = mac(round % 200 + 1);
    match kind {
        "fdb" => format!("bridge -n overlay fdb del {one} dev vx7 self"),
        "flush" => "bridge -n overlay fdb flush dev vx7 master".to_owned(),
        "flood" => "bridge -n overlay fdb del 00:00:00:00:00:00 dev vx7 dst 192.0.2.2".to_owned(),
        "foreign" => format!("bridge -n overlay fdb replace {one} dev vx7 self dst 192.0.2.99"),
        link => format!("ip -n overlay {link}"),
    }
}

#[test]
fn whatever_others_do_meanwhile_the_end_is_what_is_desired() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let mut caller = Caller::new(linux, &rows(200));
        caller.settle();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..70 {
                    let kind = HARM[round as usize % HARM.len()];
                    // Some fail, since the last harm is not mended yet: that is as it should be.
                    try_sh(&harm(kind, round));
                }
                done.store(true, Ordering::Release);
            });
            // Rows are written and read while devices come and go under the caller's hands.
            while !done.load(Ordering::Acquire) {
                caller.follow();
                caller.dirty.extend(caller.desired.keys().take(50));
            }
        });
        caller.settle();
        let shown = sh("ip -n overlay -d link show vx7");
        assert!(shown.contains("vxlan id 7") && !shown.contains("mtu 600"), "{shown}");
        assert!(sh("ip -n overlay link show").contains("master br7"));
    });
}

#[test]
fn notifications_that_are_lost_in_the_storm_cost_an_audit_and_no_row() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let mut caller = Caller::new(linux, &rows(500));
        caller.settle();
        setsockopt(&caller.linux.notifications(), sockopt::RcvBuf, &4_096).unwrap();
        for _ in 0..3 {
            let overruns = caller.overruns;
            let deletions: String = (1..=300).map(|number| format!("fdb del {} dev vx7 self\n", mac(number))).collect();
            std::fs::write("/run/batch", deletions).unwrap();
            sh("bridge -n overlay -force -b /run/batch; ip -n overlay link del vx7");
            caller.settle();
            assert!(caller.overruns > overruns, "nothing was lost: the test does not test");
        }
    });
}

#[test]
fn what_is_on_ports_of_others_stays_as_it_is() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let mut caller = Caller::new(linux, &rows(20));
        caller.settle();
        sh(
            "ip -n overlay link add ext0 type veth peer name ext1 && ip -n overlay link set ext0 up master br7 && ip -n overlay link set ext1 up",
        );
        // An administrator's rows: some for MACs that are also remote, none of them ours to touch.
        for number in [901, 902] {
            sh(&format!("bridge -n overlay fdb add {} dev ext0 master static", mac(number)));
        }
        sh(&format!("bridge -n overlay fdb add {} dev ext0 master static sticky", mac(903)));
        sh("bridge -n overlay fdb add 02:00:00:00:00:99 dev ext1 self");
        sh(&format!("bridge -n overlay fdb add {} dev ext0 master permanent", mac(904)));
        assert!(caller.linux.snapshot().unwrap().lans[&vni(7)].devices.contains(&mac(904)), "an address of this node");
        let port = caller.linux.snapshot().unwrap().lans[&vni(7)].local[&mac(901)].clone();
        assert!(port.sticky, "what an administrator has set does not move");
        let foreign = || {
            let mut rows: Vec<String> = sh("bridge -n overlay fdb show dev ext0; bridge -n overlay fdb show dev ext1")
                .lines()
                .filter(|row| row.contains("static") || row.contains("02:00:00:00:00:99"))
                .map(str::to_owned)
                .collect();
            rows.sort();
            rows
        };
        let before = foreign();
        assert_eq!(before.len(), 4, "{before:?}");
        for kind in ["link del vx7", "fdb", "flush", "flood", "foreign"] {
            try_sh(&harm(kind, 3));
            caller.settle();
        }
        caller.desired.retain(|key, _| matches!(key, Key::Tunnel(_)));
        caller.audit();
        caller.settle();
        assert_eq!(foreign(), before);
        sh(&format!("bridge -n overlay fdb del {} dev ext0 master", mac(904)));
        observe(&mut caller.linux, &Observation::DeviceMac { vni: vni(7), mac: mac(904), present: false });
    });
}

#[test]
fn devices_in_the_way_are_removed_in_our_namespace_and_named_outside() {
    sandbox(|| {
        let mut linux = node();
        quiet_namespace("a");
        // In the overlay namespace everything is ours, whatever it is.
        sh("ip -n overlay link add br7 type veth peer name other7 && ip -n overlay link add vx7 type bridge");
        observed(&mut linux);
        linux.attach(request("a", 7)).unwrap();
        apply(&mut linux, &rows(3));
        assert!(sh("ip -n overlay -d link show vx7").contains("vxlan id 7"));
        assert!(sh("ip -n overlay -d link show br7").contains("bridge"));

        // Outside it is not: the user of the VNI is named, and once it has gone the same change succeeds.
        apply(&mut linux, &[without(Key::Tunnel(vni(7)))]);
        sh("ip link add theirs type vxlan id 7 dstport 4789 local 192.0.2.1 && ip link set theirs up");
        let error = linux.apply(&[tunnel(7)]).remove(0).unwrap_err();
        assert!(matches!(&error, ChangeError::VniInUse { user, .. } if user.contains("theirs")), "{error}");
        assert_eq!(error.rule(), Some(rules::VNI_IN_USE));
        assert!(sh("ip link show theirs").contains("theirs"), "what is not ours stays");
        sh("ip link del theirs");
        apply(&mut linux, &rows(3));

        // A name that the pod has already.
        sh("ip netns add b && ip -n b link add eth0 type bridge");
        let error = linux.attach(request("b", 7)).unwrap_err();
        assert!(matches!(error, AttachError::InterfaceExists { .. }), "{error}");
    });
}

/// A VXLAN device of an administrator that takes three rows, served in the current namespace.
fn small_table() -> Linux {
    sh("ip link add under0 type dummy 2>/dev/null || ip link add under0 type veth peer name under1");
    sh("ip addr add 192.0.2.1/24 dev under0; ip link set under0 up");
    sh("ip link add br9 up type bridge");
    sh("ip link add vx9 up master br9 type vxlan id 9 dstport 4789 local 192.0.2.1 nolearning maxaddress 3");
    sh("ip link add port9 up master br9 type veth peer name station9 && ip link set station9 up");
    let vtep: IpAddr = "192.0.2.1".parse().unwrap();
    let config = Config { mode: Mode::Adopt, ..Config::new(vtep, "unused") };
    Linux::open(config).unwrap()
}

#[test]
fn a_table_that_is_full_is_said_with_its_cure_and_filled_once_there_is_room() {
    sandbox(|| {
        let linux = small_table();
        let of9 = |number: u32| remote(9, mac(number), "192.0.2.2", number == 2);
        let all: Vec<Change> = (1..=5).map(of9).collect();
        let mut caller = Caller::new(linux, &[]);
        caller.desired = all.iter().filter_map(|change| Some((change.key, change.desired?))).collect();
        let results = caller.linux.apply(&all);
        let errors: Vec<&ChangeError> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        for error in errors {
            assert_eq!(error.rule(), Some(rules::TABLE_FULL), "{error}");
            assert!(error.is_retryable() && error.to_string().contains("maxaddress"), "{error}");
        }
        // Rows that are there can still move, and what goes makes room.
        apply(&mut caller.linux, &[remote(9, mac(1), "192.0.2.3", false), of9(1)]);
        for gone in [1, 3] {
            caller.desired.remove(&of9(gone).key);
        }
        caller.audit();
        caller.settle();
        let shown = sh("bridge fdb show dev vx9");
        assert_eq!(shown.lines().filter(|row| row.contains("dst 192.0.2.2")).count(), 3, "{shown}");
    });
}

#[test]
fn a_bridge_that_learns_no_more_still_takes_our_rows() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        let (known, _) = try_sh("ip -n overlay link set br7 type bridge fdb_max_learned 3");
        if !known {
            eprintln!("skipped: this kernel's bridges have no fdb_max_learned");
            return;
        }
        let mut caller = Caller::new(linux, &rows(50));
        (1000..1020).for_each(|number| speak("a", mac(number)));
        caller.settle();
        let lan = caller.linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap();
        assert!(lan.local.len() <= 3 && lan.local.values().all(|local| local.port == PortId::attachment("a", "eth0")));
        assert_eq!(lan.remote.len(), 50);
    });
}
