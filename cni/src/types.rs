//! The validated parts of messages: what has been parsed once is right from
//! then on, on either side of the socket.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a value that a message carries is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: expected {expected}")]
pub struct InvalidValue {
    what: &'static str,
    value: String,
    expected: &'static str,
}

impl InvalidValue {
    fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        // What a stranger sent is quoted only in part.
        let value = value.chars().take(64).collect();
        Self { what, value, expected }
    }
}

/// Gives a string newtype its accessor, `Display` and conversions.
macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;
            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

/// The runtime's name of a pod sandbox: a letter or digit, then letters,
/// digits, `_`, `.` and `-` (CNI specification, parameter `CNI_CONTAINERID`);
/// 1 to 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

text_newtype!(ContainerId);

impl TryFrom<String> for ContainerId {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let first_is_fine = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest_is_fine = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if first_is_fine && rest_is_fine && text.len() <= 253 {
            return Ok(Self(text));
        }
        Err(InvalidValue::new(
            "container id",
            &text,
            "a letter or digit, then letters, digits, '_', '.' and '-', at most 253",
        ))
    }
}

/// The name of a network interface as the kernel accepts it: 1 to 15 printable
/// ASCII characters without `/`, `:`, `%` and white space, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

text_newtype!(InterfaceName);

impl TryFrom<String> for InterfaceName {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let characters = text.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
        let length = (1..=15).contains(&text.len());
        if characters && length && text != "." && text != ".." {
            return Ok(Self(text));
        }
        Err(InvalidValue::new("interface name", &text, "1 to 15 printable characters without '/', ':', '%' and spaces"))
    }
}

/// The human name of a LAN, written on its devices as their alias: 1 to 200
/// bytes without control characters (the kernel's limit for an alias is 255,
/// and the worker keeps the rest for itself).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LanName(String);

text_newtype!(LanName);

impl TryFrom<String> for LanName {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let length = (1..=200).contains(&text.len());
        if length && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(InvalidValue::new("LAN name", &text, "1 to 200 bytes without control characters"))
    }
}

/// A name that another program gave: of a network configuration, a Kubernetes
/// namespace or a pod; 1 to 253 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

text_newtype!(Name);

impl TryFrom<String> for Name {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        if (1..=253).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(InvalidValue::new("name", &text, "1 to 253 bytes without control characters"))
    }
}

/// The path of a pod's network namespace: absolute, at most 1024 bytes, without
/// control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxPath(String);

text_newtype!(SandboxPath);

impl TryFrom<String> for SandboxPath {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        if text.starts_with('/') && text.len() <= 1_024 && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(InvalidValue::new("network namespace", &text, "an absolute path of at most 1024 bytes"))
    }
}

/// Gives a bounded number its accessor, `Display` and conversions.
macro_rules! number_newtype {
    ($name:ident, $what:literal, $range:expr, $expected:literal) => {
        impl $name {
            /// The number.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$name> for u32 {
            fn from(value: $name) -> u32 {
                value.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = InvalidValue;
            fn try_from(number: u32) -> Result<Self, InvalidValue> {
                if $range.contains(&number) {
                    return Ok(Self(number));
                }
                Err(InvalidValue::new($what, &number.to_string(), $expected))
            }
        }
    };
}

/// A VXLAN network identifier (RFC 7348 section 5): 1 to 16777215. Zero is
/// never the number of a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

number_newtype!(Vni, "VNI", (1..=0xff_ffff), "1 to 16777215");

/// The MTU of a LAN interface in bytes of layer-3 payload: 68 (RFC 791) to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

number_newtype!(Mtu, "MTU", (68..=65_535), "68 to 65535");

/// The MAC address of one interface: never a group address, never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The six octets in the order of transmission.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<[u8; 6]> for MacAddr {
    type Error = InvalidValue;
    fn try_from(octets: [u8; 6]) -> Result<Self, InvalidValue> {
        let [first, ..] = octets;
        if first & 1 == 0 && octets != [0; 6] {
            return Ok(Self(octets));
        }
        Err(InvalidValue::new(
            "MAC address",
            &Self(octets).to_string(),
            "an address of one interface, neither a group address nor all zero",
        ))
    }
}

impl FromStr for MacAddr {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let malformed = || InvalidValue::new("MAC address", text, "six octets like 02:00:5e:00:53:01");
        let mut octets = [0_u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(malformed)?;
            let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if !digits {
                return Err(malformed());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        Self::try_from(octets)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An error code of the CNI specification (section "Error"); those from 100 on
/// belong to the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The version of the request is not understood.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// A field of the network configuration is not supported.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// The container is unknown or does not exist.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A parameter (container id, interface name, descriptors) is not valid.
    pub const INVALID_PARAMETERS: Self = Self(4);
    /// Reading or writing failed.
    pub const IO_FAILURE: Self = Self(5);
    /// The message cannot be decoded.
    pub const DECODE_FAILURE: Self = Self(6);
    /// The network configuration is not valid.
    pub const INVALID_NETWORK_CONFIG: Self = Self(7);
    /// Something is not ready yet: the runtime should try again.
    pub const TRY_AGAIN_LATER: Self = Self(11);
    /// The plugin cannot serve additions (verb STATUS).
    pub const NOT_AVAILABLE: Self = Self(50);
    /// As [`Self::NOT_AVAILABLE`], and existing pods may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: Self = Self(51);
    /// The worker failed; `details` names the cause.
    pub const INTERNAL: Self = Self(100);
    /// An attachment is not as it was made (verb CHECK).
    pub const CHECK_FAILED: Self = Self(101);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_of_one_interface_are_taken_and_others_refused() {
        let mac: MacAddr = "2:0:5E:00:53:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:00:53:01");
        for wrong in ["", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "02-00-5e-00-53-01"] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
        for wrong in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "+2:0:0:0:0:1"] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for right in ["eth0", "e", "fifteen-letters"] {
            assert!(right.parse::<InterfaceName>().is_ok(), "{right}");
        }
        for wrong in ["", ".", "..", "a/b", "a b", "a:b", "sixteen--letters", "eth%d", "é"] {
            assert!(wrong.parse::<InterfaceName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn container_ids_follow_the_cni_specification() {
        for right in ["a", "4f.5-_x"] {
            assert!(right.parse::<ContainerId>().is_ok(), "{right}");
        }
        for wrong in ["", "-a", "_a", "a/b", "a b", &"a".repeat(254)] {
            assert!(wrong.parse::<ContainerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert!(Vni::try_from(0).is_err());
        assert!(Vni::try_from(0xff_ffff).is_ok());
        assert!(Vni::try_from(0x100_0000).is_err());
        assert!(Mtu::try_from(67).is_err());
        assert!(Mtu::try_from(65_536).is_err());
    }

    #[test]
    fn a_refusal_quotes_only_part_of_what_was_sent() {
        let error = "x/".repeat(4_000).parse::<InterfaceName>().unwrap_err();
        assert!(error.to_string().len() < 250);
    }
}
