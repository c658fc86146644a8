//! Running a check as root and in a user namespace, and looking into devices.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use controller::sandbox::{Device, DeviceSpec, ExitStatus, Progress, SpawnRequest, StartReport, Stdio as DeviceStdio};

/// What a check gives.
pub type TestResult = Result<(), Box<dyn Error>>;

/// An id without any right on this machine.
pub const NOBODY: &str = "65533";

/// What the local mode's supervisor has beside its user namespace.
const INNER_NAMESPACES: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fails the test with the error's own words.
pub fn check(result: TestResult) {
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Whether ids are the host's.
pub fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::Uid::effective().is_root() && map.contains("4294967295")
}

/// Runs a check as real root where we are that, else in a user namespace.
pub fn as_root(module: &str, name: &str, body: fn() -> TestResult) {
    if is_real_root() {
        check(body());
    } else {
        as_user(&module.replace("as_root", "as_user"), name);
    }
}

/// Ranges of ids beside the user's own, as `newuidmap` gives them. Takes real
/// root; otherwise the single id has to do.
pub fn as_user_with_range(module: &str, name: &str) {
    if !is_real_root() {
        return as_user(module, name);
    }
    let mut child = Command::new("unshare")
        .args(["--user", "--keep-caps", "sh", "-c"])
        .arg("read -r _ && exec setpriv --reuid 0 --regid 0 --clear-groups unshare \"$@\"")
        .arg("sh")
        .args(INNER_NAMESPACES)
        .args(inner_test(module, name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare of util-linux is there");
    let own_namespace = fs::read_link("/proc/self/ns/user").expect("/proc is there");
    let namespace = PathBuf::from(format!("/proc/{}/ns/user", child.id()));
    eventually("it has a user namespace", || fs::read_link(&namespace).is_ok_and(|link| link != own_namespace))
        .expect("unshare works");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), "0 65533 1\n1 100000 65536\n").expect("root may");
    }
    child.stdin.take().expect("a pipe").write_all(b"go\n").expect("it reads");
    expect_passed(&child.wait_with_output().expect("it is ours"));
}

/// Runs a check again in a user namespace of a single id, as the process 1 of
/// a PID namespace would.
pub fn as_user(module: &str, name: &str) {
    let mut command = if nix::unistd::Uid::effective().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "unshare"]);
        command
    } else {
        Command::new("unshare")
    };
    let output = command
        .args(["--user", "--map-root-user"])
        .args(INNER_NAMESPACES)
        .args(inner_test(module, name))
        .output()
        .expect("setpriv and unshare of util-linux are there");
    expect_passed(&output);
}

/// The command line of the test that does the check.
fn inner_test(module: &str, name: &str) -> Vec<String> {
    let program = std::env::current_exe().expect("the test program has a path");
    let module = module.split_once("::").expect("a module of the crate").1;
    let test = format!("{}::{name}", module.replace("as_user", "inside"));
    let mut line = vec![program.display().to_string()];
    line.extend(["--ignored", "--exact", "--nocapture", "--test-threads", "1", &test].map(str::to_owned));
    line
}

fn expect_passed(output: &Output) {
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

/// A device of the program under test.
pub fn spec(name: &str) -> DeviceSpec {
    let mut spec = DeviceSpec::new(name);
    spec.init_executable = PathBuf::from(env!("CARGO_BIN_EXE_megalos"));
    spec
}

/// A command line of the shell.
pub fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
}

/// Runs a command and gives how it ended and what it wrote.
pub fn run(device: &Device, argv: &[String]) -> Result<(ExitStatus, String), Box<dyn Error>> {
    let (mut reader, writer) = std::io::pipe()?;
    let null = File::open("/dev/null")?;
    let mut process = device.spawn(SpawnRequest {
        argv: argv.to_vec(),
        env: Vec::new(),
        stdio: DeviceStdio::Passed([null.into(), writer.try_clone()?.into(), writer.into()]),
    })?;
    let mut text = Vec::new();
    reader.read_to_end(&mut text)?;
    Ok((process.wait()?, String::from_utf8_lossy(&text).into_owned()))
}

/// What a command line of the shell writes, without blanks around it.
pub fn output(device: &Device, line: &str) -> Result<String, Box<dyn Error>> {
    let (_, text) = run(device, &shell(line))?;
    Ok(text.trim().to_owned())
}

/// Starts a device to the end.
pub fn start(device: &Device) -> Result<StartReport, Box<dyn Error>> {
    Ok(device.start(&mut |_: Progress<'_>| ControlFlow::Continue(()))?)
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("never came true: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A directory on the host, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    pub fn new() -> Result<Self, Box<dyn Error>> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // Inside a PID namespace ids are alike in all runs.
        let unique = format!(
            "megalos-sandbox-{}-{}-{}",
            fs::read_link("/proc/self/ns/pid")?.display().to_string().replace([':', '[', ']'], ""),
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file below, with its directories; gives its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, contents)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Fails unless both are equal, showing both.
pub fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(left: T, right: U) -> TestResult {
    if left == right { Ok(()) } else { Err(format!("{left:?} is not {right:?}").into()) }
}

/// Fails unless a text contains another.
pub fn contains(text: &str, part: &str) -> TestResult {
    if text.contains(part) { Ok(()) } else { Err(format!("{part:?} is not in {text:?}").into()) }
}
