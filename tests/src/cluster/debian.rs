//! etcd, containerd, runc and the reference CNI plugins: Debian's, unpacked into the cache.
//!
//! They are not installed: installing starts services, and the machine may have others of the kind. Where there is no
//! apt the machine's own are used.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Result, binaries};
use crate::programs;

/// Grows by one when the list below changes.
const RECIPE: u32 = 1;
const PACKAGES: [&str; 5] = ["etcd-server", "containerd", "runc", "containernetworking-plugins", "busybox-static"];

/// The programs that clusters need of the packages, by their paths in them, and how the packages' own names differ.
const PROGRAMS: [(&str, &str); 6] = [
    ("etcd", "usr/bin/etcd"),
    ("containerd", "usr/bin/containerd"),
    ("containerd-shim-runc-v2", "usr/bin/containerd-shim-runc-v2"),
    ("ctr", "usr/bin/ctr"),
    ("runc", "usr/sbin/runc"),
    ("busybox", "bin/busybox"),
];

/// Where the machine keeps the reference CNI plugins if they are installed.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The programs, wherever they are.
#[derive(Clone, Debug)]
pub struct Debian {
    /// The unpacked packages; without apt, the machine's root.
    root: PathBuf,
}

impl Debian {
    /// Unpacks the packages first if need be.
    ///
    /// # Errors
    ///
    /// If they cannot be had, saying what is missing.
    pub fn obtain() -> Result<Self> {
        programs::require("nft", "nftables");
        programs::require("openssl", "openssl");
        programs::require("nsenter", "util-linux");
        if !programs::exists("apt-get") {
            let missing: Vec<_> =
                PROGRAMS.iter().map(|(name, _)| *name).filter(|name| !programs::exists(name)).collect();
            if !missing.is_empty() {
                return Err(format!("missing here: {}; install them, since there is no apt-get", missing.join(", ")));
            }
            return Ok(Self { root: PathBuf::from("/") });
        }
        let cache = programs::cache().join("debian");
        std::fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
        let root = cache.join(format!("{}-{RECIPE}", release()));
        if !root.is_dir() {
            let _lock = binaries::lock(&cache.join("lock"), "Debian's programs")?;
            if !root.is_dir() {
                unpack(&cache.join("partial"), &root)?;
            }
        }
        Ok(Self { root })
    }

    /// The directory that holds `usr` of the packages.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a program.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        if let Some(path) = binaries::users_own(name) {
            return Ok(path);
        }
        let known = PROGRAMS.iter().find(|(known, _)| *known == name).map(|(_, path)| self.root.join(path));
        let machine =
            ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin"].map(|directory| Path::new(directory).join(name));
        let found = known.into_iter().chain(machine).find(|path| path.is_file());
        found.ok_or_else(|| format!("there is no program {name} in {}", self.root.display()))
    }

    /// The directory of the reference CNI plugins.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn plugins(&self) -> Result<PathBuf> {
        let unpacked = self.root.join("usr/lib/cni");
        let found =
            std::iter::once(unpacked).chain(PLUGINS.map(PathBuf::from)).find(|path| path.join("bridge").is_file());
        found.ok_or_else(|| "the reference CNI plugins are missing: install containernetworking-plugins".to_owned())
    }
}

/// `debian-12` of a Debian 12.
fn release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    format!("{}-{}", value("ID"), value("VERSION_ID"))
}

fn unpack(partial: &Path, root: &Path) -> Result<()> {
    eprintln!("cluster: fetching {} (not installing them), once", PACKAGES.join(", "));
    let script = "set -e
        rm -rf \"$1\"; mkdir -p \"$1/debs\" \"$1/root\"; cd \"$1/debs\"; shift
        apt-get download -q \"$@\" || { apt-get update -q && apt-get download -q \"$@\"; }
        for deb in *.deb; do dpkg-deb -x \"$deb\" ../root; done";
    let mut command = Command::new("sh");
    command.args(["-c", script, "unpack"]).arg(partial).args(PACKAGES).stdin(Stdio::null());
    let output = command.env("LC_ALL", "C").output().map_err(|error| format!("cannot run sh: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "apt-get cannot download {}: {}; check apt's sources, or install them by hand",
            PACKAGES.join(", "),
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    std::fs::rename(partial.join("root"), root).map_err(|error| format!("{}: {error}", root.display()))?;
    let _ = std::fs::remove_dir_all(partial);
    Ok(())
}
