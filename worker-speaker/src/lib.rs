//! The Megalos worker speaker, `megalos-speaker`: local MACs become routes, routes become FDB rows.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`] | flags and configuration file |
//! | `worker` | the main loop and the flow between engine, RIB and kernel |
//! | `attach`, `cni_server` | the CNI socket and what it asks |
//! | `forwarder` | batches of forwarding state on their way to the kernel |
//! | `ports`, `attachments` | local ports, and what is remembered of them beside their devices |
//! | `metrics`, `show` | what people and machines see |

mod attach;
mod attachments;
mod cni_server;
mod forwarder;
mod metrics;
mod ports;
pub mod settings;
mod show;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use daemon::run::{fail, parse_args, start_logging};
use settings::{Options, Settings};

const NAME: &str = "megalos-speaker";

/// Runs the program with these arguments, its own name left out.
pub fn run_cli(args: Vec<OsString>) -> ExitCode {
    let options: Options = match parse_args(NAME, args) {
        Ok(options) => options,
        Err(code) => return code,
    };
    start_logging(options.log_format);
    let settings = match Settings::load(&options) {
        Ok(settings) => settings,
        Err(error) => return fail(NAME, &error),
    };
    let (dataplane, events, thread) = match open_dataplane(&settings) {
        Ok(parts) => parts,
        Err(error) => return fail(NAME, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(NAME, &format!("cannot start threads: {error}")),
    };
    let result = runtime.block_on(worker::run(options, settings, dataplane, events));
    drop(runtime);
    // The last handle is gone: the thread finishes what it has and ends.
    let _ = thread.join();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(NAME, &error),
    }
}

fn open_dataplane(
    _settings: &Settings,
) -> Result<(dataplane::actor::Handle, dataplane::actor::Events, std::thread::JoinHandle<()>), String> {
    Err("no dataplane".into())
}
