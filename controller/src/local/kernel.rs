//! Does this kernel have what a lab's startup lines need?
//!
//! In: the lab's [`KernelNeed`]s. Each is tried in a network namespace made for it, so a module that can be
//! loaded is loaded. Out: a warning for each that is missing, before any device starts; a refusal where the
//! lab would take the machine with it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, send};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use serde::{Deserialize, Serialize};

use super::netns;
use super::progress::Reporter;
use crate::lab::{KernelFeature, KernelNeed, Lab};

/// Larger than any reply to one request.
const REPLY_BYTES: usize = 8 * 1024;
/// The loopback's interface index, the same in every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// What to do about a lab that floods the machine for want of a kernel feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FloodingLabs {
    /// It is not started.
    Refuse,
    /// It is started with a warning.
    Start,
}

/// Warns of features that the lab needs and the kernel lacks.
///
/// # Errors
/// One of them keeps frames from going round for ever, and `flooding` refuses such labs.
pub fn check(lab: &Lab, flooding: FloodingLabs, reporter: &Reporter) -> Result<(), String> {
    let needs = lab.kernel_needs();
    if needs.is_empty() {
        return Ok(());
    }
    let namespace = netns::create().map_err(|error| format!("cannot make a network namespace: {error}"))?;
    let missing = netns::inside(&namespace, || {
        let socket = netns::netlink_socket(&namespace)?;
        let mut missing = Vec::new();
        for need in needs {
            if is_missing(&socket, &need.feature)? {
                missing.push(need);
            }
        }
        Ok(missing)
    });
    let missing = missing.map_err(|error| format!("cannot find out what the kernel has: {error}"))?;
    for warning in judge(&missing, flooding)? {
        reporter.warn(&warning);
    }
    Ok(())
}

/// What to say of missing features, or why the lab is refused.
fn judge(missing: &[KernelNeed], flooding: FloodingLabs) -> Result<Vec<String>, String> {
    let (mut texts, mut is_refused) = (Vec::new(), false);
    for need in missing {
        let (lacking, cure) = describe(&need.feature);
        let place = need.places.first().map(ToString::to_string).unwrap_or_default();
        let who = match need.places.len() {
            0 | 1 => format!("{place} needs"),
            2 => format!("{place} and another line need"),
            count => format!("{place} and {} more lines need", count - 1),
        };
        let mut text = format!("{who} {lacking}, which this kernel lacks: {cure}");
        if need.feature == KernelFeature::BridgeVlanFiltering {
            text.push_str(
                ". Without it a bridge joins the VLANs that it should keep apart, and broadcasts may go round for ever",
            );
            is_refused |= flooding == FloodingLabs::Refuse;
        }
        texts.push(text);
    }
    if is_refused {
        texts.push("the lab is not started, since it could take this machine with it; `--force` starts it".to_owned());
        return Err(texts.join("\n"));
    }
    Ok(texts)
}

/// A feature's name and the way to get it.
fn describe(feature: &KernelFeature) -> (String, String) {
    let load =
        |module: &str, option: &str| format!("load its module (modprobe {module}) or use a kernel with {option}");
    match feature {
        KernelFeature::BridgeVlanFiltering => {
            ("VLAN filtering of bridges".to_owned(), "use one with CONFIG_BRIDGE_VLAN_FILTERING".to_owned())
        }
        KernelFeature::MplsRouting => ("MPLS routing".to_owned(), load("mpls_router", "CONFIG_MPLS_ROUTING")),
        KernelFeature::QueueingDiscipline(kind) => (
            format!("the queueing discipline {kind}"),
            load(&format!("sch_{kind}"), &format!("CONFIG_NET_SCH_{}", kind.to_uppercase())),
        ),
        KernelFeature::Link(kind) => {
            let cure = match kind.as_str() {
                "bond" => load("bonding", "CONFIG_BONDING"),
                "gre" | "gretap" => load("ip_gre", "CONFIG_NET_IPGRE"),
                "ipip" => load("ipip", "CONFIG_NET_IPIP"),
                "sit" => load("sit", "CONFIG_IPV6_SIT"),
                "vlan" => load("8021q", "CONFIG_VLAN_8021Q"),
                "vrf" => load("vrf", "CONFIG_NET_VRF"),
                other => format!("load its module (mostly modprobe {other}) or use a kernel that has it"),
            };
            (format!("links of type {kind}"), cure)
        }
    }
}

/// Tries a feature in the namespace of the calling thread, which is `socket`'s.
fn is_missing(socket: &OwnedFd, feature: &KernelFeature) -> io::Result<bool> {
    // A request that lacks the options of its kind is refused in another way where the kind is known.
    let (request, sign) = match feature {
        KernelFeature::MplsRouting => return Ok(!Path::new("/proc/sys/net/mpls").exists()),
        KernelFeature::Link(kind) => (link(vec![LinkInfo::Kind(InfoKind::from(kind.as_str()))]), libc::EOPNOTSUPP),
        KernelFeature::BridgeVlanFiltering => {
            let filtering = InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]);
            (link(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(filtering)]), libc::EOPNOTSUPP)
        }
        KernelFeature::QueueingDiscipline(kind) => {
            let mut message = TcMessage::with_index(LOOPBACK_INDEX);
            message.header.parent =
                if kind == "ingress" || kind == "clsact" { TcHandle::INGRESS } else { TcHandle::ROOT };
            message.attributes.push(TcAttribute::Kind(kind.clone()));
            (RouteNetlinkMessage::NewQueueDiscipline(message), libc::ENOENT)
        }
    };
    Ok(ask(socket, request)? == Some(sign))
}

fn link(info: Vec<LinkInfo>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::LinkInfo(info));
    RouteNetlinkMessage::NewLink(message)
}

/// Sends a request; the error code of the answer, if it is one.
fn ask(socket: &OwnedFd, request: RouteNetlinkMessage) -> io::Result<Option<i32>> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut reply = vec![0; REPLY_BYTES];
    let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    let reply = reply.get(..length).unwrap_or_default();
    let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(reply).map_err(io::Error::other)?;
    match reply.payload {
        NetlinkPayload::Error(error) => Ok(error.code.map(|code| -code.get())),
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Location;

    fn need(feature: KernelFeature, lines: usize) -> KernelNeed {
        KernelNeed { feature, places: (1..=lines).map(|line| Location::line("leaf.startup", line)).collect() }
    }

    #[test]
    fn a_missing_kind_of_link_is_a_warning_that_names_line_and_cure() {
        let missing = [need(KernelFeature::Link("bond".to_owned()), 3)];
        let text = "leaf.startup:1 and 2 more lines need links of type bond, which this kernel lacks: \
                    load its module (modprobe bonding) or use a kernel with CONFIG_BONDING";
        assert_eq!(judge(&missing, FloodingLabs::Refuse), Ok(vec![text.to_owned()]));
    }

    #[test]
    fn a_lab_that_may_flood_the_machine_is_refused_unless_told_otherwise() {
        let missing = [need(KernelFeature::BridgeVlanFiltering, 1), need(KernelFeature::Link("vrf".to_owned()), 1)];
        let refusal = judge(&missing, FloodingLabs::Refuse).unwrap_err();
        for part in ["leaf.startup:1 needs VLAN filtering", "CONFIG_BRIDGE_VLAN_FILTERING", "type vrf", "--force"] {
            assert!(refusal.contains(part), "{part} is not in {refusal}");
        }
        assert_eq!(judge(&missing, FloodingLabs::Start).unwrap().len(), 2);
        assert_eq!(judge(&[], FloodingLabs::Refuse), Ok(Vec::new()));
    }
}
