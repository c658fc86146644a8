//! The plugin: reads the environment and standard input, prints a result or an error.

use std::io::{Read, Write};
use std::process::ExitCode;

use cni::ErrorCode;
use cni::plugin::error::PluginError;
use cni::plugin::{MAX_INPUT_BYTES, run};

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--version") {
        println!("megalos-cni {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let output = run(|name| std::env::var(name).ok(), read_input(), |line| eprintln!("megalos: {line}"));
    let text = output.object.map(|object| format!("{object}\n")).unwrap_or_default();
    let mut stdout = std::io::stdout().lock();
    // A runtime that does not read has gone, and cleans up when it is back.
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if output.failed || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn read_input() -> Result<Vec<u8>, PluginError> {
    let mut input = Vec::new();
    let limit = u64::try_from(MAX_INPUT_BYTES).unwrap_or(u64::MAX);
    let refused = |cause: String| PluginError::new(ErrorCode::IO_FAILURE, "standard input cannot be read", cause);
    let read = std::io::stdin().take(limit + 1).read_to_end(&mut input);
    match read {
        Err(error) => Err(refused(format!("{error}; the runtime passes the network configuration there"))),
        Ok(_) if input.len() > MAX_INPUT_BYTES => Err(refused(format!("it is longer than {MAX_INPUT_BYTES} bytes"))),
        Ok(_) => Ok(input),
    }
}
