//! What each verb does: decisions are made by [`config`](super::config) and [`result`](super::result), the rest is done
//! by the worker, the IPAM plugin and, inside the pod, the plugin itself.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::plugin::announce;
use crate::plugin::config::{Config, Interface};
use crate::plugin::environment::{Container, Environment, Verb};
use crate::plugin::error::PluginError;
use crate::plugin::ipam::Ipam;
use crate::plugin::pod::{Pod, differences};
use crate::plugin::removal;
use crate::plugin::result::Assigned;
use crate::plugin::version::SpecVersion;
use crate::protocol::{Attach, Attached, Attachment, Expected, List, Origin};
use crate::types::ErrorCode;

/// How long the worker may take for an interface, in a storm of them too: longer than it lets anybody wait for a turn, so
/// that it is heard when it refuses. With all that an IPAM plugin may take it stays below the
/// 90 s at which the first runtimes give up.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(25);
/// How long the worker may take for anything else.
const OTHER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where things are on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The worker's socket.
    pub socket: PathBuf,
    /// The overlay namespace.
    pub overlay: PathBuf,
}

/// One execution.
pub(super) struct Execution<'a> {
    pub node: &'a Node,
    pub environment: &'a Environment,
    pub config: &'a Config,
    pub input: &'a [u8],
    /// Takes lines for people, which are no failures.
    pub log: &'a dyn Fn(&str),
}

/// The result of VERSION.
pub(super) fn version(asked: &str) -> Value {
    let versions: Vec<&str> = SpecVersion::ALL.iter().map(|version| version.as_str()).collect();
    json!({ "cniVersion": asked, "supportedVersions": versions })
}

impl Execution<'_> {
    /// Carries out the verb; the value is to be printed.
    pub fn run(&self) -> Result<Option<Value>, PluginError> {
        match (self.environment.verb, &self.environment.container) {
            (Verb::Add, Some(container)) => self.add(container).map(Some),
            (Verb::Del, Some(container)) => self.del(container).map(|()| None),
            (Verb::Check, Some(container)) => self.check(container).map(|()| None),
            (Verb::Gc, _) => self.gc().map(|()| None),
            (Verb::Status, _) => self.status().map(|()| None),
            // The environment has a container wherever its verb needs one, and VERSION has no configuration.
            _ => Ok(None),
        }
    }

    fn connect(&self, timeout: Duration) -> Result<Client, ClientError> {
        Client::connect_within(&self.node.socket, timeout)
    }

    fn ipam(&self) -> Option<Ipam<'_>> {
        let kind = self.config.ipam.as_deref()?;
        Some(Ipam::new(kind, &self.environment.path, self.input))
    }

    fn pass_on(&self, verb: Verb) -> Result<(), PluginError> {
        self.ipam().map_or(Ok(()), |ipam| ipam.pass_on(verb))
    }

    /// The pod and the interface that ADD and CHECK are about.
    fn subject(&self, container: &Container) -> Result<(Pod, &Interface), PluginError> {
        match (&container.sandbox, &self.config.interface) {
            (Some(path), Some(interface)) => Ok((Pod::open(path)?, interface)),
            _ => Err(PluginError::variable("CNI_NETNS", "", "the path of the pod's network namespace")),
        }
    }

    // ---- ADD ----

    fn add(&self, container: &Container) -> Result<Value, PluginError> {
        let (pod, wanted) = self.subject(container)?;
        let attachment = self.config.attachment(container);
        if pod.has(&attachment.interface)? {
            return Err(interface_exists(&attachment));
        }
        // Before an address is taken: without a worker the whole is in vain.
        let mut client = self.connect(ATTACH_TIMEOUT)?;
        let ipam = self.ipam();
        let assigned = match &ipam {
            Some(ipam) => ipam.add().inspect_err(|_| self.give_back(ipam))?,
            None => Assigned::default(),
        }
        .and_requested(&wanted.ips)
        .with_dns(wanted.dns.as_ref());
        let attach = self.attach_request(&attachment, container, wanted, &assigned);
        let attached = pod.descriptors().and_then(|descriptors| {
            client.attach(attach, &descriptors).map_err(|error| self.not_attached(error, &attachment))
        });
        let attached = attached.inspect_err(|_| {
            ipam.iter().for_each(|ipam| self.give_back(ipam));
        })?;
        self.announce_addresses(&pod, &attachment, &attached, &assigned.addresses());
        let mut result = self.config.previous.clone().unwrap_or_default();
        result.add(self.config.version, &attachment.interface, pod.path(), &attached, &assigned);
        Ok(result.to_json(self.config.version))
    }

    fn attach_request(
        &self,
        attachment: &Attachment,
        container: &Container,
        wanted: &Interface,
        assigned: &Assigned,
    ) -> Attach {
        Attach {
            attachment: attachment.clone(),
            vni: wanted.vni,
            lan: wanted.lan.clone(),
            mac: wanted.mac,
            ips: assigned.addresses(),
            mtu: wanted.mtu,
            routes: assigned.routes.clone(),
            origin: Origin {
                network: self.config.network.clone(),
                sandbox: container.sandbox.clone(),
                pod_namespace: self.environment.args.pod_namespace.clone(),
                pod_name: self.environment.args.pod_name.clone(),
            },
        }
    }

    /// An attachment that failed. Where the worker's answer was lost it may exist, and is removed.
    fn not_attached(&self, error: ClientError, attachment: &Attachment) -> PluginError {
        if !matches!(error, ClientError::Worker(_)) {
            self.detach(attachment);
        }
        error.into()
    }

    /// Undoes an IPAM plugin's ADD as well as can be.
    fn give_back(&self, ipam: &Ipam<'_>) {
        if let Err(error) = ipam.pass_on(Verb::Del) {
            (self.log)(&format!("the addresses may stay assigned: {error}"));
        }
    }

    /// Tells the LAN of the addresses. A failure costs nobody the interface: neighbours learn by asking.
    fn announce_addresses(&self, pod: &Pod, attachment: &Attachment, attached: &Attached, ips: &[IpNet]) {
        let frames: Vec<_> = ips.iter().map(|ip| announce::frame(attached.mac, ip.addr())).collect();
        if frames.is_empty() {
            return;
        }
        if let Err(error) = pod.send(&attachment.interface, &frames) {
            let interface = &attachment.interface;
            (self.log)(&format!("the addresses of {interface} are not announced to the LAN: {error}"));
        }
    }

    // ---- DEL ----

    /// The interface first, so that an address is free only when nobody announces it; then, whatever became of that, the
    /// IPAM plugin.
    fn del(&self, container: &Container) -> Result<(), PluginError> {
        self.detach(&self.config.attachment(container));
        let Some(ipam) = self.ipam() else { return Ok(()) };
        if ipam.find().is_none() {
            // It can have assigned nothing that it could take back now, and the pod must be able to go.
            (self.log)(&format!("the IPAM plugin {:?} is not installed: nothing to release", self.config.ipam));
            return Ok(());
        }
        ipam.pass_on(Verb::Del)
    }

    /// Removes an attachment by the worker, or without it.
    fn detach(&self, attachment: &Attachment) {
        let detached = self.connect(OTHER_TIMEOUT).and_then(|mut client| client.detach(attachment.clone()));
        let Err(error) = detached else { return };
        let outcome = match removal::remove(&self.node.overlay, attachment) {
            Ok(true) => "its device was removed without the worker".to_owned(),
            Ok(false) => "it has no device".to_owned(),
            Err(cause) => format!("what there is goes with the pod ({}: {cause})", self.node.overlay.display()),
        };
        (self.log)(&format!("{} of {}: {error}; {outcome}", attachment.interface, attachment.container_id));
    }

    // ---- CHECK ----

    fn check(&self, container: &Container) -> Result<(), PluginError> {
        let (pod, wanted) = self.subject(container)?;
        let attachment = self.config.attachment(container);
        let interface = &attachment.interface;
        let Some(previous) = &self.config.previous else {
            return Err(PluginError::new(
                ErrorCode::INVALID_NETWORK_CONFIG,
                "`prevResult` is missing",
                "CHECK compares with the result of ADD, which the runtime passes as prevResult",
            ));
        };
        let listed = previous.find(interface, pod.path()).ok_or_else(|| {
            PluginError::new(
                ErrorCode::INVALID_NETWORK_CONFIG,
                format!("`prevResult` does not list {interface} in {}", pod.path()),
                "CHECK compares with the result of ADD, which lists it",
            )
        })?;
        let seen = pod.look(interface)?;
        let found = seen.as_ref().map_or_else(
            || vec!["it is gone".to_owned()],
            |seen| differences(seen, listed.mac, listed.mtu, &listed.ips),
        );
        if !found.is_empty() {
            return Err(check_failed(&attachment, &found.join(", ")));
        }
        let expected = Expected { attachment: attachment.clone(), vni: Some(wanted.vni), mac: listed.mac };
        let checked = self.connect(OTHER_TIMEOUT).and_then(|mut client| client.check(expected));
        checked.map_err(|error| match error {
            // Code 3 would tell the runtime that no DEL is needed.
            ClientError::Worker(reply) if reply.code == ErrorCode::UNKNOWN_CONTAINER => {
                check_failed(&attachment, &reply.to_string())
            }
            other => other.into(),
        })?;
        self.pass_on(Verb::Check)
    }

    // ---- GC ----

    /// Goes on where something fails, and reports the first failure.
    fn gc(&self) -> Result<(), PluginError> {
        let collected = self.collect();
        let passed_on = self.pass_on(Verb::Gc);
        collected.and(passed_on)
    }

    fn collect(&self) -> Result<(), PluginError> {
        // Silence does not mean that none is valid.
        let (Some(valid), Some(network), Some(vni)) = (&self.config.valid, &self.config.network, self.config.vni)
        else {
            return Ok(());
        };
        // Where the configuration names the interface, the runtime knows the attachment by another name.
        let is_valid = |one: &Attachment| match &self.config.interface_name {
            Some(_) => valid.iter().any(|(container, _)| *container == one.container_id),
            None => valid.contains(&(one.container_id.clone(), one.interface.clone())),
        };
        let mut client = self.connect(OTHER_TIMEOUT)?;
        let mut after = None;
        loop {
            let page = client.list(List { network: network.clone(), vni, after })?;
            for stale in page.attachments.iter().filter(|one| !is_valid(one)) {
                client.detach(stale.clone())?;
            }
            after = page.attachments.last().cloned();
            if !page.more || after.is_none() {
                return Ok(());
            }
        }
    }

    // ---- STATUS ----

    fn status(&self) -> Result<(), PluginError> {
        let asked = self.connect(OTHER_TIMEOUT).and_then(|mut client| client.status());
        // The kernel forwards for existing pods whether the worker runs or not: never 51.
        let unavailable = |message: &str, details: String| PluginError::new(ErrorCode::NOT_AVAILABLE, message, details);
        let status = asked.map_err(|error| {
            let error = PluginError::from(error);
            unavailable(&error.0.message, error.0.details)
        })?;
        if !status.ready {
            return Err(unavailable("the megalos worker of this node is not ready", status.reason));
        }
        self.pass_on(Verb::Status)
    }
}

fn interface_exists(attachment: &Attachment) -> PluginError {
    let name = &attachment.interface;
    PluginError::new(
        ErrorCode::INVALID_PARAMETERS,
        format!("CNI_IFNAME: the interface {name} exists in the pod already"),
        "give another name: in the pod's annotation as `network@name` or \"interface\", or, where megalos follows another \
         plugin in a chain, as \"interface\" in its configuration",
    )
}

fn check_failed(attachment: &Attachment, cause: &str) -> PluginError {
    PluginError::new(
        ErrorCode::CHECK_FAILED,
        format!("{} is not as it was made", attachment.interface),
        format!("{cause}; restart the pod, and find out who changes its interfaces"),
    )
}
