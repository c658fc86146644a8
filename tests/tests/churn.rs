//! Devices that come, go and move at random among workers that die and return: in the end every table is exact.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use tests::fabric::Fabric;
use tests::host::Host;
use tests::wait;

const WORKERS: usize = 3;
const LANS: [u32; 4] = [100, 200, 300, 400];
const DEVICES: usize = 24;
const STEPS: usize = 160;

/// A small generator of numbers, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap_or(1)).unwrap_or_default()
    }
}

/// Where a device is: its namespace, its LAN and its worker.
struct Place {
    host: Host,
    vni: u32,
    worker: usize,
}

fn mac(device: usize) -> String {
    format!("02:00:00:00:01:{device:02x}")
}

/// The MACs of each LAN that a worker should send to others, each with its VTEP. A worker without members of the LAN has
/// none.
fn expected(fabric: &Fabric, places: &BTreeMap<usize, Place>, worker: usize) -> BTreeMap<(u32, String), String> {
    let is_member = |vni| places.values().any(|place| place.worker == worker && place.vni == vni);
    let remote = places.iter().filter(|(_, place)| place.worker != worker && is_member(place.vni));
    remote.map(|(device, place)| ((place.vni, mac(*device)), fabric.vtep(place.worker))).collect()
}

/// The rows of remote MACs, and whether each LAN's flood list is as it should be.
fn found(fabric: &Fabric, worker: usize) -> BTreeMap<(u32, String), String> {
    let rows = |vni: u32| {
        let table = fabric.workers[worker].overlay_sh(&format!("bridge fdb show dev vx{vni} 2>/dev/null"));
        let row = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let at = words.iter().position(|word| *word == "dst")?;
            Some(((vni, (*words.first()?).to_owned()), (*words.get(at + 1)?).to_owned()))
        };
        table.lines().filter_map(row).filter(|((_, mac), _)| mac != "00:00:00:00:00:00").collect::<Vec<_>>()
    };
    LANS.into_iter().flat_map(rows).collect()
}

fn random_life(seed: u64) {
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let mut fabric = Fabric::with(tests::fabric::Family::V4, 2, WORKERS);
    let mut places: BTreeMap<usize, Place> = BTreeMap::new();
    let mut down = None;
    for step in 0..STEPS {
        // Now and then a worker is away for a while, and one of the reflectors starts anew.
        if step % 40 == 20 {
            let worker = dice.below(WORKERS);
            fabric.workers[worker].kill(if dice.below(2) == 0 { Signal::SIGKILL } else { Signal::SIGTERM });
            down = Some(worker);
        }
        if step % 40 == 30 {
            let reflector = dice.below(2);
            fabric.reflectors[reflector].kill(Signal::SIGKILL);
            fabric.reflectors[reflector].restart();
            down.take().into_iter().for_each(|worker| fabric.workers[worker].restart());
        }
        let device = dice.below(DEVICES);
        let usable: Vec<_> = (0..WORKERS).filter(|worker| Some(*worker) != down).collect();
        let worker = usable[dice.below(usable.len())];
        match places.remove(&device) {
            // It leaves, in order or without a word.
            Some(place) if dice.below(2) == 0 => {
                if Some(place.worker) != down && dice.below(3) > 0 {
                    fabric.workers[place.worker].detach(&place.host);
                }
            }
            // It moves: the new place comes first where the old one is on another worker.
            Some(place) => {
                let host = Host::new(&format!("d{device}"));
                fabric.workers[worker].attach(&host, place.vni, &mac(device), &format!("192.168.1.{}/24", device + 1));
                if Some(place.worker) != down {
                    fabric.workers[place.worker].detach(&place.host);
                }
                places.insert(device, Place { host, worker, vni: place.vni });
            }
            None => {
                let host = Host::new(&format!("d{device}"));
                let vni = LANS[dice.below(LANS.len())];
                fabric.workers[worker].attach(&host, vni, &mac(device), &format!("192.168.1.{}/24", device + 1));
                places.insert(device, Place { host, worker, vni });
            }
        }
    }
    fabric.wait_established();
    for worker in 0..WORKERS {
        wait::until(&format!("exact tables on worker {worker} with seed {seed}"), || {
            let (wanted, found) = (expected(&fabric, &places, worker), found(&fabric, worker));
            if found == wanted { Ok(()) } else { Err(difference(&wanted, &found)) }
        });
    }
    // The tables are not only exact, they work.
    for (device, place) in &places {
        let neighbour = places.iter().find(|(other, there)| *other != device && there.vni == place.vni);
        if let Some((other, _)) = neighbour {
            place.host.wait_pings(&format!("192.168.1.{}", other + 1));
        }
    }
}

fn difference(wanted: &BTreeMap<(u32, String), String>, found: &BTreeMap<(u32, String), String>) -> String {
    let missing: Vec<_> = wanted.iter().filter(|(key, vtep)| found.get(key) != Some(vtep)).collect();
    let surplus: Vec<_> = found.iter().filter(|(key, vtep)| wanted.get(key) != Some(vtep)).collect();
    format!("missing {missing:?}, surplus {surplus:?}")
}

#[test]
fn after_any_life_of_a_fabric_every_table_is_exact() {
    let seed = std::env::var("CHURN_SEED").ok().and_then(|seed| seed.parse().ok());
    random_life(seed.unwrap_or(0x00c0_ffee));
}
