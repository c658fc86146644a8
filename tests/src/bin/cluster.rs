//! A Kubernetes cluster on this machine, from the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tests::cluster::binaries::MODULES;
use tests::cluster::debian::Debian;
use tests::cluster::{Cluster, Config, Result};

/// A real Kubernetes cluster on this machine: control plane, nodes with containerd and kubelet, Multus.
///
/// Needs root, Go (once, to build Kubernetes) and Debian's packages (unpacked, not installed). No Docker.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Build and fetch the programs that `up` and the tests need, and print where they are
    Prepare,
    /// Start a cluster that stays until `down`
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
        nodes: u8,
    },
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
        Order::Prepare => {
            println!("debian: {}", Debian::obtain()?.root().display());
            for module in MODULES {
                println!("{} {}: {}", module.name, module.version()?, module.all()?.display());
            }
        }
        Order::Up { nodes } => {
            let cluster = Cluster::background(Config { nodes, ..Config::default() })?;
            print(&cluster);
        }
        Order::Install => Cluster::attach()?.install_megalos()?,
        Order::Down => Cluster::attach()?.down()?,
        Order::Status => print(&Cluster::attach()?),
        Order::Kubectl { arguments } => {
            let status = Cluster::attach()?.kubectl_command()?.args(arguments).status();
            let status = status.map_err(|error| format!("cannot run kubectl: {error}"))?;
            return Ok(status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .map_or(ExitCode::FAILURE, ExitCode::from));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(cluster: &Cluster) {
    println!("KUBECONFIG={}", cluster.kubeconfig().display());
    for node in cluster.nodes() {
        let power = if node.process().is_some() { "on" } else { "off" };
        println!("{}\t{}\t{power}", node.name(), node.addresses().join(","));
    }
}
