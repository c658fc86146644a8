//! The Megalos worker speaker, `megalos-speaker`: local MACs become routes, routes become FDB rows.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`] | flags and configuration file |
//! | [`core`] | what is known and decided, without I/O: engine, ports, rows on their way to the kernel |
//! | [`init`] | what is done on a node before its worker starts |
//! | `worker` | the main loop: sessions, kernel, files and people around the core |
//! | `kubernetes` | the cluster: where settings come from, and who is told what is wrong |
//! | `doors`, `vitals` | where people, probes and plugins ask; signs of life |
//! | `attach`, `admission`, `cni_server` | the CNI socket, what it asks, and whose turn it is |
//! | `attachments` | what is remembered of attachments beside their devices |
//! | `metrics`, `show` | what people and machines see |

mod admission;
mod attach;
mod attachments;
mod cni_server;
pub mod core;
mod doors;
#[cfg(test)]
mod findings_doc;
pub mod init;
mod kubernetes;
mod metrics;
pub mod settings;
mod show;
mod vitals;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;
use std::thread::JoinHandle;

use self::doors::Doors;
use self::kubernetes::{Cluster, Endpoint, wait_for_endpoint};
use self::vitals::watch_dataplane;
use daemon::options::Settings as _;
use daemon::run::{detach_logging, fail, finish_logging, parse_args, start_logging};
use dataplane::actor::spawn;
use dataplane::linux::{Config, Entered, Linux, Mode, privilege};
use prometheus::Registry;
use settings::{ClusterSettings, Command, Options, Overlay, Settings};

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
    let kernel = match open_kernel(&settings, &options) {
        Ok(kernel) => kernel,
        Err(error) => return fail(NAME, &error),
    };
    detach_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(NAME, &format!("cannot start threads: {error}")),
    };
    let mut thread = None;
    let result = runtime.block_on(async {
        match kernel {
            Kernel::Open(linux) => run_alone(options, settings, *linux, &mut thread).await,
            Kernel::Entered(entered, cluster) => {
                run_in_cluster((options, settings), *entered, &cluster, &mut thread).await
            }
        }
    });
    drop(runtime);
    // The last handle is gone: the thread finishes what it has and ends.
    let _ = thread.map(JoinHandle::join);
    match result {
        Ok(()) => {
            finish_logging();
            ExitCode::SUCCESS
        }
        Err(error) => fail(NAME, &error),
    }
}

/// What was opened while this process had all its rights.
enum Kernel {
    /// Everything: the address is known.
    Open(Box<Linux>),
    /// What takes rights: the cluster will say which address it is.
    Entered(Box<Entered>, ClusterSettings),
}

/// Opens the kernel's devices, before any other thread runs and before anything is read that somebody else may have written:
/// what it says is missing, is missing for good.
fn open_kernel(settings: &Settings, options: &Options) -> Result<Kernel, String> {
    let kernel = match (&settings.overlay, &settings.cluster) {
        // An init container has pinned it; one that is made here would go with this pod.
        (Overlay::Namespace(name), Some(cluster)) => {
            Entered::pinned(name).map(|entered| Kernel::Entered(Box::new(entered), cluster.clone()))
        }
        _ => Linux::open(config(settings)).map(|linux| Kernel::Open(Box::new(linux))),
    };
    let kernel = kernel.map_err(|error| error.to_string())?;
    if options.drop_capabilities || settings.cluster.is_some() {
        privilege::keep_net_admin().map_err(|error| error.to_string())?;
    }
    Ok(kernel)
}

fn config(settings: &Settings) -> Config {
    let mode = match &settings.overlay {
        Overlay::Adopt => Mode::Adopt,
        Overlay::Namespace(name) => Mode::Overlay { namespace: name.clone() },
    };
    Config { vtep: settings.vtep, udp_port: settings.vxlan_port, mode, underlay_mtu: None, suppress_neighbors: false }
}

/// Runs with flags and file alone.
async fn run_alone(
    options: Options,
    settings: Settings,
    linux: Linux,
    thread: &mut Option<JoinHandle<()>>,
) -> Result<(), String> {
    let made = match &settings.overlay {
        Overlay::Namespace(name) if linux.made_namespace() => Some(name.clone()),
        _ => None,
    };
    let socket = settings.cni.clone();
    let begin = async {
        let doors = Doors::open(&settings, &Registry::new()).await?;
        let requests = doors.requests.clone();
        let started = begin((options, settings), linux, doors, None, thread).await?;
        // Plugins are served when there is somebody to serve them.
        socket.map_or(Ok(()), |socket| cni_server::start(&socket, requests))?;
        Ok(started)
    };
    let started: Result<worker::Started, String> = begin.await;
    if let (Err(_), Some(namespace)) = (&started, &made) {
        discard(namespace);
    }
    started?.serve().await
}

/// Runs with what a cluster says. Everybody is answered before it has said enough.
async fn run_in_cluster(
    (mut options, settings): (Options, Settings),
    mut entered: Entered,
    cluster: &ClusterSettings,
    thread: &mut Option<JoinHandle<()>>,
) -> Result<(), String> {
    let registry = Registry::new();
    let mut doors = Doors::open(&settings, &registry).await?;
    if let Some(socket) = &settings.cni {
        cni_server::start(socket, doors.requests.clone())?;
    }
    let state = match &settings.overlay {
        Overlay::Namespace(name) => worker::state_directory(name),
        Overlay::Adopt => return Err("devices of others cannot be served in a cluster".into()),
    };
    let mut cluster = Cluster::start(cluster, &state, &registry).await?;
    let chosen = Some(settings.vtep).filter(|vtep| !vtep.is_unspecified());
    match wait_for_endpoint(&mut cluster, &mut doors, &mut entered, chosen).await {
        Endpoint::Stopped => return Ok(()),
        Endpoint::Known(discovered) => options.discovered = Some(discovered),
    }
    let settings = Settings::load(&options).map_err(|error| error.to_string())?;
    let linux = Linux::with(entered, config(&settings)).map_err(|error| error.to_string())?;
    begin((options, settings), linux, doors, Some(cluster), thread).await?.serve().await
}

async fn begin(
    settings: (Options, Settings),
    linux: Linux,
    doors: Doors,
    cluster: Option<Cluster>,
    thread: &mut Option<JoinHandle<()>>,
) -> Result<worker::Started, String> {
    let (handle, events, running) =
        spawn(linux).map_err(|error| format!("cannot start the dataplane's thread: {error}"))?;
    *thread = Some(running);
    tokio::spawn(watch_dataplane(handle.clone(), doors.vitals.health.clone()));
    worker::start(settings, (handle, events), doors, cluster).await
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
