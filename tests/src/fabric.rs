//! A whole fabric: reflectors and workers on one underlay, every session established.

use std::net::IpAddr;

use crate::host::{Host, Underlay};
use crate::overlay::{Reflector, Worker};

/// The reflectors' port: not BGP's own, which another daemon of a node may use.
pub const PORT: u16 = 1_179;
/// The underlay's MTU in bytes.
pub const UNDERLAY_MTU: u32 = 1_500;
/// The LAN of [`Fabric::devices`].
pub const LAN: u32 = 100;
/// The MACs of devices, in their order.
pub const MACS: [&str; 4] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:04"];

/// What the underlay speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// 10.0.0.0/24
    V4,
    /// fd00::/64
    V6,
}

impl Family {
    /// The address of host number `number`, below 100.
    pub fn address(self, number: usize) -> String {
        match self {
            Self::V4 => format!("10.0.0.{number}"),
            Self::V6 => format!("fd00::{number}"),
        }
    }

    /// The prefix of all hosts.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::V4 => "10.0.0.0/24",
            Self::V6 => "fd00::/64",
        }
    }

    fn length(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// The socket of a reflector with this address.
    pub fn socket(self, address: &str) -> String {
        match self {
            Self::V4 => format!("{address}:{PORT}"),
            Self::V6 => format!("[{address}]:{PORT}"),
        }
    }
}

/// Reflectors with the numbers 1, 2 and so on, workers with 11, 12 and so on.
#[derive(Debug)]
pub struct Fabric {
    /// The reflectors.
    pub reflectors: Vec<Reflector>,
    /// The workers, each with a session to every reflector.
    pub workers: Vec<Worker>,
    family: Family,
    underlay: Underlay,
}

impl Fabric {
    /// One reflector and this many workers over IPv4.
    pub fn new(workers: usize) -> Self {
        Self::with(Family::V4, 1, workers)
    }

    /// This many reflectors and workers.
    pub fn with(family: Family, reflectors: usize, workers: usize) -> Self {
        let mut fabric = Self::empty(family);
        for number in 1..=reflectors {
            fabric.add_reflector(number);
        }
        for index in 0..workers {
            fabric.add_worker(index, &[]);
        }
        fabric.wait_established();
        fabric
    }

    /// An underlay on which nothing runs yet.
    pub fn empty(family: Family) -> Self {
        Self { reflectors: Vec::new(), workers: Vec::new(), family, underlay: Underlay::new(UNDERLAY_MTU) }
    }

    /// A host of the underlay with this number.
    pub fn host(&self, label: &str, number: usize) -> Host {
        let address = self.family.address(number);
        self.underlay.host(label, &[&format!("{address}/{}", self.family.length())])
    }

    /// Starts a reflector that accepts every host of the underlay.
    pub fn add_reflector(&mut self, number: usize) {
        self.add_reflector_with(number, "");
    }

    /// As [`Self::add_reflector`], with these settings for all its peers.
    pub fn add_reflector_with(&mut self, number: usize, settings: &str) {
        let host = self.host(&format!("rr{number}"), number);
        let socket = self.family.socket(&self.family.address(number));
        let router_id = format!("10.0.0.{number}");
        let config = defaults(&host, settings);
        let more = ["--router-id", &router_id, "--cluster-id", "10.0.0.1", "--config", &config];
        self.reflectors.push(Reflector::start(host, &socket, &[self.family.prefix()], &more));
    }

    /// Starts a reflector that knows its workers, so that after a start it waits for these and for nobody else.
    pub fn add_reflector_for(&mut self, number: usize, workers: usize) {
        let host = self.host(&format!("rr{number}"), number);
        let socket = self.family.socket(&self.family.address(number));
        let mut config =
            format!("listen = [\"{socket}\"]\nrouter_id = \"10.0.0.{number}\"\ncluster_id = \"10.0.0.1\"\n");
        for index in 0..workers {
            config += &format!("[[peer]]\naddress = \"{}\"\npassive = true\n", self.vtep(index));
        }
        self.reflectors.push(Reflector::configured(host, &config));
    }

    /// Starts worker `index` with a session to every reflector that was added; `more` is appended to its flags.
    pub fn add_worker(&mut self, index: usize, more: &[&str]) {
        let numbers = 1..=self.reflectors.len();
        let reflectors: Vec<String> = numbers.map(|number| self.family.socket(&self.family.address(number))).collect();
        self.add_worker_of(&reflectors.join(","), index, more);
    }

    /// Starts worker `index` with these reflectors, one or more with commas between; `more` is appended to its flags.
    pub fn add_worker_of(&mut self, reflectors: &str, index: usize, more: &[&str]) {
        let host = self.host(&format!("w{}", index + 1), index + 11);
        self.workers.push(Worker::start(host, &self.vtep(index), &[reflectors], more));
    }

    /// As [`Self::add_worker`], with these settings for all its peers.
    pub fn add_worker_with(&mut self, index: usize, settings: &str) {
        let numbers = 1..=self.reflectors.len();
        let reflectors: Vec<String> = numbers.map(|number| self.family.socket(&self.family.address(number))).collect();
        let host = self.host(&format!("w{}", index + 1), index + 11);
        let config = defaults(&host, settings);
        let vtep = self.vtep(index);
        self.workers.push(Worker::start(host, &vtep, &[&reflectors.join(",")], &["--config", &config]));
    }

    /// The VTEP of worker `index`.
    pub fn vtep(&self, index: usize) -> String {
        self.family.address(index + 11)
    }

    /// Attaches one device to [`LAN`] on each of the first workers, with the MACs of [`MACS`] and the addresses
    /// 192.168.1.1, 192.168.1.2 and so on.
    pub fn devices<const N: usize>(&self) -> [Host; N] {
        std::array::from_fn(|index| {
            let device = Host::new(&format!("pc{}", index + 1));
            self.workers[index].attach(&device, LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
            device
        })
    }

    /// Waits until every session is established.
    pub fn wait_established(&self) {
        for worker in &self.workers {
            worker.wait_established();
        }
    }

    /// Waits until worker `at` sends frames for `mac` to worker `to`, or has no row for it.
    pub fn wait_row(&self, at: usize, vni: u32, mac: &str, to: Option<usize>) {
        let wanted = to.map(|to| self.vtep(to).parse::<IpAddr>().unwrap_or_else(|error| panic!("{error}")));
        self.workers[at].wait_row(vni, mac, wanted);
    }
}

/// A configuration file with settings for all peers.
fn defaults(host: &Host, settings: &str) -> String {
    let path = host.directory().join("defaults.toml");
    std::fs::write(&path, format!("[defaults]\n{settings}\n")).unwrap_or_else(|error| panic!("{error}"));
    path.display().to_string()
}
