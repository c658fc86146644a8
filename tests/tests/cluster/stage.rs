//! What all tests that disturb the cluster have in common: pods on two LANs of three nodes, and traffic between them.
//!
//! ```text
//!            node1      node2      node3
//!   VNI 700  a-one      a-two      a-three
//!   VNI 701  b-one      b-two                  the same MACs and addresses as a-one and a-two
//! ```

use std::time::Instant;

use tests::cluster::exact::Wanted;
use tests::cluster::lans::Station;
use tests::cluster::process::until;
use tests::cluster::traffic::Traffic;
use tests::cluster::{Shared, with_megalos};

/// The LAN on all nodes.
pub const A: u32 = 700;
/// The LAN on two nodes.
pub const B: u32 = 701;

/// The binary's cluster with the pods.
pub struct Stage {
    pub cluster: Shared,
    /// a-one, a-two, a-three, b-one, b-two.
    pub stations: Vec<Station>,
}

/// The cluster with all pods in their places, exact.
pub fn stage() -> Stage {
    let cluster = with_megalos();
    let at = |name: &str, node: usize, vni: u32, number: usize| {
        let (mac, ip) = (format!("02:00:00:00:70:0{number}"), format!("10.70.0.{number}"));
        Station::new(name, cluster.node(node), vni, &mac, &ip).with(&format!("fd70::{number}"))
    };
    let stations = vec![
        at("a-one", 0, A, 1),
        at("a-two", 1, A, 2),
        at("a-three", 2, A, 3),
        at("b-one", 0, B, 1),
        at("b-two", 1, B, 2),
    ];
    cluster.deploy(&stations);
    let stage = Stage { cluster, stations };
    stage.exact("beginning", Instant::now());
    stage
}

impl Stage {
    /// Traffic between all pods.
    pub fn traffic(&self) -> Traffic {
        let [a_one, a_two, a_three, b_one, b_two] = self.pods();
        Traffic::start(&self.cluster, &[[a_one, a_two], [a_one, a_three], [b_one, b_two]])
    }

    /// Traffic between the pods of the first two nodes.
    pub fn traffic_of_two_nodes(&self) -> Traffic {
        let [a_one, a_two, _, b_one, b_two] = self.pods();
        Traffic::start(&self.cluster, &[[a_one, a_two], [b_one, b_two]])
    }

    pub fn pods(&self) -> [&Station; 5] {
        std::array::from_fn(|index| &self.stations[index])
    }

    /// Another station of LAN [`A`]; `number` above 9 and unlike others'.
    pub fn another(&self, name: &str, node: usize, number: u8) -> Station {
        let (mac, ip) = (format!("02:00:00:00:71:{number:02}"), format!("10.70.0.{number}"));
        Station::new(name, self.cluster.node(node), A, &mac, &ip)
    }

    /// Waits until rows and sessions are what the pods demand.
    pub fn exact(&self, what: &str, begin: Instant) {
        self.cluster.wait_exact(what, begin, Wanted::usual(&self.stations));
    }

    /// The same with one station more.
    pub fn exact_with(&self, more: &Station, what: &str, begin: Instant) {
        let stations: Vec<Station> = self.stations.iter().chain([more]).cloned().collect();
        self.cluster.wait_exact(what, begin, Wanted::usual(&stations));
    }

    /// The same without reflectors: the rows alone.
    pub fn exact_without_reflectors(&self, what: &str, begin: Instant) {
        let wanted = Wanted { reflectors: 0, ..Wanted::usual(&self.stations) };
        let found = until(&format!("the rows to be exact, after: {what}"), || {
            // What reflectors said is stale as long as there is none.
            let differences =
                self.cluster.differences(wanted).into_iter().filter(|line| !line.contains("stale routes"));
            let differences: Vec<String> = differences.collect();
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        });
        done(found);
        eprintln!("{what}: rows exact after {:.1} s", begin.elapsed().as_secs_f32());
    }

    /// Attaches a station by calling the plugin until it succeeds, as kubelet does, and prints the time.
    pub fn plug_in(&self, station: &Station, what: &str) {
        let begin = Instant::now();
        done(until(&format!("ADD while {what}"), || self.cluster.plug_in(station)));
        eprintln!("{what}: ADD on {} succeeds after {:.2} s", station.node, begin.elapsed().as_secs_f32());
    }

    /// Ends a program on a node by SIGKILL and waits until that process is gone.
    pub fn kill(&self, node: usize, program: &str) {
        let node = self.cluster.node(node);
        let pid = node.sh(&format!("pgrep -x {program}"));
        node.sh(&format!("kill -9 {}", pid.split_whitespace().collect::<Vec<_>>().join(" ")));
        done(until(&format!("{program} to be gone"), || {
            let now = node.output(&format!("pgrep -x {program}")).stdout;
            let now = String::from_utf8_lossy(&now).into_owned();
            if now.split_whitespace().any(|now| pid.split_whitespace().any(|old| old == now)) {
                Err(now)
            } else {
                Ok(())
            }
        }));
    }

    /// Waits until the pods' programs answer again, and the API says so.
    pub fn rolled_out(&self) {
        done(self.cluster.wait_megalos());
    }
}

pub fn done<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
