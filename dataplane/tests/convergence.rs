//! Whatever happens to a kernel, a caller that does its duties brings it to what is desired.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bgp_core::types::{MacAddr, Vni};
use dataplane::memory::{Egress, Memory};
use dataplane::{AttachRequest, Change, Dataplane, Existing, Observation, Pod, PortId, plan};
use evpn::forwarding::{Desired, Key};
use proptest::prelude::*;

const VNIS: u32 = 3;
const MACS: u8 = 4;
const VTEPS: u8 = 3;

fn vni(number: u32) -> Vni {
    Vni::new(number + 1).unwrap()
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

fn vtep(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number + 2).into()
}

fn port(lan: u32, number: u8) -> PortId {
    PortId::attachment(&format!("pod{lan}-{number}"), "eth0")
}

/// A kernel with two members in each LAN.
fn kernel() -> Memory {
    let mut memory = Memory::new(Ipv4Addr::new(192, 0, 2, 1).into(), 1450).unwrap();
    for lan in 0..VNIS {
        for number in 0..2 {
            let request = AttachRequest {
                port: port(lan, number),
                vni: vni(lan),
                lan: format!("lan {lan}"),
                pod: Pod::Simulated,
                interface: "eth0".into(),
                mac: None,
                mtu: None,
                addresses: Vec::new(),
                routes: Vec::new(),
                existing: Existing::Keep,
            };
            memory.attach(request).unwrap();
        }
    }
    memory
}

fn row() -> impl Strategy<Value = (Key, Desired)> {
    let mac_row = (0..VNIS, 0..MACS, 0..VTEPS, any::<bool>())
        .prop_map(|(l, m, v, sticky)| (Key::Mac(vni(l), mac(m)), Desired::RemoteMac { vtep: vtep(v), sticky }));
    let flood_row = (0..VNIS, 0..VTEPS).prop_map(|(l, v)| (Key::Flood(vni(l), vtep(v)), Desired::Flood));
    let neighbor = (0..VNIS, 0..3_u8, 0..MACS).prop_map(|(l, ip, m)| {
        (Key::Neighbor(vni(l), Ipv4Addr::new(10, 0, 0, ip).into()), Desired::Neighbor { mac: mac(m) })
    });
    prop_oneof![3 => mac_row, 2 => flood_row, 1 => neighbor]
}

/// Any desired state: rows are desired only with their tunnel.
fn desired() -> impl Strategy<Value = BTreeMap<Key, Desired>> {
    (proptest::collection::btree_set(0..VNIS, 0..=VNIS as usize), proptest::collection::vec(row(), 0..20)).prop_map(
        |(tunnels, rows)| {
            let mut desired: BTreeMap<Key, Desired> = rows.into_iter().collect();
            desired.retain(|key, _| tunnels.iter().any(|&lan| lan_of(*key) == vni(lan)));
            desired.extend(tunnels.into_iter().map(|lan| (Key::Tunnel(vni(lan)), Desired::Tunnel)));
            desired
        },
    )
}

fn lan_of(key: Key) -> Vni {
    let (Key::Tunnel(vni) | Key::Flood(vni, _) | Key::Mac(vni, _) | Key::Neighbor(vni, _)) = key;
    vni
}

/// What may happen besides.
#[derive(Clone, Debug)]
enum Event {
    Desire(BTreeMap<Key, Desired>),
    Frame(u32, u8, u8, u8),
    Age(u32, u8),
    Fail(Key, u32, i32),
    Full(usize),
    FailSnapshots(u32),
    Deaf(bool),
    Overrun,
    ForeignRemove(Key),
    ForeignWrite(Key, Desired),
    ForeignTunnelGone(u32),
    Pin(u32, u8, u8),
}

/// What a kernel says when it has no room, no patience, or somebody was there first.
fn errno() -> impl Strategy<Value = i32> {
    prop_oneof![Just(libc::ENOMEM), Just(libc::ENOBUFS), Just(libc::ENOSPC), Just(libc::EEXIST), Just(libc::EBUSY)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => desired().prop_map(Event::Desire),
        4 => (0..VNIS, 0..2_u8, 0..MACS, 0..MACS).prop_map(|(l, p, s, d)| Event::Frame(l, p, s, d)),
        1 => (0..VNIS, 0..MACS).prop_map(|(l, m)| Event::Age(l, m)),
        2 => (row(), 1..4_u32, errno()).prop_map(|((key, _), times, errno)| Event::Fail(key, times, errno)),
        1 => (0..6_usize).prop_map(Event::Full),
        1 => (1..3_u32).prop_map(Event::FailSnapshots),
        1 => any::<bool>().prop_map(Event::Deaf),
        1 => Just(Event::Overrun),
        2 => row().prop_map(|(key, _)| Event::ForeignRemove(key)),
        2 => row().prop_map(|(key, desired)| Event::ForeignWrite(key, desired)),
        1 => (0..VNIS).prop_map(Event::ForeignTunnelGone),
        1 => (0..VNIS, 0..MACS, 0..2_u8).prop_map(|(l, m, p)| Event::Pin(l, m, p)),
    ]
}

fn happen(memory: &Memory, event: Event) -> Option<BTreeMap<Key, Desired>> {
    match event {
        Event::Desire(desired) => return Some(desired),
        Event::Frame(l, p, s, d) => _ = memory.frame(vni(l), &port(l, p), mac(s), mac(d)),
        Event::Age(l, m) => memory.age(vni(l), mac(m)),
        Event::Fail(key, times, errno) => memory.fail_with(key, times, errno),
        Event::Full(limit) => memory.set_row_limit(limit),
        Event::FailSnapshots(times) => memory.fail_snapshots(times),
        Event::Deaf(deaf) => memory.set_deaf(deaf),
        Event::Overrun => memory.overrun(),
        Event::ForeignRemove(key) => memory.foreign_remove(key),
        Event::ForeignWrite(key, desired) => memory.foreign_write(key, desired),
        Event::ForeignTunnelGone(l) => memory.foreign_remove(Key::Tunnel(vni(l))),
        Event::Pin(l, m, p) => memory.pin(vni(l), mac(m), &port(l, p)),
    }
    None
}

/// Snapshot, plan, apply, until nothing is left to do.
fn resync(memory: &mut Memory, desired: &BTreeMap<Key, Desired>) {
    for _ in 0..10 {
        let Ok(snapshot) = memory.snapshot() else { continue };
        let changes = plan(desired, &snapshot);
        if changes.is_empty() {
            return;
        }
        memory.apply(&changes);
    }
    panic!("no end after ten rounds");
}

/// A caller that only ever follows what it is told, as a worker does between audits.
struct Caller {
    desired: BTreeMap<Key, Desired>,
    dirty: Vec<Key>,
    /// Something was lost: everything is to be compared.
    audit: bool,
}

impl Caller {
    fn desire(&mut self, desired: BTreeMap<Key, Desired>) {
        let changed = |key: &&Key| self.desired.get(key) != desired.get(key);
        let keys: Vec<Key> = self.desired.keys().chain(desired.keys()).filter(changed).copied().collect();
        self.dirty.extend(keys);
        self.desired = desired;
    }

    fn follow(&mut self, memory: &mut Memory) {
        for observation in memory.poll_events(Duration::ZERO).unwrap() {
            match observation {
                Observation::RowDisturbed { key } => self.dirty.push(key),
                Observation::RowTakenOver { vni, mac, .. } => self.dirty.push(Key::Mac(vni, mac)),
                Observation::TunnelGone { vni } => {
                    self.dirty.extend(self.desired.keys().filter(|&&key| lan_of(key) == vni));
                }
                Observation::Overrun => self.audit = true,
                _ => {}
            }
        }
        if self.audit
            && let Ok(snapshot) = memory.snapshot()
        {
            self.audit = false;
            self.dirty.extend(plan(&self.desired, &snapshot).into_iter().map(|change| change.key));
        }
        self.dirty.sort_unstable();
        self.dirty.dedup();
        let keys = std::mem::take(&mut self.dirty);
        let changes: Vec<Change> =
            keys.iter().map(|&key| Change { key, desired: self.desired.get(&key).copied() }).collect();
        let results = memory.apply(&changes);
        let failed = keys.into_iter().zip(results).filter(|(_, result)| result.is_err());
        self.dirty.extend(failed.map(|(key, _)| key));
    }
}

proptest! {
    #[test]
    fn what_is_planned_and_applied_is_what_is_desired(states in proptest::collection::vec(desired(), 1..6)) {
        let mut memory = kernel();
        for desired in states {
            let changes = plan(&desired, &memory.snapshot().unwrap());
            prop_assert!(memory.apply(&changes).iter().all(Result::is_ok), "{changes:?}");
            prop_assert_eq!(plan(&desired, &memory.snapshot().unwrap()), []);
        }
    }

    #[test]
    fn after_any_misbehaviour_a_resync_brings_what_is_desired(events in proptest::collection::vec(event(), 0..40)) {
        let mut memory = kernel();
        let mut desired = BTreeMap::new();
        for event in events {
            if let Some(new) = happen(&memory, event) {
                let _ = memory.apply(&memory.clone().snapshot().map(|seen| plan(&new, &seen)).unwrap_or_default());
                desired = new;
            }
        }
        memory.set_deaf(false);
        memory.set_row_limit(usize::MAX);
        resync(&mut memory, &desired);
        forwards_as(&memory, &desired)?;
    }

    #[test]
    fn following_observations_is_enough_while_none_is_lost(events in proptest::collection::vec(event(), 0..40)) {
        let mut memory = kernel();
        let mut caller = Caller { desired: BTreeMap::new(), dirty: Vec::new(), audit: false };
        for event in events.into_iter().filter(|event| !matches!(event, Event::Deaf(_))) {
            if let Some(new) = happen(&memory, event) {
                caller.desire(new);
            }
            caller.follow(&mut memory);
        }
        memory.fail_snapshots(0);
        memory.set_row_limit(usize::MAX);
        for _ in 0..10 {
            caller.follow(&mut memory);
        }
        prop_assert_eq!(plan(&caller.desired, &memory.snapshot().unwrap()), []);
        forwards_as(&memory, &caller.desired)?;
    }
}

/// Frames go where the desired state says.
fn forwards_as(memory: &Memory, desired: &BTreeMap<Key, Desired>) -> Result<(), TestCaseError> {
    for lan in 0..VNIS {
        let from = port(lan, 0);
        for (key, state) in desired.iter().filter(|(key, _)| lan_of(**key) == vni(lan)) {
            if let (Key::Mac(vni, to), Desired::RemoteMac { vtep, .. }) = (*key, *state) {
                prop_assert_eq!(memory.frame(vni, &from, MacAddr::ZERO, to), [Egress::Vtep(vtep)]);
                prop_assert_eq!(memory.receive(vni, to), []);
            }
        }
        let vteps = desired.keys().filter_map(|key| match *key {
            Key::Flood(of, vtep) if of == vni(lan) => Some(Egress::Vtep(vtep)),
            _ => None,
        });
        let flooded: Vec<Egress> = std::iter::once(Egress::Port(port(lan, 1))).chain(vteps).collect();
        prop_assert_eq!(memory.frame(vni(lan), &from, MacAddr::ZERO, MacAddr([0xff; 6])), flooded);
    }
    Ok(())
}

#[test]
fn the_last_member_takes_the_lan_with_it() {
    let mut memory = kernel();
    memory.apply(&[Change { key: Key::Tunnel(vni(0)), desired: Some(Desired::Tunnel) }]);
    memory.frame(vni(0), &port(0, 0), mac(1), mac(2));
    memory.kill(&port(0, 0));
    let seen = memory.poll_events(Duration::ZERO).unwrap();
    assert!(matches!(
        seen.as_slice(),
        [Observation::LocalMac { .. }, Observation::LocalMacGone { .. }, Observation::PortGone { .. }]
    ));
    memory.detach(&[port(0, 0), port(0, 1)]).unwrap();
    assert!(!memory.snapshot().unwrap().lans.contains_key(&vni(0)));
}
