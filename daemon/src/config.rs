//! Settings of a BGP peer and how a configuration file is read and checked as a whole.
//!
//! A daemon's own file type lists its global keys and embeds [`PeerSettings`] in `[defaults]`, `[[peer]]` and
//! `[[accept]]`. A key that is not known is an error with its line; semantic errors are collected, so that one run names
//! all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bgp_core::types::ParseError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use crate::section::{AcceptEntry, PeerEntry};
pub use crate::vnis::VniRange;

/// The port of BGP (RFC 4271 section 4).
pub const BGP_PORT: u16 = 179;

/// Everything wrong with a configuration, at once.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; give --config a readable file")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown or ill-typed key; the text names line and column.
    #[error("{path}: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Position and cause.
        message: String,
    },
    /// Keys and flags contradict each other or are out of range.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// Something that must be given is not, and more may be wrong.
    #[error("{}", .0.join("\n"))]
    Incomplete(Vec<String>),
}

/// Reads a TOML file into `T`.
pub fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// Collects what is wrong, so that all of it is reported together.
#[derive(Debug, Default)]
pub struct Problems {
    texts: Vec<String>,
    missing: bool,
}

impl Problems {
    /// Notes one problem: what, and how to mend it.
    pub fn push(&mut self, problem: impl Into<String>) {
        self.texts.push(problem.into());
    }

    /// Notes that something which has no default is given nowhere.
    pub fn missing(&mut self, problem: impl Into<String>) {
        self.missing = true;
        self.push(problem);
    }

    /// Notes `problem` unless `holds`.
    pub fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.push(problem());
        }
    }

    /// `value` if nothing was noted.
    pub fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        match self {
            Self { texts, .. } if texts.is_empty() => Ok(value),
            Self { texts, missing: true } => Err(ConfigError::Incomplete(texts)),
            Self { texts, missing: false } => Err(ConfigError::Invalid(texts)),
        }
    }
}

/// `ADDR` or `ADDR:PORT`; IPv6 with a port in brackets. The port defaults to 179.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerAddress(pub SocketAddr);

impl FromStr for PeerAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self(socket));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Ok(Self(SocketAddr::new(address, BGP_PORT))),
            Err(_) => Err(ParseError {
                expected: "an address such as 192.0.2.1, 192.0.2.1:1179 or [2001:db8::1]:1179",
                found: text.chars().take(64).collect(),
            }),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How this speaker and a peer stand to each other (RFC 4271, RFC 4456).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// iBGP, reflected to and from everybody.
    Client,
    /// iBGP, reflected to and from clients only.
    NonClient,
    /// eBGP.
    External,
}

/// Which errors in an EVPN route end the session.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum EvpnErrors {
    /// A well-framed route with a bad body is withdrawn alone.
    #[default]
    Contain,
    /// It ends the session (RFC 7606 section 5.3).
    Strict,
}

/// What happens where routes of a family cannot be told apart (RFC 7606 section 5.3).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum UnreadableRoutes {
    /// The session ends.
    #[default]
    Reset,
    /// The family is ignored for the rest of the session, and its routes go; the session stays for the others.
    DisableFamily,
}

/// Settings of one peer. What is absent is taken from `[defaults]`, then from the built-in value.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// The peer's AS; default: our own, or any if the role is external.
    pub asn: Option<u32>,
    /// Client, non-client or external; default: external if the AS differs, else client for a reflector and
    /// non-client for a worker.
    pub role: Option<Role>,
    /// TCP-MD5 key (RFC 2385), 1 to 80 bytes.
    pub password: Option<String>,
    /// File that holds the key, read at start and on reload.
    pub password_file: Option<PathBuf>,
    /// Accept packets with TTL 255 only (RFC 5082).
    pub gtsm: Option<bool>,
    /// Never dial; wait for the peer.
    pub passive: Option<bool>,
    /// Local address of outgoing connections.
    pub local_address: Option<IpAddr>,
    /// Hold time in seconds: 0 or 3 to 65,535. Default 9.
    pub hold_time_secs: Option<u16>,
    /// Pause between connection attempts in seconds: 1 to 3,600. Default 1.
    pub connect_retry_secs: Option<u16>,
    /// How long nothing may leave before the session ends (RFC 9687), in seconds. Default: the larger of 480 and twice the
    /// hold time.
    pub send_hold_secs: Option<u32>,
    /// How long a connection may take to complete its OPEN, in seconds. Default 15.
    pub open_timeout_secs: Option<u16>,
    /// Graceful restart time that we advertise, in seconds: 1 to 4,095; 0 turns graceful restart off. Default 120.
    pub restart_time_secs: Option<u16>,
    /// The longest that the peer's routes are kept until it returns, in seconds, whatever it asks: 0 to 4,095. Default 4,095.
    pub restart_time_max_secs: Option<u16>,
    /// How long the peer is asked to keep our routes after the restart time, in seconds: 1 to 16,777,215; 0 turns
    /// long-lived graceful restart (RFC 9494) off in both directions. Default: 86,400 for a reflector, 600 for a worker, 0
    /// with external peers.
    pub long_lived_stale_secs: Option<u32>,
    /// The longest that the peer's routes are kept after its restart time, in seconds, whatever it asks: 0 to 16,777,215.
    /// Default 86,400.
    pub long_lived_stale_max_secs: Option<u32>,
    /// Longest pause after repeated failures, and the pause after a limit was exceeded, in seconds: 1 to 86,400. Default 60.
    pub idle_hold_max_secs: Option<u32>,
    /// EVPN routes accepted from the peer; beyond it the session ends with Cease 6/1. Default 1,000,000.
    pub max_routes: Option<u32>,
    /// The part of `max_routes` and `max_memberships` that is worth a warning, in percent: 1 to 100; 100 never warns.
    /// Default 75.
    pub max_routes_warning_percent: Option<u8>,
    /// Route target memberships accepted from the peer (RFC 4684); beyond it Cease 6/1. Default 100,000.
    pub max_memberships: Option<u32>,
    /// Distinct attribute sets of the peer's routes; beyond it Cease 6/8. Default 1,000,000.
    pub max_attribute_sets: Option<u32>,
    /// Memory that these sets take, in octets; beyond it Cease 6/8. Default 268,435,456.
    pub max_attribute_octets: Option<u64>,
    /// Values of the path attributes of one route, in octets: 64 to 65,535; larger routes are treated as withdrawn. Default
    /// 65,535.
    pub max_route_attribute_octets: Option<u32>,
    /// What a bad EVPN route body does. Default `contain`.
    pub evpn_errors: Option<EvpnErrors>,
    /// What routes do that cannot be told apart. Default `reset`.
    pub unreadable_routes: Option<UnreadableRoutes>,
    /// Keep and reflect EVPN route types that are not known. Default false.
    pub unknown_route_types: Option<bool>,
    /// Types of path attributes that are not understood, and dropped instead of being passed along. Default: none.
    pub strip_attributes: Option<Vec<u8>>,
    /// The EVPN route types that the peer is sent, each once or more. Default: all.
    pub route_types: Option<Vec<u8>>,
    /// What people call the peer, in logs and `show peers`. Default: none.
    pub name: Option<String>,
    /// Addresses that the peer's routes may carry as next hop, as originator of types 3 and 4, and as PMSI endpoint; other
    /// routes are treated as withdrawn. Default: any.
    pub next_hops: Option<Vec<IpAddr>>,
    /// VNIs that the peer may announce by label and by route target; other routes are treated as withdrawn. Default: any.
    pub vnis: Option<Vec<VniRange>>,
}

impl PeerSettings {
    /// These settings where present, those of `defaults` elsewhere.
    pub fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        // A key given here must not meet the file of the defaults, and the other way round.
        let (password, password_file) = match (self.password, self.password_file) {
            (None, None) => (defaults.password, defaults.password_file),
            own => own,
        };
        Self {
            asn: self.asn.or(defaults.asn),
            role: self.role.or(defaults.role),
            password,
            password_file,
            gtsm: self.gtsm.or(defaults.gtsm),
            passive: self.passive.or(defaults.passive),
            local_address: self.local_address.or(defaults.local_address),
            hold_time_secs: self.hold_time_secs.or(defaults.hold_time_secs),
            connect_retry_secs: self.connect_retry_secs.or(defaults.connect_retry_secs),
            send_hold_secs: self.send_hold_secs.or(defaults.send_hold_secs),
            open_timeout_secs: self.open_timeout_secs.or(defaults.open_timeout_secs),
            restart_time_secs: self.restart_time_secs.or(defaults.restart_time_secs),
            restart_time_max_secs: self.restart_time_max_secs.or(defaults.restart_time_max_secs),
            long_lived_stale_secs: self.long_lived_stale_secs.or(defaults.long_lived_stale_secs),
            long_lived_stale_max_secs: self.long_lived_stale_max_secs.or(defaults.long_lived_stale_max_secs),
            idle_hold_max_secs: self.idle_hold_max_secs.or(defaults.idle_hold_max_secs),
            max_routes: self.max_routes.or(defaults.max_routes),
            max_routes_warning_percent: self.max_routes_warning_percent.or(defaults.max_routes_warning_percent),
            max_memberships: self.max_memberships.or(defaults.max_memberships),
            max_attribute_sets: self.max_attribute_sets.or(defaults.max_attribute_sets),
            max_attribute_octets: self.max_attribute_octets.or(defaults.max_attribute_octets),
            max_route_attribute_octets: self.max_route_attribute_octets.or(defaults.max_route_attribute_octets),
            evpn_errors: self.evpn_errors.or(defaults.evpn_errors),
            unreadable_routes: self.unreadable_routes.or(defaults.unreadable_routes),
            unknown_route_types: self.unknown_route_types.or(defaults.unknown_route_types),
            strip_attributes: self.strip_attributes.or(defaults.strip_attributes),
            route_types: self.route_types.or(defaults.route_types),
            name: self.name.or(defaults.name),
            next_hops: self.next_hops.or(defaults.next_hops),
            vnis: self.vnis.or(defaults.vnis),
        }
    }

    /// Notes what is out of range. `place` names the peer in the messages.
    pub fn check(&self, place: &str, problems: &mut Problems) {
        problems.require(self.asn != Some(0), || format!("{place}: asn is 0; give 1 to 4294967295"));
        problems.require(!matches!(self.hold_time_secs, Some(1 | 2)), || {
            format!("{place}: hold_time_secs is below 3; give 0 (no keepalives) or 3 to 65535")
        });
        problems.require(!matches!(self.connect_retry_secs, Some(0) | Some(3601..)), || {
            format!("{place}: connect_retry_secs is out of range; give 1 to 3600")
        });
        problems
            .require(self.open_timeout_secs != Some(0), || format!("{place}: open_timeout_secs is 0; give 1 to 65535"));
        problems.require(!matches!(self.restart_time_secs, Some(4096..)), || {
            format!("{place}: restart_time_secs is above 4095; give 0 (off) to 4095")
        });
        problems.require(!matches!(self.restart_time_max_secs, Some(4096..)), || {
            format!("{place}: restart_time_max_secs is above 4095; give 0 to 4095")
        });
        for (key, secs) in [
            ("long_lived_stale_secs", self.long_lived_stale_secs),
            ("long_lived_stale_max_secs", self.long_lived_stale_max_secs),
        ] {
            problems.require(secs.unwrap_or(0) < 1 << 24, || {
                format!("{place}: {key} is above 16777215; give 0 to 16777215")
            });
        }
        let alone = self.restart_time_secs == Some(0) && self.long_lived_stale_secs.is_some_and(|secs| secs > 0);
        problems.require(!alone, || {
            format!(
                "{place}: long_lived_stale_secs without graceful restart; give restart_time_secs 1 to 4095, or both 0"
            )
        });
        problems.require(self.send_hold_secs != Some(0), || format!("{place}: send_hold_secs is 0; give 1 or more"));
        self.check_limits(place, problems);
        let understood = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 22, 25, 32];
        for kind in self.strip_attributes.iter().flatten() {
            problems.require(!understood.contains(kind), || {
                format!("{place}: strip_attributes names {kind}, which is understood here and stays; leave it out")
            });
        }
        problems.require(self.route_types.as_ref().is_none_or(|types| !types.is_empty()), || {
            format!("{place}: route_types is empty, so the peer would be sent nothing; name types, for instance [2, 3]")
        });
        for (is_empty, key) in [
            (self.next_hops.as_ref().is_some_and(Vec::is_empty), "next_hops"),
            (self.vnis.as_ref().is_some_and(Vec::is_empty), "vnis"),
        ] {
            problems.require(!is_empty, || {
                format!("{place}: {key} is empty, so the peer could announce nothing; leave it out to allow any")
            });
        }
        let fit = |name: &String| (1..=253).contains(&name.len()) && !name.chars().any(char::is_control);
        problems.require(self.name.as_ref().is_none_or(fit), || {
            format!("{place}: name is empty, longer than 253 bytes, or has control characters; give a shorter text")
        });
        if let Some(password) = &self.password {
            problems.require((1..=80).contains(&password.len()), || {
                format!("{place}: password has {} bytes; TCP-MD5 takes 1 to 80", password.len())
            });
            problems.require(self.password_file.is_none(), || {
                format!("{place}: password and password_file exclude each other; keep one")
            });
        }
    }

    fn check_limits(&self, place: &str, problems: &mut Problems) {
        for (is_zero, key) in [
            (self.max_routes == Some(0), "max_routes"),
            (self.max_memberships == Some(0), "max_memberships"),
            (self.max_attribute_sets == Some(0), "max_attribute_sets"),
            (self.max_attribute_octets == Some(0), "max_attribute_octets"),
        ] {
            problems.require(!is_zero, || format!("{place}: {key} is 0; give 1 or more"));
        }
        let within =
            |value: Option<u32>, range: std::ops::RangeInclusive<u32>| value.is_none_or(|v| range.contains(&v));
        problems.require(within(self.max_routes_warning_percent.map(u32::from), 1..=100), || {
            format!("{place}: max_routes_warning_percent is out of range; give 1 to 100")
        });
        problems.require(within(self.max_route_attribute_octets, 64..=65_535), || {
            format!("{place}: max_route_attribute_octets is out of range; give 64 to 65535")
        });
        problems.require(within(self.idle_hold_max_secs, 1..=86_400), || {
            format!("{place}: idle_hold_max_secs is out of range; give 1 to 86400")
        });
    }

    /// The TCP-MD5 key, read from its file if it stands in one; trailing line ends are not part of it.
    pub fn key(&self, place: &str, problems: &mut Problems) -> Option<String> {
        let Some(path) = &self.password_file else {
            return self.password.clone();
        };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let key = text.trim_end_matches(['\r', '\n']).to_owned();
                problems.require((1..=80).contains(&key.len()), || {
                    format!("{place}: {} holds {} bytes; TCP-MD5 takes 1 to 80", path.display(), key.len())
                });
                Some(key)
            }
            Err(error) => {
                problems.push(format!("{place}: cannot read password_file {}: {error}", path.display()));
                None
            }
        }
    }
}

/// A peer that is dialled (or waited for, if passive).
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// How the session is run.
    pub settings: PeerSettings,
    /// TCP-MD5 key.
    pub key: Option<String>,
}

/// Peers of the file and of the flags, completed by `defaults` and checked.
pub fn merge_peers(
    flags: impl IntoIterator<Item = (PeerAddress, PeerSettings)>,
    file: Vec<PeerEntry>,
    defaults: &PeerSettings,
    problems: &mut Problems,
) -> BTreeMap<IpAddr, Peer> {
    let from_file = file.into_iter().map(|peer| (peer.address, peer.settings));
    let mut peers = BTreeMap::new();
    for (address, settings) in from_file.chain(flags) {
        let place = format!("peer {address}");
        let settings = settings.or(defaults);
        settings.check(&place, problems);
        let key = settings.key(&place, problems);
        if peers.insert(address.0.ip(), Peer { address: address.0, settings, key }).is_some() {
            problems.push(format!("{place}: given twice; keep one"));
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_port() {
        let port = |text: &str| text.parse::<PeerAddress>().map(|address| address.0.to_string());
        assert_eq!(port("192.0.2.1").unwrap(), "192.0.2.1:179");
        assert_eq!(port("192.0.2.1:1179").unwrap(), "192.0.2.1:1179");
        assert_eq!(port("2001:db8::1").unwrap(), "[2001:db8::1]:179");
        assert_eq!(port("[2001:db8::1]").unwrap(), "[2001:db8::1]:179");
        assert_eq!(port("[2001:db8::1]:5").unwrap(), "[2001:db8::1]:5");
        assert!(port("router.example").unwrap_err().to_string().contains("router.example"));
    }

    #[test]
    fn what_a_peer_may_announce_is_never_nothing_by_mistake() {
        let problems = |text: &str| {
            let settings: PeerSettings = parse(Path::new("m.toml"), text).unwrap();
            let mut problems = Problems::default();
            settings.check("peer 192.0.2.1", &mut problems);
            problems.finish(()).err().map(|error| error.to_string())
        };
        assert_eq!(problems("next_hops = [\"192.0.2.1\", \"2001:db8::1\"]\nvnis = [100, \"200-299\"]\n"), None);
        for key in ["next_hops", "vnis"] {
            let text = problems(&format!("{key} = []\n")).unwrap();
            assert!(text.contains(key) && text.contains("leave it out"), "{text}");
        }
        for name in [String::new(), "x".repeat(254), "a\\tb".into()] {
            assert!(problems(&format!("name = \"{name}\"\n")).unwrap().contains("name"), "{name}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse::<PeerSettings>(Path::new("m.toml"), "gtsm = true\nholdtime = 3\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("line 2") && text.contains("holdtime"), "{text}");
    }

    #[test]
    fn all_problems_are_named_together() {
        let settings = PeerSettings {
            asn: Some(0),
            hold_time_secs: Some(1),
            send_hold_secs: Some(0),
            route_types: Some(Vec::new()),
            ..Default::default()
        };
        let mut problems = Problems::default();
        settings.check("peer 192.0.2.1", &mut problems);
        let text = problems.finish(()).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn a_key_of_a_peer_hides_the_file_of_the_defaults() {
        let defaults = PeerSettings { password_file: Some("/none".into()), ..Default::default() };
        let settings = PeerSettings { password: Some("secret".into()), ..Default::default() }.or(&defaults);
        let mut problems = Problems::default();
        assert_eq!(settings.key("p", &mut problems).as_deref(), Some("secret"));
        assert!(problems.finish(()).is_ok());
    }

    #[test]
    fn a_key_file_of_a_peer_hides_the_key_of_the_defaults() {
        let defaults = PeerSettings { password: Some("secret".into()), ..Default::default() };
        let settings = PeerSettings { password_file: Some("/key".into()), ..Default::default() }.or(&defaults);
        let mut problems = Problems::default();
        settings.check("p", &mut problems);
        assert!(problems.finish(()).is_ok());
        assert_eq!((settings.password, settings.password_file), (None, Some("/key".into())));
    }

    #[test]
    fn an_unknown_key_of_a_section_is_refused_with_its_own_line() {
        #[derive(Debug, Deserialize)]
        struct File {
            peer: Vec<PeerEntry>,
            accept: Vec<AcceptEntry>,
        }
        let error = |text: &str| parse::<File>(Path::new("m.toml"), text).unwrap_err().to_string();
        let accept = "[[accept]]\nprefix = \"10.0.0.0/8\"\n";
        let text = error(&format!("{accept}[[peer]]\naddress = \"10.0.0.1\"\ngtsm = true\nholdtime = 3\n"));
        assert!(text.contains("line 6") && text.contains("holdtime"), "{text}");
        let text = error(&format!("{accept}[[peer]]\naddress = \"10.0.0.1\"\ngtsm = 7\n"));
        assert!(text.contains("line 5") && text.contains("boolean"), "{text}");
        let text = error(&format!("{accept}[[peer]]\ngtsm = true\naddress = \"ten\"\n"));
        assert!(text.contains("line 5") && text.contains("192.0.2.1:1179"), "{text}");
        let text = error(&format!("{accept}[[peer]]\ngtsm = true\n"));
        assert!(text.contains("address"), "{text}");
        let right = format!("{accept}gtsm = true\n[[peer]]\ngtsm = true\naddress = \"10.0.0.1\"\nasn = 7\n");
        let file = parse::<File>(Path::new("m.toml"), &right).unwrap();
        assert_eq!((file.peer[0].settings.asn, file.peer[0].settings.gtsm), (Some(7), Some(true)));
        assert_eq!((file.peer[0].address.0.port(), file.accept[0].settings.gtsm), (BGP_PORT, Some(true)));
    }
}
