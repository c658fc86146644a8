//! Commands run inside: exit codes, environment, terminals, signals, limits.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use controller::sandbox::{Device, SandboxError, SpawnRequest, Stdio, Ulimit, WindowSize};
use nix::sys::signal::Signal;

use crate::support::{TestResult, contains, output, run, same, shell, spec};

as_root_and_as_user!(
    the_exit_code_of_a_command_is_its_own,
    a_missing_program_is_127_and_an_unusable_one_126,
    the_environment_of_the_lab_reaches_commands,
    a_terminal_is_made_inside,
    a_signal_reaches_the_command,
    limits_hold_inside,
    a_long_command_line_goes_through,
    a_command_in_an_ended_device_says_so,
    input_reaches_a_command,
    a_command_begins_with_no_signal_blocked,
);

fn the_exit_code_of_a_command_is_its_own() -> TestResult {
    let device = Device::create(&spec("codes"))?;
    for code in [0, 1, 42, 255] {
        let (status, _) = run(&device, &shell(&format!("exit {code}")))?;
        same(status.code(), code)?;
        same(status.success(), code == 0)?;
    }
    same(run(&device, &shell("kill -TERM $$"))?.0.code(), 128 + 15)
}

fn a_missing_program_is_127_and_an_unusable_one_126() -> TestResult {
    let device = Device::create(&spec("missing"))?;
    for (program, code) in [("no-such-program", 127), ("/etc/passwd", 126), ("/tmp", 126)] {
        match run(&device, &[program.to_owned()]) {
            Err(error) => match error.downcast_ref::<SandboxError>() {
                Some(SandboxError::Exec { exit_code, command, device, .. }) => {
                    same((*exit_code, command.as_str(), device.as_str()), (code, program, "missing"))?;
                }
                other => return Err(format!("{other:?}").into()),
            },
            Ok(ran) => return Err(format!("{program}: {ran:?}").into()),
        }
    }
    same(run(&device, &[]).is_err(), true)
}

fn the_environment_of_the_lab_reaches_commands() -> TestResult {
    let mut spec = spec("env");
    spec.env = vec![("GREETING".to_owned(), "a=b c".to_owned())];
    let device = Device::create(&spec)?;
    same(output(&device, "echo \"$GREETING\"")?, "a=b c")?;
    same(output(&device, "echo $HOME; pwd")?, "/root\n/")?;
    contains(&output(&device, "echo $PATH")?, "/usr/sbin")?;
    same(output(&device, "echo ${CARGO_PKG_NAME-unset}")?, "unset")
}

fn a_terminal_is_made_inside() -> TestResult {
    let device = Device::create(&spec("tty"))?;
    let mut process = device.spawn(SpawnRequest {
        argv: shell("tty; stty size; read line; echo got $line; stty size; exit 7"),
        env: Vec::new(),
        stdio: Stdio::Terminal(WindowSize { rows: 33, columns: 99 }),
    })?;
    let mut terminal = File::from(process.take_terminal().ok_or("a terminal is given")?);
    let mut text = String::new();
    let mut read_until = |terminal: &mut File, part: &str| -> TestResult {
        let mut bytes = [0; 256];
        while !text.contains(part) {
            let length = terminal.read(&mut bytes)?;
            text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        Ok(())
    };
    read_until(&mut terminal, "/dev/pts/0")?;
    read_until(&mut terminal, "33 99")?;
    WindowSize { rows: 20, columns: 30 }.apply(std::os::fd::AsFd::as_fd(&terminal))?;
    terminal.write_all(b"hello\n")?;
    read_until(&mut terminal, "got hello")?;
    read_until(&mut terminal, "20 30")?;
    same(process.wait()?.code(), 7)
}

fn a_signal_reaches_the_command() -> TestResult {
    let device = Device::create(&spec("signal"))?;
    let streams = || -> Result<_, std::io::Error> { Ok(File::open("/dev/null")?.into()) };
    let mut process = device.spawn(SpawnRequest {
        argv: shell("sleep 86399 & wait"),
        env: Vec::new(),
        stdio: Stdio::Passed([streams()?, streams()?, streams()?]),
    })?;
    same(process.wait_timeout(Duration::from_millis(20))?, None)?;
    process.signal(Signal::SIGKILL)?;
    same(process.wait()?.code(), 128 + 9)?;
    // Once more is no error, and the status stays.
    process.signal(Signal::SIGKILL)?;
    same(process.wait()?.code(), 128 + 9)
}

fn limits_hold_inside() -> TestResult {
    let mut limited = spec("limits");
    limited.ulimits = vec![
        Ulimit { name: "nofile".to_owned(), soft: Some(123), hard: Some(456) },
        Ulimit { name: "core".to_owned(), soft: Some(0), hard: Some(0) },
        Ulimit { name: "nonsense".to_owned(), soft: None, hard: None },
    ];
    let device = Device::create(&limited)?;
    same(output(&device, "ulimit -n; ulimit -Hn; ulimit -c")?, "123\n456\n0")?;
    same(device.warnings().len(), 1)?;
    contains(&device.warnings()[0], "nonsense")
}

fn a_long_command_line_goes_through() -> TestResult {
    let device = Device::create(&spec("long"))?;
    let arguments: Vec<String> = (0..4000).map(|n| format!("{n:0100}")).collect();
    let mut argv = shell("echo $#");
    argv.push("sh".to_owned());
    argv.extend(arguments);
    same(run(&device, &argv)?.1.trim(), "4000")
}

fn a_command_in_an_ended_device_says_so() -> TestResult {
    let device = Device::create(&spec("ended"))?;
    let mut sleeping = device.spawn(SpawnRequest {
        argv: shell("sleep 86399"),
        env: Vec::new(),
        stdio: Stdio::Log("/var/log/sleep.log".to_owned()),
    })?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(device.process_one()), Signal::SIGKILL)?;
    same(matches!(sleeping.wait(), Err(SandboxError::Gone { .. })), true)?;
    let error = run(&device, &shell("true")).map_err(|error| error.to_string());
    same(error.is_err_and(|text| text.contains("ended")), true)
}

fn input_reaches_a_command() -> TestResult {
    let device = Device::create(&spec("input"))?;
    let (reader, mut writer) = std::io::pipe()?;
    let (mut output_reader, output_writer) = std::io::pipe()?;
    let mut process = device.spawn(SpawnRequest {
        argv: vec![PathBuf::from("cat").display().to_string()],
        env: Vec::new(),
        stdio: Stdio::Passed([reader.into(), output_writer.try_clone()?.into(), output_writer.into()]),
    })?;
    writer.write_all(b"through the device")?;
    drop(writer);
    let mut text = String::new();
    output_reader.read_to_string(&mut text)?;
    same(text.as_str(), "through the device")?;
    same(process.wait()?.success(), true)
}

fn a_command_begins_with_no_signal_blocked() -> TestResult {
    let device = Device::create(&spec("unblocked"))?;
    same(output(&device, "grep SigBlk /proc/self/status")?, "SigBlk:\t0000000000000000")?;
    // dash waits in sigsuspend, which a blocked SIGCHLD would never end.
    same(output(&device, "exec sh -c 'for n in 1 2 3; do sleep 0.01 & done; wait; echo waited'")?, "waited")
}
