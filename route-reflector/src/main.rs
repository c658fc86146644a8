//! `megalos-rr`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    route_reflector::run_cli(std::env::args_os().skip(1).collect())
}
