//! Command line and configuration file of the reflector, merged and checked as a whole.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bgp_core::types::{Asn, RouterId};
use clap::Parser;
use cluster::client::Source;
use cluster::pod::Pod;
use daemon::config::{
    AcceptEntry, ConfigError, Peer, PeerAddress, PeerEntry, PeerSettings, Problems, merge_peers, read_file,
};
use daemon::http;
use daemon::options::{CommonOptions, parse_prefix, parse_socket};
use daemon::speaker::reflector_id_of;
use ipnet::IpNet;
use serde::Deserialize;

use crate::kubernetes::ClusterSettings;
use crate::router::Router;

/// The Megalos route reflector: reflects EVPN routes between workers and routers (RFC 4456, RFC 7432).
///
/// What can be said by flags can be said in the configuration file; a flag wins. SIGHUP reads the file again without
/// touching the sessions of peers that did not change. SIGTERM leaves so that peers keep their routes (RFC 4724).
#[derive(Clone, Debug, Parser)]
#[command(name = "megalos-rr", version)]
pub struct Options {
    /// What both daemons have.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Address and port to accept BGP sessions on; several in a list or by repetition
    #[arg(long, value_name = "ADDR:PORT", num_args = 1.., value_delimiter = ',', value_parser = parse_socket)]
    pub listen: Vec<SocketAddr>,
    /// Our BGP identifier, an IPv4 address that no other speaker uses
    #[arg(long, value_name = "IP")]
    pub router_id: Option<Ipv4Addr>,
    /// Cluster id, the same for all reflectors of a fabric [default: the router id]
    #[arg(long, value_name = "IP")]
    pub cluster_id: Option<Ipv4Addr>,
    /// Accept sessions from any address in this prefix; several in a list or by repetition
    #[arg(long, value_name = "PREFIX", num_args = 1.., value_delimiter = ',', value_parser = parse_prefix)]
    pub accept: Vec<IpNet>,
    /// Dial this peer; the port defaults to 179; several in a list or by repetition
    #[arg(long, value_name = "ADDR[:PORT]", num_args = 1.., value_delimiter = ',')]
    pub peer: Vec<PeerAddress>,
    /// A physical router in the underlay: dial it, and let it announce its own address as next hop and no other; its AS
    /// defaults to ours, the port to 179; several in a list or by repetition
    #[arg(long, value_name = "ADDR[:PORT][@ASN]", num_args = 1.., value_delimiter = ',')]
    pub router: Vec<Router>,
    /// Take the Nodes of this cluster as peers: with the pod's service account; the pod's environment tells the rest
    #[arg(long)]
    pub kubernetes: bool,
    /// The same from outside of the cluster, with these credentials
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Keep the last known Nodes here, for starts while the API server is away [default: /run/megalos]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Send hard resets when leaving, so that peers drop our routes at once (RFC 8538)
    #[arg(long)]
    pub flush_on_exit: bool,
}

/// The configuration file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Vec<SocketAddr>,
    asn: Option<u32>,
    router_id: Option<Ipv4Addr>,
    cluster_id: Option<Ipv4Addr>,
    http: Option<SocketAddr>,
    control: Option<PathBuf>,
    max_dynamic_peers: Option<u32>,
    max_shared_log_octets: Option<u64>,
    max_withdrawn_routes: Option<u32>,
    defaults: PeerSettings,
    peer: Vec<PeerEntry>,
    accept: Vec<AcceptEntry>,
}

/// A prefix from which sessions are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accept {
    /// The prefix; the longest match wins.
    pub prefix: IpNet,
    /// How the sessions are run.
    pub settings: PeerSettings,
    /// TCP-MD5 key.
    pub key: Option<String>,
}

/// Where a reflector in a cluster listens: another BGP of the node has 179.
pub const CLUSTER_PORT: u16 = 1_179;
/// Where it answers probes.
const HTTP_PORT: u16 = 9_180;
/// The cluster id of all reflectors of a cluster (RFC 4456): "MGLS", in class E, which is nobody's address.
const CLUSTER_ID: Ipv4Addr = Ipv4Addr::new(240, 71, 76, 83);
/// Where the last known state is, unless the settings say otherwise.
const STATE: &str = "/run/megalos";

/// Peers that may come by themselves where the settings do not say.
pub const DYNAMIC_PEERS: usize = 10_000;

/// What all peers together may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Peers that may come by themselves from accepted prefixes; unless given, [`DYNAMIC_PEERS`] or as many as there are
    /// open files for.
    pub dynamic_peers: Option<usize>,
    /// Encoded octets that an update group keeps for members that have not read them yet; who is further behind is served
    /// from the table.
    pub shared_log_octets: usize,
    /// Withdrawn routes that are remembered for members that have not heard of it yet; beyond it the slowest go.
    pub withdrawn_routes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { dynamic_peers: None, shared_log_octets: 16 << 20, withdrawn_routes: 1 << 20 }
    }
}

impl Limits {
    fn of(file: &File, problems: &mut Problems) -> Self {
        let defaults = Self::default();
        let mut at_least = |value: Option<u64>, default: usize, least: u64, key: &str| {
            problems.require(value.is_none_or(|value| value >= least), || {
                format!("{key} is too small; give {least} or more")
            });
            value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
        };
        Self {
            dynamic_peers: file.max_dynamic_peers.map(|peers| at_least(Some(peers.into()), 1, 1, "max_dynamic_peers")),
            shared_log_octets: at_least(
                file.max_shared_log_octets,
                defaults.shared_log_octets,
                65_536,
                "max_shared_log_octets",
            ),
            withdrawn_routes: at_least(
                file.max_withdrawn_routes.map(u64::from),
                defaults.withdrawn_routes,
                1_024,
                "max_withdrawn_routes",
            ),
        }
    }
}

/// What the reflector runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Listening sockets.
    pub listen: Vec<SocketAddr>,
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Our cluster id.
    pub cluster_id: u32,
    /// Peers by address.
    pub peers: BTreeMap<IpAddr, Peer>,
    /// Accepted prefixes.
    pub accept: Vec<Accept>,
    /// What Nodes take.
    pub defaults: PeerSettings,
    /// The cluster whose Nodes are peers.
    pub cluster: Option<ClusterSettings>,
    /// Limits.
    pub limits: Limits,
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
        let pod = Pod::from_env().map_err(|error| ConfigError::Invalid(vec![error]))?;
        Self::merge(options, file, pod)
    }

    fn fixed_differences(&self, newer: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (differs, name) in [
            (self.listen != newer.listen, "listen"),
            (self.asn != newer.asn, "asn"),
            (self.router_id != newer.router_id, "router_id"),
            (self.cluster_id != newer.cluster_id, "cluster_id"),
            (self.limits != newer.limits, "max_*"),
            (self.http != newer.http, "http"),
            (self.control != newer.control, "control"),
            (self.cluster != newer.cluster, "kubernetes"),
        ] {
            if differs {
                names.push(name);
            }
        }
        names
    }
}

impl Settings {
    fn merge(options: &Options, file: File, pod: Pod) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let limits = Limits::of(&file, &mut problems);
        let cluster = cluster_settings(options, pod);
        let given = if options.listen.is_empty() { file.listen } else { options.listen.clone() };
        let listen = if given.is_empty() && cluster.is_some() { everywhere() } else { given };
        let asn = options.common.asn.or(file.asn).unwrap_or(65_000);
        problems.require(asn != 0, || "asn is 0; give 1 to 4294967295".into());
        let host_ip = cluster.as_ref().and_then(|cluster| cluster.pod.host_ip);
        let router_id = options.router_id.or(file.router_id).or_else(|| first_ipv4(&listen)).map(RouterId::from);
        let router_id = router_id.or_else(|| host_ip.map(reflector_id_of)).filter(|id| id.0 != 0);
        let router_id = router_id.unwrap_or_else(|| {
            problems.missing("no router id; give --router-id an IPv4 address that is unique in the fabric");
            RouterId(0)
        });
        file.defaults.check("[defaults]", &mut problems);
        let dialled = options.peer.iter().map(|address| (*address, PeerSettings::default()));
        let routers = options.router.iter().map(|router| router.peer());
        let peers = merge_peers(dialled.chain(routers), file.peer, &file.defaults, &mut problems);
        let accept = merge_accept(&options.accept, file.accept, &file.defaults, &mut problems);
        if cluster.is_none() && !listen.is_empty() && accept.is_empty() && peers.is_empty() {
            problems.missing("nobody may connect: give --accept PREFIX, --peer ADDR, --router ADDR or --kubernetes");
        }
        if listen.is_empty() && peers.is_empty() {
            problems.missing("nothing to do: give --listen ADDR:PORT to accept sessions, or --peer ADDR to dial");
        }
        let shared_id = cluster.as_ref().map(|_| CLUSTER_ID);
        let probed = cluster.as_ref().map(|_| (host_ip, HTTP_PORT));
        let asked = cluster.as_ref().map(|cluster| cluster.state.join("rr.sock"));
        let settings = Self {
            listen,
            asn: Asn(asn),
            router_id,
            cluster_id: options.cluster_id.or(file.cluster_id).or(shared_id).map_or(router_id.0, u32::from),
            peers,
            accept,
            defaults: file.defaults,
            limits,
            http: http::addresses(options.common.http.or(file.http), probed),
            control: options.common.control.clone().or(file.control).or(asked),
            cluster,
        };
        problems.finish(settings)
    }

    /// The accepted prefix that `address` falls into, longest first.
    pub fn accepts(&self, address: IpAddr) -> Option<&Accept> {
        self.accept
            .iter()
            .filter(|accept| accept.prefix.contains(&address))
            .max_by_key(|accept| accept.prefix.prefix_len())
    }
}

fn cluster_settings(options: &Options, pod: Pod) -> Option<ClusterSettings> {
    let source = match &options.kubeconfig {
        Some(path) => Source::Kubeconfig(path.clone()),
        None if options.kubernetes => Source::InCluster,
        None => return None,
    };
    let state = options.state.clone().unwrap_or_else(|| STATE.into());
    Some(ClusterSettings { source, pod, state })
}

/// All addresses of the host: a Node may connect to any of them. IPv6 where the kernel has it.
fn everywhere() -> Vec<SocketAddr> {
    let mut listen = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLUSTER_PORT))];
    if Path::new("/proc/net/if_inet6").exists() {
        listen.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, CLUSTER_PORT)));
    }
    listen
}

fn first_ipv4(listen: &[SocketAddr]) -> Option<Ipv4Addr> {
    listen.iter().find_map(|address| match address.ip() {
        IpAddr::V4(address) if !address.is_unspecified() && !address.is_loopback() => Some(address),
        _ => None,
    })
}

fn merge_accept(
    flags: &[IpNet],
    file: Vec<AcceptEntry>,
    defaults: &PeerSettings,
    problems: &mut Problems,
) -> Vec<Accept> {
    let from_flags = flags.iter().map(|prefix| (*prefix, PeerSettings::default()));
    let from_file = file.into_iter().map(|accept| (accept.prefix, accept.settings));
    let mut accept: Vec<Accept> = Vec::new();
    for (prefix, settings) in from_file.chain(from_flags) {
        let prefix = prefix.trunc();
        let place = format!("accept {prefix}");
        let settings = settings.or(defaults);
        settings.check(&place, problems);
        let key = settings.key(&place, problems);
        if accept.iter().any(|other| other.prefix == prefix) {
            problems.push(format!("{place}: given twice; keep one"));
        }
        accept.push(Accept { prefix, settings, key });
    }
    accept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(flags: &[&str], file: &str) -> Result<Settings, String> {
        let options =
            Options::try_parse_from(std::iter::once(&"megalos-rr").chain(flags)).map_err(|e| e.to_string())?;
        let file: File = toml::from_str(file).map_err(|e| e.to_string())?;
        Settings::merge(&options, file, Pod::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let settings = merged(
            &["--listen", "192.0.2.1:1179", "--asn", "65001", "--accept", "10.0.0.0/8"],
            "asn = 65002\nrouter_id = \"192.0.2.9\"\n",
        );
        let settings = settings.unwrap();
        assert_eq!((settings.asn, settings.router_id.to_string().as_str()), (Asn(65_001), "192.0.2.9"));
        assert_eq!(settings.cluster_id, settings.router_id.0);
    }

    #[test]
    fn one_flag_takes_several_values_in_every_way() {
        let ways: [&[&str]; 3] = [
            &["--accept", "10.0.0.0/8", "192.0.2.0/24", "--peer", "10.0.0.1,10.0.0.2:1179"],
            &["--accept", "10.0.0.0/8,192.0.2.0/24", "--peer", "10.0.0.1", "10.0.0.2:1179"],
            &["--accept", "10.0.0.0/8", "--accept", "192.0.2.0/24", "--peer", "10.0.0.1", "--peer", "10.0.0.2:1179"],
        ];
        for way in ways {
            let settings = merged(&[&["--listen", "192.0.2.1:179"], way].concat(), "").unwrap();
            assert_eq!((settings.accept.len(), settings.peers.len()), (2, 2), "{way:?}");
        }
    }

    #[test]
    fn only_what_is_given_nowhere_makes_a_configuration_incomplete() {
        let problem = |flags: &[&str]| {
            let options = Options::try_parse_from(std::iter::once(&"megalos-rr").chain(flags)).unwrap();
            Settings::merge(&options, File::default(), Pod::default()).unwrap_err()
        };
        assert!(matches!(problem(&["--router-id", "192.0.2.1"]), ConfigError::Incomplete(_)));
        assert!(matches!(problem(&["--listen", "192.0.2.1:179"]), ConfigError::Incomplete(_)));
        let wrong = ["--listen", "192.0.2.1:179", "--accept", "10.0.0.0/8", "--asn", "0"];
        assert!(matches!(problem(&wrong), ConfigError::Invalid(_)));
    }

    #[test]
    fn peers_take_the_defaults_that_they_leave_out() {
        let settings = merged(
            &["--router-id", "192.0.2.1"],
            "[defaults]\nhold_time_secs = 30\npassword = \"x\"\n[[peer]]\naddress = \"192.0.2.2:1179\"\nhold_time_secs = 6\n",
        );
        let settings = settings.unwrap();
        let peer = &settings.peers[&"192.0.2.2".parse::<IpAddr>().unwrap()];
        assert_eq!((peer.settings.hold_time_secs, peer.key.as_deref()), (Some(6), Some("x")));
    }

    #[test]
    fn a_router_may_announce_its_own_address_and_a_section_says_more() {
        let settings = merged(
            &["--router-id", "192.0.2.1", "--router", "198.51.100.1@64512,198.51.100.2"],
            "[[peer]]\naddress = \"198.51.100.3\"\nname = \"tor-3\"\nnext_hops = [\"203.0.113.3\"]\nvnis = [\"100-199\"]\n",
        );
        let settings = settings.unwrap();
        let peer = |address: &str| settings.peers[&address.parse::<IpAddr>().unwrap()].settings.clone();
        let hops = |address: &str| Some(vec![address.parse::<IpAddr>().unwrap()]);
        assert_eq!((peer("198.51.100.1").asn, peer("198.51.100.1").next_hops), (Some(64_512), hops("198.51.100.1")));
        assert_eq!((peer("198.51.100.2").asn, peer("198.51.100.2").next_hops), (None, hops("198.51.100.2")));
        assert_eq!(
            (peer("198.51.100.3").next_hops, peer("198.51.100.3").vnis.unwrap().len()),
            (hops("203.0.113.3"), 1)
        );
    }

    #[test]
    fn an_unknown_key_of_a_peer_is_refused() {
        let error = merged(&["--router-id", "192.0.2.1"], "[[peer]]\naddress = \"192.0.2.2\"\nhold = 6\n").unwrap_err();
        assert!(error.contains("hold"), "{error}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let error = merged(&["--asn", "0", "--peer", "192.0.2.2,192.0.2.2"], "[defaults]\nhold_time_secs = 2\n");
        let error = error.unwrap_err();
        for part in ["asn is 0", "no router id", "hold_time_secs is below 3", "given twice"] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }

    #[test]
    fn in_a_cluster_nothing_has_to_be_said() {
        let settings = |flags: &[&str], host_ip: Option<&str>| {
            let options = Options::try_parse_from(std::iter::once(&"megalos-rr").chain(flags)).unwrap();
            let pod = Pod { host_ip: host_ip.map(|ip| ip.parse().unwrap()), ..Pod::default() };
            Settings::merge(&options, File::default(), pod).map_err(|error| error.to_string())
        };
        let v4 = settings(&["--kubernetes"], Some("192.0.2.1")).unwrap();
        assert_eq!(v4.cluster_id, u32::from(CLUSTER_ID));
        assert_ne!(v4.router_id.to_string(), "192.0.2.1", "that is the worker's on the same node");
        assert_eq!(v4.http, ["192.0.2.1:9180", "127.0.0.1:9180"].map(|address| address.parse().unwrap()));
        assert_eq!(v4.control.as_deref(), Some(Path::new("/run/megalos/rr.sock")));
        assert!(v4.listen.contains(&"0.0.0.0:1179".parse().unwrap()));
        let v6 = settings(&["--kubernetes"], Some("2001:db8::1")).unwrap();
        let workers = daemon::speaker::router_id_of("2001:db8::1".parse().unwrap());
        assert!(![0, v4.router_id.0, workers.0].contains(&v6.router_id.0) && v6.cluster_id == v4.cluster_id);
        let outside = settings(&["--kubeconfig", "c", "--router-id", "192.0.2.9", "--state", "s"], None).unwrap();
        let cluster = outside.cluster.unwrap();
        assert_eq!((cluster.source, cluster.state), (Source::Kubeconfig("c".into()), "s".into()));
        assert!(settings(&["--kubernetes"], None).unwrap_err().contains("--router-id"));
        assert_eq!(settings(&["--listen", "192.0.2.1:179", "--peer", "192.0.2.2"], None).unwrap().cluster, None);
    }

    #[test]
    fn the_longest_accepted_prefix_wins() {
        let settings = merged(
            &["--listen", "192.0.2.1:179"],
            "[[accept]]\nprefix = \"10.0.0.0/8\"\n[[accept]]\nprefix = \"10.1.0.0/16\"\nasn = 65001\n",
        );
        let settings = settings.unwrap();
        let found = settings.accepts("10.1.2.3".parse().unwrap()).unwrap();
        assert_eq!(found.settings.asn, Some(65_001));
        assert!(settings.accepts("11.0.0.1".parse().unwrap()).is_none());
    }
}
