//! Devices that come, go and move at random among workers that die and return: in the end every table is exact.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::wait;

const REFLECTORS: usize = 2;
const WORKERS: usize = 3;
const LANS: [u32; 4] = [100, 200, 300, 400];
const DEVICES: usize = 24;
const FLOOD: &str = "00:00:00:00:00:00";
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

/// A row of a VXLAN device: VNI, MAC, VTEP.
type Row = (u32, String, String);

/// The rows that a worker should have: those of remote devices and of the flood list. In a LAN without members of its own
/// it has none.
fn expected(fabric: &Fabric, places: &BTreeMap<usize, Place>, worker: usize) -> BTreeSet<Row> {
    let is_member = |vni| places.values().any(|place| place.worker == worker && place.vni == vni);
    let remote = places.iter().filter(|(_, place)| place.worker != worker && is_member(place.vni));
    let rows = |(device, place): (&usize, &Place)| {
        let vtep = fabric.vtep(place.worker);
        [(place.vni, mac(*device), vtep.clone()), (place.vni, FLOOD.to_owned(), vtep)]
    };
    remote.flat_map(rows).collect()
}

fn found(fabric: &Fabric, worker: usize) -> BTreeSet<Row> {
    let rows = |vni: u32| {
        let table = fabric.workers[worker].overlay_sh(&format!("bridge fdb show dev vx{vni} 2>/dev/null"));
        let row = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let at = words.iter().position(|word| *word == "dst")?;
            Some((vni, (*words.first()?).to_owned(), (*words.get(at + 1)?).to_owned()))
        };
        table.lines().filter_map(row).collect::<Vec<_>>()
    };
    LANS.into_iter().flat_map(rows).collect()
}

fn random_life(seed: u64) {
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let mut fabric = Fabric::empty(Family::V4);
    (1..=REFLECTORS).for_each(|number| fabric.add_reflector_for(number, WORKERS));
    (0..WORKERS).for_each(|index| fabric.add_worker(index, &[]));
    fabric.wait_established();
    let mut places: BTreeMap<usize, Place> = BTreeMap::new();
    let mut down = None;
    for step in 0..STEPS {
        if step % 20 == 10 {
            let worker = dice.below(WORKERS);
            fabric.workers[worker].kill(if dice.below(2) == 0 { Signal::SIGKILL } else { Signal::SIGTERM });
            down = Some(worker);
        }
        if step % 20 == 15 {
            disturb(&mut fabric, &mut dice);
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

/// Something goes wrong on one of the hosts.
fn disturb(fabric: &mut Fabric, dice: &mut Dice) {
    let worker = dice.below(WORKERS);
    match dice.below(4) {
        // One reflector starts anew, or both at once.
        0 => restart(&mut fabric.reflectors[dice.below(REFLECTORS)..][..1]),
        1 => restart(&mut fabric.reflectors),
        // A cable is out for a moment.
        2 => _ = fabric.workers[worker].host.sh("ip link set eth0 down && ip link set eth0 up"),
        // Somebody cleans up what he does not know.
        _ => LANS.iter().for_each(|vni| _ = fabric.workers[worker].overlay_sh(&format!("ip link del vx{vni}"))),
    }
}

fn restart(reflectors: &mut [Reflector]) {
    reflectors.iter_mut().for_each(|reflector| reflector.kill(Signal::SIGKILL));
    reflectors.iter_mut().for_each(Reflector::restart);
}

fn difference(wanted: &BTreeSet<Row>, found: &BTreeSet<Row>) -> String {
    let missing: Vec<_> = wanted.difference(found).collect();
    let surplus: Vec<_> = found.difference(wanted).collect();
    format!("missing {missing:?}, surplus {surplus:?}")
}

#[test]
fn after_any_life_of_a_fabric_every_table_is_exact() {
    let seed = std::env::var("CHURN_SEED").ok().and_then(|seed| seed.parse().ok());
    random_life(seed.unwrap_or(0x00c0_ffee));
}
