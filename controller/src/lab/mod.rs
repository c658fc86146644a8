//! The Kathará lab format: a directory becomes a [`Lab`].
//!
//! [`parse()`] is pure: a [`LabSource`] holds the files, a [`Lab`] and warnings come out, or all errors at
//! once. [`load()`] is the one function that reads a directory. Everything that Kathará accepts is
//! accepted, with its meaning; what Kathará swallows in silence is a [`Warning`] here.
//!
//! ```text
//!  DIR/ ──load──▶ LabSource ──parse──▶ Lab + warnings        lab.conf     conf, line, options, values
//!                                 └──▶ LabErrors             lab.dep      dep
//!                                                            lab.ext      ext
//!                                                            kathara.conf settings
//! ```

mod conf;
mod dep;
mod error;
mod ext;
mod line;
mod load;
mod mac;
mod model;
mod needs;
mod not_acting;
mod options;
mod print;
mod settings;
mod source;
mod sysctl;
mod text;
mod values;

pub use error::{ErrorCode, LabError, LabErrors, Location, Warning, WarningCode};
pub use load::load;
pub use model::{DEFAULT_SHELL, Device, ExternalLink, Interface, Lab, Lan, LanMember, Metadata, Script, Settings};
pub use needs::{KernelFeature, KernelNeed};
pub use not_acting::NotActing;
pub use options::{
    DEFAULT_HOST_PORT, DeviceOptions, EnvVar, Port, Protocol, Sysctl, Ulimit, UnknownOption, Volume, VolumeMode,
};
pub use source::{LabSource, parse};
pub use text::normalise_text;
pub use values::{Cpus, MemBytes};
