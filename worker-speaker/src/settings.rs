//! Command line and configuration file of the worker, merged and checked as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bgp_core::types::{Asn, RouterId};
use clap::{Parser, Subcommand};
use cluster::client::Source;
use cluster::pod::Pod;
use daemon::config::{ConfigError, Peer, PeerAddress, PeerEntry, PeerSettings, Problems, merge_peers, read_file};
use daemon::http;
use daemon::options::CommonOptions;
use daemon::speaker::router_id_of;
use evpn::config::Limits;
use serde::Deserialize;

use crate::init::InitOptions;

/// UDP port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4_789;
/// Port of HTTP in a cluster, where no other is given.
const HTTP_PORT: u16 = 9_181;
/// Where a worker keeps its files, and its sockets in a cluster.
pub(crate) const STATE_DIRECTORY: &str = "/run/megalos";
/// Name of the overlay namespace where none is given.
pub(crate) const OVERLAY_NAMESPACE: &str = "megalos";

/// The Megalos worker speaker: announces the MAC addresses of its node's LANs over EVPN and programs the kernel's VXLAN
/// forwarding from what others announce (RFC 7432, RFC 8365).
///
/// What can be said by flags can be said in the configuration file; a flag wins. SIGHUP reads the file again without
/// touching the sessions of peers that did not change. SIGTERM leaves the kernel's forwarding in place.
#[derive(Clone, Debug, Parser)]
#[command(name = "megalos-speaker", version, args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Something else to do than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What both daemons have.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Take address, reflectors and key from this cluster: with the pod's service account; the pod's environment tells the rest
    #[arg(long)]
    pub kubernetes: bool,
    /// The same from outside of the cluster, with these credentials
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What the cluster has said.
    #[arg(skip)]
    pub discovered: Option<Discovered>,
    /// A route reflector or router to keep a session with; the port defaults to 179; several in a list or by repetition
    #[arg(long, value_name = "ADDR[:PORT]", num_args = 1.., value_delimiter = ',')]
    pub reflector: Vec<PeerAddress>,
    /// Address of this node that VXLAN packets come from and go to
    #[arg(long, value_name = "IP")]
    pub vtep: Option<IpAddr>,
    /// Our BGP identifier [default: the VTEP if it is IPv4, else a hash of it]
    #[arg(long, value_name = "IP")]
    pub router_id: Option<Ipv4Addr>,
    /// Serve the VXLAN devices and bridges that exist in this network namespace instead of making our own
    #[arg(long, conflicts_with = "overlay_namespace")]
    pub adopt: bool,
    /// Network namespace for bridges and VXLAN devices, made if it does not exist [default: megalos]
    #[arg(long, value_name = "NAME")]
    pub overlay_namespace: Option<String>,
    /// UDP port of VXLAN [default: 4789]
    #[arg(long, value_name = "PORT")]
    pub vxlan_port: Option<u16>,
    /// Serve CNI requests on this Unix socket
    #[arg(long, value_name = "SOCKET")]
    pub cni: Option<PathBuf>,
    /// Give up all rights but NET_ADMIN, for good, once the overlay namespace is open; implied by --kubernetes
    #[arg(long)]
    pub drop_capabilities: bool,
    /// When leaving, withdraw all routes and remove our forwarding state from the kernel
    #[arg(long)]
    pub flush_on_exit: bool,
}

/// What a cluster says of the node that this is: the rest of its settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Discovered {
    /// The tunnel endpoint.
    pub vtep: IpAddr,
    /// Reflectors, each with the address that its session comes from.
    pub reflectors: BTreeMap<SocketAddr, Option<IpAddr>>,
    /// Their TCP-MD5 key.
    pub key: Option<String>,
}

impl Discovered {
    /// The reflectors as a file would list them, but for those that it lists itself.
    fn peers(&self, listed: &[PeerEntry], flags: &[PeerAddress]) -> Vec<PeerEntry> {
        let known = listed.iter().map(|entry| entry.address).chain(flags.iter().copied());
        let known: BTreeSet<IpAddr> = known.map(|address| address.0.ip()).collect();
        let found = self.reflectors.iter().filter(|(address, _)| !known.contains(&address.ip()));
        let entry = |(address, local_address): (&SocketAddr, &Option<IpAddr>)| PeerEntry {
            address: PeerAddress(*address),
            settings: PeerSettings {
                local_address: *local_address,
                password: self.key.clone(),
                ..PeerSettings::default()
            },
        };
        found.map(entry).collect()
    }
}

/// What the program does beside running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Prepare this node for a worker: install the CNI plugin, pin the overlay namespace and make its settings
    Init(InitOptions),
}

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct File {
    asn: Option<u32>,
    vtep: Option<IpAddr>,
    router_id: Option<Ipv4Addr>,
    adopt: bool,
    overlay_namespace: Option<String>,
    vxlan_port: Option<u16>,
    cni: Option<PathBuf>,
    http: Option<SocketAddr>,
    control: Option<PathBuf>,
    foreign_asns: Vec<u32>,
    route_target_form: RouteTargetForm,
    duplicate_moves: Option<u32>,
    duplicate_window_secs: Option<u32>,
    duplicate_freeze_secs: Option<u32>,
    max_flood_vteps: Option<u32>,
    max_remote_macs: Option<u32>,
    max_learned_macs: Option<u32>,
    max_port_macs: Option<u32>,
    defaults: PeerSettings,
    peer: Vec<PeerEntry>,
}

/// How the route targets of announced routes are formed; every form is imported.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum RouteTargetForm {
    /// One of each form, so that a router imports our routes whichever form its own have.
    #[default]
    Both,
    /// `ASN:VNI`.
    Plain,
    /// `ASN:(0x1000_0000 | VNI)` (RFC 8365 section 5.1.2.1).
    Rfc8365,
}

/// The cluster that the node belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterSettings {
    /// How its API server is found.
    pub source: Source,
    /// Who and where this pod is.
    pub pod: Pod,
}

/// Where bridges and VXLAN devices live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Overlay {
    /// In the current namespace, made by somebody else.
    Adopt,
    /// In a namespace of this name, made by us.
    Namespace(String),
}

/// Duplicate address detection (RFC 7432 section 15.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DuplicateDetection {
    /// Moves within the window that make a duplicate.
    pub moves: u32,
    /// The window, in seconds.
    pub window_secs: u32,
    /// How long a duplicate address stays where it is; `None` only reports it.
    pub freeze_secs: Option<u32>,
}

/// What the worker runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Our VTEP.
    pub vtep: IpAddr,
    /// Where the devices live.
    pub overlay: Overlay,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Reflectors and routers by address.
    pub peers: BTreeMap<IpAddr, Peer>,
    /// Other ASNs whose route targets we ask foreign reflectors for (RFC 4684).
    pub foreign_asns: Vec<Asn>,
    /// The form of our route targets.
    pub route_target_form: RouteTargetForm,
    /// Duplicate detection.
    pub duplicates: DuplicateDetection,
    /// What one LAN may cost.
    pub limits: Limits,
    /// The cluster that tells the rest.
    pub cluster: Option<ClusterSettings>,
    /// CNI socket.
    pub cni: Option<PathBuf>,
    /// HTTP addresses.
    pub http: Vec<SocketAddr>,
    /// Control socket.
    pub control: Option<PathBuf>,
}

impl AsRef<CommonOptions> for Options {
    fn as_ref(&self) -> &CommonOptions {
        &self.common
    }
}

impl daemon::options::Settings for Settings {
    type Options = Options;

    fn load(options: &Options) -> Result<Self, ConfigError> {
        let file = match &options.common.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let pod = Pod::from_env().map_err(|problem| ConfigError::Invalid(vec![problem]))?;
        Self::merge(options, file, pod)
    }

    fn fixed_differences(&self, newer: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (differs, name) in [
            (self.asn != newer.asn, "asn"),
            (self.router_id != newer.router_id, "router_id"),
            (self.vtep != newer.vtep, "vtep"),
            (self.overlay != newer.overlay, "adopt or overlay_namespace"),
            (self.vxlan_port != newer.vxlan_port, "vxlan_port"),
            (self.foreign_asns != newer.foreign_asns, "foreign_asns"),
            (self.route_target_form != newer.route_target_form, "route_target_form"),
            (self.duplicates != newer.duplicates, "duplicate_*"),
            (self.limits != newer.limits, "max_*"),
            (self.cluster != newer.cluster, "kubernetes"),
            (self.cni != newer.cni, "cni"),
            (self.http != newer.http, "http"),
            (self.control != newer.control, "control"),
        ] {
            if differs {
                names.push(name);
            }
        }
        names
    }
}

fn cluster_settings(options: &Options, pod: Pod) -> Option<ClusterSettings> {
    let source = match &options.kubeconfig {
        Some(path) => Source::Kubeconfig(path.clone()),
        None if options.kubernetes => Source::InCluster,
        None => return None,
    };
    Some(ClusterSettings { source, pod })
}

/// The limits of a LAN, at least one each.
fn limits(file: &File, problems: &mut Problems) -> Limits {
    let defaults = Limits::default();
    let mut or = |value: Option<u32>, default: usize, key: &str| {
        problems.require(value != Some(0), || format!("{key} is 0; give 1 or more"));
        value.map_or(default, |value| value as usize)
    };
    Limits {
        flood: or(file.max_flood_vteps, defaults.flood, "max_flood_vteps"),
        remote_macs: or(file.max_remote_macs, defaults.remote_macs, "max_remote_macs"),
        learned_macs: or(file.max_learned_macs, defaults.learned_macs, "max_learned_macs"),
        port_macs: or(file.max_port_macs, defaults.port_macs, "max_port_macs"),
    }
}

impl Settings {
    fn merge(options: &Options, file: File, pod: Pod) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let asn = options.common.asn.or(file.asn).unwrap_or(65_000);
        problems.require(asn != 0, || "asn is 0; give 1 to 4294967295".into());
        let host_ip = pod.host_ip;
        let cluster = cluster_settings(options, pod);
        let in_cluster = cluster.is_some();
        let discovered = options.discovered.as_ref();
        let vtep = options.vtep.or(file.vtep).or(discovered.map(|discovered| discovered.vtep));
        match vtep {
            None if in_cluster => {}
            None => problems.missing("no VTEP; give --vtep the address of this node that other nodes reach"),
            Some(vtep) => problems.require(is_unicast(vtep), || {
                format!("vtep {vtep} cannot carry VXLAN; give the unicast address that other nodes reach")
            }),
        }
        let limits = limits(&file, &mut problems);
        file.defaults.check("[defaults]", &mut problems);
        let mut listed = file.peer;
        listed.extend(discovered.map(|it| it.peers(&listed, &options.reflector)).unwrap_or_default());
        let dialled = options.reflector.iter().map(|address| (*address, PeerSettings::default()));
        let peers = merge_peers(dialled, listed, &file.defaults, &mut problems);
        if peers.is_empty() && !in_cluster {
            problems.missing("no reflector; give --reflector ADDR[:PORT]");
        }
        let adopt = options.adopt || (file.adopt && options.overlay_namespace.is_none());
        problems.require(!(adopt && in_cluster), || {
            "adopt serves devices of others, and in a cluster the worker makes its own; leave out one of both".into()
        });
        let namespace = options.overlay_namespace.clone().or(file.overlay_namespace);
        problems.require(!(adopt && namespace.is_some()), || {
            "adopt and overlay_namespace exclude each other; keep one".into()
        });
        let vxlan_port = options.vxlan_port.or(file.vxlan_port).unwrap_or(VXLAN_PORT);
        problems.require(vxlan_port != 0, || "vxlan_port is 0; give 1 to 65535".into());
        let duplicates = DuplicateDetection {
            moves: file.duplicate_moves.unwrap_or(5),
            window_secs: file.duplicate_window_secs.unwrap_or(180),
            freeze_secs: file.duplicate_freeze_secs,
        };
        problems.require(duplicates.moves >= 2 && duplicates.window_secs >= 2, || {
            "duplicate_moves and duplicate_window_secs must be 2 or more".into()
        });
        let router_id = options.router_id.or(file.router_id);
        problems.require(router_id.is_none_or(|id| !id.is_unspecified()), || {
            "the router id is 0.0.0.0; give --router-id another".into()
        });
        // What the cluster has not said yet.
        let vtep = vtep.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let settings = Self {
            asn: Asn(asn),
            router_id: router_id.map_or_else(|| router_id_of(vtep), RouterId::from),
            vtep,
            overlay: match namespace {
                _ if adopt => Overlay::Adopt,
                Some(name) => Overlay::Namespace(name),
                None => Overlay::Namespace(OVERLAY_NAMESPACE.into()),
            },
            vxlan_port,
            peers,
            foreign_asns: file.foreign_asns.into_iter().map(Asn).collect(),
            route_target_form: file.route_target_form,
            duplicates,
            limits,
            cluster,
            cni: options.cni.clone().or(file.cni).or(in_cluster.then(|| Path::new(STATE_DIRECTORY).join("cni.sock"))),
            http: http::addresses(options.common.http.or(file.http), in_cluster.then_some((host_ip, HTTP_PORT))),
            control: options
                .common
                .control
                .clone()
                .or(file.control)
                .or(in_cluster.then(|| Path::new(STATE_DIRECTORY).join("speaker.sock"))),
        };
        problems.finish(settings)
    }
}

fn is_unicast(vtep: IpAddr) -> bool {
    let broadcast = matches!(vtep, IpAddr::V4(address) if address.is_broadcast());
    !(vtep.is_loopback() || vtep.is_multicast() || vtep.is_unspecified() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(flags: &[&str], file: &str) -> Result<Settings, String> {
        let options =
            Options::try_parse_from(std::iter::once(&"megalos-speaker").chain(flags)).map_err(|e| e.to_string())?;
        let file: File = toml::from_str(file).map_err(|e| e.to_string())?;
        Settings::merge(&options, file, Pod::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn three_flags_are_enough() {
        let settings = merged(&["--asn", "65000", "--reflector", "192.0.2.1:1179", "--vtep", "192.0.2.2"], "").unwrap();
        assert_eq!(settings.router_id.to_string(), "192.0.2.2");
        assert_eq!(settings.overlay, Overlay::Namespace("megalos".into()));
        assert_eq!(settings.vxlan_port, 4_789);
    }

    #[test]
    fn an_ipv6_vtep_gives_a_stable_router_id() {
        let id = |vtep: &str| router_id_of(vtep.parse().unwrap());
        assert_eq!(id("2001:db8::1"), id("2001:db8:0::1"));
        assert_ne!(id("2001:db8::1"), id("2001:db8::2"));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let error = merged(&["--asn", "0"], "vxlan_port = 0\n").unwrap_err();
        for part in ["asn is 0", "no VTEP", "no reflector", "vxlan_port is 0"] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }

    #[test]
    fn an_address_that_is_no_hosts_is_no_vtep() {
        for vtep in ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let error = merged(&["--vtep", vtep, "--reflector", "192.0.2.1"], "").unwrap_err();
            assert_eq!(
                error,
                format!("vtep {vtep} cannot carry VXLAN; give the unicast address that other nodes reach")
            );
        }
    }

    #[test]
    fn a_cluster_fills_what_flags_and_file_leave_open() {
        let mut options = Options::try_parse_from(["megalos-speaker", "--kubernetes"]).unwrap();
        let merge = |options: &Options, file: &str| {
            let pod = Pod { host_ip: Some([192, 0, 2, 9].into()), ..Pod::default() };
            Settings::merge(options, toml::from_str(file).unwrap(), pod)
        };
        let settings = |options: &Options, file: &str| merge(options, file).unwrap();
        let before = settings(&options, "");
        assert_eq!(before.peers.len(), 0);
        assert_eq!(before.http, ["192.0.2.9:9181", "127.0.0.1:9181"].map(|address| address.parse().unwrap()));
        assert_eq!(before.cni.as_deref(), Some(Path::new("/run/megalos/cni.sock")));
        let own: IpAddr = [192, 0, 2, 2].into();
        options.discovered = Some(Discovered {
            vtep: own,
            reflectors: BTreeMap::from([
                ("192.0.2.1:1179".parse().unwrap(), Some(own)),
                ("192.0.2.3:1179".parse().unwrap(), None),
            ]),
            key: Some("key".into()),
        });
        let after = settings(&options, "");
        assert_eq!((after.vtep, after.router_id.to_string()), (own, own.to_string()));
        let peer = &after.peers[&IpAddr::from([192, 0, 2, 1])];
        assert_eq!((peer.key.as_deref(), peer.settings.local_address), (Some("key"), Some(own)));
        assert_eq!(after.peers.len(), 2);
        let file = "vtep = \"192.0.2.7\"\nhttp = \"127.0.0.1:1\"\n[[peer]]\naddress = \"192.0.2.1\"\n";
        let chosen = settings(&options, file);
        assert_eq!((chosen.vtep.to_string().as_str(), chosen.peers.len()), ("192.0.2.7", 2));
        assert_eq!(chosen.peers[&IpAddr::from([192, 0, 2, 1])].key, None, "what is written down wins");
        assert!(merge(&options, "adopt = true").is_err());
    }

    #[test]
    fn reflectors_may_stand_in_a_row() {
        let settings = merged(&["--reflector", "192.0.2.1:1179", "192.0.2.3", "--vtep", "192.0.2.2"], "").unwrap();
        assert_eq!(settings.peers.len(), 2);
    }

    #[test]
    fn adopting_and_a_namespace_of_our_own_exclude_each_other() {
        assert!(merged(&["--adopt", "--overlay-namespace", "x"], "").is_err());
        let base = ["--reflector", "192.0.2.1", "--vtep", "192.0.2.2"];
        assert!(merged(&base, "adopt = true\noverlay_namespace = \"x\"\n").unwrap_err().contains("exclude"));
        assert_eq!(merged(&base, "adopt = true\n").unwrap().overlay, Overlay::Adopt);
    }
}
