//! Labs that are wrong or mean harm.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use controller::sandbox::{Device, DeviceSpec, SandboxError};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::support::{Scratch, TestResult, contains, eventually, is_real_root, output, same, spec, start};

as_root_and_as_user!(
    a_binary_startup_script_is_reported,
    a_missing_shell_is_reported,
    enormous_output_is_bounded,
    trees_that_cannot_be_copied_are_refused_by_name,
    a_log_replaced_by_a_pipe_does_not_block,
    the_root_is_not_reached_through_reserved_names,
    names_that_name_no_file_are_refused,
    a_wrong_program_is_reported,
    process_one_withstands_the_devices_root,
);

fn a_binary_startup_script_is_reported() -> TestResult {
    let mut spec = spec("binary");
    spec.scripts.startup = Some((0..=255_u8).cycle().take(70_000).collect());
    spec.exec = vec!["echo still".to_owned()];
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    same(report.steps[0].is_clean(), false).map_err(|_| format!("{report:?}"))?;
    contains(&report.steps[1].output_tail, "still")
}

fn a_missing_shell_is_reported() -> TestResult {
    let mut spec = spec("noshell");
    spec.shell = "/bin/no-such-shell".into();
    spec.scripts.startup = Some(b"echo hello\n".to_vec());
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    let reason = report.steps[0].outcome.clone().expect_err("there is no such shell");
    contains(&reason, "noshell")?;
    contains(&reason, "/bin/no-such-shell")
}

fn enormous_output_is_bounded() -> TestResult {
    let mut spec = spec("loud");
    spec.storage_limit_bytes = 16 << 20;
    spec.scripts.startup = Some(b"set +x; yes noise | head -c 50000000; echo the end >&2\n".to_vec());
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    same(report.steps[0].output_tail.len() <= 4096, true)?;
    contains(&report.steps[0].output_tail, "noise\n")?;
    let size: u64 = output(&device, "stat -c %s /var/log/startup.log")?.parse()?;
    same(size <= 16 << 20, true)
}

fn refusal(spec: &DeviceSpec) -> String {
    Device::create(spec).map(|_| ()).expect_err("it is refused").to_string()
}

fn trees_that_cannot_be_copied_are_refused_by_name() -> TestResult {
    let mut spec = spec("tree");
    let refused = |make: &dyn Fn(&Path) -> TestResult, parts: [&str; 2], spec: &mut DeviceSpec| -> TestResult {
        let lab = Scratch::new()?;
        make(lab.path())?;
        spec.lab_dir = Some(lab.path().to_owned());
        let error = refusal(spec);
        contains(&error, "device tree")?;
        parts.iter().try_for_each(|part| contains(&error, part))
    };
    refused(&|lab| Ok(symlink("loop", lab.join("loop"))?), ["/loop", "circle"], &mut spec)?;
    refused(&|lab| Ok(symlink("nowhere", lab.join("dangling"))?), ["/dangling", "nowhere"], &mut spec)?;
    let inside_itself = |lab: &Path| -> TestResult {
        fs::create_dir(lab.join("a"))?;
        Ok(symlink("..", lab.join("a/up"))?)
    };
    refused(&inside_itself, ["a/up", "remove the link"], &mut spec)?;
    refused(&|lab| Ok(mkfifo(&lab.join("fifo"), Mode::S_IRUSR)?), ["/fifo", "named pipe"], &mut spec)?;
    refused(&|lab| Ok(fs::create_dir(lab.join(".megalos-host"))?), [".megalos-host", "reserved"], &mut spec)?;
    refused(&|lab| Ok(symlink("/dev/zero", lab.join("zero"))?), ["/zero", "device file"], &mut spec)?;
    if is_real_root() {
        let device_file = |lab: &Path| Ok(mknod(&lab.join("disk"), SFlag::S_IFBLK, Mode::S_IRUSR, makedev(254, 0))?);
        refused(&device_file, ["/disk", "device file"], &mut spec)?;
    }
    spec.lab_dir = Some("/no/such/lab".into());
    contains(&refusal(&spec), "/no/such/lab")
}

fn a_log_replaced_by_a_pipe_does_not_block() -> TestResult {
    let mut spec = spec("pipes");
    let script = b"rm -f /var/log/startup.log /run/megalos/failures; mkfifo /var/log/startup.log /tmp/EOS\n\
        mkfifo /run/megalos/failures; ln -s /etc/passwd /var/log/exec.0.log\n";
    spec.scripts.shared_startup = Some(script.to_vec());
    spec.scripts.startup = Some(b"echo fine\nrm -f /run/megalos/failures; mkfifo /run/megalos/failures\n".to_vec());
    spec.exec = vec!["echo fine too".to_owned()];
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    contains(&report.steps[1].output_tail, "fine\n")?;
    same(report.steps[2].output_tail.as_str(), "fine too\n")?;
    contains(&output(&device, "head -n 1 /etc/passwd; test -f /tmp/EOS && echo marked")?, "marked")
}

fn the_root_is_not_reached_through_reserved_names() -> TestResult {
    let device = Device::create(&spec("caged"))?;
    same(output(&device, "ls -d /.megalos* /proc/1/root/.megalos* 2>/dev/null")?, "")?;
    // A handful of its own; what it passes on is closed once it is passed.
    eventually("process 1 holds few descriptors", || {
        output(&device, "ls /proc/1/fd | wc -l").is_ok_and(|count| count.parse().is_ok_and(|count: u32| count < 10))
    })?;
    // None of process 1's descriptors is a directory of the host.
    same(output(&device, "for fd in /proc/1/fd/*; do [ -d $fd ] && readlink $fd; done")?, "")
}

fn names_that_name_no_file_are_refused() -> TestResult {
    for name in ["", "../x", "a/b", ".hidden", "nul\0"] {
        same(matches!(Device::create(&spec(name)), Err(SandboxError::Spec { .. })), true)?;
    }
    let mut long = spec("long");
    long.hostname = "x".repeat(65);
    contains(&refusal(&long), "1 to 64 bytes")?;
    let mut shell = spec("shell");
    shell.shell = "bash".into();
    contains(&refusal(&shell), "absolute path")
}

fn a_wrong_program_is_reported() -> TestResult {
    let mut wrong = spec("wrong");
    wrong.init_executable = "/bin/true".into();
    contains(&refusal(&wrong), "/bin/true")?;
    wrong.init_executable = "/no/such/program".into();
    contains(&refusal(&wrong), "device wrong")
}

fn process_one_withstands_the_devices_root() -> TestResult {
    let device = Device::create(&spec("strong"))?;
    for signal in ["TERM", "INT", "HUP", "KILL", "CHLD", "PIPE"] {
        output(&device, &format!("kill -{signal} 1"))?;
    }
    same(output(&device, "echo alive")?, "alive")
}
