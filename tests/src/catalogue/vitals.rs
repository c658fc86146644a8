//! Whether a process lives, how much memory it holds, whether it spins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::wait;

/// A thread that had or wanted the processor for more than this part of a while is busy.
const BUSY_PERCENT: u128 = 50;
/// The while.
const WHILE: Duration = Duration::from_millis(60);

/// A process of a host.
#[derive(Debug)]
pub struct Vitals {
    pid: u32,
    label: &'static str,
    /// When it started, in ticks since boot: another process with its id has another.
    started: String,
}

impl Vitals {
    /// Of a process that runs now, whose output the host keeps under `label`.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn of(pid: u32, label: &'static str) -> Self {
        let started = start_time(pid).unwrap_or_else(|| panic!("{label} does not run"));
        Self { pid, label, started }
    }

    /// The same process as ever, and its log tells of no panic.
    pub fn assert_alive(&self, host: &Host) {
        assert_eq!(start_time(self.pid).as_ref(), Some(&self.started), "{} has ended", self.label);
        let log = host.log(self.label);
        let panicked = log.lines().find(|line| line.contains("panicked at"));
        assert_eq!(panicked, None, "{}", self.label);
    }

    /// Resident memory, in kilobytes.
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// Waits for a while in which no thread of it is busy. What a thread wanted and did not get counts too, so the load of
    /// the machine does not matter.
    ///
    /// # Panics
    ///
    /// If one stays busy.
    pub fn wait_idle(&self) {
        wait::until(&format!("{} to come to rest", self.label), || {
            let (before, begin) = (self.wanted(), Instant::now());
            std::thread::sleep(WHILE);
            let (after, passed) = (self.wanted(), begin.elapsed().as_nanos());
            let grown = |(thread, ns): (&String, &u128)| ns.saturating_sub(*before.get(thread).unwrap_or(&0));
            let most = after.iter().map(grown).max().unwrap_or_default();
            if most * 100 <= passed * BUSY_PERCENT { Ok(()) } else { Err(format!("{most} of {passed} ns")) }
        });
    }

    /// Nanoseconds that each thread ran or waited to run.
    fn wanted(&self) -> BTreeMap<String, u128> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u128>().ok());
            Some((task.file_name().into_string().ok()?, numbers.next()? + numbers.next()?))
        };
        tasks.filter_map(of).collect()
    }
}

fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it begins with the state, the third field.
    let rest = stat.rsplit_once(')')?.1;
    let state = rest.split_whitespace().next()?;
    if state == "Z" { None } else { rest.split_whitespace().nth(19).map(str::to_owned) }
}
