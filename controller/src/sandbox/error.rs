//! Errors of the sandbox: each names the device, the cause and the cure.

use std::io;

/// Why something with a device failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The specification cannot be met by any host.
    #[error("device {device}: {reason}")]
    Spec {
        /// The device.
        device: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The host refused something; the reason says what to change there.
    #[error("device {device}: {reason}")]
    Create {
        /// The device.
        device: String,
        /// What failed, and the cure.
        reason: String,
    },
    /// A command could not be started inside.
    #[error("device {device}: cannot run {command}: {reason}")]
    Exec {
        /// The device.
        device: String,
        /// The program.
        command: String,
        /// What the kernel said.
        reason: String,
        /// The exit code a shell gives in this case: 127 not found, else 126.
        exit_code: i32,
    },
    /// The device's process 1 has ended, and so everything inside.
    #[error("device {device} has ended; start the lab again")]
    Gone {
        /// The device.
        device: String,
    },
    /// Talking to the device failed.
    #[error("device {device}: {action}: {source}")]
    Io {
        /// The device.
        device: String,
        /// What was being done.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// A failure while the device is being made, told to the caller as text.
#[derive(Debug)]
pub(super) struct SetupError(pub(super) String);

impl From<String> for SetupError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Adds what was being done to a system error.
pub(super) trait Explain<T> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Explain<T> for Result<T, E> {
    fn explain(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|error| SetupError(format!("{}: {}", what(), error.into())))
    }
}
