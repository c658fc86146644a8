//! Running a check as root and in a user namespace, and looking into devices.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use controller::sandbox::{Device, DeviceSpec, ExitStatus, SpawnRequest, Stdio};

/// What a check gives.
pub type TestResult = Result<(), Box<dyn Error>>;

/// An id without any right on this machine.
const NOBODY: &str = "65533";

/// Fails the test with the error's own words.
pub fn unwrap(result: TestResult) {
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Runs a check as real root where we are that, else in a user namespace.
pub fn as_root(name: &str, check: fn() -> TestResult) {
    if nix::unistd::Uid::effective().is_root() {
        unwrap(check());
    } else {
        as_user(name);
    }
}

/// Runs a check again in a user namespace of a single id, as the process 1
/// of a PID namespace: as the local mode does.
pub fn as_user(name: &str) {
    let test_program = std::env::current_exe().expect("the test program has a path");
    let mut command = if nix::unistd::Uid::effective().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "unshare"]);
        command
    } else {
        Command::new("unshare")
    };
    let output = command
        .args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(test_program)
        .args(["--ignored", "--exact", "--nocapture", "--test-threads", "1", &format!("inside::{name}")])
        .output()
        .expect("setpriv and unshare of util-linux are there");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
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
pub fn output_of(device: &Device, argv: &[String]) -> Result<(ExitStatus, String), Box<dyn Error>> {
    let (mut reader, writer) = std::io::pipe()?;
    let null = File::open("/dev/null")?;
    let mut process = device.spawn(SpawnRequest {
        argv: argv.to_vec(),
        env: Vec::new(),
        stdio: Stdio::Passed([null.into(), writer.try_clone()?.into(), writer.into()]),
    })?;
    let mut text = Vec::new();
    reader.read_to_end(&mut text)?;
    Ok((process.wait()?, String::from_utf8_lossy(&text).into_owned()))
}
