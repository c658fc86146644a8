//! The messages: what a plugin asks of the worker and what comes back.
//!
//! In: JSON text of one packet. Out: values whose parts are already valid.
//! Unknown fields are ignored, so that plugin and worker of neighbouring
//! versions understand one another; an unknown verb is an error.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::{ContainerId, ErrorCode, InterfaceName, LanName, MacAddr, Mtu, Name, SandboxPath, Vni};

/// The most addresses one attachment may announce.
pub const MAX_IPS: usize = 64;

/// The most routes one attachment may have.
pub const MAX_ROUTES: usize = 128;

/// The most attachments that one [`Page`] names: so many always fit a packet.
pub const MAX_PAGE: usize = 100;

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
    Check(Expected),
    /// Which attachments did a network's ADDs make (CNI GC)? The plugin then
    /// detaches those that the runtime no longer knows.
    List(List),
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
    /// Routes of the pod through this interface, at most [`MAX_ROUTES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Who asks, and for whom; kept with the attachment.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
}

/// A route of the pod through the interface (CNI specification, "routes" of a
/// result). What is absent is the kernel's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The next hop; absent: on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The MTU of the path in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size that TCP advertises, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The priority; the lowest wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope as in `rtnetlink(7)`: 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Where an attachment comes from: what no frame depends on. Each part is
/// absent where whoever asks does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name of the network configuration whose ADD made it. Only what has
    /// one is ever named by a [`List`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// The path of the pod's network namespace as the runtime knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxPath>,
    /// The pod's Kubernetes namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_namespace: Option<Name>,
    /// The pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<Name>,
}

impl Origin {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An attachment that should exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Whose interface, and its name inside the pod.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The LAN that it should be on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// The MAC address that it should have announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

/// Asks for the attachments of one network on one LAN, in the order of
/// [`Attachment`], one [`Page`] at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The network's name, as in [`Origin::network`].
    pub network: Name,
    /// The LAN.
    pub vni: Vni,
    /// Only attachments after this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Attachment>,
}

/// Some of the attachments that a [`List`] asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In order, at most [`MAX_PAGE`].
    pub attachments: Vec<Attachment>,
    /// There are others after these.
    pub more: bool,
}

impl Page {
    /// The page that answers `list`, of `all` attachments of that network and
    /// LAN in any order.
    pub fn of(list: &List, all: impl IntoIterator<Item = Attachment>) -> Self {
        let mut attachments: Vec<_> =
            all.into_iter().filter(|one| list.after.as_ref().is_none_or(|after| one > after)).collect();
        attachments.sort_unstable();
        let more = attachments.len() > MAX_PAGE;
        attachments.truncate(MAX_PAGE);
        Self { attachments, more }
    }
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
    /// To [`Request::List`].
    Attachments(Page),
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
    /// More routes than [`MAX_ROUTES`].
    #[error("{0} routes through one interface; at most {MAX_ROUTES} are accepted")]
    TooManyRoutes(usize),
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
            Self::Attach(attach) if attach.routes.len() > MAX_ROUTES => {
                Err(DecodeError::TooManyRoutes(attach.routes.len()))
            }
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
            proptest::collection::vec(ip.clone(), 0..=MAX_IPS),
            proptest::option::of(68_u32..=65_535),
            proptest::collection::vec(ip.prop_map(route), 0..=MAX_ROUTES),
            proptest::option::of("[^\\p{Cc}]{1,60}"),
        )
            .prop_map(|(attachment, vni, lan, mac, ips, mtu, routes, network)| {
                Request::Attach(Attach {
                    attachment,
                    vni: vni.try_into().unwrap(),
                    lan: lan.parse().unwrap(),
                    mac,
                    ips,
                    mtu: mtu.map(|mtu| mtu.try_into().unwrap()),
                    routes,
                    origin: Origin { network: network.map(|name| name.parse().unwrap()), ..Origin::default() },
                })
            });
        prop_oneof![
            attach,
            attachment.clone().prop_map(Request::Detach),
            attachment.clone().prop_map(|attachment| Request::Check(Expected { attachment, vni: None, mac: None })),
            attachment.prop_map(|attachment| Request::List(list(Some(attachment)))),
            Just(Request::Status),
        ]
    }

    fn route(destination: IpNet) -> Route {
        let gateway = Some(destination.addr());
        Route { destination, gateway, mtu: Some(1_400), advmss: None, priority: None, table: Some(7), scope: None }
    }

    fn list(after: Option<Attachment>) -> List {
        List { network: "blue".parse().unwrap(), vni: 7.try_into().unwrap(), after }
    }

    #[test]
    fn pages_hold_every_attachment_once_and_fit_a_packet() {
        let attachment = |at: usize| Attachment {
            container_id: format!("{at:04}{}", "c".repeat(249)).parse().unwrap(),
            interface: "\"\\\"\\\"\\\"\\\"\\\"\\\"\\\"".parse().unwrap(),
        };
        let all: Vec<_> = (0..2 * MAX_PAGE + 1).map(attachment).collect();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = Page::of(&list(after), all.iter().rev().cloned());
            let text = serde_json::to_vec(&Reply::Attachments(page.clone())).unwrap();
            assert!(text.len() <= crate::MAX_MESSAGE_BYTES, "{} bytes", text.len());
            seen.extend(page.attachments.iter().cloned());
            if !page.more {
                break;
            }
            after = page.attachments.last().cloned();
        }
        assert_eq!(seen, all);
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
