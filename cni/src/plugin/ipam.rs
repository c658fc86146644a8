//! Delegation to an IPAM plugin (CNI specification, section 4).
//!
//! In: the configuration as it came, and the type of the plugin. The plugin is found in `CNI_PATH` and run with our own
//! environment and standard input; what it writes to standard error appears on ours. Out: what it printed, or its error.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::plugin::environment::Verb;
use crate::plugin::error::PluginError;
use crate::plugin::result::Assigned;
use crate::types::ErrorCode;

/// The longest output that is read.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;
/// How long an address may take; runtimes give up at 90 s or later.
const ADD_TIMEOUT: Duration = Duration::from_secs(35);
/// How long anything else may take.
const OTHER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a process that has closed its output is looked at.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// A plugin to delegate to.
#[derive(Debug)]
pub struct Ipam<'a> {
    kind: &'a str,
    directories: &'a [PathBuf],
    config: &'a [u8],
}

impl<'a> Ipam<'a> {
    /// The plugin `kind`, looked for in `directories`, which gets `config`.
    pub fn new(kind: &'a str, directories: &'a [PathBuf], config: &'a [u8]) -> Self {
        Self { kind, directories, config }
    }

    /// Has addresses assigned.
    ///
    /// # Errors
    /// The plugin's own error, or why it has none. It may have assigned something all the same, and is to be asked for a DEL
    /// then (CNI specification, section 4).
    pub fn add(&self) -> Result<Assigned, PluginError> {
        let output = self.run(Verb::Add)?;
        Assigned::parse(&output).map_err(|expected| {
            self.failed(ErrorCode::DECODE_FAILURE, "its result is not understood", &format!("expected {expected}"))
        })
    }

    /// Passes on a verb that has no result.
    ///
    /// # Errors
    /// The plugin's own error, or why it could not be run.
    pub fn pass_on(&self, verb: Verb) -> Result<(), PluginError> {
        self.run(verb).map(drop)
    }

    /// The plugin's file, if it is installed.
    pub fn find(&self) -> Option<PathBuf> {
        let files = self.directories.iter().filter(|directory| directory.is_absolute());
        files
            .map(|directory| directory.join(self.kind))
            .find(|file| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
    }

    fn failed(&self, code: ErrorCode, what: &str, cause: &str) -> PluginError {
        PluginError::new(code, format!("IPAM plugin {}: {what}", self.kind), cause)
    }

    fn run(&self, verb: Verb) -> Result<Vec<u8>, PluginError> {
        let file = self.find().ok_or_else(|| {
            let directories: Vec<_> =
                self.directories.iter().map(|directory| directory.display().to_string()).collect();
            self.failed(
                ErrorCode::INVALID_NETWORK_CONFIG,
                "there is no such plugin",
                &format!(
                    "install it in one of the directories of CNI_PATH ({}), or correct `ipam.type`",
                    directories.join(", ")
                ),
            )
        })?;
        let mut child = Command::new(&file)
            .env("CNI_COMMAND", verb.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                self.failed(ErrorCode::IO_FAILURE, "it cannot be run", &format!("{}: {error}", file.display()))
            })?;
        let timeout = if verb == Verb::Add { ADD_TIMEOUT } else { OTHER_TIMEOUT };
        let output = self.converse(&mut child, Instant::now() + timeout);
        if output.is_err() {
            let _ = child.kill();
        }
        // Reaps it; it has ended, or has just been killed.
        let status = child.wait();
        let output = output?;
        match status {
            Ok(status) if status.success() => Ok(output),
            Ok(status) => Err(self.reported(&output, &status.to_string())),
            Err(error) => Err(self.failed(ErrorCode::IO_FAILURE, "it was lost", &error.to_string())),
        }
    }

    /// Feeds the plugin and collects what it prints until it ends.
    fn converse(&self, child: &mut Child, deadline: Instant) -> Result<Vec<u8>, PluginError> {
        if let Some(mut stdin) = child.stdin.take() {
            let config = self.config.to_vec();
            // A plugin that reads nothing is no error of ours.
            thread::spawn(move || drop(stdin.write_all(&config)));
        }
        let (sender, printed) = mpsc::sync_channel(1);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut output = Vec::new();
                let read = stdout.take(MAX_OUTPUT_BYTES).read_to_end(&mut output);
                let _ = sender.send(read.map(|_| output));
            });
        }
        let late = || self.failed(ErrorCode::TRY_AGAIN_LATER, "it does not answer", "it was stopped; see its log");
        let output = printed.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| late())?;
        while !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            if Instant::now() > deadline {
                return Err(late());
            }
            thread::sleep(EXIT_POLL);
        }
        output.map_err(|error| self.failed(ErrorCode::IO_FAILURE, "its output cannot be read", &error.to_string()))
    }

    /// The error object that a plugin printed, passed on with its name.
    fn reported(&self, output: &[u8], status: &str) -> PluginError {
        let object: Option<Value> = serde_json::from_slice(output).ok();
        let text = |key: &str| object.as_ref().and_then(|object| object.get(key)).and_then(Value::as_str);
        let code = object.as_ref().and_then(|object| object.get("code")).and_then(Value::as_u64);
        let code = code.and_then(|code| u32::try_from(code).ok()).map_or(ErrorCode::INTERNAL, ErrorCode);
        // Code 3 would tell the runtime that no DEL is needed, which is for us to say.
        let code = if code == ErrorCode::UNKNOWN_CONTAINER { ErrorCode::INTERNAL } else { code };
        self.failed(code, text("msg").unwrap_or("it failed"), text("details").unwrap_or(status))
    }
}
