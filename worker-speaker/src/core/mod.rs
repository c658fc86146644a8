//! The worker without its I/O: what it knows, what it decides, and what it wants done.
//!
//! ```text
//!   attachments ────┐   claims   ┌────────┐  own routes   ┌─────────┐
//!   observations ───┼───────────►│ Engine │──────────────►│ Routing │──► reflectors
//!   snapshots ──────┘            │        │◄──────────────│ (a RIB) │◄── reflectors
//!                                └───┬────┘  best routes  └─────────┘
//!                     dirty keys     ▼
//!                                Forwarder ──► Work ──► kernel, files
//! ```
//!
//! In: what the kernel shows ([`Core::adopt`], [`Core::observe`], [`Core::compare`], [`Core::applied`]), what the container
//! runtime asks ([`Core::begin_attach`], [`Core::attached`], [`Core::give_up`]), routes and the time. Out: [`Work`] for the
//! owner, routes into the RIB that [`Core::settle`] is given, and the next deadline. Nothing here reads a clock or does
//! anything to the kernel, so the daemon and the simulation of a whole fabric run the same code.

mod audit;
mod forwarder;
mod host;
mod notice;
mod ports;
mod reconcile;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use bgp_core::rib::{LOCAL_PEER, Rib};
use bgp_core::time::{Duration, Instant};
use bgp_core::types::{MacAddr, PeerId, Vni};
use dataplane::{Attached, Change, ChangeError, Existing, HostReport, Observation, PortId};
use evpn::forwarding::Key;
use evpn::{Claim, ClaimError, Engine};
use thiserror::Error;

pub use self::forwarder::{Counters, Forwarder};
pub use self::host::HostProblem;
pub use self::notice::Notice;
pub use self::ports::{Arrival, Port, Ports};
pub use self::reconcile::{Plan, Record, reconcile};

/// How often all forwarding state is compared with the kernel's, beside what notifications tell.
pub const AUDIT_INTERVAL: Duration = Duration::from_secs(300);
/// How soon a comparison is tried again for which the kernel held not still.
const AUDIT_RETRY: Duration = Duration::from_secs(1);
/// Notices that wait for an owner who does not poll; of further ones nothing is kept.
const MAX_NOTICES: usize = 16_384;

/// An attachment as its ADD asked for it: what a restarted worker must know beyond what stands on its device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Names it.
    pub port: PortId,
    /// The LAN.
    pub vni: Vni,
    /// The interface's MAC.
    pub mac: MacAddr,
    /// Addresses announced with it.
    pub ips: Vec<IpAddr>,
    /// The mobility sequence that the MAC is announced with.
    pub sequence: u32,
    /// The MAC must not move (RFC 7432 section 15.2).
    pub sticky: bool,
    /// Who asked for it; absent where that is not known.
    pub origin: Option<Origin>,
}

/// Who asked for an attachment, in the words of the runtime.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The pod sandbox.
    pub container_id: String,
    /// The interface's name inside the pod.
    pub interface: String,
    /// The network configuration's name, if it has one.
    pub network: Option<String>,
}

impl Attachment {
    /// One without an address of its own.
    pub fn new(port: PortId, vni: Vni) -> Self {
        Self { port, vni, mac: MacAddr::ZERO, ips: Vec::new(), sequence: 0, sticky: false, origin: None }
    }

    fn claim(&self) -> Claim {
        Claim { mac: self.mac, ips: self.ips.clone(), sticky: self.sticky }
    }
}

/// Why an attachment is not announced.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NotAttached {
    /// The MAC cannot be claimed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A DEL came before the interface was there.
    #[error("{port} was deleted while it was being made; add it again")]
    GivenUp {
        /// The attachment.
        port: PortId,
    },
}

/// How much a core remembers: all zero where nothing is attached and nothing known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Footprint {
    /// Of the engine.
    pub engine: evpn::Footprint,
    /// Ports, those that are being made or removed included.
    pub ports: usize,
    /// Names of LANs.
    pub names: usize,
    /// Rows on their way to the kernel.
    pub rows: usize,
    /// Things to do that nobody has polled.
    pub work: usize,
}

/// The RIB with its sessions, as the core needs them.
pub trait Routing {
    /// The RIB.
    fn rib(&mut self) -> &mut Rib;

    /// Selects routes for all that changed, and hands sessions what they are ready for.
    fn flush(&mut self);
}

/// Something that the owner is to do, in the order in which it is polled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Work {
    /// Carry the batch out and bring the results to [`Core::applied`]. There is no other batch until then.
    Apply(Vec<Change>),
    /// Remove the port from the kernel, and every LAN without members. An audit sees whether that was done.
    Remove(PortId),
    /// Remove every LAN without members from the kernel.
    Tidy,
    /// Keep the attachment for a next life.
    Remember(Attachment),
    /// The attachment is no more.
    Forget(PortId),
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    engine: Engine,
    forwarder: Forwarder,
    ports: Ports,
    /// Human names of LANs.
    names: BTreeMap<Vni, String>,
    /// The devices belong to somebody else: ports come and go without being asked for.
    adopts: bool,
    attachments: BTreeMap<PortId, Attachment>,
    /// The attachment that claims a MAC, the last where several do.
    claimed: BTreeMap<(Vni, MacAddr), PortId>,
    /// Rows found at start that no route has confirmed may go once every reflector has spoken.
    sweep_pending: bool,
    audit_needed: bool,
    next_audit: Instant,
    work: VecDeque<Work>,
    /// What an operator should know and has not polled.
    notices: VecDeque<Notice>,
    host: HostReport,
}

impl Core {
    /// A core that has not looked at its kernel yet: [`Core::adopt`] comes first. `adopts` where the devices belong to
    /// somebody else.
    pub fn new(engine: Engine, adopts: bool, now: Instant) -> Self {
        Self {
            engine,
            forwarder: Forwarder::default(),
            ports: Ports::default(),
            names: BTreeMap::new(),
            adopts,
            attachments: BTreeMap::new(),
            claimed: BTreeMap::new(),
            sweep_pending: true,
            audit_needed: false,
            next_audit: now + AUDIT_INTERVAL,
            work: VecDeque::new(),
            notices: VecDeque::new(),
            host: HostReport::default(),
        }
    }

    /// The MAC-VRFs.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The rows on their way to the kernel.
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// The local ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The human name of a LAN, where it has one.
    pub fn name(&self, vni: Vni) -> Option<&str> {
        self.names.get(&vni).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// How much is remembered.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            engine: self.engine.footprint(),
            ports: self.ports.len() + self.attachments.len() + self.claimed.len(),
            names: self.names.len(),
            rows: self.forwarder.len(),
            work: self.work.len(),
        }
    }

    /// Rows of a former life are kept until every reflector has said what it knows.
    pub fn awaits_sweep(&self) -> bool {
        self.sweep_pending
    }

    // ---- time ----

    /// When [`Core::handle_timeout`] is due, audits included.
    pub fn next_deadline(&self) -> Instant {
        let deadlines = [self.engine.next_deadline(), self.forwarder.next_deadline()];
        deadlines.into_iter().flatten().fold(self.next_audit, Instant::min)
    }

    /// Does what is due. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        if self.next_audit <= now {
            self.next_audit = now + AUDIT_INTERVAL;
            self.audit_needed = true;
        }
    }

    // ---- results ----

    /// Lets results flow outwards: own routes to the RIB, routes to the reflectors, best routes to the engine, forwarding
    /// state towards the kernel. To be called after every round of inputs.
    pub fn settle(&mut self, routing: &mut impl Routing, now: Instant) {
        loop {
            self.originate(routing.rib());
            routing.flush();
            let changes = routing.rib().drain_changes();
            if changes.is_empty() {
                break;
            }
            for change in changes {
                let best = change.best.as_ref().filter(|best| best.peer != LOCAL_PEER);
                self.engine.route_changed(&change.key, best.map(|best| (&best.payload, &*best.attributes)), now);
                if let Some(best) = best {
                    self.attribute_reports(best.peer);
                }
            }
        }
        self.engine.set_informed(routing.rib().is_informed(), now);
        if self.sweep_pending && routing.rib().remote_sweep_allowed() {
            self.sweep_pending = false;
            self.engine.sweep(now);
        }
        while let Some(key) = self.engine.poll_dirty() {
            self.forwarder.mark(key);
        }
        self.remember_sequences();
        let engine = &self.engine;
        let batch = self.forwarder.start(now, |key| engine.desired(key));
        self.work.extend(batch.map(Work::Apply));
    }

    /// What the engine has to say now is about a route of this peer.
    fn attribute_reports(&mut self, peer: PeerId) {
        while let Some(report) = self.engine.poll_report() {
            self.notice(Notice::Route { peer, report });
        }
    }

    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push_back(notice);
        }
    }

    fn note_attachment(&mut self, attachment: Attachment) {
        self.claimed.insert((attachment.vni, attachment.mac), attachment.port.clone());
        self.attachments.insert(attachment.port.clone(), attachment);
    }

    fn drop_attachment(&mut self, port: &PortId) {
        let Some(attachment) = self.attachments.remove(port) else { return };
        let mac = (attachment.vni, attachment.mac);
        if self.claimed.get(&mac) == Some(port) {
            self.claimed.remove(&mac);
        }
    }

    /// What a next life must know has changed.
    fn remember_sequences(&mut self) {
        while let Some((vni, mac)) = self.engine.poll_renumbered() {
            let Some(sequence) = self.engine.sequence(vni, mac) else { continue };
            let port = self.claimed.get(&(vni, mac));
            if let Some(attachment) = port.and_then(|port| self.attachments.get_mut(port)) {
                attachment.sequence = sequence;
                self.work.push_back(Work::Remember(attachment.clone()));
            }
        }
    }

    fn originate(&mut self, rib: &mut Rib) {
        while let Some((membership, wanted)) = self.engine.poll_membership() {
            if wanted {
                rib.originate_membership(membership);
            } else {
                rib.withdraw_membership(&membership);
            }
        }
        while let Some(origination) = self.engine.poll_origination() {
            match origination.route {
                Some((payload, attributes)) => {
                    let route = bgp_core::wire::Route { key: origination.key, payload };
                    rib.originate(route, attributes);
                }
                None => {
                    rib.withdraw_local(&origination.key);
                }
            }
        }
    }

    /// The next thing to do.
    pub fn poll_work(&mut self) -> Option<Work> {
        self.work.pop_front()
    }

    /// The next thing that an operator should know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front().or_else(|| self.engine.poll_report().map(Notice::Lan))
    }

    /// A batch was carried out, with one result for each change.
    pub fn applied(&mut self, changes: Vec<Change>, results: Vec<Result<(), ChangeError>>, now: Instant) {
        let finished = self.forwarder.finished(changes, results, now);
        for (key, error, retry_in) in finished.refused {
            if let Some(rule) = error.rule() {
                self.notice(Notice::NotWritten { key, error, rule, retry_in });
            }
        }
        for Change { key, desired } in finished.applied {
            if let (Key::Mac(vni, mac), Some(_)) = (key, desired) {
                self.engine.written_remote(vni, mac, now);
            }
        }
        for vni in finished.tunnels_after_failure {
            self.mark_lan(vni);
        }
    }

    // ---- attachments ----

    /// A port is going to be made; what is seen on it waits until it is. Says what the dataplane is to do where it has one
    /// of that name: keep it if its ADD was answered, replace it if nobody was ever told of it. `None` if one of that name
    /// is being made or removed just now.
    pub fn begin_attach(&mut self, port: &PortId, now: Instant) -> Option<Existing> {
        if !self.ports.begin(port) {
            return None;
        }
        if self.attachments.contains_key(port) {
            return Some(Existing::Keep);
        }
        let Some(unanswered) = self.ports.remove(port) else { return Some(Existing::Keep) };
        self.engine.detach(unanswered.vni, unanswered.member, now);
        self.forget_names();
        Some(Existing::Replace)
    }

    /// The port could not be made.
    pub fn abandon_attach(&mut self, port: &PortId, now: Instant) {
        for observation in self.ports.abandon(port) {
            self.observe_one(observation, now);
        }
    }

    /// The kernel has removed a port, or never had it.
    pub fn removed(&mut self, port: &PortId) {
        self.ports.left(port);
    }

    /// A port could not be removed from the kernel: an audit tries again soon.
    pub fn removal_failed(&mut self, now: Instant) {
        self.next_audit = self.next_audit.min(now + AUDIT_RETRY);
    }

    /// The port is there, in a LAN of this human name, as `made` says: its MAC is claimed.
    ///
    /// # Errors
    /// The MAC cannot be announced, or the port was given up meanwhile; it goes in either case.
    pub fn attached(
        &mut self,
        attachment: Attachment,
        lan: String,
        made: &Attached,
        now: Instant,
    ) -> Result<(), NotAttached> {
        if self.ports.is_doomed(&attachment.port) {
            self.reject(&attachment.port, now);
            return Err(NotAttached::GivenUp { port: attachment.port });
        }
        let vni = attachment.vni;
        let Arrival { port, held, replaced } = self.ports.attached(&attachment.port, vni, made.mtu, made.host_index);
        self.names.insert(vni, lan);
        self.engine.attach(vni, port.member, now);
        if let Some(replaced) = replaced {
            self.engine.detach(replaced.vni, replaced.member, now);
            self.drop_attachment(&attachment.port);
            self.forget_names();
            // Its LAN may have lost the last member with it.
            self.work.push_back(Work::Tidy);
        }
        if let Err(error) = self.engine.claim(vni, port.member, &attachment.claim(), now) {
            self.forget_port(&attachment.port, now);
            self.remove_device(attachment.port);
            return Err(error.into());
        }
        let sequence = self.engine.sequence(vni, attachment.mac).unwrap_or_default();
        let attachment = Attachment { sequence, ..attachment };
        self.note_attachment(attachment.clone());
        self.work.push_back(Work::Remember(attachment));
        for observation in held {
            self.observe_one(observation, now);
        }
        Ok(())
    }

    /// The port was made and is not wanted after all.
    pub fn reject(&mut self, port: &PortId, now: Instant) {
        self.forget_port(port, now);
        self.ports.abandon(port);
        self.remove_device(port.clone());
    }

    /// Nobody read the answer to the ADD that made the port with this interface: it is given up as by
    /// [`Core::give_up`]. False if there is nothing to remove now.
    pub fn unanswered(&mut self, port: &PortId, index: u32, now: Instant) -> bool {
        if self.index_of(port) == Some(index) {
            self.give_up(port, now);
            return true;
        }
        // Where its ADD comes again just now, the kernel refuses that one still; not the next.
        if self.ports.replaces(port, index) {
            self.drop_attachment(port);
            self.work.push_back(Work::Forget(port.clone()));
        }
        false
    }

    /// The attachments whose ADD was answered, or is about to be.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values()
    }

    /// The index of the interface of a port, which tells it from one of the same name that is made later.
    pub fn index_of(&self, port: &PortId) -> Option<u32> {
        self.ports.get(port).map(|port| port.index)
    }

    /// The port is to go: its MACs and addresses are withdrawn, and it is no member again for being seen in the kernel. The
    /// owner removes it there after the next [`Core::settle`], so that others stop sending first.
    pub fn give_up(&mut self, port: &PortId, now: Instant) {
        self.forget_port(port, now);
        self.ports.leave(port.clone());
    }

    /// The port is gone, or goes: its MACs and addresses are withdrawn.
    fn forget_port(&mut self, id: &PortId, now: Instant) {
        if let Some(port) = self.ports.remove(id) {
            self.engine.detach(port.vni, port.member, now);
            self.drop_attachment(id);
            self.forget_names();
        }
        self.work.push_back(Work::Forget(id.clone()));
    }

    /// A LAN without members needs no name.
    fn forget_names(&mut self) {
        let engine = &self.engine;
        self.names.retain(|vni, _| engine.is_active(*vni));
    }

    /// Has the owner remove a port that was given up; an audit sees whether it did.
    fn remove_device(&mut self, id: PortId) {
        self.ports.leave(id.clone());
        self.work.push_back(Work::Remove(id));
    }

    // ---- observations ----

    /// What happened in the kernel, oldest first.
    pub fn observe(&mut self, observations: Vec<Observation>, now: Instant) {
        for observation in observations {
            let port = match &observation {
                Observation::LocalMac { port, .. }
                | Observation::LocalMacGone { port, .. }
                | Observation::RowTakenOver { port, .. }
                | Observation::PortGone { port, .. } => Some(port.clone()),
                _ => None,
            };
            let observation = match port {
                Some(port) => self.ports.hold(&port, observation),
                None => Some(observation),
            };
            if let Some(observation) = observation {
                self.observe_one(observation, now);
            }
        }
    }

    fn observe_one(&mut self, observation: Observation, now: Instant) {
        match observation {
            Observation::LocalMac { vni, mac, port, sticky } => match self.ports.get(&port) {
                Some(port) => self.engine.learned(vni, port.member, mac, sticky, now),
                // Ports that somebody else made are known by the snapshot.
                None => self.audit_needed |= self.adopts,
            },
            Observation::RowTakenOver { vni, mac, port, sticky } => match self.ports.get(&port) {
                Some(port) => self.engine.taken_over(vni, port.member, mac, sticky, now),
                None => self.audit_needed |= self.adopts,
            },
            Observation::LocalMacGone { vni, mac, port } => {
                if let Some(port) = self.ports.get(&port) {
                    self.engine.forgotten(vni, port.member, mac, now);
                }
            }
            Observation::DeviceMac { vni, mac, present } => self.engine.device(vni, mac, present, now),
            Observation::RowDisturbed { key } => {
                self.notice(Notice::RowDisturbed(key));
                self.forwarder.mark(key);
            }
            Observation::TunnelGone { vni } => {
                self.notice(Notice::TunnelGone(vni));
                self.mark_lan(vni);
            }
            // An earlier port of that name, whose end comes late: its LAN may have lost the last member with it.
            Observation::PortGone { port, index, .. } if self.index_of(&port).is_some_and(|known| known != index) => {
                self.work.push_back(Work::Tidy);
            }
            Observation::PortGone { port, .. } => {
                self.forget_port(&port, now);
                if !self.adopts {
                    self.remove_device(port);
                }
            }
            Observation::Host(host) => self.take_host(&host),
            Observation::LanAppeared { .. } | Observation::LanGone { .. } => self.audit_needed = true,
            Observation::Overrun => {
                self.notice(Notice::NotificationsLost);
                self.audit_needed = true;
            }
        }
    }

    /// Marks a LAN's tunnel and all its rows.
    fn mark_lan(&mut self, vni: Vni) {
        self.forwarder.mark(Key::Tunnel(vni));
        for key in self.engine.all_desired().into_keys().filter(|key| key.vni() == vni) {
            self.forwarder.mark(key);
        }
    }
}
