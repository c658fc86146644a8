//! What a lab is once read: devices, LANs, order of starting, settings.
//!
//! Pure data. [`super::parse()`] makes it and guarantees: device names are unique and made of `a-z`, `0-9`, `_`;
//! each device's interfaces are numbered 0 to n-1 in order; a device is on a LAN at most once; every index
//! in `lans` and `start_groups` is one of `devices`, and each device is in exactly one start group.

use std::path::{Path, PathBuf};

use bgp_core::types::MacAddr;
use serde::{Deserialize, Serialize};

use super::mac;
use super::options::DeviceOptions;

/// Shell of a device where neither the lab nor its settings name one.
pub const DEFAULT_SHELL: &str = "/bin/bash";

/// A lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    /// The lab's directory: canonical and absolute when read by [`super::load()`].
    pub path: PathBuf,
    /// The `LAB_…` lines.
    pub metadata: Metadata,
    /// Devices in the order in which `lab.conf` first names them.
    pub devices: Vec<Device>,
    /// Collision domains in the order in which `lab.conf` first names them.
    pub lans: Vec<Lan>,
    /// Indices into `devices`: a group is to be started when all groups before it have been.
    pub start_groups: Vec<Vec<usize>>,
    /// `lab.ext`: collision domains joined to interfaces of the host.
    pub external: Vec<ExternalLink>,
    /// `kathara.conf`.
    pub settings: Settings,
    /// `shared.startup`, run in each device before its own.
    pub shared_startup: Option<Script>,
    /// `shared.shutdown`, run in each device after its own.
    pub shared_shutdown: Option<Script>,
    /// `shared/`, mounted at `/shared` in each device.
    pub shared_directory: Option<PathBuf>,
}

/// The metadata of a lab; nothing in it has an effect but the name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `LAB_NAME`, which is also the lab's identity.
    pub name: Option<String>,
    /// `LAB_DESCRIPTION`.
    pub description: Option<String>,
    /// `LAB_VERSION`.
    pub version: Option<String>,
    /// `LAB_AUTHOR`.
    pub author: Option<String>,
    /// `LAB_EMAIL`.
    pub email: Option<String>,
    /// `LAB_WEB`.
    pub web: Option<String>,
}

/// A device of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its interfaces: the one at index n is `ethN`.
    pub interfaces: Vec<Interface>,
    /// Its options.
    pub options: DeviceOptions,
    /// `NAME.startup`.
    pub startup: Option<Script>,
    /// `NAME.shutdown`.
    pub shutdown: Option<Script>,
    /// `NAME/`, the tree to copy over the device's `/`.
    pub directory: Option<PathBuf>,
}

/// An interface of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// n of `ethN`.
    pub number: u32,
    /// Name of the collision domain that it is on.
    pub lan: String,
    /// Its MAC address, where the lab gives one; always unicast.
    #[serde(with = "mac")]
    pub mac: Option<MacAddr>,
}

impl Interface {
    /// The name inside the device: `ethN`.
    pub fn name(&self) -> String {
        format!("eth{}", self.number)
    }
}

/// A collision domain: a virtual LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lan {
    /// Its name, made of word characters of any script.
    pub name: String,
    /// Who is on it, in the order of `devices`.
    pub members: Vec<LanMember>,
}

/// An interface on a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanMember {
    /// Index into [`Lab::devices`].
    pub device: usize,
    /// n of `ethN`.
    pub interface: u32,
}

/// A script of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Where it was read.
    pub path: PathBuf,
    /// Its bytes, byte order mark and carriage returns removed.
    pub text: Vec<u8>,
}

/// A line of `lab.ext`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalLink {
    /// Name of the collision domain.
    pub lan: String,
    /// Interface of the host.
    pub interface: String,
    /// VLAN on that interface, 1 to 4094; untagged without.
    pub vlan: Option<u16>,
}

/// What is honoured of `kathara.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `device_shell`: shell of devices that name none.
    pub device_shell: Option<String>,
    /// `enable_ipv6`: for devices that do not say.
    pub enable_ipv6: Option<bool>,
}

impl Lab {
    /// What tells this lab from others: `LAB_NAME` where present, else the directory.
    pub fn identity(&self) -> String {
        match &self.metadata.name {
            Some(name) => name.clone(),
            None => self.path.to_string_lossy().into_owned(),
        }
    }

    /// The name to show: `LAB_NAME`, else the last part of the directory.
    pub fn display_name(&self) -> String {
        let directory = || self.path.file_name().unwrap_or(self.path.as_os_str());
        match &self.metadata.name {
            Some(name) => name.clone(),
            None => directory().to_string_lossy().into_owned(),
        }
    }

    /// The device of that name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The LAN of that name.
    pub fn lan(&self, name: &str) -> Option<&Lan> {
        self.lans.iter().find(|lan| lan.name == name)
    }

    /// Groups of devices: those of a group can be started at once, when the groups before it have been.
    pub fn start_order(&self) -> impl Iterator<Item = Vec<&Device>> {
        let devices = |group: &Vec<usize>| -> Vec<&Device> {
            let found = group.iter().filter_map(|index| self.devices.get(*index));
            found.collect()
        };
        self.start_groups.iter().map(devices)
    }

    /// Whether the device has IPv6: its own option, else the lab's settings, else off.
    pub fn ipv6(&self, device: &Device) -> bool {
        let own = device.options.ipv6.or(self.settings.enable_ipv6);
        own.unwrap_or(false)
    }

    /// The device's shell: its own option, else the lab's settings, else [`DEFAULT_SHELL`].
    pub fn shell<'a>(&'a self, device: &'a Device) -> &'a str {
        let own = device.options.shell.as_deref();
        own.or(self.settings.device_shell.as_deref()).unwrap_or(DEFAULT_SHELL)
    }

    /// Path on the host of a volume's source: relative ones start at the lab's directory.
    pub fn volume_source(&self, source: &Path) -> PathBuf {
        self.path.join(source)
    }
}
