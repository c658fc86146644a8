//! Our own programs, and packages of the system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// The directory with `megalos`, `megalos-rr`, `megalos-speaker` and `megalos-cni`, built by the profile of the running test.
///
/// # Panics
///
/// If they cannot be built.
pub fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let mut command = Command::new(env!("CARGO"));
        command.args([
            "build",
            "--quiet",
            "-p",
            "route-reflector",
            "-p",
            "worker-speaker",
            "-p",
            "controller",
            "-p",
            "cni",
            "--bins",
        ]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        forget_this_package(&mut command);
        let status = command.status().unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
        assert!(status.success(), "the programs under test do not build: {status}");
        let test = std::env::current_exe().unwrap_or_else(|error| panic!("where am I? {error}"));
        let directory = test.ancestors().find(|path| path.join("megalos-rr").is_file());
        directory.unwrap_or_else(|| panic!("no megalos-rr above {}", test.display())).to_owned()
    })
}

/// Takes from the environment of `command`, which runs cargo, what cargo said to this process about the package of the tests.
/// Some build scripts ask to be run again when it changes, and then the same programs are built anew on every other call.
pub fn forget_this_package(command: &mut Command) {
    let about_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if about_a_package.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// The path of one of our programs.
pub fn path(name: &str) -> PathBuf {
    directory().join(name)
}

/// Where things that take long to make are kept from run to run: `MEGALOS_CACHE`, else `megalos` in the user's cache
/// directory.
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let megalos = variable("MEGALOS_CACHE").or_else(|| Some(user()?.join("megalos")));
    megalos.unwrap_or_else(|| PathBuf::from("/var/cache/megalos"))
}

/// Writes a file that appears complete or not at all.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let written = std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// Sees to it that `program` exists, installing the Debian package that holds it.
///
/// # Panics
///
/// If it is missing and cannot be installed, saying what to do.
pub fn require(program: &str, package: &str) {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _guard = INSTALLING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if exists(program) {
        return;
    }
    eprintln!("installing the package {package}, which holds {program}");
    let install = format!(
        "apt-get install -y -qq {package} >/dev/null 2>&1 || (apt-get update -qq && apt-get install -y -qq {package})"
    );
    let status = Command::new("sh").args(["-c", &install]).env("DEBIAN_FRONTEND", "noninteractive").status();
    assert!(
        status.is_ok_and(|status| status.success()) && exists(program),
        "{program} is missing and apt-get could not install {package}; install it by hand"
    );
}

pub(crate) fn exists(program: &str) -> bool {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib/cni", "/usr/lib/frr", "/usr/local/bin"];
    directories.iter().any(|directory| PathBuf::from(directory).join(program).is_file())
}

/// Sees to it that the suite may make namespaces.
///
/// # Panics
///
/// If not run as root.
pub fn require_root() {
    assert!(nix::unistd::geteuid().is_root(), "this suite makes network namespaces: run it as root");
    require("ip", "iproute2");
    require("ping", "iputils-ping");
}
