//! What the CNI socket asks: attachments made and undone.
//!
//! An ADD is announced before its reply: the dataplane makes the interface, the engine claims the MAC, the routes are
//! handed to the sessions (or wait in the RIB for one), and only then the plugin hears of it.

use std::net::IpAddr;

use bgp_core::types::{MacAddr, Vni};
use cni::server::Received;
use cni::{Attach, ErrorCode, ErrorReply, Expected, PodDescriptors, Reply, Status};
use dataplane::actor::Handle;
use dataplane::{AttachError, AttachRequest, Attached, Pod, PortId};

use crate::cni_server::CniRequest;
use crate::core::Attachment;
use crate::worker::{Made, Worker};

impl Worker {
    /// Serves one request; the reply comes when it is carried out.
    pub(crate) fn serve_cni(&mut self, request: CniRequest) {
        let CniRequest { received, reply } = request;
        let answer = match received {
            Received::Attach(attach, pod) => {
                self.begin_attach(attach, pod, reply);
                return;
            }
            Received::Detach(attachment) => {
                self.detach(port_id(&attachment), reply);
                return;
            }
            Received::Check(expected, _) => self.check(&expected),
            Received::List(list) => ErrorReply::new(
                ErrorCode::TRY_AGAIN_LATER,
                format!("this worker cannot list the attachments of the network {}", list.network),
                "it collects stale ones by itself; nothing has to be done",
            )
            .into(),
            Received::Status => self.status(),
        };
        // A plugin that went away meanwhile asks again if it matters.
        let _ = reply.send(answer);
    }

    fn begin_attach(&mut self, attach: Attach, pod: PodDescriptors, reply: tokio::sync::oneshot::Sender<Reply>) {
        let port = port_id(&attach.attachment);
        let Some(vni) = Vni::new(attach.vni.get()) else {
            let _ = reply.send(invalid("vni", "give 1 to 16777215"));
            return;
        };
        if !self.core.begin_attach(&port) {
            let exists = AttachError::Exists { port };
            let _ = reply.send(refusal(&exists));
            return;
        }
        let name = attach.lan.as_str().to_owned();
        let request = AttachRequest {
            port: port.clone(),
            vni,
            lan: name.clone(),
            pod: Pod::Descriptors { namespace: pod.netns, netlink: pod.netlink },
            interface: attach.attachment.interface.as_str().to_owned(),
            mac: attach.mac.map(|mac| MacAddr(mac.octets())),
            mtu: attach.mtu.map(cni::Mtu::get),
            addresses: attach.ips.clone(),
            routes: attach.routes.iter().map(route).collect(),
        };
        let ips: Vec<IpAddr> = attach.ips.iter().map(ipnet::IpNet::addr).collect();
        let dataplane = self.dataplane.clone();
        self.making.spawn(async move {
            let result = dataplane.attach(request).await;
            let mac = result.as_ref().map_or(MacAddr::ZERO, |attached| attached.mac);
            Made { attachment: Attachment { port, vni, mac, ips, sequence: 0 }, name, result, reply }
        });
    }

    /// The dataplane is done with an ADD: announce it and reply.
    pub(crate) fn attached(&mut self, made: Made) {
        let Made { attachment, name, result, reply } = made;
        let answer = match result {
            Ok(attached) => match self.announce(attachment, name, &attached) {
                Ok(answer) => answer,
                Err(error) => ErrorReply::new(ErrorCode::INTERNAL, "the interface is not announced", error).into(),
            },
            Err(error) => {
                self.core.abandon_attach(&attachment.port);
                refusal(&error)
            }
        };
        self.settle();
        let _ = reply.send(answer);
    }

    fn announce(&mut self, attachment: Attachment, name: String, attached: &Attached) -> Result<Reply, String> {
        let now = self.speaker.now();
        self.core.attached(attachment, name, attached.mtu, now).map_err(|error| error.to_string())?;
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

    fn detach(&mut self, port: PortId, reply: tokio::sync::oneshot::Sender<Reply>) {
        self.core.give_up(&port, self.speaker.now());
        // The withdrawal leaves before the interface does, so that others stop sending first.
        self.settle();
        let dataplane = self.dataplane.clone();
        // Removals that wait together become one in the kernel, so none of them waits here.
        tokio::spawn(async move {
            remove(&dataplane, port).await;
            let _ = reply.send(Reply::Done);
        });
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

    fn status(&self) -> Reply {
        Reply::Status(Status {
            ready: true,
            reason: String::new(),
            attachments: u32::try_from(self.core.ports().iter().count()).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }
}

/// Removes a port from the kernel; what cannot be removed now is found by the next audit.
pub(crate) async fn remove(dataplane: &Handle, port: PortId) {
    if let Err(error) = dataplane.detach(port.clone()).await {
        tracing::warn!(%port, %error, "the interface stays until the next audit");
    }
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
        AttachError::Mtu { .. } => ErrorCode::INVALID_NETWORK_CONFIG,
        AttachError::Adopted | AttachError::Dataplane(_) => ErrorCode::INTERNAL,
        AttachError::Kernel { .. } => ErrorCode::IO_FAILURE,
    };
    ErrorReply::new(code, "the interface was not attached", error.to_string()).into()
}
