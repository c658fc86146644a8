//! The options of a device: `device[option]=value`.
//!
//! Owns their types, their parsing and their printing as `lab.conf` values. Repeating a scalar, or the
//! key of a keyed option, replaces the earlier value; `exec` appends. Whether an option takes effect is
//! not judged here, but in [`super::not_acting`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::quote;
use super::text::{boolean, is_word_text, trim};
use super::values::{self, Cpus, Invalid, MemBytes};

/// Port on the host where `port` names none.
pub const DEFAULT_HOST_PORT: u16 = 3000;

/// Names of all options, as `lab.conf` spells them.
pub(super) const OPTION_NAMES: [&str; 16] = [
    "image",
    "mem",
    "cpus",
    "port",
    "bridged",
    "ipv6",
    "exec",
    "sysctl",
    "env",
    "ulimit",
    "volume",
    "shell",
    "num_terms",
    "privileged",
    "entrypoint",
    "args",
];

/// The options of a device. `None` and empty lists mean that the lab does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOptions {
    /// `image`: the container image.
    pub image: Option<String>,
    /// `mem`: limit on memory.
    pub mem: Option<MemBytes>,
    /// `cpus`: limit on processors.
    pub cpus: Option<Cpus>,
    /// `port`: ports published on the host, one per (host port, protocol).
    pub ports: Vec<Port>,
    /// `bridged`: an extra interface with address translation to the host's network.
    pub bridged: Option<bool>,
    /// `ipv6`.
    pub ipv6: Option<bool>,
    /// `exec`: commands to run when the startup scripts are done, in order.
    pub exec: Vec<String>,
    /// `sysctl`: in order of first mention, one per key.
    pub sysctls: Vec<Sysctl>,
    /// `env`: in order of first mention, one per name.
    pub env: Vec<EnvVar>,
    /// `ulimit`: in order of first mention, one per name.
    pub ulimits: Vec<Ulimit>,
    /// `volume`: in order of first mention, one per path in the device.
    pub volumes: Vec<Volume>,
    /// `shell`.
    pub shell: Option<String>,
    /// `num_terms`: terminals to open.
    pub num_terms: Option<u32>,
    /// `privileged`.
    pub privileged: Option<bool>,
    /// `entrypoint` of the image.
    pub entrypoint: Option<String>,
    /// `args` of the image's entrypoint.
    pub args: Option<String>,
    /// Options that nothing knows, in order of first mention, one per name.
    pub unknown: Vec<UnknownOption>,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port on the host; 0 is any free one.
    pub host: u16,
    /// Port in the device, 1 to 65535.
    pub guest: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// Protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A kernel setting of the device's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Dotted key; begins with `net.`; no part of its path is empty, `.` or `..`.
    pub key: String,
    /// Value as written, without blanks around it.
    pub value: String,
}

impl Sysctl {
    /// Its file below `/proc/sys`. As in `sysctl(8)`, a `/` in a dotted key is a dot of the name.
    pub fn path(&self) -> PathBuf {
        let parts = self.key.split('.');
        parts.map(|part| part.replace('/', ".")).collect()
    }
}

/// A variable of the environment of the device's shells and scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Word characters.
    pub name: String,
    /// Anything without quotes; may be empty.
    pub value: String,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name as in `limits.conf(5)`: `nofile`, `core`, …
    pub name: String,
    /// Soft limit, at most `hard`; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}

/// A path of the host shown inside the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Path on the host as written; see [`super::Lab::volume_source`].
    pub host: PathBuf,
    /// Absolute path in the device.
    pub guest: PathBuf,
    /// What the device may do there.
    pub mode: VolumeMode,
}

/// Access to a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeMode {
    /// Read.
    #[default]
    Ro,
    /// Read and write.
    Rw,
    /// Read and execute.
    Rx,
}

/// An option that nothing knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownOption {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What setting an option came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is set.
    Set,
    /// It is set, and the earlier value of this is gone.
    Replaced(String),
    /// Nothing knows the name; it is kept as unknown.
    Unknown,
}

impl DeviceOptions {
    /// Takes one `name=value` of `lab.conf`.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Invalid> {
        let outcome = match name {
            "image" => scalar(name, &mut self.image, value.to_owned()),
            "mem" => scalar(name, &mut self.mem, values::mem(value)?),
            "cpus" => scalar(name, &mut self.cpus, values::cpus(value)?),
            "bridged" => scalar(name, &mut self.bridged, parse_boolean(value)?),
            "ipv6" => scalar(name, &mut self.ipv6, parse_boolean(value)?),
            "shell" => scalar(name, &mut self.shell, parse_text(value, "a path")?),
            "num_terms" => scalar(name, &mut self.num_terms, values::num_terms(value)?),
            "privileged" => scalar(name, &mut self.privileged, parse_boolean(value)?),
            "entrypoint" => scalar(name, &mut self.entrypoint, value.to_owned()),
            "args" => scalar(name, &mut self.args, value.to_owned()),
            "exec" => {
                self.exec.push(value.to_owned());
                Outcome::Set
            }
            "port" => {
                keyed(&mut self.ports, values::port(value)?, |p| format!("port {}/{}", p.host, p.protocol.as_str()))
            }
            "sysctl" => keyed(&mut self.sysctls, values::sysctl(value)?, |s| format!("sysctl {}", s.key)),
            "env" => keyed(&mut self.env, parse_env(value)?, |e| format!("env {}", e.name)),
            "ulimit" => keyed(&mut self.ulimits, values::ulimit(value)?, |u| format!("ulimit {}", u.name)),
            "volume" => keyed(&mut self.volumes, values::volume(value)?, |v| format!("volume {}", v.guest.display())),
            _ => self.set_unknown(name, value),
        };
        Ok(outcome)
    }

    fn set_unknown(&mut self, name: &str, value: &str) -> Outcome {
        let option = UnknownOption { name: name.to_owned(), value: value.to_owned() };
        keyed(&mut self.unknown, option, |o| o.name.clone());
        Outcome::Unknown
    }

    /// All options as pairs of name and `lab.conf` value; setting them in this order yields this value.
    pub(super) fn entries(&self) -> Vec<(&str, String)> {
        let mut entries = Vec::new();
        let mut scalar = |name: &'static str, value: Option<String>| {
            entries.extend(value.map(|value| (name, value)));
        };
        let switch = |value: Option<bool>| value.map(|on| on.to_string());
        scalar("image", self.image.clone());
        scalar("mem", self.mem.map(|m| format!("{}b", m.0)));
        scalar("cpus", self.cpus.map(|c| c.to_string()));
        scalar("bridged", switch(self.bridged));
        scalar("ipv6", switch(self.ipv6));
        scalar("shell", self.shell.clone());
        scalar("num_terms", self.num_terms.map(|n| n.to_string()));
        scalar("privileged", switch(self.privileged));
        scalar("entrypoint", self.entrypoint.clone());
        scalar("args", self.args.clone());
        entries.extend(self.exec.iter().map(|e| ("exec", e.clone())));
        entries.extend(self.ports.iter().map(|p| ("port", values::show_port(*p))));
        let sysctls = self.sysctls.iter();
        entries.extend(sysctls.map(|s| ("sysctl", format!("{}={}", s.key, s.value))));
        let env = self.env.iter();
        entries.extend(env.map(|e| ("env", format!("{}={}", e.name, e.value))));
        let ulimits = self.ulimits.iter();
        entries.extend(ulimits.map(|u| ("ulimit", values::show_ulimit(u))));
        let volumes = self.volumes.iter();
        entries.extend(volumes.map(|v| ("volume", values::show_volume(v))));
        let unknown = self.unknown.iter();
        entries.extend(unknown.map(|o| (o.name.as_str(), o.value.clone())));
        entries
    }
}

/// The known option that `name` was most likely meant to be.
pub(super) fn likely_option(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let synonym = match lower.as_str() {
        "cpu" => Some("cpus"),
        "memory" | "ram" => Some("mem"),
        "ports" => Some("port"),
        "environment" | "envs" => Some("env"),
        "terms" | "terminals" => Some("num_terms"),
        "cmd" | "command" => Some("exec"),
        _ => None,
    };
    let near = || {
        let mut known = OPTION_NAMES.into_iter();
        known.find(|known| edits(known, &lower) <= known.len().saturating_sub(2).min(2))
    };
    synonym.or_else(near)
}

/// Edits (insert, delete, replace a character) that turn `left` into `right`.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, l) in left.chars().enumerate() {
        let mut last = line + 1;
        let mut next = vec![last];
        for (r, above) in right.chars().zip(row.windows(2)) {
            let [replaced, removed] = above else { continue };
            last = (replaced + usize::from(l != r)).min(removed + 1).min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn scalar<T>(name: &str, slot: &mut Option<T>, value: T) -> Outcome {
    match slot.replace(value) {
        None => Outcome::Set,
        Some(_) => Outcome::Replaced(name.to_owned()),
    }
}

/// Puts `item` in the place of the one with the same key, else at the end.
fn keyed<T>(list: &mut Vec<T>, item: T, key: impl Fn(&T) -> String) -> Outcome {
    let name = key(&item);
    match list.iter_mut().find(|other| key(other) == name) {
        Some(other) => {
            *other = item;
            Outcome::Replaced(name)
        }
        None => {
            list.push(item);
            Outcome::Set
        }
    }
}

fn parse_boolean(value: &str) -> Result<bool, Invalid> {
    boolean(value).ok_or_else(|| Invalid::new(quote(value), "y, yes, t, true, on, 1 or n, no, f, false, off, 0"))
}

fn parse_text(value: &str, expected: &'static str) -> Result<String, Invalid> {
    match trim(value) {
        "" => Err(Invalid::new(quote(value), expected)),
        text => Ok(text.to_owned()),
    }
}

fn parse_env(value: &str) -> Result<EnvVar, Invalid> {
    let parts = value.split_once('=');
    match parts.filter(|(name, _)| is_word_text(name)) {
        Some((name, value)) => Ok(EnvVar { name: name.to_owned(), value: value.to_owned() }),
        None => Err(Invalid::new(quote(value), "NAME=VALUE with a name of letters, digits and `_`")),
    }
}
