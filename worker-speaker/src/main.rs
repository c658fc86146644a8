//! `megalos-speaker`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker_speaker::run_cli(std::env::args_os().skip(1).collect())
}
