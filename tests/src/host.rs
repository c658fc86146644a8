//! Hosts: network namespaces joined by an underlay.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::{programs, wait};

static NEXT: AtomicU32 = AtomicU32::new(0);
const PREFIX: &str = "mgt";

/// What a device keeps for a neighbour that does not answer. The kernel sends the echo replies of a processor, whatever
/// their namespace, from one socket: a device whose LAN is cut would fill that with its queue, and others fall silent.
const QUEUE_OCTETS: u32 = 16_384;

/// A network namespace with what runs in it.
#[derive(Debug)]
pub struct Host {
    name: String,
    directory: PathBuf,
    processes: Vec<Child>,
}

impl Host {
    /// A host with its loopback up.
    pub fn new(label: &str) -> Self {
        programs::require_root();
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_leftovers);
        let name = format!("{PREFIX}-{}-{}-{label}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        run(Command::new("ip").args(["netns", "add", &name]));
        let host = Self { name, directory, processes: Vec::new() };
        host.sh("ip link set lo up");
        host
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for the files of this host's processes.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// A command that will run on the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.open();
        // SAFETY: setns is async-signal-safe and touches only the child between fork and exec.
        unsafe {
            command.pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from));
        }
        command
    }

    /// The namespace's descriptor.
    pub fn open(&self) -> File {
        let path = format!("/run/netns/{}", self.name);
        File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Runs a shell line and returns its output.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        assert!(output.status.success(), "{}: `{line}`: {}", self.name, text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a shell line, whatever comes of it.
    pub fn try_sh(&self, line: &str) -> Output {
        let output = self.command("sh").args(["-c", line]).output();
        output.unwrap_or_else(|error| panic!("{}: `{line}`: {error}", self.name))
    }

    /// Starts a process that lives as long as the host; its output goes to a file that [`Host::log`] reads.
    pub fn spawn(&mut self, label: &str, mut command: Command) -> u32 {
        let path = self.directory.join(format!("{label}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let other = log.try_clone().unwrap_or_else(|error| panic!("{error}"));
        command.stdin(Stdio::null()).stdout(log).stderr(other);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {label}: {error}", self.name));
        let pid = child.id();
        self.processes.push(child);
        pid
    }

    /// Runs a program that is expected to end by itself, and soon.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Output {
        let mut command = self.command("timeout");
        command.args(["--signal=KILL", "30"]).arg(program.as_ref()).args(arguments);
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        // `timeout` takes itself along with that signal.
        assert!(
            output.status.code().is_some(),
            "{:?} {arguments:?} does not end: {}",
            program.as_ref(),
            text(&output.stderr)
        );
        output
    }

    /// Sends a signal to the process `pid`, which goes on.
    pub fn signal(&self, pid: u32, signal: nix::sys::signal::Signal) {
        let sent = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal);
        sent.unwrap_or_else(|error| panic!("{}: {signal} to {pid}: {error}", self.name));
    }

    /// Ends the process `pid` with `signal` and waits for it.
    pub fn kill(&mut self, pid: u32, signal: nix::sys::signal::Signal) {
        let Some(index) = self.processes.iter().position(|child| child.id() == pid) else { return };
        let mut child = self.processes.swap_remove(index);
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal);
        let _ = child.wait();
    }

    /// What the process `label` printed.
    pub fn log(&self, label: &str) -> String {
        std::fs::read_to_string(self.directory.join(format!("{label}.log"))).unwrap_or_default()
    }

    /// A counter of the host's IP stack, by the name that `nstat` gives it.
    ///
    /// # Panics
    ///
    /// If there is none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        let table = self.sh(&format!("nstat -asz {name}"));
        let value = table.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{}: no counter {name} in {table}", self.name))
    }

    /// Whether `address` answers one ping.
    pub fn pings(&self, address: &str) -> bool {
        self.try_sh(&format!("ping -n -c 1 -W 1 {address}")).status.success()
    }
}

impl Host {
    /// Keeps little for neighbours of `eth0` that do not answer, so that a LAN which is cut does not disturb others.
    pub fn limit_queue(&self) {
        self.sh(&format!("sysctl -q -w net.ipv4.neigh.eth0.unres_qlen_bytes={QUEUE_OCTETS}"));
    }

    /// Waits until `address` answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn wait_pings(&self, address: &str) {
        wait::until_true(&format!("{address} to answer {}", self.name), || self.pings(address));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        remove_namespace(&self.name);
    }
}

impl Host {
    /// The ends of all logs, for a failed test.
    fn story(&self) -> String {
        let mut story = String::new();
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return story };
        for path in
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "log"))
        {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            let _ = writeln!(story, "--- {} ---", path.display());
            for line in lines.iter().rev() {
                let _ = writeln!(story, "{line}");
            }
        }
        story
    }
}

/// The network that hosts reach each other by: one bridge in a namespace of its own.
#[derive(Debug)]
pub struct Underlay {
    switch: Host,
    mtu: u32,
}

impl Underlay {
    /// An underlay whose links have this MTU.
    pub fn new(mtu: u32) -> Self {
        let switch = Host::new("underlay");
        switch.sh(&format!("ip link add br0 mtu {mtu} type bridge && ip link set br0 up"));
        Self { switch, mtu }
    }

    /// A host on the underlay; each address is given with its prefix length.
    pub fn host(&self, label: &str, addresses: &[&str]) -> Host {
        let host = Host::new(label);
        let port = format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mtu = self.mtu;
        self.switch.sh(&format!(
            "ip link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {} && ip link set {port} master br0 up",
            host.name()
        ));
        host.sh("ip link set eth0 up");
        for address in addresses {
            let flags = if address.contains(':') { "nodad" } else { "" };
            host.sh(&format!("ip address add {address} dev eth0 {flags}"));
        }
        host
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of the overlay namespace of a worker on the host of this name.
pub fn overlay_of(name: &str) -> String {
    format!("{name}-overlay")
}

/// Ends what still runs in a namespace of ours, then removes it with the overlay namespace that a worker made in it and
/// all their files.
fn remove_namespace(name: &str) {
    let overlay = overlay_of(name);
    let _ = std::fs::remove_dir_all(PathBuf::from("/run/megalos").join(&overlay));
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join(name));
    for namespace in [name, &overlay] {
        if !PathBuf::from(format!("/run/netns/{namespace}")).exists() {
            continue;
        }
        if let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() {
            for pid in text(&output.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let _ = Command::new("ip").args(["netns", "del", namespace]).output();
    }
}

/// Removes the namespaces of runs whose process is gone.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner =
            name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            remove_namespace(&name);
        }
    }
}
