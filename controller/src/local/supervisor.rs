//! The process that is a lab: all of it lives below, and dies with it.
//!
//! In: a [`LabSpec`] on standard input, the progress channel on standard output,
//! the log on standard error. Out: a lab that answers on its control socket.
//!
//! ```text
//!   nodes and reflectors ─┐
//!                         ├─► interfaces ─► scripts, group by group ─► ready
//!   devices ──────────────┘
//! ```
//!
//! Whatever fails on the way ends the process, and with it everything made so
//! far. So does the command that started it, when it goes before all is up.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cni::server::Listener;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::unistd::{dup2_stdin, dup2_stdout, setsid};

use super::namespaces::{self, Side};
use super::progress::{Event, Reporter};
use super::running::{Running, RunningDevice};
use super::spec::LabSpec;
use super::status::Phase;
use super::{control, kernel, nodes, parallel, scripts, server};
use crate::sandbox::Device;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__supervisor";

/// The entry: becomes the three processes of [`namespaces`]. `main` calls this
/// before it has started any thread.
pub fn main() -> ExitCode {
    let (spec, reporter) = match take_streams() {
        Ok(taken) => taken,
        Err(error) => {
            eprintln!("{SUBCOMMAND} is for the program's own use: {error}");
            return ExitCode::from(2);
        }
    };
    reset_signals();
    // Fails only where there is a session already.
    let _ = setsid();
    match namespaces::split() {
        Ok(Side::Parent(pid)) => {
            reporter.tell(&Event::Process { pid: pid.as_raw() });
            ExitCode::SUCCESS
        }
        Ok(Side::Child) => process_one(spec, reporter),
        Err(error) => {
            reporter.fail(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn process_one(spec: LabSpec, reporter: Reporter) -> ExitCode {
    let split = namespaces::arrange_mounts(&spec.paths_in_use()).and_then(|()| namespaces::split_init());
    match split {
        Ok(Side::Parent(supervisor)) => {
            // The channel must close when the supervisor goes.
            drop(reporter);
            drop(spec);
            ExitCode::from(namespaces::reap_until(supervisor))
        }
        Ok(Side::Child) => supervise(spec, reporter),
        Err(error) => {
            reporter.fail(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What the starting shell ignores (`nohup`, a background job) must not be
/// ignored in the lab's devices.
fn reset_signals() {
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGPIPE)) {
        // SAFETY: the default action runs no code of ours.
        // An error means SIGKILL or SIGSTOP, which are never ignored.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Takes what came on the standard streams; input becomes `/dev/null`, output
/// the log.
fn take_streams() -> io::Result<(LabSpec, Reporter)> {
    let spec = control::read_document(io::stdin().as_fd().try_clone_to_owned()?)?;
    let spec = serde_json::from_slice(&spec)?;
    let channel = io::stdout().as_fd().try_clone_to_owned()?;
    dup2_stdin(OpenOptions::new().read(true).open("/dev/null")?)?;
    dup2_stdout(io::stderr().as_fd())?;
    Ok((spec, Reporter::new(channel)))
}

fn supervise(spec: LabSpec, reporter: Reporter) -> ExitCode {
    daemon::run::start_logging(daemon::run::LogFormat::Text);
    raise_descriptor_limit(spec.lab.devices.len());
    let running = Arc::new(Running::new(spec));
    let ready = Arc::new(AtomicBool::new(false));
    let outcome = watch_starter(&running, &reporter, &ready)
        .and_then(|()| listen(&running))
        .and_then(|()| bring_up(&running, &reporter));
    match outcome {
        Ok(()) => {
            running.set_phase(Phase::Up);
            ready.store(true, Ordering::SeqCst);
            tracing::info!("the lab is up after {:.1} s", running.uptime().as_secs_f64());
            reporter.ready();
            // Serving goes on in threads; the end comes from outside.
            loop {
                thread::park();
            }
        }
        Err(text) => {
            reporter.fail(&text);
            ExitCode::FAILURE
        }
    }
}

/// Sees that the supervisor may hold what a large lab needs. A small lab leaves
/// the limit as it is, since devices inherit it.
fn raise_descriptor_limit(devices: usize) {
    let wanted = u64::try_from(devices).unwrap_or(u64::MAX).saturating_mul(16).saturating_add(512);
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < wanted => {
            // Where the hard limit is too low, the failure to come names its cause.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
        }
        _ => {}
    }
}

/// Ends the lab when the command that starts it goes before all is up.
fn watch_starter(running: &Arc<Running>, reporter: &Reporter, ready: &Arc<AtomicBool>) -> Result<(), String> {
    let Some(channel) = reporter.watch() else { return Ok(()) };
    let (state, ready) = (running.state.clone(), Arc::clone(ready));
    let watch = move || {
        wait_hangup(&channel);
        if !ready.load(Ordering::SeqCst) {
            tracing::error!("the command that started the lab is gone: the lab ends");
            let _ = state.remove();
            std::process::exit(1);
        }
    };
    let spawned = thread::Builder::new().name("watch-starter".into()).spawn(watch);
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

fn wait_hangup(channel: &OwnedFd) {
    loop {
        let mut polled = [PollFd::new(channel.as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            _ => return,
        }
    }
}

fn listen(running: &Arc<Running>) -> Result<(), String> {
    let path = running.state.control_socket();
    let listener = Listener::bind(&path).map_err(|error| error.to_string())?;
    let running = Arc::clone(running);
    let spawned = thread::Builder::new().name("control".into()).spawn(move || server::serve(listener, running));
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

fn bring_up(running: &Running, reporter: &Reporter) -> Result<(), String> {
    kernel::check(&running.spec.lab, running.spec.flooding, reporter)?;
    let (members, devices) = thread::scope(|scope| {
        let nodes = scope.spawn(|| nodes::start(&running.spec, &running.state));
        let devices = create_devices(running, reporter);
        let lost = |_| Err("the thread that starts the nodes failed".to_owned());
        (nodes.join().unwrap_or_else(lost), devices)
    });
    // Given before any error counts, so that all of it ends in an orderly way.
    let _ = running.members.set(members?);
    let _ = running.devices.set(devices?);
    let total = running.spec.lab.devices.iter().map(|device| device.interfaces.len()).sum();
    let devices = running.devices();
    let attached = AtomicUsize::new(0);
    parallel::for_each(
        devices,
        parallel::busy_limit(),
        |_| {},
        |_, device| {
            nodes::attach(&running.spec, &running.state, device, || {
                reporter.phase("interfaces connected", attached.fetch_add(1, Ordering::SeqCst) + 1, total);
            })
        },
    )?;
    scripts::start_all(running, reporter)
}

fn create_devices(running: &Running, reporter: &Reporter) -> Result<Vec<RunningDevice>, String> {
    let devices = &running.spec.lab.devices;
    let total = devices.len();
    let done = |count| reporter.phase("devices made", count, total);
    parallel::for_each(devices, parallel::busy_limit(), done, |index, device| {
        let spec = running.spec.device(device);
        let made = Device::create(&spec).map_err(|error| error.to_string())?;
        for warning in made.warnings() {
            reporter.warn(&format!("{}: {warning}", device.name));
        }
        Ok(RunningDevice::new(made, index))
    })
}
