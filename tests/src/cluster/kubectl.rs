//! kubectl, on the underlay.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::binaries::KUBERNETES;
use super::keeper::{self, Keeper};
use super::{Result, control_plane};

/// A kubectl of the cluster's own version, as its administrator.
///
/// # Errors
///
/// If there is none, or the cluster is gone.
pub fn command(keeper: &Keeper) -> Result<Command> {
    let mut command = keeper.network_command(KUBERNETES.program("kubectl")?)?;
    command.env("KUBECONFIG", control_plane::kubeconfig(keeper)).env_remove("KUBERNETES_MASTER");
    // What kubectl learns of the API is the cluster's.
    command.env("KUBECACHEDIR", keeper.directory().join("kubectl"));
    Ok(command)
}

/// Runs kubectl to its end and gives what it printed.
///
/// # Errors
///
/// If it fails, with what it said.
pub fn run(keeper: &Keeper, arguments: &[&str]) -> Result<String> {
    let output = command(keeper)?.args(arguments).stdin(Stdio::null()).output();
    keeper::text(&format!("kubectl {}", arguments.join(" ")), output)
}

/// Runs kubectl with this text as its input.
///
/// # Errors
///
/// If it fails, with what it said.
pub fn run_with_input(keeper: &Keeper, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = command(keeper)?;
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot run kubectl: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it does not read all of it, it says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    keeper::text(&format!("kubectl {}", arguments.join(" ")), child.wait_with_output())
}
