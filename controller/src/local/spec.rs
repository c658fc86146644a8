//! What a supervisor is told at its start, and how a device of the lab becomes a
//! specification for the sandbox.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kernel::FloodingLabs;
use super::plan::Plan;
use crate::lab::{Device, Lab, Script, VolumeMode};
use crate::sandbox::{self, DeviceSpec, Scripts};

/// Everything a supervisor needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabSpec {
    /// The lab.
    pub lab: Lab,
    /// Who runs where.
    pub plan: Plan,
    /// The lab's state directory.
    pub state: PathBuf,
    /// What to do when it could flood the machine.
    pub flooding: FloodingLabs,
}

impl LabSpec {
    /// Paths of the host that must stay visible, wherever they are.
    pub fn paths_in_use(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.state.clone(), self.lab.path.clone()];
        for device in &self.lab.devices {
            let volumes = device.options.volumes.iter();
            paths.extend(volumes.map(|volume| self.lab.volume_source(&volume.host)));
        }
        paths
    }

    /// The sandbox's specification of a device.
    pub fn device(&self, device: &Device) -> DeviceSpec {
        let options = &device.options;
        let sysctls = options.sysctls.iter();
        let env = options.env.iter();
        let mut spec = DeviceSpec::new(&device.name);
        spec.lab_dir = device.directory.clone();
        spec.scripts = self.scripts(device);
        spec.exec = options.exec.clone();
        spec.sysctls = sysctls.map(|s| (s.key.clone(), s.value.clone())).collect();
        spec.env = env.map(|e| (e.name.clone(), e.value.clone())).collect();
        spec.ipv6 = self.lab.ipv6(device);
        spec.ulimits = options
            .ulimits
            .iter()
            .map(|limit| sandbox::Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect();
        spec.volumes = options
            .volumes
            .iter()
            .map(|volume| sandbox::Volume {
                host: self.lab.volume_source(&volume.host),
                guest: volume.guest.clone(),
                mode: match volume.mode {
                    VolumeMode::Rw => sandbox::VolumeMode::ReadWrite,
                    VolumeMode::Ro | VolumeMode::Rx => sandbox::VolumeMode::ReadOnly,
                },
            })
            .collect();
        spec.shared_dir = self.lab.shared_directory.clone();
        spec.shell = PathBuf::from(self.lab.shell(device));
        spec
    }

    fn scripts(&self, device: &Device) -> Scripts {
        let text = |script: &Option<Script>| script.as_ref().map(|script| script.text.clone());
        Scripts {
            shared_startup: text(&self.lab.shared_startup),
            startup: text(&device.startup),
            shutdown: text(&device.shutdown),
            shared_shutdown: text(&self.lab.shared_shutdown),
        }
    }
}
