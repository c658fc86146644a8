//! The worker's main loop: owns sessions, RIB, EVPN engine and ports, and answers everything that is asked of the process.
//!
//! ```text
//!   CNI socket ─────┐   claims   ┌────────┐  own routes   ┌─────────────┐
//!   kernel events ──┼───────────►│ Engine │──────────────►│ Speaker:    │──► reflectors
//!                   │            │        │◄──────────────│ RIB,sessions│◄── reflectors
//!                   │            └───┬────┘  best routes  └─────────────┘
//!                   │     dirty keys ▼
//!                   └───────── Forwarder ──► dataplane thread ──► kernel
//! ```
//!
//! Everything that waits is taken in, then results flow outwards once ([`Worker::settle`]): no timer delays a route.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bgp_core::rib::{LOCAL_PEER, PeerClass, RibConfig, Role};
use bgp_core::session::StopReason;
use bgp_core::types::{MacAddr, Vni};
use bgp_io::{Event, Io, Speaker};
use daemon::control::{Answer, Pending};
use daemon::http::Readiness;
use daemon::options::Settings as _;
use daemon::service::{Service, ServiceEvent};
use daemon::show::{Rows, Topic};
use daemon::speaker::{Identity, neighbor, peer_rows, route_rows};
use dataplane::actor::{Events, Handle};
use dataplane::{AttachError, Attached, Change, Observation, PortId, Snapshot, plan};
use evpn::config::{DuplicateAction, DuplicateDetection};
use evpn::forwarding::Key;
use evpn::show::{MacStatus, Place};
use evpn::{Claim, Engine};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attach::remove;
use crate::attachments::{Attachment, Store};
use crate::cni_server::{self, CniRequest};
use crate::forwarder::{Finished, Forwarder};
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::settings::{Options, Overlay, Settings};
use crate::show;

/// Events that may wait before sessions stop reading.
const EVENT_QUEUE: usize = 1_024;
/// Events taken at once, between two rounds outwards.
const EVENT_BATCH: usize = 256;
/// CNI requests that may wait.
const CNI_QUEUE: usize = 64;
/// How often all forwarding state is compared with the kernel's, beside what notifications tell.
const AUDIT_INTERVAL: Duration = Duration::from_secs(300);

/// An ADD that the dataplane has carried out, or refused.
pub(crate) struct Made {
    pub attachment: Attachment,
    pub name: String,
    pub result: Result<Attached, AttachError>,
    pub reply: oneshot::Sender<cni::Reply>,
}

/// The state of the process.
pub(crate) struct Worker {
    pub speaker: Speaker,
    pub engine: Engine,
    pub forwarder: Forwarder,
    pub ports: Ports,
    /// Human names of LANs.
    pub names: BTreeMap<Vni, String>,
    pub dataplane: Handle,
    pub store: Option<Store>,
    pub making: JoinSet<Made>,
    pub metrics: Metrics,
    settings: Settings,
    options: Options,
    ready: Readiness,
    /// Rows found at start that no route has confirmed may go once every reflector has spoken.
    sweep_pending: bool,
    resync_needed: bool,
    next_audit: Instant,
}

/// A worker that has everything it needs.
pub struct Started {
    worker: Worker,
    sessions: mpsc::Receiver<Event>,
    service: Service,
    events: Events,
    /// Kept so that the channel stays open where no socket is served.
    requests: mpsc::Sender<CniRequest>,
    cni: mpsc::Receiver<CniRequest>,
}

/// Opens all sockets and takes over what the kernel holds; the error is for people, and nothing was changed then.
pub async fn start(options: Options, settings: Settings, dataplane: Handle, events: Events) -> Result<Started, String> {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).map_err(|error| error.to_string())?;
    let ready = Readiness::default();
    let (io, sessions) = Io::start(&[], EVENT_QUEUE).await.map_err(|error| error.to_string())?;
    let service = Service::start(settings.http, settings.control.as_deref(), &registry, &ready).await?;
    let (requests, cni) = mpsc::channel(CNI_QUEUE);
    let mut rib = RibConfig::new(Role::Worker, settings.asn, settings.router_id, settings.vtep);
    rib.hash_seed = daemon::run::hash_seed();
    let mut worker = Worker {
        speaker: Speaker::new(rib, io),
        engine: Engine::new(engine_config(&settings)),
        forwarder: Forwarder::new(dataplane.clone()),
        ports: Ports::default(),
        names: BTreeMap::new(),
        store: store(&settings)?,
        making: JoinSet::new(),
        metrics,
        dataplane,
        options,
        ready,
        sweep_pending: true,
        resync_needed: false,
        next_audit: Instant::now() + AUDIT_INTERVAL,
        settings,
    };
    worker.adopt().await?;
    worker.configure_peers()?;
    worker.settle();
    worker.speaker.rib.local_ready();
    worker.settle();
    if let Some(path) = &worker.settings.cni {
        cni_server::start(path, requests.clone())?;
    }
    tracing::info!(asn = %worker.settings.asn, vtep = %worker.settings.vtep, "serving this node's LANs");
    Ok(Started { worker, sessions, service, events, requests, cni })
}

impl Started {
    /// Runs until told to stop; the error is for people.
    pub async fn serve(self) -> Result<(), String> {
        let Self { mut worker, sessions, service, events, requests, cni } = self;
        let result = worker.main_loop(sessions, service, events, cni).await;
        drop(requests);
        worker.leave().await;
        result
    }
}

fn engine_config(settings: &Settings) -> evpn::Config {
    let mut config = evpn::Config::new(settings.asn, settings.router_id, settings.vtep);
    config.foreign_asns.clone_from(&settings.foreign_asns);
    let seconds = |secs: u32| bgp_core::time::Duration::from_secs(secs.into());
    config.duplicates = DuplicateDetection {
        moves: settings.duplicates.moves,
        window: seconds(settings.duplicates.window_secs),
        action: match settings.duplicates.freeze_secs {
            Some(0) => DuplicateAction::Warn,
            Some(secs) => DuplicateAction::Freeze { recovery: Some(seconds(secs)) },
            None => config.duplicates.action,
        },
    };
    config
}

/// Where the worker of this overlay namespace keeps what it must know after a restart.
pub fn state_directory(namespace: &str) -> PathBuf {
    PathBuf::from("/run/megalos").join(namespace)
}

/// Attachments of one overlay namespace are kept apart from another's on the same host.
fn store(settings: &Settings) -> Result<Option<Store>, String> {
    let Overlay::Namespace(name) = &settings.overlay else { return Ok(None) };
    let directory = state_directory(name).join("attachments");
    let store = Store::open(directory.clone()).map_err(|error| {
        let cure = match error.kind() {
            std::io::ErrorKind::AddrInUse => "stop it, or give --overlay-namespace another name",
            _ => "run as root",
        };
        format!("cannot keep attachments in {}: {error}; {cure}", directory.display())
    })?;
    Ok(Some(store))
}

impl Worker {
    async fn main_loop(
        &mut self,
        mut sessions: mpsc::Receiver<Event>,
        mut service: Service,
        mut events: Events,
        mut cni: mpsc::Receiver<CniRequest>,
    ) -> Result<(), String> {
        let mut batch = Vec::with_capacity(EVENT_BATCH);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                count = sessions.recv_many(&mut batch, EVENT_BATCH) => {
                    if count == 0 {
                        return Err("all session tasks have ended; restart the worker".into());
                    }
                    for event in batch.drain(..) {
                        // Nobody is accepted who is not configured; a stranger's connection is dropped.
                        drop(self.speaker.handle(event));
                    }
                }
                observations = events.recv() => match observations {
                    Some(observations) => self.observe(observations),
                    None => return Err("the dataplane has stopped; its last error is in the log".into()),
                },
                finished = self.forwarder.finished() => self.applied(finished?),
                Some(made) = self.making.join_next() => match made {
                    Ok(made) => self.attached(made),
                    Err(error) => return Err(format!("an attachment failed: {error}")),
                },
                Some(request) = cni.recv() => self.serve_cni(request),
                () = tokio::time::sleep_until(deadline.into()) => self.handle_timeout().await?,
                request = service.next() => match request {
                    ServiceEvent::Stop => return Ok(()),
                    ServiceEvent::Reload => self.reload(),
                    ServiceEvent::Question(pending) => self.answer(pending),
                    ServiceEvent::Sample(done) => {
                        self.sample();
                        let _ = done.send(());
                    }
                },
            }
            if self.resync_needed {
                self.resync().await?;
            }
            self.settle();
        }
    }

    fn next_deadline(&self) -> Instant {
        let engine = self.engine.next_deadline().map(|at| self.speaker.clock(at));
        let deadlines = [engine, self.speaker.next_deadline(), self.forwarder.next_deadline()];
        deadlines.into_iter().flatten().min().map_or(self.next_audit, |at| at.min(self.next_audit))
    }

    async fn handle_timeout(&mut self) -> Result<(), String> {
        let now = self.speaker.now();
        self.engine.handle_timeout(now);
        self.speaker.handle_timeout();
        if self.next_audit <= Instant::now() {
            self.next_audit = Instant::now() + AUDIT_INTERVAL;
            self.resync().await?;
        }
        Ok(())
    }

    /// Lets results flow outwards: own routes to the RIB, routes to the reflectors, best routes to the engine, forwarding
    /// state to the kernel.
    pub(crate) fn settle(&mut self) {
        loop {
            self.originate();
            self.speaker.flush();
            let changes = self.speaker.rib.drain_changes();
            if changes.is_empty() {
                break;
            }
            let now = self.speaker.now();
            for change in changes {
                let best = change.best.as_ref().filter(|best| best.peer != LOCAL_PEER);
                self.engine.route_changed(&change.key, best.map(|best| (&best.payload, &*best.attributes)), now);
            }
        }
        if self.sweep_pending && self.speaker.rib.remote_sweep_allowed() {
            self.sweep_pending = false;
            let now = self.speaker.now();
            self.engine.sweep(now);
        }
        while let Some(key) = self.engine.poll_dirty() {
            self.forwarder.mark(key);
        }
        let engine = &self.engine;
        self.forwarder.start(|key| engine.desired(key));
        while let Some(report) = self.engine.poll_report() {
            self.metrics.reports.with_label_values(&[report.name()]).inc();
            tracing::warn!(kind = report.name(), "{report}");
        }
        self.ready.set(self.speaker.peers().any(|peer| peer.session.is_some()));
    }

    fn originate(&mut self) {
        while let Some((membership, wanted)) = self.engine.poll_membership() {
            if wanted {
                self.speaker.rib.originate_membership(membership);
            } else {
                self.speaker.rib.withdraw_membership(&membership);
            }
        }
        while let Some(origination) = self.engine.poll_origination() {
            match origination.route {
                Some((payload, attributes)) => {
                    let route = bgp_core::wire::Route { key: origination.key, payload };
                    self.speaker.rib.originate(route, attributes);
                }
                None => {
                    self.speaker.rib.withdraw_local(&origination.key);
                }
            }
        }
    }

    /// Takes over what a former life left in the kernel.
    async fn adopt(&mut self) -> Result<(), String> {
        let snapshot = self.dataplane.snapshot().await.map_err(|error| error.to_string())?;
        let mut remembered: BTreeMap<PortId, Attachment> = BTreeMap::new();
        if let Some(store) = &self.store {
            remembered = store.load().into_iter().map(|attachment| (attachment.port.clone(), attachment)).collect();
        }
        let now = self.speaker.now();
        for (&vni, lan) in &snapshot.lans {
            self.names.insert(vni, lan.name.clone());
            if snapshot.adopted {
                self.engine.serve(vni, now);
            }
        }
        self.take_ports(&snapshot);
        for (port, attachment) in &remembered {
            match self.ports.get(port).map(|port| port.member) {
                Some(member) => {
                    let claim = Claim { mac: attachment.mac, ips: attachment.ips.clone(), sticky: false };
                    if let Err(error) = self.engine.restore(attachment.vni, member, &claim, now) {
                        tracing::warn!(%port, %error, "attachment not announced");
                    }
                }
                // Its pod went while nobody watched.
                None => self.store.iter().for_each(|store| store.remove(port)),
            }
        }
        self.take_local_macs(&snapshot);
        let mut rows = 0_usize;
        for (key, found) in crate::show::rows_of(&snapshot) {
            self.engine.adopted(key, found, now);
            rows += 1;
        }
        if !snapshot.lans.is_empty() {
            tracing::info!(lans = snapshot.lans.len(), rows, "took over what the kernel holds");
        }
        Ok(())
    }

    /// Ports of the snapshot that are not known yet join their LANs; known ones that are gone leave.
    fn take_ports(&mut self, snapshot: &Snapshot) {
        let now = self.speaker.now();
        for (&vni, lan) in &snapshot.lans {
            for (id, port) in &lan.ports {
                if self.ports.is_unknown(id) {
                    let (port, held) = self.ports.attached(id, vni, Some(port.mtu));
                    self.engine.attach(vni, port.member, now);
                    drop(held);
                }
            }
        }
        let exists = |vni: Vni, id: &PortId| snapshot.lans.get(&vni).is_some_and(|lan| lan.ports.contains_key(id));
        let gone: Vec<PortId> =
            self.ports.iter().filter(|(id, port)| !exists(port.vni, id)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.forget_port(&id);
        }
        let shown = |id: &PortId| snapshot.lans.values().any(|lan| lan.ports.contains_key(id));
        for id in self.ports.still_leaving(shown) {
            self.remove_device(id);
        }
    }

    /// Has the dataplane remove a port that was given up; an audit sees whether it did.
    fn remove_device(&mut self, id: PortId) {
        self.ports.leave(id.clone());
        let dataplane = self.dataplane.clone();
        tokio::spawn(async move { remove(&dataplane, id).await });
    }

    /// What the bridges have learned is what the engine knows: additions and removals.
    fn take_local_macs(&mut self, snapshot: &Snapshot) {
        let now = self.speaker.now();
        let there = |vni: Vni, mac: MacAddr| snapshot.lans.get(&vni).is_some_and(|lan| lan.local.contains_key(&mac));
        let lost: Vec<_> = self
            .engine
            .macs()
            .filter(|view| view.state == MacStatus::Learned && !there(view.vni, view.mac))
            .filter_map(|view| match view.place {
                Place::Local(member) => Some((view.vni, view.mac, member)),
                _ => None,
            })
            .collect();
        for (vni, mac, member) in lost {
            self.engine.forgotten(vni, member, mac, now);
        }
        for (&vni, lan) in &snapshot.lans {
            for (&mac, local) in &lan.local {
                if let Some(port) = self.ports.get(&local.port) {
                    self.engine.learned(vni, port.member, mac, local.sticky, now);
                } else {
                    // The snapshot took the place of the notification, for which a port that is being made waits.
                    let (port, sticky) = (local.port.clone(), local.sticky);
                    drop(self.ports.hold(&local.port, Observation::LocalMac { vni, mac, port, sticky }));
                }
            }
        }
    }

    /// Compares everything with the kernel and mends the difference: after lost notifications, and now and then.
    async fn resync(&mut self) -> Result<(), String> {
        self.resync_needed = false;
        let snapshot = match self.dataplane.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(dataplane::Error::Unsteady) => {
                // Too much is going on; the next round will see it.
                self.next_audit = Instant::now() + Duration::from_secs(1);
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        self.metrics.resyncs.inc();
        let now = self.speaker.now();
        if snapshot.adopted {
            let served: Vec<Vni> = self.engine.vnis().filter(|view| view.served).map(|view| view.vni).collect();
            for vni in served.into_iter().filter(|vni| !snapshot.lans.contains_key(vni)) {
                self.engine.unserve(vni, now);
            }
            for &vni in snapshot.lans.keys() {
                self.engine.serve(vni, now);
            }
        }
        self.take_ports(&snapshot);
        self.take_local_macs(&snapshot);
        for change in plan(&self.engine.all_desired(), &snapshot) {
            self.forwarder.mark(change.key);
        }
        Ok(())
    }

    fn observe(&mut self, observations: Vec<Observation>) {
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
                self.observe_one(observation);
            }
        }
    }

    pub(crate) fn observe_one(&mut self, observation: Observation) {
        let now = self.speaker.now();
        match observation {
            Observation::LocalMac { vni, mac, port, sticky } => match self.ports.get(&port) {
                Some(port) => self.engine.learned(vni, port.member, mac, sticky, now),
                // Ports that somebody else made are known by the snapshot.
                None => self.resync_needed |= self.settings.overlay == Overlay::Adopt,
            },
            Observation::RowTakenOver { vni, mac, port, sticky } => match self.ports.get(&port) {
                Some(port) => self.engine.taken_over(vni, port.member, mac, sticky, now),
                None => self.resync_needed |= self.settings.overlay == Overlay::Adopt,
            },
            Observation::LocalMacGone { vni, mac, port } => {
                if let Some(port) = self.ports.get(&port) {
                    self.engine.forgotten(vni, port.member, mac, now);
                }
            }
            Observation::RowDisturbed { key } => self.forwarder.mark(key),
            Observation::TunnelGone { vni } => self.mark_lan(vni),
            Observation::PortGone { port, .. } => {
                self.forget_port(&port);
                if self.settings.overlay != Overlay::Adopt {
                    self.remove_device(port);
                }
            }
            Observation::LanAppeared { .. } | Observation::LanGone { .. } | Observation::Overrun => {
                self.resync_needed = true;
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

    fn applied(&mut self, finished: Finished) {
        let now = self.speaker.now();
        for Change { key, desired } in finished.applied {
            if let (Key::Mac(vni, mac), Some(_)) = (key, desired) {
                self.engine.written_remote(vni, mac, now);
            }
        }
        for vni in finished.tunnels_after_failure {
            self.mark_lan(vni);
        }
    }

    /// The port is gone, or goes: its MACs and addresses are withdrawn.
    pub(crate) fn forget_port(&mut self, id: &PortId) {
        let now = self.speaker.now();
        if let Some(port) = self.ports.remove(id) {
            self.engine.detach(port.vni, port.member, now);
        }
        if let Some(store) = &self.store {
            store.remove(id);
        }
    }

    fn configure_peers(&mut self) -> Result<(), String> {
        let identity = Identity {
            asn: self.settings.asn,
            router_id: self.settings.router_id,
            internal_class: PeerClass::NonClient,
            // The kernel forwards whether this process runs or not.
            forwarding_preserved: true,
            restarting: true,
        };
        let gone: Vec<_> = self
            .speaker
            .peers()
            .filter(|peer| !self.settings.peers.contains_key(&peer.neighbor.spec.address.ip()))
            .map(|peer| peer.id)
            .collect();
        for id in gone {
            self.speaker.remove_peer(id);
        }
        for peer in self.settings.peers.values() {
            let mut neighbor = neighbor(identity, peer.address, &peer.settings, peer.key.clone(), false);
            neighbor.spec.local_address.get_or_insert(self.settings.vtep);
            if neighbor.spec.local_address.is_some_and(|local| local.is_ipv4() != peer.address.is_ipv4()) {
                neighbor.spec.local_address = None;
            }
            self.speaker.set_peer(neighbor).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn reload(&mut self) {
        let Some(newer) = self.settings.reload(&self.options) else { return };
        self.settings.peers = newer.peers;
        match self.configure_peers() {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(%error, "configuration reloaded in part"),
        }
    }

    fn answer(&self, pending: Pending) {
        let rows = match pending.topic {
            Topic::Peers => Rows::Peers(peer_rows(&self.speaker)),
            Topic::Routes => Rows::Routes(route_rows(&self.speaker)),
            Topic::Vnis => Rows::Vnis(show::vni_rows(self)),
            Topic::Macs => Rows::Macs(show::mac_rows(self)),
        };
        let _ = pending.reply.send(Answer::Rows(rows));
    }

    fn sample(&mut self) {
        self.metrics.sample(&self.engine, &self.forwarder);
        self.metrics.speaker.sample(&mut self.speaker);
    }

    /// Leaves the kernel forwarding as it is, so that a next life finds it; or takes everything down.
    async fn leave(mut self) {
        tracing::info!(flush = self.options.flush_on_exit, "leaving");
        if self.options.flush_on_exit {
            let keys: Vec<Key> = self.engine.all_desired().into_keys().collect();
            let changes = keys.into_iter().map(|key| Change { key, desired: None }).collect();
            if let Err(error) = self.dataplane.apply(changes).await {
                tracing::warn!(%error, "forwarding state is left in the kernel");
            }
            self.speaker.shutdown(StopReason::HardReset).await;
            return;
        }
        self.settle();
        self.speaker.shutdown(StopReason::Restart).await;
    }
}
