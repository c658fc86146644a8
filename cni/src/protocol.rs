//! The messages: what a plugin asks of the worker and what comes back.
//!
//! In: JSON text of one packet. Out: values whose parts are already valid.
//! Unknown fields are ignored, so that plugin and worker of neighbouring
//! versions understand one another; an unknown verb is an error.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::{ContainerId, ErrorCode, InterfaceName, LanName, MacAddr, Mtu, Vni};

/// The most addresses one attachment may announce.
pub const MAX_IPS: usize = 64;

/// What is asked of the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// Connect an interface of the pod to a LAN and announce its MAC (CNI ADD).
    /// Comes with the pod's descriptors.
    Attach(Attach),
    /// Undo an [`Attach`] (CNI DEL); done is done, also for what never was.
    /// Descriptors are optional: the namespace may be gone.
    Detach(Attachment),
    /// Is the attachment as it was made (CNI CHECK)? Descriptors are optional.
    Check(Attachment),
    /// Can the worker serve additions (CNI STATUS)?
    Status,
}

/// The identity of one attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The runtime's name of the pod.
    pub container_id: ContainerId,
    /// The interface's name inside the pod.
    pub interface: InterfaceName,
}

/// An interface to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Whose interface, and its name inside the pod.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The LAN's number.
    pub vni: Vni,
    /// The LAN's human name.
    pub lan: LanName,
    /// The interface's MAC address; absent: the worker chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Addresses to announce with the MAC; may be empty, at most [`MAX_IPS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpNet>,
    /// The wanted MTU; absent: the most that the underlay carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
}

/// What the worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Attach`]: the interface exists, is up and is announced.
    Attached(Attached),
    /// To [`Request::Detach`] and [`Request::Check`].
    Done,
    /// To [`Request::Status`].
    Status(Status),
    /// To any request.
    Error(ErrorReply),
}

/// An interface that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The interface's MAC address inside the pod.
    pub mac: MacAddr,
    /// The MTU on the interface and on the LAN.
    pub mtu: Mtu,
    /// The other end of the pair, in the overlay namespace.
    pub host_interface: InterfaceName,
}

/// How the worker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Additions are served.
    pub ready: bool,
    /// What is missing, where not ready; else empty.
    #[serde(default)]
    pub reason: String,
    /// How many interfaces are attached.
    pub attachments: u32,
    /// The worker's version.
    pub version: String,
}

/// Why a request failed, in the words of the CNI specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct ErrorReply {
    /// The CNI error code.
    pub code: ErrorCode,
    /// One line: what failed.
    pub message: String,
    /// The cause and its cure; may be empty.
    #[serde(default)]
    pub details: String,
}

impl ErrorReply {
    /// An error with its cause; long texts are cut so that a reply always fits
    /// a packet.
    pub fn new(code: ErrorCode, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: shortened(message.into()), details: shortened(details.into()) }
    }
}

impl From<ErrorReply> for Reply {
    fn from(error: ErrorReply) -> Reply {
        Reply::Error(error)
    }
}

/// Cuts `text` at 4096 bytes, between characters. JSON may escape one byte into
/// six, so two such texts stay below the limit of a packet.
fn shortened(mut text: String) -> String {
    let mut end = text.len().min(4096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// Why the text of a packet is not a request.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the expected shape, or with a value out of range.
    #[error("the message cannot be decoded: {0}")]
    Json(#[from] serde_json::Error),
    /// More addresses than [`MAX_IPS`].
    #[error("{0} addresses on one interface; at most {MAX_IPS} are accepted")]
    TooManyIps(usize),
}

impl Request {
    /// Parses the text of one packet.
    ///
    /// # Errors
    /// Whatever is not a valid request, with the cause.
    pub fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let request: Self = serde_json::from_slice(text)?;
        match &request {
            Self::Attach(attach) if attach.ips.len() > MAX_IPS => Err(DecodeError::TooManyIps(attach.ips.len())),
            _ => Ok(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> impl Strategy<Value = Request> {
        let attachment =
            ("[a-z0-9][a-zA-Z0-9_.-]{0,30}", "[a-z][a-z0-9.]{0,14}").prop_map(|(container_id, interface)| Attachment {
                container_id: container_id.parse().unwrap(),
                interface: interface.parse().unwrap(),
            });
        let mac = any::<[u8; 6]>().prop_map(|mut octets| {
            octets[0] = octets[0] & 0xfe | 2;
            MacAddr::try_from(octets).unwrap()
        });
        let ip = prop_oneof![
            (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(a, l)| IpNet::new(a.into(), l).unwrap()),
            (any::<[u8; 16]>(), 0_u8..=128).prop_map(|(a, l)| IpNet::new(a.into(), l).unwrap()),
        ];
        let attach = (
            attachment.clone(),
            1_u32..=0xff_ffff,
            "[^\\p{Cc}]{1,50}",
            proptest::option::of(mac),
            proptest::collection::vec(ip, 0..=MAX_IPS),
            proptest::option::of(68_u32..=65_535),
        )
            .prop_map(|(attachment, vni, lan, mac, ips, mtu)| {
                Request::Attach(Attach {
                    attachment,
                    vni: vni.try_into().unwrap(),
                    lan: lan.parse().unwrap(),
                    mac,
                    ips,
                    mtu: mtu.map(|mtu| mtu.try_into().unwrap()),
                })
            });
        prop_oneof![
            attach,
            attachment.clone().prop_map(Request::Detach),
            attachment.prop_map(Request::Check),
            Just(Request::Status),
        ]
    }

    proptest! {
        #[test]
        fn every_request_survives_the_wire(request in request()) {
            let text = serde_json::to_vec(&request).unwrap();
            prop_assert!(text.len() <= crate::MAX_MESSAGE_BYTES);
            prop_assert_eq!(Request::decode(&text).unwrap(), request);
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::decode(&bytes);
        }

        #[test]
        fn error_replies_always_fit_a_packet(text in "\\PC{0,20}|[\u{1}]{0,20}", times in 0_usize..2000) {
            let reply = Reply::from(ErrorReply::new(ErrorCode::INTERNAL, text.repeat(times), text.repeat(times)));
            let encoded = serde_json::to_vec(&reply).unwrap();
            prop_assert!(encoded.len() <= crate::MAX_MESSAGE_BYTES);
        }
    }

    #[test]
    fn the_text_of_a_request_is_stable() {
        let text = br#"{"verb":"attach","container_id":"pc1","interface":"eth0","vni":7,"lan":"A",
            "mac":"02:00:00:00:00:01","ips":["10.0.0.1/24"],"mtu":1500}"#;
        let Request::Attach(attach) = Request::decode(text).unwrap() else {
            panic!("not an attach");
        };
        assert_eq!(attach.vni.get(), 7);
        assert_eq!(attach.attachment.interface.as_str(), "eth0");
        assert_eq!(attach.ips, ["10.0.0.1/24".parse().unwrap()]);
        assert_eq!(Request::decode(br#"{"verb":"status"}"#).unwrap(), Request::Status);
    }

    #[test]
    fn unknown_verbs_and_values_out_of_range_are_refused() {
        for wrong in [
            r#"{"verb":"explode"}"#,
            r#"{"verb":"attach","container_id":"a","interface":"eth0","vni":0,"lan":"A"}"#,
            r#"{"verb":"attach","container_id":"a","interface":"../x","vni":1,"lan":"A"}"#,
            r#"{"verb":"detach","container_id":"a"}"#,
            "[]",
            "",
        ] {
            assert!(Request::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn too_many_addresses_are_refused() {
        let ips = vec!["10.0.0.1/24"; MAX_IPS + 1];
        let text = serde_json::json!({
            "verb": "attach", "container_id": "a", "interface": "eth0", "vni": 1, "lan": "A", "ips": ips,
        });
        let error = Request::decode(text.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::TooManyIps(_)), "{error}");
    }
}
