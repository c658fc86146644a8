//! Starting and stopping what a lab runs in its devices, with words for what
//! fails and for what takes long.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::progress::{Event, Reporter};
use super::running::{Running, RunningDevice};
use super::{packages, parallel};
use crate::sandbox::{Progress, StartReport, StepReport};

/// How many scripts run at once. They mostly wait.
const SCRIPTS_LIMIT: usize = 64;
/// After that long a running script is shown.
const WORTH_A_WORD: Duration = Duration::from_secs(2);
/// After that long its output is shown once.
const WORTH_ITS_OUTPUT: Duration = Duration::from_secs(60);
/// How long the shutdown scripts of a device may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The exit code of a shell for a program that is not there.
const NOT_FOUND: i32 = 127;
/// How many lines of output are shown with a failure.
const OUTPUT_LINES: usize = 6;

/// Runs the startup scripts of all devices: those of one group at once, the
/// groups one after another.
///
/// # Errors
/// A device has ended; a failing script is a warning.
pub fn start_all(running: &Running, reporter: &Reporter) -> Result<(), String> {
    let waiting = Waiting::new(reporter);
    let total = running.devices().len();
    let mut before = 0;
    for group in &running.spec.lab.start_groups {
        let devices: Vec<&RunningDevice> =
            running.devices().iter().filter(|device| group.contains(&device.index)).collect();
        let done = |count| reporter.phase("devices started", before + count, total);
        parallel::for_each(&devices, SCRIPTS_LIMIT, done, |_, device| start_one(device, reporter, &waiting))?;
        before += devices.len();
    }
    Ok(())
}

fn start_one(running: &RunningDevice, reporter: &Reporter, waiting: &Waiting<'_>) -> Result<(), String> {
    let name = running.device.name();
    let mut output_shown = false;
    let mut progress = |news: Progress<'_>| {
        match news {
            Progress::Running { command, elapsed, output_tail, .. } => {
                waiting.note(name, command, elapsed);
                if elapsed >= WORTH_ITS_OUTPUT && !output_shown {
                    output_shown = true;
                    let output = indented(output_tail);
                    let secs = elapsed.as_secs();
                    reporter.warn(&format!(
                        "{name}: {command} has been running for {secs} s; a startup script must end by itself (put lasting commands into the background with &). Interrupt with Ctrl-C to give up{output}"
                    ));
                }
            }
            Progress::Began { .. } => {}
            Progress::Ended(_) => waiting.over(name),
        }
        ControlFlow::Continue(())
    };
    let report = running.device.start(&mut progress).map_err(|error| error.to_string())?;
    for warning in &report.warnings {
        reporter.warn(&format!("{name}: {warning}"));
    }
    let failures = failures(name, &report);
    for failure in &failures {
        reporter.warn(failure);
    }
    running.started(failures);
    Ok(())
}

/// Runs the shutdown scripts of all devices, each for a bounded time; gives what
/// failed.
pub fn stop_all(running: &Running) -> Vec<String> {
    let stop = |_: usize, device: &RunningDevice| Ok::<_, std::convert::Infallible>(stop_one(device));
    let texts = parallel::for_each(running.devices(), SCRIPTS_LIMIT, |_| {}, stop);
    texts.map(|texts| texts.into_iter().flatten().collect()).unwrap_or_default()
}

fn stop_one(running: &RunningDevice) -> Vec<String> {
    let name = running.device.name();
    let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
    let mut progress = |news: Progress<'_>| match news {
        Progress::Running { .. } if Instant::now() >= deadline => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    match running.device.stop(&mut progress) {
        Ok(report) if report.aborted => {
            let command = report.steps.last().map_or("a shutdown script", |step| step.command.as_str());
            vec![format!("{name}: {command} was broken off after {} s", SHUTDOWN_TIMEOUT.as_secs())]
        }
        Ok(report) => failures(name, &report),
        // It has ended by itself: there is nothing to shut down.
        Err(_) => Vec::new(),
    }
}

/// What failed, one text per step: the command, its failing lines, its output.
fn failures(device: &str, report: &StartReport) -> Vec<String> {
    report.failed().map(|step| failure(device, step)).collect()
}

fn failure(device: &str, step: &StepReport) -> String {
    let command = &step.command;
    let mut text = match &step.outcome {
        Ok(status) if status.success() => format!("{device}: lines of {command} failed"),
        Ok(status) => format!("{device}: {command} failed ({status})"),
        Err(reason) => format!("{device}: {command} did not run: {reason}"),
    };
    for failure in &step.failures {
        let _ = write!(text, "\n  line {}: {} (exit code {})", failure.line, failure.command, failure.status);
        if let (NOT_FOUND, Some(package)) = (failure.status, packages::package_of(&failure.command)) {
            let _ = write!(text, ": install it on the host (Debian: apt install {package})");
        }
    }
    text.push_str(&indented(&step.output_tail));
    text
}

/// The last lines of an output, each on a line of its own behind a bar.
fn indented(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(OUTPUT_LINES);
    lines.iter().skip(from).map(|line| format!("\n  | {line}")).collect()
}

/// Which scripts are being waited for, told as one line.
struct Waiting<'a> {
    reporter: &'a Reporter,
    scripts: Mutex<BTreeMap<String, (String, Duration)>>,
}

impl<'a> Waiting<'a> {
    fn new(reporter: &'a Reporter) -> Self {
        Self { reporter, scripts: Mutex::default() }
    }

    fn note(&self, device: &str, command: &str, elapsed: Duration) {
        if elapsed >= WORTH_A_WORD {
            let mut scripts = self.locked();
            scripts.insert(device.to_owned(), (command.to_owned(), elapsed));
            self.tell(&scripts);
        }
    }

    fn over(&self, device: &str) {
        let mut scripts = self.locked();
        if scripts.remove(device).is_some() {
            self.tell(&scripts);
        }
    }

    fn tell(&self, scripts: &BTreeMap<String, (String, Duration)>) {
        let longest = scripts.iter().max_by_key(|(_, (_, elapsed))| *elapsed);
        let text = longest.map_or_else(String::new, |(device, (command, elapsed))| {
            let others = match scripts.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("waiting for {device} ({command}, {} s){others}", elapsed.as_secs())
        });
        self.reporter.tell(&Event::Waiting { text });
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, (String, Duration)>> {
        self.scripts.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_an_output_are_shown() {
        let output: String = (1..=20).map(|n| format!("line {n}\n\n")).collect();
        let shown = indented(&output);
        assert!(shown.starts_with("\n  | line 15\n"), "{shown}");
        assert!(shown.ends_with("| line 20"), "{shown}");
        assert_eq!(indented(""), "");
    }
}
