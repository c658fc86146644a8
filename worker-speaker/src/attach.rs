//! What the CNI socket asks: attachments made and undone.
//!
//! What changes the kernel goes through one queue ([`Admission`]) and one channel, so that two requests for one attachment
//! are carried out in the order in which they came.
//!
//! An ADD is announced before its reply: the dataplane makes the interface, the engine claims the MAC, the routes are
//! handed to the sessions (or wait in the RIB for one), and only then the plugin hears of it.

use std::time::{Duration, Instant};

use bgp_core::types::{MacAddr, Vni};
use cni::server::Received;
use cni::{Attach, ErrorCode, ErrorReply, Expected, List, Page, PodDescriptors, Reply, Status};
use dataplane::{AttachError, AttachRequest, Attached, Error, Pod, PortId};
use tokio::sync::oneshot;

use crate::cni_server::{Answer, CniRequest, Told};
use crate::core::{Attachment, Origin};
use crate::worker::Worker;

/// How long an ADD may wait for its turn: less than a plugin waits for its answer, so that nothing is made for nobody.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that changes the kernel, and who waits for it.
#[derive(Debug)]
pub(crate) enum Request {
    Attach(Box<Attach>, PodDescriptors, oneshot::Sender<Answer>),
    Detach(PortId, oneshot::Sender<Answer>),
}

/// What the dataplane has carried out, or refused.
pub(crate) enum Done {
    Made(Made),
    /// Ports are removed, and this is told.
    Removed(Vec<PortId>, Result<(), Error>, Option<oneshot::Sender<Answer>>),
}

/// An ADD that the dataplane is done with.
pub(crate) struct Made {
    attachment: Attachment,
    name: String,
    result: Result<Attached, AttachError>,
    reply: oneshot::Sender<Answer>,
}

impl Worker {
    /// Serves one request; the reply comes when it is carried out.
    pub(crate) fn serve_cni(&mut self, request: CniRequest) {
        let (received, at, reply) = match request {
            CniRequest::Asked { received, at, reply } => (received, at, reply),
            CniRequest::Unread(told) => return self.undo(&told),
        };
        let answer = match *received {
            Received::Attach(attach, pod) => {
                return self.admit(Some(at + PATIENCE), Request::Attach(Box::new(attach), pod, reply));
            }
            Received::Detach(attachment) => return self.admit(None, Request::Detach(port_id(&attachment), reply)),
            Received::Check(expected, _) => self.check(&expected),
            Received::List(list) => Reply::Attachments(self.list(&list)),
            Received::Status => self.status(),
        };
        // A plugin that went away meanwhile asks again if it matters.
        let _ = reply.send(answer.into());
    }

    fn admit(&mut self, deadline: Option<Instant>, request: Request) {
        match self.admission.take(deadline, request) {
            None => self.serve_admitted(),
            // A removal is never refused.
            Some(Request::Detach(port, reply)) => self.detach(port, reply),
            Some(refused @ Request::Attach(..)) => too_late(refused),
        }
    }

    /// Serves those whose turn it is, and turns those away who have waited too long.
    pub(crate) fn serve_admitted(&mut self) {
        self.admission.late(Instant::now()).into_iter().for_each(too_late);
        while let Some(request) = self.admission.next() {
            match request {
                Request::Attach(attach, pod, reply) => self.begin_attach(*attach, pod, reply),
                Request::Detach(port, reply) => self.detach(port, reply),
            }
        }
    }

    /// Answers a request that had its turn and did not reach the dataplane.
    fn turn_away(&mut self, reply: oneshot::Sender<Answer>, answer: Reply) {
        self.admission.finished();
        let _ = reply.send(answer.into());
    }

    fn begin_attach(&mut self, attach: Attach, pod: PodDescriptors, reply: oneshot::Sender<Answer>) {
        let port = port_id(&attach.attachment);
        let Some(vni) = Vni::new(attach.vni.get()) else {
            return self.turn_away(reply, invalid("vni", "give 1 to 16777215"));
        };
        let Some(existing) = self.core.begin_attach(&port, self.speaker.now()) else {
            let cause = format!("{port} is being made or removed just now");
            let busy = ErrorReply::new(ErrorCode::TRY_AGAIN_LATER, "the interface was not attached", cause);
            return self.turn_away(reply, busy.into());
        };
        let attachment = Attachment {
            ips: attach.ips.iter().map(ipnet::IpNet::addr).collect(),
            origin: Some(Origin {
                container_id: attach.attachment.container_id.to_string(),
                interface: attach.attachment.interface.to_string(),
                network: attach.origin.network.as_ref().map(ToString::to_string),
            }),
            ..Attachment::new(port.clone(), vni)
        };
        let name = attach.lan.as_str().to_owned();
        let request = AttachRequest {
            port,
            vni,
            lan: name.clone(),
            pod: Pod::Descriptors { namespace: pod.netns, netlink: pod.netlink },
            interface: attach.attachment.interface.as_str().to_owned(),
            mac: attach.mac.map(|mac| MacAddr(mac.octets())),
            mtu: attach.mtu.map(cni::Mtu::get),
            addresses: attach.ips,
            routes: attach.routes.iter().map(route).collect(),
            existing,
        };
        let result = self.dataplane.attach(request);
        self.under_way.spawn(async move {
            let result = result.await;
            let mac = result.as_ref().map_or(MacAddr::ZERO, |attached| attached.mac);
            Done::Made(Made { attachment: Attachment { mac, ..attachment }, name, result, reply })
        });
    }

    /// The dataplane is done with something: act on it, and go on with what waits.
    pub(crate) fn done(&mut self, done: Done) {
        match done {
            Done::Made(made) => {
                self.admission.finished();
                self.attached(made);
            }
            Done::Removed(ports, result, reply) => self.removed(&ports, result, reply),
        }
        self.serve_admitted();
    }

    /// The dataplane is done with an ADD: announce it and reply.
    fn attached(&mut self, made: Made) {
        let Made { attachment, name, result, reply } = made;
        let port = attachment.port.clone();
        let answer = match result {
            Ok(attached) => self.announce(attachment, name, &attached),
            Err(error) => {
                self.core.abandon_attach(&port, self.speaker.now());
                refusal(&error).into()
            }
        };
        self.settle();
        if let Err(Answer { told: Some(told), .. }) = reply.send(answer) {
            self.undo(&told);
        }
    }

    /// Announces what was made, once it is written down: whatever is answered can be found by a next life.
    fn announce(&mut self, attachment: Attachment, name: String, attached: &Attached) -> Answer {
        let now = self.speaker.now();
        let port = attachment.port.clone();
        let failed = |code, cause: String| ErrorReply::new(code, "the interface was not attached", cause);
        let prepared = self
            .write_down(&attachment)
            .and_then(|()| described(attached).map_err(|cause| failed(ErrorCode::INTERNAL, cause)));
        let reply = match prepared {
            Ok(reply) => reply,
            Err(error) => {
                self.core.reject(&port, now);
                return Reply::from(error).into();
            }
        };
        match self.core.attached(attachment, name, attached, now) {
            Ok(()) => Answer { reply, told: Some(Told { port, index: attached.host_index }) },
            Err(error) => Reply::from(failed(ErrorCode::INTERNAL, error.to_string())).into(),
        }
    }

    fn detach(&mut self, port: PortId, reply: oneshot::Sender<Answer>) {
        self.core.give_up(&port, self.speaker.now());
        // The withdrawal leaves before the interface does, so that others stop sending first.
        self.settle();
        self.remove(vec![port], Some(reply));
    }

    /// Undoes an ADD whose client is gone without its reply.
    fn undo(&mut self, told: &Told) {
        if self.core.unanswered(&told.port, told.index, self.speaker.now()) {
            tracing::info!(port = %told.port, "nobody read that this interface was attached: it is detached again");
            self.settle();
            self.remove(vec![told.port.clone()], None);
        }
    }

    /// Removes ports from the kernel, all in one go, and then whatever LAN has no members.
    pub(crate) fn remove(&mut self, ports: Vec<PortId>, reply: Option<oneshot::Sender<Answer>>) {
        let result = self.dataplane.detach(ports.clone());
        self.under_way.spawn(async move { Done::Removed(ports, result.await, reply) });
    }

    fn removed(&mut self, ports: &[PortId], result: Result<(), Error>, reply: Option<oneshot::Sender<Answer>>) {
        match result {
            Ok(()) => ports.iter().for_each(|port| self.core.removed(port)),
            Err(error) => {
                tracing::warn!(?ports, %error, "interfaces stay until the next audit, which is soon");
                self.core.removal_failed(self.speaker.now());
            }
        }
        if let Some(reply) = reply {
            self.admission.finished();
            let _ = reply.send(Reply::Done.into());
        }
    }

    fn check(&self, expected: &Expected) -> Reply {
        let port = port_id(&expected.attachment);
        let Some(found) = self.core.ports().get(&port) else {
            return ErrorReply::new(
                ErrorCode::UNKNOWN_CONTAINER,
                format!("{port} is not attached"),
                "it never was, or its pod is gone; add it again",
            )
            .into();
        };
        match expected.vni.filter(|vni| vni.get() != found.vni.get()) {
            Some(vni) => ErrorReply::new(
                ErrorCode::CHECK_FAILED,
                format!("{port} is on the LAN with VNI {}, not on {vni}", found.vni),
                "the configuration was changed after the interface was added; delete it and add it again",
            )
            .into(),
            None => Reply::Done,
        }
    }

    /// A page of the attachments that a network's ADDs made on a LAN.
    fn list(&self, list: &List) -> Page {
        let is_asked = |attachment: &&Attachment| {
            let network = attachment.origin.as_ref().and_then(|origin| origin.network.as_deref());
            attachment.vni.get() == list.vni.get() && network == Some(list.network.as_str())
        };
        let named = self.core.attachments().filter(is_asked).filter_map(|attachment| {
            let origin = attachment.origin.as_ref()?;
            let container_id = origin.container_id.parse().ok()?;
            Some(cni::Attachment { container_id, interface: origin.interface.parse().ok()? })
        });
        Page::of(list, named)
    }

    fn status(&self) -> Reply {
        Reply::Status(Status {
            ready: true,
            reason: String::new(),
            attachments: u32::try_from(self.core.ports().iter().count()).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }
}

/// Answers an ADD for which there was no turn in time.
fn too_late(request: Request) {
    let cause = format!("{} s have passed without a turn, or too many wait; try again", PATIENCE.as_secs());
    let busy = Reply::from(ErrorReply::new(ErrorCode::TRY_AGAIN_LATER, "the worker is busy", cause));
    let (Request::Attach(_, _, reply) | Request::Detach(_, reply)) = request;
    let _ = reply.send(busy.into());
}

fn described(attached: &Attached) -> Result<Reply, String> {
    Ok(Reply::Attached(cni::Attached {
        mac: cni::MacAddr::try_from(attached.mac.0).map_err(|error| error.to_string())?,
        mtu: cni::Mtu::try_from(attached.mtu).map_err(|error| error.to_string())?,
        host_interface: attached
            .host_interface
            .clone()
            .try_into()
            .map_err(|error: cni::types::InvalidValue| error.to_string())?,
    }))
}

fn port_id(attachment: &cni::Attachment) -> PortId {
    PortId::attachment(attachment.container_id.as_str(), attachment.interface.as_str())
}

fn route(route: &cni::Route) -> dataplane::Route {
    dataplane::Route {
        destination: route.destination,
        gateway: route.gateway,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    }
}

fn invalid(what: &str, cure: &str) -> Reply {
    ErrorReply::new(ErrorCode::INVALID_NETWORK_CONFIG, format!("{what} is not valid"), cure).into()
}

fn refusal(error: &AttachError) -> Reply {
    let code = match error {
        AttachError::Exists { .. } | AttachError::InterfaceExists { .. } | AttachError::Invalid { .. } => {
            ErrorCode::INVALID_PARAMETERS
        }
        AttachError::Mtu { .. } | AttachError::VniInUse { .. } => ErrorCode::INVALID_NETWORK_CONFIG,
        AttachError::Dataplane(Error::Busy) => ErrorCode::TRY_AGAIN_LATER,
        AttachError::Adopted | AttachError::Dataplane(_) => ErrorCode::INTERNAL,
        AttachError::Kernel { .. } => ErrorCode::IO_FAILURE,
    };
    ErrorReply::new(code, "the interface was not attached", error.to_string()).into()
}
