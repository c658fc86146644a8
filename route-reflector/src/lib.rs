//! The Megalos route reflector: `megalos-rr`.
//!
//! ```text
//!   workers, routers ──bgp-io──► Speaker { RIB, sessions } ──► everybody whose LANs are concerned
//!                                    ▲
//!              configuration, Nodes; signals, control socket, /metrics
//! ```

pub mod kubernetes;
mod reflector;
mod router;
pub mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use daemon::options::Settings as _;
use daemon::run::{detach_logging, fail, finish_logging};
use settings::Settings;

const NAME: &str = "megalos-rr";

/// Runs the program with these arguments, its own name left out.
pub fn run_cli(args: Vec<OsString>) -> ExitCode {
    let (options, settings) = match Settings::start(NAME, args) {
        Ok(started) => started,
        Err(code) => return code,
    };
    detach_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(NAME, &format!("cannot start threads: {error}")),
    };
    match runtime.block_on(reflector::run(options, settings)) {
        Ok(()) => {
            finish_logging();
            ExitCode::SUCCESS
        }
        Err(error) => fail(NAME, &error),
    }
}
