//! Values of options that have a grammar of their own: sizes, ports, sysctls, limits, volumes.
//!
//! In: the value's text. Out: a typed value, or [`Invalid`] saying what was found and expected; and the
//! way back to text.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::quote;
use super::options::{DEFAULT_HOST_PORT, Port, Protocol, Sysctl, Ulimit, Volume, VolumeMode};
use super::text::{Integer, integer, is_blank, is_word, is_word_text, trim};

/// Billionths of a processor in one.
const NANO: u64 = 1_000_000_000;

/// Most processors that `cpus` can ask for.
const CPUS_MAX: f64 = 1_000_000.0;

/// Names that `ulimit` can take effect for.
pub(super) const ULIMIT_NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A value is out of its option's range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub found: String,
    pub expected: &'static str,
}

impl Invalid {
    pub(super) fn new(found: String, expected: &'static str) -> Self {
        Self { found, expected }
    }
}

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemBytes(pub u64);

/// An amount of processor time per time, in billionths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cpus {
    /// Billionths of a processor.
    pub nanos: u64,
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.nanos / NANO, self.nanos % NANO)
    }
}

impl Protocol {
    /// Its name as `lab.conf` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

pub(super) fn mem(value: &str) -> Result<MemBytes, Invalid> {
    let invalid = || Invalid::new(quote(value), "a whole number and b, k, m or g, as in `64m`");
    let text = trim(value);
    let (number, unit) = match text.chars().last().map(|c| c.to_ascii_lowercase()) {
        Some('b') => (text.strip_suffix(['b', 'B']), 1),
        Some('k') => (text.strip_suffix(['k', 'K']), 1 << 10),
        Some('m') => (text.strip_suffix(['m', 'M']), 1 << 20),
        Some('g') => (text.strip_suffix(['g', 'G']), 1 << 30),
        _ => (Some(text), 1 << 20),
    };
    let bytes = number.and_then(unsigned).and_then(|number| number.checked_mul(unit));
    bytes.map(MemBytes).ok_or_else(invalid)
}

pub(super) fn cpus(value: &str) -> Result<Cpus, Invalid> {
    let invalid = || Invalid::new(quote(value), "a number of processors, as in `0.5`");
    let digits = without_digit_underscores(trim(value));
    let number: f64 = digits.parse().map_err(|_| invalid())?;
    if !(0.0..=CPUS_MAX).contains(&number) {
        return Err(invalid());
    }
    // In range, so the cast neither wraps nor saturates.
    let nanos = (number * NANO as f64).round() as u64;
    Ok(Cpus { nanos })
}

pub(super) fn num_terms(value: &str) -> Result<u32, Invalid> {
    let number = unsigned(value).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Invalid::new(quote(value), "a whole number, 0 or more"))
}

pub(super) fn port(value: &str) -> Result<Port, Invalid> {
    let invalid =
        || Invalid::new(quote(value), "[HOST:]GUEST[/PROTOCOL] with ports 1 to 65535 and protocol tcp, udp or sctp");
    let (ports, protocol) = match value.split_once('/') {
        Some((ports, protocol)) => (ports, parse_protocol(protocol).ok_or_else(invalid)?),
        None => (value, Protocol::Tcp),
    };
    let (host, guest) = match ports.split_once(':') {
        Some((host, guest)) => (port_number(host), guest_port(guest)),
        None => (Some(DEFAULT_HOST_PORT), guest_port(ports)),
    };
    match (host, guest) {
        (Some(host), Some(guest)) => Ok(Port { host, guest, protocol }),
        _ => Err(invalid()),
    }
}

pub(super) fn show_port(port: Port) -> String {
    format!("{}:{}/{}", port.host, port.guest, port.protocol.as_str())
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    match text.to_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn port_number(text: &str) -> Option<u16> {
    u16::try_from(unsigned(text)?).ok()
}

fn guest_port(text: &str) -> Option<u16> {
    port_number(text).filter(|port| *port > 0)
}

pub(super) fn sysctl(value: &str) -> Result<Sysctl, Invalid> {
    let invalid = || {
        Invalid::new(
            quote(value),
            "net.KEY=VALUE: only settings below `net.` belong to a device, and the value holds no `=`",
        )
    };
    let (key, value) = value.split_once('=').ok_or_else(invalid)?;
    let (key, value) = (trim(key), trim(value));
    if value.is_empty() || value.contains('=') || !is_sysctl_key(key) {
        return Err(invalid());
    }
    Ok(Sysctl { key: key.to_owned(), value: value.to_owned() })
}

/// Two parts or more, the first `net`, none of which could lead out of `/proc/sys/net`.
fn is_sysctl_key(key: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| is_word(c) || matches!(c, '-' | '/'))
            && !part.chars().all(|c| c == '/')
    };
    key.strip_prefix("net.").is_some_and(|rest| rest.split('.').all(is_part))
}

pub(super) fn ulimit(value: &str) -> Result<Ulimit, Invalid> {
    let invalid = |expected| Invalid::new(quote(value), expected);
    let form = "NAME=SOFT[:HARD], each a whole number or -1 for unlimited, as in `nofile=1024:2048`";
    let (name, limits) = value.split_once('=').ok_or_else(|| invalid(form))?;
    let name = trim(name);
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = match (limit(soft), limit(hard)) {
        (Some(soft), Some(hard)) if is_word_text(name) => (soft, hard),
        _ => return Err(invalid(form)),
    };
    let soft = match (soft, hard) {
        (None, Some(_)) => {
            return Err(invalid("a soft limit within the hard one: -1 is unlimited"));
        }
        (Some(soft), Some(hard)) => Some(soft.min(hard)),
        (soft, None) => soft,
    };
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

pub(super) fn show_ulimit(ulimit: &Ulimit) -> String {
    let show = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
    let (soft, hard) = (show(ulimit.soft), show(ulimit.hard));
    format!("{}={soft}:{hard}", ulimit.name)
}

/// `Some(None)` is unlimited.
fn limit(text: &str) -> Option<Option<u64>> {
    match integer(text)? {
        Integer::Value(-1) => Some(None),
        Integer::Value(value) => u64::try_from(value).ok().map(Some),
        Integer::TooLarge => None,
    }
}

pub(super) fn volume(value: &str) -> Result<Volume, Invalid> {
    let invalid =
        || Invalid::new(quote(value), "HOST|GUEST[|MODE] with an absolute path in the device and mode ro, rw or rx");
    let mut parts = value.split('|').map(trim);
    let (host, guest) = (parts.next(), parts.next());
    let mode = match parts.next() {
        None => VolumeMode::default(),
        Some("ro") => VolumeMode::Ro,
        Some("rw") => VolumeMode::Rw,
        Some("rx") => VolumeMode::Rx,
        Some(_) => return Err(invalid()),
    };
    match (host, guest, parts.next()) {
        (Some(host), Some(guest), None) if !host.is_empty() && guest.starts_with('/') => {
            Ok(Volume { host: PathBuf::from(host), guest: PathBuf::from(guest), mode })
        }
        _ => Err(invalid()),
    }
}

pub(super) fn show_volume(volume: &Volume) -> String {
    let mode = match volume.mode {
        VolumeMode::Ro => "ro",
        VolumeMode::Rw => "rw",
        VolumeMode::Rx => "rx",
    };
    // Both paths came from UTF-8 text.
    let (host, guest) = (volume.host.display(), volume.guest.display());
    format!("{host}|{guest}|{mode}")
}

fn unsigned(text: &str) -> Option<u64> {
    match integer(text)? {
        Integer::Value(value) => u64::try_from(value).ok(),
        Integer::TooLarge => None,
    }
}

/// `text` without underscores that stand between two ASCII digits.
fn without_digit_underscores(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let between =
            clean.ends_with(|last: char| last.is_ascii_digit()) && rest.peek().is_some_and(char::is_ascii_digit);
        if c != '_' || !between {
            clean.push(c);
        }
    }
    clean
}

/// What a bare value picked up that its author hardly meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    /// A comment.
    Comment,
    /// Blanks at an end.
    Blank,
}

/// Looks for what the author of a value without quotes hardly meant to be in it.
pub(super) fn stray(value: &str) -> Option<Stray> {
    let mut before = None;
    for c in value.chars() {
        if c == '#' && before.is_some_and(is_blank) {
            return Some(Stray::Comment);
        }
        before = Some(c);
    }
    (trim(value) != value).then_some(Stray::Blank)
}
