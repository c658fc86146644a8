//! A Kubernetes cluster on this machine, from the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tests::cluster::binaries::MODULES;
use tests::cluster::debian::Debian;
use tests::cluster::forward;
use tests::cluster::network::Families;
use tests::cluster::node::Node;
use tests::cluster::{Cluster, Config, Result};

/// A real Kubernetes cluster on this machine: control plane, nodes with containerd and kubelet, Multus.
///
/// Needs root, Go (once, to build Kubernetes) and Debian's packages (unpacked, not installed). No Docker, no registry; the
/// machine is not changed. Programs are kept in the user's cache directory, or in MEGALOS_CACHE; those that
/// KUBEBUILDER_ASSETS holds are used instead.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Build and fetch the programs that clusters need, and print where they are
    Prepare {
        /// These modules alone: kubernetes, multus, cnitool, kwok
        modules: Vec<String>,
    },
    /// Start a cluster that stays until `down`
    Up(Shape),
    /// Build Megalos' image, give it to the nodes, and apply deploy
    Install,
    /// End it; nothing is left of it
    Down,
    /// Say what is up
    Status,
    /// Run kubectl as the cluster's administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        /// What kubectl is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a shell, or one line of it, on a node
    Sh {
        /// The node's name
        node: String,
        /// The line
        line: Option<String>,
    },
    /// Take the power from a node, or switch it on again
    Power {
        /// The node's name
        node: String,
        /// on or off
        state: Power,
    },
    /// Give all nodes the images of a tar, as `docker save` and other tools write it
    Load {
        /// The tar
        tar: PathBuf,
    },
    /// Serve the API on this machine's loopback: what `up` starts
    #[command(hide = true)]
    Forward,
    /// Run a command with KUBECONFIG set and kubectl at hand; the cluster ends with it
    Run {
        #[command(flatten)]
        shape: Shape,
        /// The command with its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args, Clone, Debug)]
struct Shape {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    nodes: u8,
    /// The addresses of nodes
    #[arg(long, value_enum, default_value_t = Addresses::V4)]
    addresses: Addresses,
    /// The underlay's MTU in bytes
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=9000))]
    mtu: u32,
    /// Leave out Multus
    #[arg(long)]
    no_multus: bool,
    /// Do `install` as well
    #[arg(long)]
    megalos: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Power {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Addresses {
    /// IPv4
    V4,
    /// IPv4 first, then IPv6
    V4V6,
    /// IPv6 first, then IPv4
    V6V4,
}

impl Shape {
    fn config(&self) -> Config {
        let families = match self.addresses {
            Addresses::V4 => Families::V4,
            Addresses::V4V6 => Families::V4V6,
            Addresses::V6V4 => Families::V6V4,
        };
        Config { nodes: self.nodes, families, underlay_mtu: self.mtu, has_multus: !self.no_multus }
    }

    fn install(&self, cluster: &mut Cluster) -> Result<()> {
        if self.megalos { cluster.install_megalos() } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(order: Order) -> Result<ExitCode> {
    match order {
        Order::Prepare { modules } => prepare(&modules)?,
        Order::Up(shape) => {
            let mut cluster = Cluster::background(shape.config())?;
            let program = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
            forward::start(cluster.keeper(), &program, &["forward"])?;
            shape.install(&mut cluster)?;
            print(&cluster);
        }
        Order::Install => Cluster::attach()?.install_megalos()?,
        Order::Down => Cluster::end_background()?,
        Order::Forward => forward::serve(Cluster::attach()?.keeper())?.join().map_err(|_| "the thread ended")?,
        Order::Status => print(&Cluster::attach()?),
        Order::Kubectl { arguments } => return wait(Cluster::attach()?.kubectl_command()?.args(arguments)),
        Order::Sh { node, line } => {
            let cluster = Cluster::attach()?;
            let mut command = cluster.node(index(&cluster, &node)?).command("sh")?;
            command.stdin(Stdio::inherit());
            if let Some(line) = &line {
                command.args(["-c", line]);
            }
            return wait(&mut command);
        }
        Order::Power { node, state } => {
            let cluster = Cluster::attach()?;
            let index = index(&cluster, &node)?;
            match state {
                Power::On => cluster.power_on(index),
                Power::Off => cluster.power_off(index),
            }
        }
        Order::Load { tar } => Cluster::attach()?.try_import_image(&absolute(&tar)?)?,
        Order::Run { shape, command } => {
            let mut cluster = Cluster::up(shape.config());
            shape.install(&mut cluster)?;
            return wait(&mut cluster.command(&command)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare(names: &[String]) -> Result<()> {
    if let Some(name) = names.iter().find(|name| !MODULES.iter().any(|module| module.name == **name)) {
        return Err(format!("there is no module {name}; there are {}", MODULES.map(|module| module.name).join(", ")));
    }
    if names.is_empty() {
        println!("debian: {}", Debian::obtain()?.root().display());
    }
    for module in MODULES.iter().filter(|module| names.is_empty() || names.iter().any(|name| name == module.name)) {
        println!("{} {}: {}", module.name, module.version()?, module.all()?.display());
    }
    Ok(())
}

fn wait(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn index(cluster: &Cluster, name: &str) -> Result<usize> {
    let names: Vec<&str> = cluster.nodes().iter().map(Node::name).collect();
    let index = names.iter().position(|known| *known == name);
    index.ok_or_else(|| format!("there is no node {name}; there are {}", names.join(", ")))
}

/// Nodes are added later, by another process in another directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}

fn print(cluster: &Cluster) {
    println!("KUBECONFIG={}", forward::kubeconfig(cluster.keeper()).display());
    for node in cluster.nodes() {
        let power = if node.process().is_some() { "on" } else { "off" };
        println!("{}\t{}\t{power}", node.name(), node.addresses().join(","));
    }
}
