//! Other people's BGP daemons on hosts: FRR, GoBGP, BIRD and OpenBGPD, each run and asked in the same way.
//!
//! | module | owns |
//! | --- | --- |
//! | [`root`] | a Debian sid file system with their current versions, made once |
//! | [`place`] | where a daemon's programs run: the system, or the sid root with a `/run` of its own |
//! | [`table`] | EVPN tables in one form, and their comparison |
//! | [`frr`], [`gobgp`], [`bird`], [`openbgpd`] | configuration, processes and answers of each |
//!
//! [`Daemon`] starts one, stops it with a chosen signal, starts it again and asks it; what differs between them is behind
//! [`Software`].

pub mod bird;
mod community;
pub mod frr;
pub mod gobgp;
pub mod openbgpd;
pub mod place;
pub mod root;
pub mod table;

use std::process::Output;

use nix::sys::signal::Signal;

use crate::host::Host;
use crate::wait;
use place::Place;
use table::{Attribute, Route};

/// The daemons there are.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Software {
    /// FRR of the system's own Debian.
    FrrDebian,
    /// FRR of Debian sid.
    FrrSid,
    /// GoBGP of Debian sid.
    Gobgp,
    /// BIRD 3 of Debian sid.
    Bird,
    /// OpenBGPD of Debian sid.
    Openbgpd,
}

impl Software {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::FrrDebian, Self::FrrSid, Self::Gobgp, Self::Bird, Self::Openbgpd];

    /// A word for it, fit for a host's name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FrrDebian => "frr-debian",
            Self::FrrSid => "frr-sid",
            Self::Gobgp => "gobgp",
            Self::Bird => "bird",
            Self::Openbgpd => "openbgpd",
        }
    }

    /// The EVPN route types that it takes; OpenBGPD resets a session on which another one comes.
    pub const fn route_types(self) -> &'static [u8] {
        match self {
            Self::FrrDebian | Self::FrrSid | Self::Gobgp | Self::Bird => &[1, 2, 3, 4, 5],
            Self::Openbgpd => &[2, 3],
        }
    }

    /// Configuration of a route reflector for everybody in `prefix`, in the default AS, on port 179.
    pub fn reflector_config(self, router_id: &str, prefix: &str) -> String {
        match self {
            Self::FrrDebian | Self::FrrSid => frr::reflector_config(router_id, prefix),
            Self::Gobgp => gobgp::reflector_config(router_id, prefix),
            Self::Bird => bird::reflector_config(router_id, prefix),
            Self::Openbgpd => openbgpd::reflector_config(router_id, prefix),
        }
    }

    /// Configuration of a route reflector that does what it can for restarts, its own and those of `clients`, in the default
    /// AS, on port 179: graceful restart and, where there is one, long-lived graceful restart for EVPN. Its clients are
    /// named, because a session that came by itself is forgotten with its routes by some.
    pub fn graceful_reflector_config(self, router_id: &str, clients: &[&str]) -> String {
        match self {
            Self::FrrDebian | Self::FrrSid => frr::graceful_reflector_config(router_id, clients),
            Self::Gobgp => gobgp::graceful_reflector_config(router_id, clients),
            Self::Bird => bird::graceful_reflector_config(router_id, clients),
            Self::Openbgpd => openbgpd::reflector_config(router_id, "10.0.0.0/24"),
        }
    }

    /// Configuration of a client with one reflector, which it dials at once and again every second. It has no LAN of its
    /// own; see [`frr::worker_config`] for one that has.
    pub fn client_config(self, router_id: &str, reflector: &str, port: u16) -> String {
        match self {
            Self::FrrDebian | Self::FrrSid => frr::client_config(router_id, reflector, port),
            Self::Gobgp => gobgp::client_config(router_id, reflector, port),
            Self::Bird => bird::client_config(router_id, reflector, port),
            Self::Openbgpd => openbgpd::client_config(router_id, reflector, port),
        }
    }

    fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::FrrDebian => &frr::DEBIAN,
            Self::FrrSid => &frr::SID,
            Self::Gobgp => &gobgp::Gobgp,
            Self::Bird => &bird::Bird,
            Self::Openbgpd => &openbgpd::Openbgpd,
        }
    }
}

/// One process of a daemon.
#[derive(Clone, Debug)]
struct Program {
    /// What it is called, in logs too.
    name: &'static str,
    path: String,
    arguments: Vec<String>,
    /// A command that succeeds once the process answers.
    ready: Vec<String>,
    /// What a killed process leaves behind and would pass for its successor.
    leftovers: Vec<String>,
}

/// What differs between the daemons.
trait Dialect: std::fmt::Debug + Sync {
    /// A place on the host, with what the daemon needs there beside its configuration.
    fn place(&self, host: &Host) -> Place;
    /// The name of the configuration file in its place.
    fn config_file(&self) -> &'static str;
    /// Its processes in the order of their start.
    fn programs(&self, place: &Place, life: Life) -> Vec<Program>;
    /// Name and version in one line.
    fn version(&self, daemon: &Daemon) -> String;
    /// How many BGP sessions are established.
    fn established(&self, daemon: &Daemon) -> usize;
    /// Its EVPN table: every path that it has received or made.
    fn routes(&self, daemon: &Daemon) -> Vec<Route>;
    /// What its tools do not print of a route.
    fn hidden(&self) -> &'static [Attribute];
}

/// A daemon on a host.
#[derive(Debug)]
pub struct Daemon {
    /// Where it runs.
    pub host: Host,
    software: Software,
    place: Place,
    /// Names and ids of the processes that run.
    running: Vec<(&'static str, u32)>,
    life: Life,
}

/// Whether a daemon that starts has run before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    First,
    Later,
}

impl Daemon {
    /// Starts it with this configuration and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it cannot be installed or does not start.
    pub fn start(software: Software, host: Host, config: &str) -> Self {
        let place = software.dialect().place(&host);
        let mut daemon = Self { host, software, place, running: Vec::new(), life: Life::First };
        daemon.configure(config);
        daemon.restart();
        daemon.life = Life::Later;
        daemon
    }

    /// What it is.
    pub fn software(&self) -> Software {
        self.software
    }

    /// Writes another configuration, for the next start.
    pub fn configure(&self, config: &str) {
        self.place.write(self.software.dialect().config_file(), config);
    }

    /// Starts what does not run, in order, and waits until all answers.
    pub fn restart(&mut self) {
        for program in self.software.dialect().programs(&self.place, self.life) {
            if self.running.iter().any(|(name, _)| *name == program.name) {
                continue;
            }
            program.leftovers.iter().for_each(|file| self.place.remove(file));
            let mut command = self.place.command(&self.host, &program.path);
            command.args(&program.arguments);
            let pid = self.host.spawn(program.name, command);
            self.running.push((program.name, pid));
            let [tool, arguments @ ..] = program.ready.as_slice() else { continue };
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            wait::until_true(&format!("{} to answer", program.name), || self.run(tool, &arguments).status.success());
        }
    }

    /// Ends all its processes: the last started first, so that it may tidy up; with SIGKILL the first, so that none sees
    /// another go.
    pub fn kill(&mut self, signal: Signal) {
        let mut running = std::mem::take(&mut self.running);
        if signal != Signal::SIGKILL {
            running.reverse();
        }
        running.iter().for_each(|(_, pid)| self.host.signal(*pid, signal));
        running.iter().for_each(|(_, pid)| self.host.kill(*pid, signal));
    }

    /// Ends it by its own command for a graceful restart.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn leave_gracefully(&mut self) {
        assert_eq!(self.software, Software::Bird, "only BIRD has such a command");
        self.birdc("graceful restart");
        // It ends by itself; this signal only has it waited for.
        self.kill(Signal::SIGCONT);
    }

    /// Ends one process, for instance FRR's `bgpd`, and leaves the others.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn kill_one(&mut self, name: &str, signal: Signal) {
        let index = self.running.iter().position(|(running, _)| *running == name);
        let index = index.unwrap_or_else(|| panic!("no {name} among {:?}", self.running));
        let (_, pid) = self.running.remove(index);
        self.host.kill(pid, signal);
    }

    /// Runs a program where the daemon lives.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.place.run(&self.host, program, arguments)
    }

    /// Runs one of its own tools and returns what it printed, whatever came of it.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(program, arguments).stdout).into_owned()
    }

    /// Name and version in one line.
    pub fn version(&self) -> String {
        self.software.dialect().version(self)
    }

    /// How many BGP sessions are established.
    pub fn established(&self) -> usize {
        self.software.dialect().established(self)
    }

    /// Its EVPN table: every path that it has received or made.
    pub fn routes(&self) -> Vec<Route> {
        self.software.dialect().routes(self)
    }

    /// What [`Daemon::routes`] cannot tell, because the daemon's tools do not print it.
    pub fn hidden(&self) -> &'static [Attribute] {
        self.software.dialect().hidden()
    }

    /// Waits until this many sessions are established.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub fn wait_established(&self, sessions: usize) {
        wait::until(&format!("{sessions} sessions of {}", self.software.label()), || {
            let found = self.established();
            if found == sessions { Ok(()) } else { Err(format!("it has {found}")) }
        });
    }
}

/// The value of what a tool printed as JSON; null if it is none, since a daemon that starts may print anything.
fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// A member of a JSON object as text, whether it is a string or a number; empty if there is none.
fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
