//! The kernel in memory does what the real one does.

use std::time::Duration;

use super::sandbox::*;
use dataplane::memory::Memory;
use dataplane::{AttachRequest, Change, Dataplane, LanSnapshot, Observation, Pod, PortId};
use evpn::forwarding::Key;

const PODS: [&str; 2] = ["a", "b"];

/// A reproducible stream of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Performs one step on both kernels.
fn step(random: &mut Random, linux: &mut impl Dataplane, memory: &mut Memory) -> String {
    let address = mac(random.below(4) as u32);
    let vtep = format!("192.0.2.{}", 2 + random.below(3));
    let pod = PODS[random.below(2) as usize];
    let port = PortId::attachment(pod, "eth0");
    let key = Key::Mac(vni(7), address);
    let sticky = random.below(4) == 0;
    let mut both = |change: Change| {
        let results = [linux.apply(&[change]), memory.apply(&[change])].map(|mut results| results.remove(0).is_ok());
        assert_eq!(results[0], results[1], "{change:?}");
        format!("{change:?}")
    };
    match random.below(9) {
        0 => both(tunnel(7)),
        1 if random.below(4) == 0 => both(without(tunnel(7).key)),
        1 | 2 => both(remote(7, address, &vtep, sticky)),
        3 => both(without(key)),
        4 => both(flood(7, &vtep)),
        5 => both(without(flood(7, &vtep).key)),
        6 | 7 => {
            speak(pod, address);
            memory.frame(vni(7), &port, address, mac(99));
            format!("{address} speaks in {pod}")
        }
        _ => {
            let (done, _) = try_sh(&format!("bridge -n overlay fdb del {address} dev vx7 self"));
            if done {
                // In memory a foreign writer removes both rows, so here too.
                try_sh(&format!("bridge -n overlay fdb del {address} dev vx7 master"));
            }
            memory.foreign_remove(key);
            format!("somebody removes {address}")
        }
    }
}

/// What both must agree upon.
fn essence(mut lan: LanSnapshot) -> LanSnapshot {
    lan.ports.values_mut().for_each(|port| port.index = 0);
    // The kernel in memory has no devices, only their rows.
    lan.devices.clear();
    lan
}

/// All observations that the step caused, in an order that does not depend on hashing.
fn news(dataplane: &mut impl Dataplane) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    loop {
        let more = dataplane.poll_events(Duration::ZERO).unwrap();
        if more.is_empty() {
            seen.sort();
            return seen;
        }
        assert!(!more.contains(&Observation::Overrun));
        let of_rows = more.iter().filter(|observation| !matches!(observation, Observation::DeviceMac { .. }));
        seen.extend(of_rows.map(|observation| format!("{observation:?}")));
    }
}

#[test]
fn both_kernels_agree_after_every_step() {
    sandbox(|| {
        let mut linux = node();
        let mut memory = Memory::new("192.0.2.1".parse().unwrap(), linux.mtu_max()).unwrap();
        for name in PODS {
            pod(&mut linux, name, 7, None);
            let simulated = AttachRequest { pod: Pod::Simulated, ..request(name, 7) };
            memory.attach(simulated).unwrap();
        }
        for name in PODS {
            eventually("the pod's link is up", || sh(&format!("ip -n {name} link show eth0")).contains("LOWER_UP"));
        }
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut story = vec![format!("seed {seed}")];
            for _ in 0..40 {
                story.push(step(&mut random, &mut linux, &mut memory));
                assert_eq!(news(&mut linux), news(&mut memory), "{story:#?}");
                let real = essence(linux.snapshot().unwrap().lans.remove(&vni(7)).unwrap());
                let simulated = essence(memory.snapshot().unwrap().lans.remove(&vni(7)).unwrap());
                assert_eq!(real, simulated, "{story:#?}");
            }
        }
        for name in PODS {
            speak(name, mac(200));
            memory.frame(vni(7), &PortId::attachment(name, "eth0"), mac(200), mac(99));
            news(&mut linux);
            news(&mut memory);
            let port = [PortId::attachment(name, "eth0")];
            linux.detach(&port).unwrap();
            memory.detach(&port).unwrap();
            assert_eq!(news(&mut linux), news(&mut memory));
            assert_eq!(linux.snapshot().unwrap().lans.len(), memory.snapshot().unwrap().lans.len());
        }
    });
}
