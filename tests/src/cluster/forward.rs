//! The API for programs that are not on the underlay: a port of this machine's loopback.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::keeper::{self, Keeper};
use super::network::{API_PORT, ROUTER};
use super::process::until;
use super::{Result, control_plane};
use crate::inside;

/// How many connections there may be at once.
const CONNECTIONS: usize = 256;
/// The kubeconfig that names the port.
const KUBECONFIG: &str = "forwarded.kubeconfig";

/// A kubeconfig for this machine's own network, once somebody serves it.
pub fn kubeconfig(keeper: &Keeper) -> PathBuf {
    control_plane::pki_of(keeper).file(KUBECONFIG)
}

/// Serves the API until the process ends; the kubeconfig is there when this returns.
///
/// # Errors
///
/// If there is no port, or the cluster is gone.
pub fn serve(keeper: &Keeper) -> Result<std::thread::JoinHandle<()>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no port: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let path = keeper.process().namespace("net");
    let namespace = File::open(&path).map_err(|error| format!("the cluster is gone: {path}: {error}"))?;
    let server = format!("https://{}:{port}", Ipv4Addr::LOCALHOST);
    control_plane::pki_of(keeper).write_kubeconfig(KUBECONFIG, "admin", &server)?;
    // The listener stays in the network that it was made in; what it leads to is in the thread's.
    Ok(std::thread::spawn(move || {
        inside::enter(&namespace);
        let permits = Arc::new(());
        for client in listener.incoming().flatten() {
            let permit = Arc::clone(&permits);
            if Arc::strong_count(&permits) > CONNECTIONS {
                continue;
            }
            std::thread::spawn(move || {
                let _permit = permit;
                // Either side sees a connection that ends.
                let _ = join(&client);
            });
        }
    }))
}

/// Starts a process that does so until the cluster ends, from `program` with `arguments`.
///
/// # Errors
///
/// If it does not start to serve.
pub fn start(keeper: &Keeper, program: &std::path::Path, arguments: &[&str]) -> Result<()> {
    let output = keeper::log(keeper.directory(), "forward")?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new("nsenter");
    // Its port is to be this machine's, its life the cluster's.
    command.args(["--target", &keeper.process().pid().to_string(), "--pid", "--"]).arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|error| format!("cannot run nsenter: {error}"))?;
    let path = kubeconfig(keeper);
    until("the API on this machine's loopback", || if path.is_file() { Ok(()) } else { Err("no kubeconfig yet") })?;
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Carries what comes on either side to the other.
fn join(client: &TcpStream) -> io::Result<()> {
    let server = TcpStream::connect((ROUTER, API_PORT))?;
    let carry = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| carry(client, &server));
        carry(&server, client);
    });
    Ok(())
}
