//! Startup and shutdown: order, logs, reports, progress.

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use controller::sandbox::{Device, Progress, Step};

use crate::support::{Scratch, TestResult, contains, eventually, output, same, spec, start};

as_root_and_as_user!(
    scripts_and_commands_run_in_katharas_order,
    a_failing_line_is_named_and_stops_nothing,
    scripts_leave_their_logs_where_labs_look,
    a_blocking_script_is_shown_and_can_be_broken_off,
    a_daemon_started_by_a_script_holds_nothing_up,
    stop_runs_the_shutdown_scripts,
    the_labs_shell_runs_the_scripts,
    a_device_without_scripts_starts_at_once,
);

fn scripts_and_commands_run_in_katharas_order() -> TestResult {
    let mut spec = spec("order");
    spec.scripts.shared_startup = Some(b"echo shared >> /order\n".to_vec());
    spec.scripts.startup = Some(b"echo own >> /order\n".to_vec());
    spec.exec = vec!["echo exec 0 >> /order".to_owned(), "echo exec 1 >> /order".to_owned()];
    let device = Device::create(&spec)?;
    same(output(&device, "cat /order /tmp/EOS 2>/dev/null")?, "")?;
    let report = start(&device)?;
    same(output(&device, "cat /order; ls /tmp/EOS")?, "shared\nown\nexec 0\nexec 1\n/tmp/EOS")?;
    let steps: Vec<_> = report.steps.iter().map(|step| step.step).collect();
    same(steps, vec![Step::SharedStartup, Step::Startup, Step::Exec(0), Step::Exec(1)])?;
    same(report.failed().count(), 0).map_err(|_| format!("{report:?}").into())
}

fn a_failing_line_is_named_and_stops_nothing() -> TestResult {
    let mut spec = spec("fails");
    let script = "echo first\nno-such-command --really\nfalse || true\ngrep -q nothing /etc/hostname\necho last\n";
    spec.scripts.startup = Some(script.as_bytes().to_vec());
    spec.exec = vec!["echo to be seen; exit 3".to_owned()];
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    let startup = &report.steps[0];
    same(startup.command.as_str(), "fails.startup")?;
    contains(&startup.output_tail, "first\n")?;
    contains(&startup.output_tail, "last\n")?;
    let named: Vec<_> = startup.failures.iter().map(|f| (f.line, f.status, f.command.as_str())).collect();
    same(named, vec![(2, 127, "no-such-command --really"), (4, 1, "grep -q nothing /etc/hostname")])?;
    same(startup.outcome.as_ref().map(|status| status.code()), Ok(0))?;
    let exec = &report.steps[1];
    same(exec.outcome.as_ref().map(|status| status.code()), Ok(3))?;
    contains(&exec.output_tail, "to be seen")?;
    same(report.failed().count(), 2)
}

fn scripts_leave_their_logs_where_labs_look() -> TestResult {
    let mut spec = spec("logs");
    spec.scripts.shared_startup = Some(b"echo of shared\n".to_vec());
    spec.scripts.startup = Some(b"echo of startup; exit 4\n".to_vec());
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    same(output(&device, "cat /var/log/shared.log")?, "+ echo of shared\nof shared")?;
    contains(&output(&device, "cat /var/log/startup.log")?, "+ echo of startup\nof startup")?;
    same(report.steps[1].outcome.as_ref().map(|status| status.code()), Ok(4))?;
    same(output(&device, "ls /hostlab")?, "logs.startup\nshared.startup")
}

fn a_blocking_script_is_shown_and_can_be_broken_off() -> TestResult {
    let mut spec = spec("blocks");
    spec.scripts.startup = Some(b"echo waiting for godot\nsleep 86399\n".to_vec());
    spec.exec = vec!["echo never".to_owned()];
    let device = Device::create(&spec)?;
    let mut shown = Vec::new();
    let report = device.start(&mut |progress| match progress {
        Progress::Running { step, output_tail, elapsed, .. } => {
            shown.push((step, output_tail.to_owned(), elapsed));
            if shown.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    })?;
    same(shown.len(), 2)?;
    same(shown[0].0, Step::Startup)?;
    contains(&shown[0].1, "waiting for godot")?;
    same(shown[1].2 > Duration::from_millis(1500), true)?;
    same(report.aborted, true)?;
    same(report.steps.len(), 1)?;
    same(output(&device, "ls /tmp/EOS /var/log/exec.0.log 2>/dev/null")?, "")
}

fn a_daemon_started_by_a_script_holds_nothing_up() -> TestResult {
    let mut spec = spec("daemon");
    spec.scripts.startup = Some(b"sleep 86399 &\necho started\n".to_vec());
    let device = Device::create(&spec)?;
    same(start(&device)?.failed().count(), 0)?;
    eventually("the daemon runs on", || {
        output(&device, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").is_ok_and(|text| text.contains("sleep 86399"))
    })
}

fn stop_runs_the_shutdown_scripts() -> TestResult {
    let shared = Scratch::new()?;
    let mut spec = spec("stops");
    spec.shared_dir = Some(shared.path().to_owned());
    spec.scripts.shutdown = Some(b"echo own >> /shared/order\n".to_vec());
    spec.scripts.shared_shutdown = Some(b"echo shared >> /shared/order\nfalse\n".to_vec());
    let device = Device::create(&spec)?;
    start(&device)?;
    let report = device.stop(&mut |_| ControlFlow::Continue(()))?;
    same(fs::read_to_string(shared.path().join("order"))?, "own\nshared\n")?;
    let steps: Vec<_> = report.steps.iter().map(|step| step.step).collect();
    same(steps, vec![Step::Shutdown, Step::SharedShutdown])?;
    same(report.failed().count(), 1)
}

fn the_labs_shell_runs_the_scripts() -> TestResult {
    let mut spec = spec("shell");
    spec.shell = "/bin/sh".into();
    spec.scripts.startup = Some(b"echo by ${BASH_VERSION-no bash}; false\n".to_vec());
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    contains(&report.steps[0].output_tail, "by no bash\n")?;
    same(report.steps[0].outcome.as_ref().map(|status| status.code()), Ok(1))
}

fn a_device_without_scripts_starts_at_once() -> TestResult {
    let device = Device::create(&spec("plain"))?;
    let report = start(&device)?;
    same((report.steps.len(), report.warnings.len(), report.aborted), (0, 0, false))?;
    same(output(&device, "ls /tmp/EOS")?, "/tmp/EOS")
}
