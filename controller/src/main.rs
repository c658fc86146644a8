//! `megalos`: the command people use.

use std::process::ExitCode;

fn main() -> ExitCode {
    controller::cli::main()
}
