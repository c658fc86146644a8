//! The network configuration that comes on standard input (CNI specification, sections 1 and 3).
//!
//! In: bytes, and the parameters of `CNI_ARGS`. Out: a [`Config`] whose parts are valid, or an error that names the
//! field, its value and what is expected.
//!
//! Where MAC and addresses are asked for in several places, the first of these wins, as in the plugins of the CNI project:
//! `runtimeConfig` (a runtime's capability arguments), `args.cni` (the annotation's `cni-args`), `CNI_ARGS` (where
//! Multus puts the annotation's `mac` and `ips` whatever the configuration declares), the configuration itself.
//!
//! A key that nobody defines is refused with code 2, since it is most likely a misspelt one, and a LAN without the MTU
//! that somebody asked for is harder to find than an error. Keys that the specification reserves, that runtimes and Multus
//! add, and that bear a domain (`example.org/key`) pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::plugin::environment::{Args, Verb};
use crate::plugin::error::{PluginError, excerpt};
use crate::plugin::result::AddResult;
use crate::plugin::version::SpecVersion;
use crate::protocol::{Attachment, MAX_IPS};
use crate::types::{ContainerId, ErrorCode, InterfaceName, LanName, MacAddr, Mtu, Name, Vni};

/// Keys of this plugin.
const OUR_KEYS: [&str; 7] = ["vni", "mac", "ips", "mtu", "lan", "interface", "ipam"];

/// Keys that the specification, its conventions, runtimes and Multus define, whether or not they mean anything here.
const FOREIGN_KEYS: [&str; 16] = [
    "CNIDeviceInfoFile",
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "deviceID",
    "disableCheck",
    "disableGC",
    "dns",
    "ipMasq",
    "loadOnlyInlinedPlugins",
    "name",
    "pciBusID",
    "prevResult",
    "runtimeConfig",
    "type",
];

/// What the configuration asks for an interface (ADD and CHECK).
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// The LAN's number.
    pub vni: Vni,
    /// The LAN's human name.
    pub lan: LanName,
    /// The MAC address.
    pub mac: Option<MacAddr>,
    /// Addresses that were asked for, beside those of IPAM.
    pub ips: Vec<IpNet>,
    /// The MTU.
    pub mtu: Option<Mtu>,
    /// `dns` of the configuration, passed on in the result.
    pub dns: Option<Value>,
}

/// A network configuration, as far as a verb needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `cniVersion`.
    pub version: SpecVersion,
    /// `name`.
    pub network: Option<Name>,
    /// `interface`: a name that takes the place of `CNI_IFNAME`, for a chain whose first plugin has that.
    pub interface_name: Option<InterfaceName>,
    /// For ADD and CHECK.
    pub interface: Option<Interface>,
    /// `vni`, for GC.
    pub vni: Option<Vni>,
    /// `ipam.type`, where there is one.
    pub ipam: Option<String>,
    /// `prevResult`.
    pub previous: Option<AddResult>,
    /// `cni.dev/valid-attachments`, for GC; absent where nothing was said.
    pub valid: Option<BTreeSet<(ContainerId, InterfaceName)>>,
}

impl Config {
    /// Reads a configuration for `verb`. A DEL takes whatever it gets: what is not valid is left out.
    ///
    /// # Errors
    /// Code 1 for a version that is not spoken or has not got the verb, 2 for an unknown key, 6 for what is not JSON, 7 for
    /// what is not valid.
    pub fn parse(text: &[u8], verb: Verb, args: &Args) -> Result<Self, PluginError> {
        match serde_json::from_slice::<Value>(text) {
            Ok(Value::Object(object)) => Reader { object: &object, verb, args }.config(),
            _ if verb == Verb::Del => Reader { object: &Map::new(), verb, args }.config(),
            Ok(other) => Err(undecodable(&format!("{} where an object is expected", excerpt(&other)))),
            Err(error) => Err(undecodable(&error.to_string())),
        }
    }

    /// The version that an error object of this input bears: what it asks for, where that can be told.
    pub fn version_of(text: &[u8]) -> String {
        let object: Option<Value> = serde_json::from_slice(text).ok();
        let version = object.as_ref().and_then(|object| object.get("cniVersion")).and_then(Value::as_str);
        let sane = version.filter(|text| text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        sane.filter(|text| !text.is_empty()).unwrap_or(SpecVersion::NEWEST.as_str()).to_owned()
    }

    /// The attachment's identity: the container, and the interface's name inside it.
    pub fn attachment(&self, container: &crate::plugin::environment::Container) -> Attachment {
        Attachment {
            container_id: container.id.clone(),
            interface: self.interface_name.clone().unwrap_or_else(|| container.interface.clone()),
        }
    }
}

fn undecodable(cause: &str) -> PluginError {
    PluginError::new(
        ErrorCode::DECODE_FAILURE,
        "the network configuration cannot be decoded",
        format!("{cause}; it must be a JSON object on standard input"),
    )
}

/// One configuration being read.
struct Reader<'a> {
    object: &'a Map<String, Value>,
    verb: Verb,
    args: &'a Args,
}

impl Reader<'_> {
    fn config(&self) -> Result<Config, PluginError> {
        let version = self.lenient(self.version())?.unwrap_or(SpecVersion::NEWEST);
        if !version.has(self.verb) {
            return Err(PluginError::new(
                ErrorCode::INCOMPATIBLE_VERSION,
                format!("version {version} of the CNI specification has no {}", self.verb.as_str()),
                "give the network configuration a newer cniVersion: CHECK came with 0.4.0, GC and STATUS with 1.1.0",
            ));
        }
        if self.verb != Verb::Del {
            self.check_keys()?;
        }
        let is_about_one = matches!(self.verb, Verb::Add | Verb::Check);
        let needs_name = is_about_one || self.verb == Verb::Gc;
        let network = self.lenient(self.network())?.flatten();
        if needs_name && network.is_none() {
            return Err(self.absent("name", "the name of the network"));
        }
        let ipam = self.lenient(self.ipam())?.flatten();
        let interface = if is_about_one { Some(self.interface(network.as_ref(), ipam.is_some())?) } else { None };
        let previous = if is_about_one { self.previous()? } else { None };
        Ok(Config {
            version,
            interface_name: self.lenient(self.text("interface", "the interface's name"))?.flatten(),
            vni: if self.verb == Verb::Gc { Some(self.vni()?) } else { interface.as_ref().map(|found| found.vni) },
            valid: if self.verb == Verb::Gc { self.valid()? } else { None },
            network,
            interface,
            ipam,
            previous,
        })
    }

    /// Leaves out what a DEL cannot use.
    fn lenient<T>(&self, read: Result<T, PluginError>) -> Result<Option<T>, PluginError> {
        match read {
            Err(_) if self.verb == Verb::Del => Ok(None),
            other => other.map(Some),
        }
    }

    /// A value that was given; `null` is none.
    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn absent(&self, key: &str, what: &str) -> PluginError {
        PluginError::new(
            ErrorCode::INVALID_NETWORK_CONFIG,
            format!("`{key}` is missing"),
            format!("give the network configuration the key `{key}`: {what}"),
        )
    }

    /// Parses an optional text field into one of our types.
    fn text<T>(&self, key: &str, expected: &str) -> Result<Option<T>, PluginError>
    where
        T: std::str::FromStr<Err = crate::types::InvalidValue>,
    {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| PluginError::field(key, value, expected))?;
        text.parse().map(Some).map_err(|error| PluginError::field(key, value, format!("{expected}: {error}")))
    }

    /// Parses a number field into one of our types.
    fn number<T>(&self, key: &str, expected: &str) -> Result<Option<T>, PluginError>
    where
        T: TryFrom<u32, Error = crate::types::InvalidValue>,
    {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let parsed = number.and_then(|number| T::try_from(number).ok());
        parsed.map(Some).ok_or_else(|| PluginError::field(key, value, expected))
    }

    fn version(&self) -> Result<SpecVersion, PluginError> {
        let value = self.get("cniVersion").filter(|value| value.as_str() != Some(""));
        let Some(value) = value else {
            return Err(PluginError::new(
                ErrorCode::INCOMPATIBLE_VERSION,
                "`cniVersion` is missing",
                "give the network configuration `\"cniVersion\": \"1.1.0\"`; without one it is of version 0.1.0, which is \
                 not spoken",
            ));
        };
        value.as_str().and_then(SpecVersion::parse).ok_or_else(|| {
            let spoken: Vec<&str> = SpecVersion::ALL.iter().map(|version| version.as_str()).collect();
            PluginError::new(
                ErrorCode::INCOMPATIBLE_VERSION,
                format!("cniVersion {} is not spoken", excerpt(value)),
                format!("give the network configuration one of these: {}", spoken.join(", ")),
            )
        })
    }

    fn check_keys(&self) -> Result<(), PluginError> {
        let is_known = |key: &str| OUR_KEYS.contains(&key) || FOREIGN_KEYS.contains(&key) || key.contains('/');
        match self.object.iter().find(|(key, _)| !is_known(key)) {
            None => Ok(()),
            Some((key, value)) => Err(PluginError::new(
                ErrorCode::UNSUPPORTED_FIELD,
                format!("unsupported field {} with the value {}", excerpt(&Value::from(key.as_str())), excerpt(value)),
                format!(
                    "remove it from the network configuration, or correct it: the keys are {}",
                    OUR_KEYS.join(", ")
                ),
            )),
        }
    }

    fn network(&self) -> Result<Option<Name>, PluginError> {
        let expected = "a letter or digit, then letters, digits, '_', '.' and '-'";
        let name: Option<Name> = self.text("name", expected)?;
        let sound = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        match name {
            Some(name) if !sound(name.as_str()) => {
                Err(PluginError::field("name", &Value::from(name.as_str()), expected))
            }
            other => Ok(other),
        }
    }

    fn vni(&self) -> Result<Vni, PluginError> {
        let expected = "a number from 1 to 16777215";
        self.number("vni", expected)?.ok_or_else(|| self.absent("vni", &format!("the LAN's number, {expected}")))
    }

    /// The type of the IPAM plugin; an object without one asks for nothing.
    fn ipam(&self) -> Result<Option<String>, PluginError> {
        let expected = "an object with the key `type`, the file name of a plugin in CNI_PATH";
        let Some(value) = self.get("ipam") else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| PluginError::field("ipam", value, expected))?;
        let Some(kind) = object.get("type").filter(|kind| !kind.is_null()) else { return Ok(None) };
        let text = kind.as_str().ok_or_else(|| PluginError::field("ipam.type", kind, expected))?;
        let is_file_name = !text.contains(['/', '\0']) && text != "." && text != "..";
        match text {
            "" => Ok(None),
            _ if is_file_name => Ok(Some(text.to_owned())),
            _ => Err(PluginError::field("ipam.type", kind, expected)),
        }
    }

    fn interface(&self, network: Option<&Name>, has_ipam: bool) -> Result<Interface, PluginError> {
        let vni = self.vni()?;
        let lan = match self.text("lan", "the LAN's name")? {
            Some(lan) => lan,
            None => network.map_or("", Name::as_str).chars().take(200).collect::<String>().try_into().map_err(
                |error: crate::types::InvalidValue| self.absent("lan", &format!("the LAN's name ({error})")),
            )?,
        };
        Ok(Interface {
            vni,
            lan,
            mac: self.requested_mac()?,
            ips: self.requested_ips(has_ipam)?,
            mtu: self.number("mtu", "a number from 68 to 65535, at most what the underlay leaves room for")?,
            dns: self.get("dns").filter(|dns| dns.as_object().is_some_and(|dns| !dns.is_empty())).cloned(),
        })
    }

    /// A request in the places that runtimes use, the strongest first, each with its name.
    fn requests(&self, key: &str, argument: Option<&String>) -> Option<(String, Value)> {
        let runtime = self.get("runtimeConfig").and_then(|config| config.get(key)).cloned();
        let args = self.get("args").and_then(|args| args.get("cni")).and_then(|cni| cni.get(key)).cloned();
        let variable = if key == "mac" { "CNI_ARGS MAC" } else { "CNI_ARGS IP" };
        [
            (format!("runtimeConfig.{key}"), runtime),
            (format!("args.cni.{key}"), args),
            (variable.to_owned(), argument.map(|text| Value::from(text.as_str()))),
            (key.to_owned(), self.get(key).cloned()),
        ]
        .into_iter()
        .find_map(|(place, value)| Some((place, value.filter(is_given)?)))
    }

    fn requested_mac(&self) -> Result<Option<MacAddr>, PluginError> {
        let Some((place, value)) = self.requests("mac", self.args.mac.as_ref()) else { return Ok(None) };
        let expected = "a MAC address of one interface like 02:00:5e:00:53:01, neither a group's nor all zero";
        let mac = value.as_str().and_then(|text| text.parse().ok());
        mac.map(Some).ok_or_else(|| PluginError::field(&place, &value, expected))
    }

    /// An IPAM plugin reads the same requests: it may be asked for an address without a prefix length, which is then left
    /// to it.
    fn requested_ips(&self, has_ipam: bool) -> Result<Vec<IpNet>, PluginError> {
        let Some((place, value)) = self.requests("ips", self.args.ips.as_ref()) else { return Ok(Vec::new()) };
        let invalid = |value: &Value, expected: &str| PluginError::field(&place, value, expected);
        let texts: Vec<Value> = match &value {
            Value::String(text) => text.split(',').map(|part| Value::from(part.trim())).collect(),
            Value::Array(values) => values.clone(),
            _ => return Err(invalid(&value, "a list of addresses")),
        };
        if texts.len() > MAX_IPS {
            return Err(invalid(&value, &format!("at most {MAX_IPS} addresses")));
        }
        let expected = "addresses of one host with their prefix lengths, like 10.0.0.1/24 or fd00::1/64, each once";
        let mut ips: Vec<IpNet> = Vec::new();
        let is_for_ipam = |text: &Value| has_ipam && text.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok());
        for text in texts.iter().filter(|text| !is_for_ipam(text)) {
            let ip = text.as_str().and_then(|text| text.parse().ok()).filter(is_of_a_host);
            let ip = ip.filter(|ip: &IpNet| ips.iter().all(|other| other.addr() != ip.addr()));
            ips.push(ip.ok_or_else(|| invalid(text, expected))?);
        }
        Ok(ips)
    }

    fn previous(&self) -> Result<Option<AddResult>, PluginError> {
        let previous = self.get("prevResult");
        previous
            .map(|value| AddResult::parse(value).map_err(|cause| PluginError::field("prevResult", value, cause)))
            .transpose()
    }

    /// The attachments that the runtime still knows. No list, or `null`, says nothing about any.
    fn valid(&self) -> Result<Option<BTreeSet<(ContainerId, InterfaceName)>>, PluginError> {
        let Some(value) = self.get("cni.dev/valid-attachments") else { return Ok(None) };
        let expected = "a list of objects with containerID and ifname";
        let invalid = || PluginError::field("cni.dev/valid-attachments", value, expected);
        let read = |entry: &Value| {
            let text = |key| entry.get(key).and_then(Value::as_str);
            Some((text("containerID")?.parse().ok()?, text("ifname")?.parse().ok()?))
        };
        // One that cannot be read might be one that must stay.
        let all: Option<_> = value.as_array().ok_or_else(invalid)?.iter().map(read).collect();
        all.map(Some).ok_or_else(invalid)
    }
}

/// An empty list or text asks for nothing.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        _ => true,
    }
}

/// Whether an interface can have the address: neither unspecified nor loopback, multicast, broadcast or a subnet's own.
pub(crate) fn is_of_a_host(ip: &IpNet) -> bool {
    let address = ip.addr();
    let odd = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let ends = match ip {
        IpNet::V4(v4) if v4.prefix_len() < 31 => v4.addr() == v4.network() || v4.addr() == v4.broadcast(),
        _ => false,
    };
    !odd && !ends && ip.prefix_len() > 0
}
