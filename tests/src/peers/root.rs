//! A Debian sid file system with the BGP daemons that the system's own Debian is too old for or does not have.
//!
//! Made once with debootstrap into the user's cache and used until somebody removes it: sid moves, a root does not.
//! Tests print every version. A root is made under another name and renamed when it is complete, so a half-made one is
//! never used; test binaries that run side by side wait for the one that makes it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::programs;

/// Grows by one when what is below changes; a root of another recipe is left alone.
const NAME: &str = "debian-sid-1";
const PACKAGES: [&str; 4] = ["frr", "gobgpd", "bird3", "openbgpd"];
/// How often a line of progress is printed.
const PROGRESS: Duration = Duration::from_secs(5);

/// The root, made first if need be.
///
/// # Panics
///
/// If it cannot be made, saying why and what to do.
pub fn path() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        obtain(&programs::cache().join("peers"))
            .unwrap_or_else(|error| panic!("no Debian sid root for the peers: {error}"))
    })
}

fn obtain(cache: &Path) -> Result<PathBuf, String> {
    let root = cache.join(NAME);
    if root.is_dir() {
        return Ok(root);
    }
    programs::require_root();
    std::fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let _lock = lock(&cache.join("lock"))?;
    if root.is_dir() {
        return Ok(root);
    }
    let partial = cache.join(format!("{NAME}.partial"));
    make(&partial, &cache.join(format!("{NAME}.log")))?;
    std::fs::rename(&partial, &root).map_err(|error| format!("{}: {error}", root.display()))?;
    Ok(root)
}

/// Held while a root is made; the kernel lets go of it when the process ends, however it ends.
fn lock(path: &Path) -> Result<Flock<File>, String> {
    let open =
        || File::options().create(true).append(true).open(path).map_err(|error| format!("{}: {error}", path.display()));
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, _)) => {
            eprintln!("peers: waiting for the process that makes {NAME}");
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| format!("{}: {error}", path.display()))
        }
    }
}

fn make(partial: &Path, log: &Path) -> Result<(), String> {
    programs::require("debootstrap", "debootstrap");
    programs::require("unshare", "util-linux");
    eprintln!("peers: making {} with {}, once: a minute or two, 500 MB", partial.display(), PACKAGES.join(", "));
    let log_file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut failures = Vec::new();
    // The mirror that apt uses here may be near, or the only one allowed; it may also lack sid.
    for mirror in apts_mirror().map(Some).into_iter().chain([None]) {
        remove(partial)?;
        let made = bootstrap(partial, mirror.as_deref(), &log_file).and_then(|()| install(partial, &log_file));
        match made {
            Ok(()) => return Ok(()),
            Err(error) => {
                failures.push(format!("{} from {}", error, mirror.as_deref().unwrap_or("the default mirror")))
            }
        }
    }
    Err(format!(
        "{}; all output is in {}. A Debian mirror with sid must be reachable (proxies are taken from apt's \
         configuration and from http_proxy) and the package debian-archive-keyring be current",
        failures.join("; "),
        log.display()
    ))
}

fn remove(partial: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", partial.display())),
        _ => Ok(()),
    }
}

/// The Debian mirror in apt's own configuration.
fn apts_mirror() -> Option<String> {
    let filters = ["Created-By: Packages", "Origin: Debian", "Label: Debian"];
    let output =
        Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).args(filters).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.starts_with("http")).map(str::to_owned)
}

fn bootstrap(partial: &Path, mirror: Option<&str>, log: &File) -> Result<(), String> {
    // What debootstrap mounts in the root goes with this namespace, even if it is killed.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "debootstrap", "--variant=minbase"]);
    command.args(["--include=ca-certificates", "sid"]).arg(partial).args(mirror);
    run(command, "debootstrap", log)
}

/// The packages come by apt, since debootstrap does not sort out what configures before what outside the base system.
fn install(partial: &Path, log: &File) -> Result<(), String> {
    let script = format!(
        r#"set -e
        mount -t proc proc "$1/proc"
        printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"
        chmod +x "$1/usr/sbin/policy-rc.d"
        chroot "$1" apt-get -o Acquire::Check-Valid-Until=false update
        chroot "$1" apt-get install -y --no-install-recommends {}
        chroot "$1" apt-get clean
        rm -rf "$1"/var/lib/apt/lists/*
        mkdir -p "$1/run" "$1/sys""#,
        PACKAGES.join(" ")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "install"]).arg(partial);
    run(command, "apt-get", log)
}

/// Runs a command with apt's proxies, all output into the log and a line of it on stderr now and then.
fn run(mut command: Command, what: &str, log: &File) -> Result<(), String> {
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    for scheme in ["http", "https"] {
        if let Some(proxy) = apts_proxy(scheme) {
            command.env(format!("{scheme}_proxy"), proxy);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("cannot run {what}: {error}"))?;
    let (mut log, mut last, mut printed) = (log, String::new(), Instant::now());
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok)
    {
        let _ = writeln!(log, "{line}");
        if printed.elapsed() > PROGRESS {
            printed = Instant::now();
            eprintln!("peers: {line}");
        }
        last = line;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed ({status}) after `{last}`")) }
}

fn apts_proxy(scheme: &str) -> Option<String> {
    let key = format!("Acquire::{scheme}::Proxy");
    let output = Command::new("apt-config").args(["--format", "%v", "dump", &key]).output().ok()?;
    let proxy = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!proxy.is_empty() && proxy != "DIRECT").then_some(proxy)
}
