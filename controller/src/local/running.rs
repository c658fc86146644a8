//! A lab while it runs: what the supervisor holds, and how it is told as
//! [`LabStatus`].
//!
//! The parts come one after another while the lab starts, and stay until its
//! end; commands may ask at any time.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::check::Subject;
use super::daemons::Daemon;
use super::plan::Plan;
use super::spec::LabSpec;
use super::state::StateDirectory;
use super::status::{DeviceState, DeviceStatus, InterfaceStatus, LabStatus, LanStatus, MemberStatus, Phase};
use crate::sandbox::Device;

/// A node with its worker, or a reflector.
#[derive(Debug)]
pub struct RunningMember {
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// What runs on it.
    pub daemon: Arc<Daemon>,
    /// The daemon's control socket.
    pub socket: PathBuf,
}

/// All nodes and reflectors.
#[derive(Debug, Default)]
pub struct Members {
    /// Reflectors, in order.
    pub reflectors: Vec<RunningMember>,
    /// Nodes, in order.
    pub nodes: Vec<RunningMember>,
}

/// A device that exists.
#[derive(Debug)]
pub struct RunningDevice {
    /// The device.
    pub device: Device,
    /// Its place in the lab's list.
    pub index: usize,
    progress: Mutex<DeviceProgress>,
}

/// What has become of a device so far.
#[derive(Debug, Default)]
struct DeviceProgress {
    interfaces: Vec<InterfaceStatus>,
    started: bool,
    failures: Vec<String>,
}

impl RunningDevice {
    /// A device that has neither interfaces nor been started.
    pub fn new(device: Device, index: usize) -> Self {
        Self { device, index, progress: Mutex::default() }
    }

    /// Notes an interface.
    pub fn attached(&self, interface: InterfaceStatus) {
        self.locked().interfaces.push(interface);
    }

    /// Notes that the startup scripts have ended, and what failed.
    pub fn started(&self, failures: Vec<String>) {
        let mut progress = self.locked();
        progress.started = true;
        progress.failures = failures;
    }

    fn locked(&self) -> MutexGuard<'_, DeviceProgress> {
        self.progress.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn status(&self, node: String) -> DeviceStatus {
        let mut polled = [PollFd::new(self.device.pidfd(), PollFlags::POLLIN)];
        let ended = matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..));
        let progress = self.locked();
        let state = match (ended, progress.started) {
            (true, _) => DeviceState::Ended,
            (false, true) => DeviceState::Running,
            (false, false) => DeviceState::Starting,
        };
        DeviceStatus {
            name: self.device.name().to_owned(),
            node,
            state,
            interfaces: progress.interfaces.clone(),
            failures: progress.failures.clone(),
        }
    }
}

/// A lab.
#[derive(Debug)]
pub struct Running {
    /// What it was made from.
    pub spec: LabSpec,
    /// Its state directory.
    pub state: StateDirectory,
    /// Its nodes and reflectors, once they run.
    pub members: OnceLock<Members>,
    /// Its devices, once they exist.
    pub devices: OnceLock<Vec<RunningDevice>>,
    began: Instant,
    phase: Mutex<Phase>,
}

impl Running {
    /// A lab of which nothing exists yet.
    pub fn new(spec: LabSpec) -> Self {
        Self {
            state: StateDirectory::at(spec.state.clone()),
            spec,
            members: OnceLock::new(),
            devices: OnceLock::new(),
            began: Instant::now(),
            phase: Mutex::new(Phase::Starting),
        }
    }

    /// Where the lab is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Moves on; gives the phase before.
    pub fn set_phase(&self, phase: Phase) -> Phase {
        let mut held = self.phase.lock().unwrap_or_else(|e| e.into_inner());
        std::mem::replace(&mut held, phase)
    }

    /// The devices that exist so far: all, or none while they are being made.
    pub fn devices(&self) -> &[RunningDevice] {
        self.devices.get().map_or(&[], Vec::as_slice)
    }

    /// The device of that name.
    ///
    /// # Errors
    /// There is none (yet); the text names those there are.
    pub fn device(&self, name: &str) -> Result<&RunningDevice, String> {
        let devices = self.devices.get();
        let devices = devices.ok_or("the lab is still being made; try again in a moment")?;
        let found = devices.iter().find(|running| running.device.name() == name);
        found.ok_or_else(|| {
            let names = devices.iter().map(|running| running.device.name());
            format!("the lab has no device {name}; it has {}", super::plan::enumerate(names))
        })
    }

    /// The devices as a check sees them.
    pub fn subjects(&self) -> Vec<Subject<'_>> {
        use std::os::fd::AsFd;
        let subject = |running: &'_ RunningDevice| -> Option<Vec<(String, String)>> {
            let device = self.spec.lab.devices.get(running.index)?;
            Some(device.interfaces.iter().map(|i| (i.name(), i.lan.clone())).collect())
        };
        self.devices()
            .iter()
            .map(|running| Subject {
                name: running.device.name(),
                netns: running.device.network().netns.as_fd(),
                interfaces: subject(running).unwrap_or_default(),
            })
            .collect()
    }

    /// Everything for `status`.
    pub fn status(&self) -> LabStatus {
        let lab = &self.spec.lab;
        let empty = Members::default();
        let members = self.members.get().unwrap_or(&empty);
        LabStatus {
            name: lab.display_name(),
            directory: lab.path.clone(),
            phase: self.phase(),
            uptime_secs: self.began.elapsed().as_secs(),
            reflectors: members.reflectors.iter().map(RunningMember::status).collect(),
            nodes: members.nodes.iter().map(RunningMember::status).collect(),
            devices: self.devices().iter().map(|running| running.status(self.node_name(running.index))).collect(),
            lans: self.lans(),
        }
    }

    /// How long the lab has been running.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn node_name(&self, device: usize) -> String {
        Plan::node_name(self.spec.plan.node_of(device))
    }

    fn lans(&self) -> Vec<LanStatus> {
        let lab = &self.spec.lab;
        let device_name = |index: usize| lab.devices.get(index).map_or("?", |d| d.name.as_str());
        lab.lans
            .iter()
            .map(|lan| {
                let nodes: BTreeSet<u8> = lan.members.iter().map(|m| self.spec.plan.node_of(m.device)).collect();
                LanStatus {
                    name: lan.name.clone(),
                    vni: self.spec.plan.vni(&lan.name),
                    members: lan
                        .members
                        .iter()
                        .map(|m| format!("{}/eth{}", device_name(m.device), m.interface))
                        .collect(),
                    nodes: nodes.into_iter().map(Plan::node_name).collect(),
                }
            })
            .collect()
    }
}

impl RunningMember {
    fn status(&self) -> MemberStatus {
        MemberStatus {
            name: self.daemon.name().to_owned(),
            address: self.address.to_string(),
            daemon: self.daemon.state(),
            socket: self.socket.clone(),
            log: self.daemon.log().to_owned(),
        }
    }
}
