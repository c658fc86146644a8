//! The Megalos worker speaker, `megalos-speaker`: local MACs become routes, routes become FDB rows.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`] | flags and configuration file |
//! | [`core`] | what is known and decided, without I/O: engine, ports, rows on their way to the kernel |
//! | [`init`] | what is done on a node before its worker starts |
//! | `worker` | the main loop: sessions, kernel, files and people around the core |
//! | `attach`, `cni_server` | the CNI socket and what it asks |
//! | `attachments` | what is remembered of attachments beside their devices |
//! | `metrics`, `show` | what people and machines see |

mod attach;
mod attachments;
mod cni_server;
pub mod core;
#[cfg(test)]
mod findings_doc;
pub mod init;
mod metrics;
pub mod settings;
mod show;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;
use std::thread::JoinHandle;

use daemon::options::Settings as _;
use daemon::run::{detach_logging, fail, finish_logging, parse_args, start_logging};
use dataplane::actor::{Events, Handle, spawn};
use dataplane::linux::{Config, Linux, Mode, privilege};
use settings::{Command, Options, Overlay, Settings};

const NAME: &str = "megalos-speaker";

/// Runs the program with these arguments, its own name left out.
pub fn run_cli(args: Vec<OsString>) -> ExitCode {
    let options: Options = match parse_args(NAME, args.clone()) {
        Ok(options) => options,
        Err(code) => return code,
    };
    match &options.command {
        Some(Command::Init(init)) => {
            start_logging(options.common.log_format);
            init::run(init).map_or_else(|error| fail(NAME, &error), |()| ExitCode::SUCCESS)
        }
        None => run_worker(args),
    }
}

fn run_worker(args: Vec<OsString>) -> ExitCode {
    let (options, settings) = match Settings::start(NAME, args) {
        Ok(started) => started,
        Err(code) => return code,
    };
    let opened = match open_dataplane(&settings, &options) {
        Ok(opened) => opened,
        Err(error) => return fail(NAME, &error),
    };
    detach_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(NAME, &format!("cannot start threads: {error}")),
    };
    let made = opened.made.clone();
    let result = runtime.block_on(async {
        let started = worker::start(options, settings, opened.handle, opened.events).await;
        if let (Err(_), Some(namespace)) = (&started, &made) {
            discard(namespace);
        }
        started?.serve().await
    });
    drop(runtime);
    // The last handle is gone: the thread finishes what it has and ends.
    let _ = opened.thread.join();
    match result {
        Ok(()) => {
            finish_logging();
            ExitCode::SUCCESS
        }
        Err(error) => fail(NAME, &error),
    }
}

/// The kernel's devices in the hands of their thread.
struct Opened {
    handle: Handle,
    events: Events,
    thread: JoinHandle<()>,
    /// The overlay namespace, if this process made it.
    made: Option<String>,
}

/// Opens the kernel's devices, before any other thread runs: what it says is missing, is missing for good.
fn open_dataplane(settings: &Settings, options: &Options) -> Result<Opened, String> {
    let (mode, name) = match &settings.overlay {
        Overlay::Adopt => (Mode::Adopt, None),
        Overlay::Namespace(name) => (Mode::Overlay { namespace: name.clone() }, Some(name.clone())),
    };
    let config = Config {
        vtep: settings.vtep,
        udp_port: settings.vxlan_port,
        mode,
        underlay_mtu: None,
        suppress_neighbors: false,
    };
    let linux = Linux::open(config).map_err(|error| error.to_string())?;
    if options.drop_capabilities {
        // Before any other thread is made, and before anything is read that somebody else may have written.
        privilege::keep_net_admin().map_err(|error| error.to_string())?;
    }
    let made = name.filter(|_| linux.made_namespace());
    let (handle, events, thread) =
        spawn(linux).map_err(|error| format!("cannot start the dataplane's thread: {error}"))?;
    Ok(Opened { handle, events, thread, made })
}

/// Removes what a start that failed has made; what existed before stays as it was.
fn discard(namespace: &str) {
    if let Err(error) = dataplane::linux::remove_namespace(namespace) {
        tracing::warn!(%error, "a network namespace is left behind");
    }
    // Only empty directories go.
    let directory = worker::state_directory(namespace);
    let _ = std::fs::remove_dir(directory.join("attachments")).and_then(|()| std::fs::remove_dir(directory));
}
