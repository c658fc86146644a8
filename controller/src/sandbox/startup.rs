//! The lab's scripts and commands: order, output, progress and report.
//!
//! In: a [`Device`] whose interfaces are attached. Out: what each step did. The
//! order is Kathará's: the lab's sysctls, `shared.startup`, `NAME.startup`, the
//! `exec` commands, the marker `/tmp/EOS`; at the end `NAME.shutdown`, then
//! `shared.shutdown`. A failing step stops nothing.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::device::Device;
use super::error::SandboxError;
use super::process::{ExitStatus, Process, SpawnRequest, Stdio};

/// How much of the end of a step's output a report carries, in bytes.
const TAIL_BYTES: u64 = 4096;
/// How often a running step reports.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How many failing lines of one script a report names.
const MAX_FAILURES: usize = 20;
/// How much of the list of failing lines is read, in bytes.
const MAX_FAILURES_BYTES: u64 = 64 << 10;

/// Makes bash note each line that fails, without changing what it does. It is
/// read through `BASH_ENV`, which it removes for the script's own children.
const BASH_NOTES: &str = r#"unset BASH_ENV
trap '{ printf "%s %s %s\n" "$?" "$LINENO" "${BASH_COMMAND//[[:cntrl:]]/ }" >>/run/megalos/failures; } 2>/dev/null' ERR
"#;
const NOTES_FILE: &str = "/run/megalos/bash_env";
const FAILURES_FILE: &str = "/run/megalos/failures";

/// A part of starting or stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `shared.startup`.
    SharedStartup,
    /// `NAME.startup`.
    Startup,
    /// An `exec` command, counted from 0.
    Exec(usize),
    /// `NAME.shutdown`.
    Shutdown,
    /// `shared.shutdown`.
    SharedShutdown,
}

/// A line of a script that ended with a status other than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The line in the lab's file, from 1.
    pub line: usize,
    /// The command as the shell read it.
    pub command: String,
    /// Its exit status, 1 to 255.
    pub status: i32,
}

/// What one step did.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Which it was.
    pub step: Step,
    /// The script's file name or the command.
    pub command: String,
    /// How it ended; the text says why it could not even begin.
    pub outcome: Result<ExitStatus, String>,
    /// How long it took.
    pub elapsed: Duration,
    /// The end of its output, at most 4 KiB.
    pub output_tail: String,
    /// Lines that failed on the way, where the shell is bash; the first 20.
    pub failures: Vec<Failure>,
}

impl StepReport {
    /// Whether it ran, ended with 0, and no line failed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.outcome, Ok(status) if status.success()) && self.failures.is_empty()
    }
}

/// What starting or stopping a device did.
#[derive(Debug, Clone, Default)]
pub struct StartReport {
    /// The steps in order; those the lab does not have are left out.
    pub steps: Vec<StepReport>,
    /// Settings that could not be made, each naming itself and why.
    pub warnings: Vec<String>,
    /// Whether the caller broke it off.
    pub aborted: bool,
}

impl StartReport {
    /// The steps of which something failed.
    pub fn failed(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|step| !step.is_clean())
    }
}

/// News while steps run.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A step begins.
    Began {
        /// Which.
        step: Step,
        /// The script's file name or the command.
        command: &'a str,
    },
    /// It is still running; told every second.
    Running {
        /// Which.
        step: Step,
        /// The script's file name or the command.
        command: &'a str,
        /// For how long.
        elapsed: Duration,
        /// The end of its output so far, at most 4 KiB.
        output_tail: &'a str,
    },
    /// It has ended.
    Ended(&'a StepReport),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedStartup => f.write_str("shared.startup"),
            Self::Startup => f.write_str("startup"),
            Self::Exec(number) => write!(f, "exec {number}"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::SharedShutdown => f.write_str("shared.shutdown"),
        }
    }
}

/// A step to be taken.
struct Plan {
    step: Step,
    command: String,
    arguments: Vec<String>,
    log: String,
}

impl Device {
    /// Runs the lab's part of starting; the interfaces must be attached. It
    /// blocks until the last step has ended: a script that does not end is
    /// shown by `progress` every second, which may break off the whole by
    /// returning [`ControlFlow::Break`]; the running step is then killed.
    ///
    /// # Errors
    /// When the device has ended or cannot be reached. Failing steps are no
    /// error but part of the report.
    pub fn start(
        &self,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<StartReport, SandboxError> {
        let spec = self.spec();
        let mut plans = Vec::new();
        if spec.scripts.shared_startup.is_some() {
            plans.push(self.script(Step::SharedStartup, "shared.startup".to_owned(), "shared"));
        }
        if spec.scripts.startup.is_some() {
            let file = format!("{}.startup", spec.name);
            plans.push(self.script(Step::Startup, file, "startup"));
        }
        for (number, command) in spec.exec.iter().enumerate() {
            plans.push(Plan {
                step: Step::Exec(number),
                command: command.clone(),
                arguments: vec!["-c".to_owned(), command.clone()],
                log: format!("/var/log/exec.{number}.log"),
            });
        }
        let mut report = StartReport { warnings: self.set_sysctls(&spec.sysctls)?, ..StartReport::default() };
        self.run_all(&plans, &mut report, progress)?;
        if !report.aborted {
            self.write_file("/tmp/EOS", b"")?;
        }
        Ok(report)
    }

    /// Runs the lab's shutdown scripts; the device goes when it is dropped.
    /// Blocks and breaks off as [`Device::start`] does.
    ///
    /// # Errors
    /// When the device has ended or cannot be reached.
    pub fn stop(&self, progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>) -> Result<StartReport, SandboxError> {
        let spec = self.spec();
        let mut plans = Vec::new();
        if spec.scripts.shutdown.is_some() {
            let file = format!("{}.shutdown", spec.name);
            plans.push(self.script(Step::Shutdown, file, "shutdown"));
        }
        if spec.scripts.shared_shutdown.is_some() {
            let file = "shared.shutdown".to_owned();
            plans.push(self.script(Step::SharedShutdown, file, "shared.shutdown"));
        }
        let mut report = StartReport::default();
        self.run_all(&plans, &mut report, progress)?;
        Ok(report)
    }

    fn script(&self, step: Step, file: String, log: &str) -> Plan {
        Plan { step, arguments: vec![format!("/hostlab/{file}")], command: file, log: format!("/var/log/{log}.log") }
    }

    fn run_all(
        &self,
        plans: &[Plan],
        report: &mut StartReport,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(), SandboxError> {
        let notes_failures = self.spec().shell.file_name().is_some_and(|name| name == "bash");
        if notes_failures && !plans.is_empty() {
            self.write_file(NOTES_FILE, BASH_NOTES.as_bytes())?;
        }
        for plan in plans {
            let began = progress(Progress::Began { step: plan.step, command: &plan.command });
            if began.is_break() {
                report.aborted = true;
                return Ok(());
            }
            let (step, aborted) = self.run_step(plan, notes_failures, progress)?;
            report.steps.push(step);
            let ended = report.steps.last().map(|step| progress(Progress::Ended(step)));
            if aborted || ended.is_some_and(|verdict| verdict.is_break()) {
                report.aborted = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Runs one step to its end, or until `progress` breaks it off.
    fn run_step(
        &self,
        plan: &Plan,
        notes_failures: bool,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(StepReport, bool), SandboxError> {
        let began = Instant::now();
        let mut report = StepReport {
            step: plan.step,
            command: plan.command.clone(),
            outcome: Err(String::new()),
            elapsed: Duration::ZERO,
            output_tail: String::new(),
            failures: Vec::new(),
        };
        let mut process = match self.spawn_step(plan, notes_failures) {
            Ok(process) => process,
            Err(error @ SandboxError::Exec { .. }) => {
                report.outcome = Err(error.to_string());
                return Ok((report, false));
            }
            Err(error) => return Err(error),
        };
        let log = process.take_log();
        let mut aborted = false;
        let status = loop {
            if let Some(status) = process.wait_timeout(PROGRESS_INTERVAL)? {
                break status;
            }
            let output_tail = tail(log.as_ref());
            let verdict = progress(Progress::Running {
                step: plan.step,
                command: &plan.command,
                elapsed: began.elapsed(),
                output_tail: &output_tail,
            });
            if verdict.is_break() {
                aborted = true;
                process.signal(Signal::SIGKILL)?;
            }
        };
        report.outcome = Ok(status);
        report.elapsed = began.elapsed();
        report.output_tail = tail(log.as_ref());
        if notes_failures {
            report.failures = self.read_failures(plan.step)?;
        }
        Ok((report, aborted))
    }

    fn spawn_step(&self, plan: &Plan, notes_failures: bool) -> Result<Process, SandboxError> {
        let mut env = Vec::new();
        if notes_failures {
            self.write_file(FAILURES_FILE, b"")?;
            env.push(("BASH_ENV".to_owned(), NOTES_FILE.to_owned()));
        }
        let mut argv = vec![self.spec().shell.display().to_string()];
        argv.extend(plan.arguments.iter().cloned());
        self.spawn(SpawnRequest { argv, env, stdio: Stdio::Log(plan.log.clone()) })
    }

    fn read_failures(&self, step: Step) -> Result<Vec<Failure>, SandboxError> {
        let Some(file) = self.open_file(FAILURES_FILE)? else {
            return Ok(Vec::new());
        };
        let mut text = Vec::new();
        // What cannot be read is a note less.
        let _ = file.take(MAX_FAILURES_BYTES).read_to_end(&mut text);
        // The scripts begin with a line of ours.
        let added_lines = usize::from(!matches!(step, Step::Exec(_)));
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|line| parse_failure(line, added_lines)).take(MAX_FAILURES).collect())
    }
}

fn parse_failure(line: &str, added_lines: usize) -> Option<Failure> {
    let mut fields = line.splitn(3, ' ');
    Some(Failure {
        status: fields.next()?.parse().ok()?,
        line: fields.next()?.parse::<usize>().ok()?.saturating_sub(added_lines),
        command: fields.next()?.to_owned(),
    })
}

/// The end of a log, read at its own position so that no offset is moved.
fn tail(log: Option<&File>) -> String {
    let Some(log) = log else {
        return String::new();
    };
    let Ok(length) = log.metadata().map(|metadata| metadata.len()) else {
        return String::new();
    };
    let size = usize::try_from(length.min(TAIL_BYTES)).unwrap_or_default();
    let mut bytes = vec![0_u8; size];
    let read = log.read_at(&mut bytes, length.saturating_sub(TAIL_BYTES)).unwrap_or_default();
    bytes.truncate(read);
    let text = String::from_utf8_lossy(&bytes);
    if length <= TAIL_BYTES {
        return text.into_owned();
    }
    // Begin with a whole line, if there is one.
    match text.split_once('\n') {
        Some((_, rest)) if !rest.is_empty() => rest.to_owned(),
        _ => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_in_the_labs_own_lines() {
        assert_eq!(
            parse_failure("127 4 brctl addbr br0", 1),
            Some(Failure { line: 3, command: "brctl addbr br0".to_owned(), status: 127 })
        );
        assert_eq!(parse_failure("garbage", 1), None);
        assert_eq!(parse_failure("", 1), None);
    }
}
