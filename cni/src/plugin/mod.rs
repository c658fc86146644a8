//! The plugin `megalos-cni`: what a container runtime executes to put a pod on a LAN.
//!
//! In: the environment and standard input. Out: one JSON object, a result or an error, and whether it failed.
//!
//! ```text
//!   runtime ──environment, stdin──► environment, config      what is asked, or an error that names the field
//!                                         │
//!                                       verbs ──► ipam        addresses, by another plugin in CNI_PATH
//!                                         ├─────► client      the interface, by the worker of this node
//!                                         ├─────► pod         gratuitous ARP from inside; what CHECK looks at
//!                                         └─────► removal     DEL while no worker answers
//!   runtime ◄──────stdout──────────── result
//! ```
//!
//! # Configuration
//!
//! A NetworkAttachmentDefinition needs the LAN's number alone:
//!
//! ```json
//! { "cniVersion": "1.1.0", "type": "megalos", "vni": 100 }
//! ```
//!
//! | key | value | if absent |
//! | --- | --- | --- |
//! | `vni` | the LAN's number, 1 to 16777215 | an error |
//! | `lan` | the LAN's name for people, at most 200 bytes | the network's `name` |
//! | `mac` | the interface's MAC address | chosen at random |
//! | `ips` | addresses with prefix lengths, at most 64 | none |
//! | `mtu` | 68 to what the underlay leaves room for | the most that the underlay leaves room for |
//! | `ipam` | an IPAM plugin's configuration, with its `type` | no delegation |
//! | `interface` | the interface's name instead of `CNI_IFNAME` | `CNI_IFNAME` |
//!
//! `mac` and `ips` of a pod's annotation need no `capabilities`: Multus (4.2) passes them in `CNI_ARGS` whatever the
//! configuration declares. Where `capabilities` are declared they come in `runtimeConfig` as well, which wins.
//! An IPAM plugin gets the configuration and the environment as they are, so `static` and `host-local` see the same
//! requests; it must know the configuration's `cniVersion`.
//!
//! # Without Multus
//!
//! As a network of its own, a file such as `/etc/cni/net.d/10-lan.conflist` (nothing of Megalos writes one):
//!
//! ```json
//! { "cniVersion": "1.1.0", "name": "lan", "plugins": [
//!   { "type": "megalos", "vni": 100, "ipam": { "type": "host-local", "subnet": "10.1.0.0/16" } } ] }
//! ```
//!
//! In a chain behind the cluster's own plugin, as a second interface of every pod. `eth0` is taken there, so the
//! configuration names the interface; the result is that of the chain with ours added:
//!
//! ```json
//! { "cniVersion": "1.1.0", "name": "cluster", "plugins": [
//!   { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": { "type": "host-local", "subnet": "10.244.0.0/24" } },
//!   { "type": "megalos", "vni": 100, "interface": "lan0" } ] }
//! ```
//!
//! The CNI project's plugins (1.1) take every address of a chain's result for one of `eth0` when they CHECK. Where `lan0`
//! is given addresses and the runtime calls CHECK, the list needs `"disableCheck": true`.

pub mod announce;
pub mod config;
pub mod environment;
pub mod error;
pub mod ipam;
pub mod pod;
pub mod removal;
pub mod result;
pub mod verbs;
pub mod version;

use std::path::PathBuf;

use serde_json::Value;

use crate::DEFAULT_SOCKET;
use crate::plugin::config::Config;
use crate::plugin::environment::{Environment, Verb};
use crate::plugin::error::PluginError;
use crate::plugin::verbs::{Execution, Node};

/// The longest input: a chain's result lists thousands of addresses in less.
pub const MAX_INPUT_BYTES: usize = 4 * 1024 * 1024;

/// The variable that names another socket of the worker than [`DEFAULT_SOCKET`].
pub const SOCKET_VARIABLE: &str = "MEGALOS_CNI_SOCKET";

/// The variable that names another overlay namespace than [`DEFAULT_OVERLAY`].
pub const OVERLAY_VARIABLE: &str = "MEGALOS_OVERLAY_NAMESPACE";

/// The name of the overlay namespace in `/run/netns`.
pub const DEFAULT_OVERLAY: &str = "megalos";

/// What one execution prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The object for standard output, if there is one.
    pub object: Option<Value>,
    /// The exit status is not zero.
    pub failed: bool,
}

/// Executes the plugin: `get` reads variables of the environment, `input` is what came on standard input, or why that could
/// not be read, `log` takes lines for people.
pub fn run(get: impl Fn(&str) -> Option<String>, input: Result<Vec<u8>, PluginError>, log: impl Fn(&str)) -> Output {
    let version = input.as_ref().map_or_else(|_| Config::version_of(&[]), |text| Config::version_of(text));
    match execute(get, input, &version, &log) {
        Ok(object) => Output { object, failed: false },
        Err(error) => Output { object: Some(error.to_json(&version)), failed: true },
    }
}

fn execute(
    get: impl Fn(&str) -> Option<String>,
    input: Result<Vec<u8>, PluginError>,
    version: &str,
    log: &dyn Fn(&str),
) -> Result<Option<Value>, PluginError> {
    let environment = Environment::parse(&get)?;
    if environment.verb == Verb::Version {
        return Ok(Some(verbs::version(version)));
    }
    let input = match input {
        Err(_) if environment.verb == Verb::Del => Vec::new(),
        input => input?,
    };
    let config = Config::parse(&input, environment.verb, &environment.args)?;
    let setting =
        |name: &str, default: &str| get(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into());
    let node = Node {
        socket: PathBuf::from(setting(SOCKET_VARIABLE, DEFAULT_SOCKET)),
        overlay: PathBuf::from("/run/netns").join(setting(OVERLAY_VARIABLE, DEFAULT_OVERLAY)),
    };
    Execution { node: &node, environment: &environment, config: &config, input: &input, log }.run()
}
