//! The Megalos route reflector: `megalos-rr`.
//!
//! ```text
//!   workers, routers ──bgp-io──► Speaker { RIB, sessions } ──► everybody whose LANs are concerned
//!                                    ▲
//!                  signals, control socket, /metrics
//! ```

mod reflector;
pub mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use daemon::run::{fail, parse_args, start_logging};
use settings::{Options, Settings};

const NAME: &str = "megalos-rr";

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
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(NAME, &format!("cannot start threads: {error}")),
    };
    match runtime.block_on(reflector::run(options, settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(NAME, &error),
    }
}
