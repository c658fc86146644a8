//! A lab directory and a state directory of a test's own, and the command on them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Makes two tests of each function that takes a user.
macro_rules! for_both_users {
    ($($name:ident),* $(,)?) => {
        mod as_root {
            $(#[test] fn $name() { super::$name(crate::support::User::Root); })*
        }
        mod as_nobody {
            $(#[test] fn $name() { super::$name(crate::support::User::Nobody); })*
        }
    };
}
pub(crate) use for_both_users;

/// Who runs the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The one that runs the test, which is root.
    Root,
    /// Somebody without privileges.
    Nobody,
}

const NOBODY: u32 = 65_534;

/// A test's lab. Taken down, and its directories removed, when it is dropped.
pub struct TestLab {
    directory: PathBuf,
    user: User,
}

impl TestLab {
    /// A lab with these files, for this user.
    pub fn new(name: &str, user: User, files: &[(&str, &str)]) -> Self {
        let directory = std::env::temp_dir().join(format!("megalos-{name}-{user:?}-{}", std::process::id()));
        let lab = Self { directory, user };
        fs::create_dir_all(lab.path()).unwrap();
        for (file, text) in files {
            lab.write(file, text);
        }
        if user == User::Nobody {
            std::os::unix::fs::chown(&lab.directory, Some(NOBODY), Some(NOBODY)).unwrap();
            std::os::unix::fs::chown(lab.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        lab
    }

    /// The lab's directory.
    pub fn path(&self) -> PathBuf {
        self.directory.join("lab")
    }

    /// Where the state of labs is kept.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Writes a file of the lab.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The command with these arguments, in the lab's directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            User::Root => Command::new(env!("CARGO_BIN_EXE_megalos")),
            User::Nobody => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
                command.arg(self.executable());
                command
            }
        };
        command.args(arguments).current_dir(self.path()).env("MEGALOS_STATE_DIR", self.state()).stdin(Stdio::null());
        command
    }

    /// The executable where everybody may run it, whatever the modes above the
    /// build directory are.
    fn executable(&self) -> PathBuf {
        let copy = self.directory.join("megalos");
        if !copy.exists() {
            // By another process: a file that a parallel test's child still holds
            // open for writing could not be executed.
            let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_megalos")).arg(&copy).status();
            assert!(copied.unwrap().success());
        }
        copy
    }

    /// Runs the command to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).output().unwrap())
    }

    /// Runs the command; it must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "megalos {arguments:?}: {outcome:#?}");
        outcome
    }

    /// Starts the command and lets it run.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What is in the state directory.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state()).map(|entries| entries.flatten().map(|e| e.path()).collect());
        entries.unwrap_or_default()
    }

    /// The id of the lab's process 1.
    pub fn supervisor(&self) -> i32 {
        let state = self.left_behind().pop().expect("a lab is up");
        let text = fs::read(state.join("lab.json")).unwrap();
        let description: serde_json::Value = serde_json::from_slice(&text).unwrap();
        i32::try_from(description["supervisor"]["pid"].as_i64().unwrap()).unwrap()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--all"]).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Kills the lab's process 1 and waits until it is gone.
pub fn crash(lab: &TestLab) {
    let supervisor = lab.supervisor();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_until("the supervisor is gone", || !is_alive(supervisor));
}

/// Waits until something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process with this argument in its command line runs anywhere.
pub fn is_running(argument: &str) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let mut lines = lines.filter(|line| !line.is_empty());
    lines.any(|line| line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()))
}

/// Whether the process is there, and no zombie.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
