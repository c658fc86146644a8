//! The programs of a cluster: built once from Go modules, or a user's own.
//!
//! Each module has a directory in `tests/cluster` with a go.mod of its own, since their dependencies exclude each other.
//! A binary is built under another name and renamed when it is complete; processes that run side by side wait for the
//! one that builds. `KUBEBUILDER_ASSETS` names a directory whose programs are used instead, where it holds them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::Result;
use crate::programs;

/// How often a line of progress is printed.
const PROGRESS: Duration = Duration::from_secs(15);

/// A Go module whose programs a cluster needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Module {
    /// Its directory in `tests/cluster` and in the cache.
    pub name: &'static str,
    /// The module whose version in that go.mod is the programs' version.
    path: &'static str,
    /// The import path before a program's name.
    prefix: &'static str,
    /// Variables that the linker sets to the version, with what is put before and after it.
    versions: &'static [&'static str],
    /// Its programs, in the order in which they are needed.
    pub programs: &'static [&'static str],
}

/// Kubernetes itself.
pub const KUBERNETES: Module = Module {
    name: "kubernetes",
    path: "k8s.io/kubernetes",
    prefix: "k8s.io/kubernetes/cmd/",
    versions: &["k8s.io/component-base/version.", "k8s.io/client-go/pkg/version."],
    programs: &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"],
};

/// Multus, thick.
pub const MULTUS: Module = Module {
    name: "multus",
    path: "gopkg.in/k8snetworkplumbingwg/multus-cni.v4",
    prefix: "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/",
    versions: &["gopkg.in/k8snetworkplumbingwg/multus-cni.v4/pkg/multus."],
    programs: &["multus-daemon", "multus-shim", "install_multus", "passthru-cni"],
};

/// The reference runner of CNI plugins.
pub const CNITOOL: Module = Module {
    name: "cnitool",
    path: "github.com/containernetworking/cni",
    prefix: "github.com/containernetworking/cni/",
    versions: &[],
    programs: &["cnitool"],
};

/// Nodes that exist in the API alone, by the thousand.
pub const KWOK: Module = Module {
    name: "kwok",
    path: "sigs.k8s.io/kwok",
    prefix: "sigs.k8s.io/kwok/cmd/",
    versions: &[],
    programs: &["kwok"],
};

/// Every module.
pub const MODULES: [Module; 4] = [KUBERNETES, MULTUS, CNITOOL, KWOK];

impl Module {
    /// The version that the module's go.mod requires, without the `v`.
    ///
    /// # Errors
    ///
    /// If go.mod cannot be read.
    pub fn version(&self) -> Result<String> {
        let file = self.source().join("go.mod");
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let required = text.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            line.strip_prefix(self.path)?.strip_prefix(" v")?.split_whitespace().next()
        });
        required.map(str::to_owned).ok_or_else(|| format!("{} requires no version of {}", file.display(), self.path))
    }

    /// Where the programs of this version are kept.
    ///
    /// # Errors
    ///
    /// If go.mod cannot be read.
    pub fn directory(&self) -> Result<PathBuf> {
        Ok(programs::cache().join(self.name).join(self.version()?))
    }

    /// The path of one program, built first if need be.
    ///
    /// # Errors
    ///
    /// If it cannot be built, saying what is missing.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        if let Some(path) = users_own(name) {
            return Ok(path);
        }
        let path = self.directory()?.join(name);
        if !path.is_file() {
            self.build(&path, name)?;
        }
        Ok(path)
    }

    /// Builds what is missing of all programs and gives their directory.
    ///
    /// # Errors
    ///
    /// If one cannot be built, saying what is missing.
    pub fn all(&self) -> Result<PathBuf> {
        for name in self.programs {
            self.program(name)?;
        }
        self.directory()
    }

    /// A file of the module's source, kept beside the programs.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
    pub fn source_file(&self, file: &str) -> Result<String> {
        let name = file.rsplit('/').next().unwrap_or(file);
        let kept = self.directory()?.join(name);
        if !kept.is_file() {
            let directory = self.go(&["mod", "download", "-json", self.path])?;
            let module: serde_json::Value = serde_json::from_str(&directory).map_err(|error| error.to_string())?;
            let source = Path::new(module["Dir"].as_str().unwrap_or_default()).join(file);
            let text = std::fs::read(&source).map_err(|error| format!("{}: {error}", source.display()))?;
            programs::write_atomically(&kept, &text)?;
        }
        std::fs::read_to_string(&kept).map_err(|error| format!("{}: {error}", kept.display()))
    }

    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(self.name)
    }

    fn build(&self, path: &Path, name: &str) -> Result<()> {
        let version = self.version()?;
        let directory = self.directory()?;
        std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let _lock = lock(&directory.join("lock"), name)?;
        if path.is_file() {
            return Ok(());
        }
        require_go()?;
        let partial = directory.join(format!("{name}.partial"));
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.command();
        command.args(["build", "-trimpath", "-ldflags", &self.flags(&version), "-o"]).arg(&partial);
        command.arg(format!("{}{name}", self.prefix)).stdout(output).stderr(errors);
        let begin = Instant::now();
        eprintln!("cluster: building {name} {version}, once");
        wait(command, name, begin).map_err(|error| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            format!(
                "{name} {version} does not build: {error}; the end of {}: {}. The Go module proxy must be reachable \
                 (GOPROXY, https_proxy), or KUBEBUILDER_ASSETS name a directory that holds {name}",
                log.display(),
                last.into_iter().rev().collect::<Vec<_>>().join(" | ")
            )
        })?;
        std::fs::rename(&partial, path).map_err(|error| format!("{}: {error}", path.display()))?;
        let _ = std::fs::remove_file(log);
        eprintln!("cluster: {name} {version} built in {} s", begin.elapsed().as_secs());
        Ok(())
    }

    /// Small binaries without paths of this machine, which know their version.
    fn flags(&self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        let mut parts = version.split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        for prefix in self.versions {
            if self.name == KUBERNETES.name {
                flags += &format!(" -X {prefix}gitVersion=v{version} -X {prefix}gitTreeState=clean");
                flags += &format!(" -X {prefix}gitMajor={major} -X {prefix}gitMinor={minor}");
            } else {
                flags += &format!(" -X {prefix}version=v{version}");
            }
        }
        flags
    }

    fn go(&self, arguments: &[&str]) -> Result<String> {
        require_go()?;
        let output = self.command().args(arguments).output().map_err(|error| format!("cannot run go: {error}"))?;
        if !output.status.success() {
            return Err(format!("go {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        // Builds are long: whatever else the machine does comes first.
        let mut command = Command::new("nice");
        command.arg("go").current_dir(self.source()).stdin(Stdio::null());
        command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false").env_remove("GOWORK");
        command
    }
}

/// A program in `KUBEBUILDER_ASSETS`.
pub(super) fn users_own(name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty())?;
    let path = PathBuf::from(directory).join(name);
    path.is_file().then_some(path)
}

/// An older Go cannot fetch the toolchain that go.mod asks for.
const GO_MINOR: u32 = 21;

fn require_go() -> Result<()> {
    let output = Command::new("go").arg("version").output();
    let found = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let minor = found.split_once("go1.").and_then(|(_, rest)| rest.split(['.', ' ', 'r']).next()?.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor >= GO_MINOR) {
        return Ok(());
    }
    let found = if found.is_empty() { "there is no `go`" } else { &found };
    Err(format!(
        "the programs of the cluster are built from Go modules by Go 1.{GO_MINOR} or newer, but {found}: install it from \
         go.dev/dl or your distribution, or put the programs into a directory and name it in KUBEBUILDER_ASSETS"
    ))
}

/// Held while a program is made; the kernel lets go of it when the process ends, however it ends.
pub(super) fn lock(path: &Path, what: &str) -> Result<Flock<File>> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, _)) => {
            eprintln!("cluster: waiting for the process that makes {what}");
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| format!("{}: {error}", path.display()))
        }
    }
}

fn wait(mut command: Command, name: &str, begin: Instant) -> Result<()> {
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut printed = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return if status.success() { Ok(()) } else { Err(status.to_string()) };
        }
        if printed.elapsed() > PROGRESS {
            printed = Instant::now();
            eprintln!("cluster: building {name}, {} s so far", begin.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
