//! What a device shall be: the input of [`Device::create`](super::Device::create).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Default limit of what a device may store, in bytes (512 MiB).
const DEFAULT_STORAGE_LIMIT_BYTES: u64 = 512 << 20;

/// Everything a device needs to exist and to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// The lab's name for the device; names its scripts and its errors.
    pub name: String,
    /// The host name inside, 1 to 64 bytes; `_` is allowed.
    pub hostname: String,
    /// A directory whose tree is copied over the device's `/`.
    pub lab_dir: Option<PathBuf>,
    /// Startup and shutdown scripts.
    pub scripts: Scripts,
    /// Commands run by the shell after the startup scripts, in order.
    pub exec: Vec<String>,
    /// The lab's own sysctls (`net.ipv4.…`, value), set after the interfaces
    /// exist. The defaults are the sandbox's and are set before.
    pub sysctls: Vec<(String, String)>,
    /// Environment of every process of the device.
    pub env: Vec<(String, String)>,
    /// Whether interfaces get IPv6.
    pub ipv6: bool,
    /// Resource limits of every process of the device.
    pub ulimits: Vec<Ulimit>,
    /// Directories or files of the host shown inside.
    pub volumes: Vec<Volume>,
    /// The lab's shared directory, shown writable at `/shared`.
    pub shared_dir: Option<PathBuf>,
    /// The shell that runs scripts and `exec` commands.
    pub shell: PathBuf,
    /// How many bytes the device may store in memory, once for what it changes
    /// and writes below the host's directories and once for the rest (`/tmp`,
    /// `/run`, `/root`).
    pub storage_limit_bytes: u64,
    /// The executable that [`init_main`](super::init_main) is reached by: the
    /// running one, unless a test says otherwise.
    pub init_executable: PathBuf,
}

impl DeviceSpec {
    /// A device with the defaults: no files, no scripts, `/bin/bash`, no IPv6,
    /// host name as the name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            hostname: name.clone(),
            name,
            lab_dir: None,
            scripts: Scripts::default(),
            exec: Vec::new(),
            sysctls: Vec::new(),
            env: Vec::new(),
            ipv6: false,
            ulimits: Vec::new(),
            volumes: Vec::new(),
            shared_dir: None,
            shell: PathBuf::from("/bin/bash"),
            storage_limit_bytes: DEFAULT_STORAGE_LIMIT_BYTES,
            init_executable: PathBuf::from("/proc/self/exe"),
        }
    }

    /// Checks what the type cannot say; the error names the field.
    pub(super) fn validate(&self) -> Result<(), String> {
        let plain = |text: &str| !text.is_empty() && !text.contains(['/', '\0']);
        if !plain(&self.name) || self.name.starts_with('.') {
            return Err(format!("the name {:?} cannot name a file; use letters, digits and _", self.name));
        }
        if !plain(&self.hostname) || self.hostname.len() > 64 {
            return Err(format!("the host name {:?} is not 1 to 64 bytes without a slash", self.hostname));
        }
        if !self.shell.is_absolute() {
            return Err(format!("the shell {:?} is not an absolute path; write it as /bin/bash", self.shell));
        }
        for (name, _) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("{name:?} cannot name an environment variable"));
            }
        }
        Ok(())
    }
}

/// Scripts of a device as bytes, already read from the lab's directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Scripts {
    /// `shared.startup`: runs first.
    pub shared_startup: Option<Vec<u8>>,
    /// `DEVICE.startup`: runs second.
    pub startup: Option<Vec<u8>>,
    /// `DEVICE.shutdown`: runs first when the device stops.
    pub shutdown: Option<Vec<u8>>,
    /// `shared.shutdown`: runs last.
    pub shared_shutdown: Option<Vec<u8>>,
}

/// One resource limit; `None` means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The name as in `lab.conf`: `nofile`, `nproc`, `memlock`, …
    pub name: String,
    /// The limit in force.
    pub soft: Option<u64>,
    /// The limit up to which a process may raise the soft one.
    pub hard: Option<u64>,
}

/// A path of the host shown inside the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Absolute path on the host; must exist.
    pub host: PathBuf,
    /// Absolute path in the device; made where missing.
    pub guest: PathBuf,
    /// Whether the device may write to it.
    pub mode: VolumeMode,
}

/// How a volume may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum VolumeMode {
    /// Reading and executing (`ro`, `rx`).
    #[default]
    ReadOnly,
    /// Reading and writing (`rw`).
    ReadWrite,
}
