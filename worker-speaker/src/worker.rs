//! The worker's main loop: owns sessions, RIB, EVPN engine and ports, and answers everything that is asked of the process.
//!
//! ```text
//!   CNI socket ─────┐   attachments   ┌──────┐   own routes   ┌─────────────────┐
//!   kernel events ──┼────────────────►│ Core │───────────────►│ Speaker:        │──► reflectors
//!   snapshots ──────┘                 │      │◄───────────────│ RIB and sessions│◄── reflectors
//!                                     └──┬───┘  best routes   └─────────────────┘
//!                                   Work ▼
//!                             dataplane thread ──► kernel
//! ```
//!
//! Everything that waits is taken in, then results flow outwards once ([`Worker::settle`]): no timer delays a route. What
//! is decided is decided in [`Core`]; here it is carried out.

use std::path::PathBuf;
use std::time::Instant;

use bgp_core::rib::{PeerClass, Rib, RibConfig, Role};
use bgp_core::session::StopReason;
use bgp_core::wire::{Evpn, WireNlri as _};
use bgp_io::{Event, Evidence, Io, Speaker, Who};
use bytes::BytesMut;
use cni::{ErrorCode, ErrorReply};
use daemon::control::{Answer, Pending};
use daemon::descriptors;
use daemon::http::{TURN, Vitals};
use daemon::options::Settings as _;
use daemon::service::{Service, ServiceEvent};
use daemon::show::{Rows, Topic};
use daemon::speaker::{Identity, neighbor, peer_rows};
use dataplane::actor::{Events, Handle};
use dataplane::{Change, ChangeError, PortId};
use evpn::Engine;
use evpn::config::{DuplicateAction, DuplicateDetection};
use evpn::forwarding::Key;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::admission::Admission;
use crate::attach::{Done, Request};
use crate::attachments::Store;
use crate::cni_server::CniRequest;
use crate::core::{Attachment, Core, Notice, Routing, Work};
use crate::doors::Doors;
use crate::kubernetes::{Cluster, Steering};
use crate::metrics::Metrics;
use crate::settings::{Options, Overlay, RouteTargetForm, STATE_DIRECTORY, Settings};
use crate::show;

/// Events that may wait before sessions stop reading.
const EVENT_QUEUE: usize = 1_024;
/// Events taken at once, between two rounds outwards.
const EVENT_BATCH: usize = 256;
/// How long a start waits for a reflector to say what others have, before it counts as complete without.
const SYNC_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What became of a batch.
type Outcome = (Vec<Change>, Result<Vec<Result<(), ChangeError>>, dataplane::Error>);

/// The state of the process.
pub(crate) struct Worker {
    pub speaker: Speaker,
    pub core: Core,
    pub dataplane: Handle,
    /// What changes the kernel and waits for its turn.
    pub admission: Admission<Request>,
    /// What the dataplane has to carry out.
    pub under_way: JoinSet<Done>,
    pub metrics: Metrics,
    store: Option<Store>,
    /// The batch that the dataplane thread has.
    applying: Option<JoinHandle<Outcome>>,
    pub settings: Settings,
    pub options: Options,
    /// Where settings come from beside flags and file.
    pub steering: Option<Steering>,
    vitals: Vitals,
    started: Instant,
}

struct Sessions<'a>(&'a mut Speaker);

impl Routing for Sessions<'_> {
    fn rib(&mut self) -> &mut Rib {
        &mut self.0.rib
    }

    fn flush(&mut self) {
        self.0.flush();
    }
}

/// A worker that has everything it needs.
pub struct Started {
    worker: Worker,
    sessions: mpsc::Receiver<Event>,
    service: Service,
    events: Events,
    cni: mpsc::Receiver<CniRequest>,
    /// Kept so that the channel stays open where no socket is served.
    requests: mpsc::Sender<CniRequest>,
}

/// Takes over what the kernel holds and begins; the error is for people, and nothing was changed then.
pub(crate) async fn start(
    (options, settings): (Options, Settings),
    (dataplane, events): (Handle, Events),
    doors: Doors,
    cluster: Option<Cluster>,
) -> Result<Started, String> {
    descriptors::room_for_dynamic(descriptors::raise(), settings.peers.len(), Some(0), 0)?;
    let (io, sessions) = Io::start(&[], EVENT_QUEUE).await.map_err(|error| error.to_string())?;
    let mut rib = RibConfig::new(Role::Worker, settings.asn, settings.router_id, settings.vtep);
    rib.hash_seed = daemon::run::hash_seed();
    let speaker = Speaker::new(rib, io);
    let core = Core::new(Engine::new(engine_config(&settings)), settings.overlay == Overlay::Adopt, speaker.now());
    let Doors { metrics, vitals, service, cni, requests } = doors;
    let mut worker = Worker {
        speaker,
        core,
        store: store(&settings)?,
        admission: Admission::default(),
        under_way: JoinSet::new(),
        metrics,
        dataplane,
        applying: None,
        steering: cluster.map(|cluster| Steering::new(cluster, &settings)),
        options,
        vitals,
        settings,
        started: Instant::now(),
    };
    worker.adopt().await?;
    worker.configure_peers()?;
    worker.settle();
    worker.speaker.rib.local_ready();
    worker.settle();
    tracing::info!(asn = %worker.settings.asn, vtep = %worker.settings.vtep, "serving this node's LANs");
    Ok(Started { worker, sessions, service, events, cni, requests })
}

impl Started {
    /// Runs until told to stop; the error is for people.
    pub async fn serve(self) -> Result<(), String> {
        let Self { mut worker, sessions, service, events, cni, requests } = self;
        let result = worker.main_loop(sessions, service, events, cni).await;
        drop(requests);
        worker.leave().await;
        result
    }
}

fn engine_config(settings: &Settings) -> evpn::Config {
    let mut config = evpn::Config::new(settings.asn, settings.router_id, settings.vtep);
    config.foreign_asns.clone_from(&settings.foreign_asns);
    config.route_target_form = match settings.route_target_form {
        RouteTargetForm::Both => evpn::config::RouteTargetForm::Both,
        RouteTargetForm::Plain => evpn::config::RouteTargetForm::Plain,
        RouteTargetForm::Rfc8365 => evpn::config::RouteTargetForm::Rfc8365,
    };
    config.limits = settings.limits;
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
    PathBuf::from(STATE_DIRECTORY).join(namespace)
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
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                    Some(observations) => self.core.observe(observations, self.speaker.now()),
                    None => return Err("the dataplane has stopped; its last error is in the log".into()),
                },
                outcome = carried_out(&mut self.applying) => self.applied(outcome?)?,
                Some(done) = self.under_way.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => return Err(format!("an attachment failed: {error}")),
                },
                Some(request) = cni.recv() => self.serve_cni(request),
                () = tokio::time::sleep_until(deadline.into()) => self.handle_timeout(),
                () = Steering::changed(&mut self.steering) => self.cluster_changed(),
                _ = turns.tick() => {
                    self.vitals.health.turns();
                    self.check_node().await?;
                }
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
            if self.core.wants_audit() {
                self.audit().await?;
            }
            self.settle();
        }
    }

    fn next_deadline(&self) -> Instant {
        let core = self.speaker.clock(self.core.next_deadline());
        let others = [self.speaker.next_deadline(), self.admission.next_deadline()];
        others.into_iter().flatten().fold(core, Instant::min)
    }

    fn handle_timeout(&mut self) {
        self.core.handle_timeout(self.speaker.now());
        self.speaker.handle_timeout();
        self.serve_admitted();
    }

    /// Lets results flow outwards: routes to the reflectors, forwarding state to the kernel, reports to people.
    pub(crate) fn settle(&mut self) {
        let now = self.speaker.now();
        self.core.settle(&mut Sessions(&mut self.speaker), now);
        let mut removals = None;
        while let Some(work) = self.core.poll_work() {
            self.carry_out(work, &mut removals);
        }
        if let Some(ports) = removals {
            self.remove(ports, None);
        }
        while let Some(notice) = self.core.poll_notice() {
            let who = notice.peer().and_then(|peer| self.speaker.address(peer)).map_or(Who::Host, Who::Peer);
            self.speaker.ledger().note(who, notice.rule(), notice.action(), 1, || evidence(&notice));
        }
        self.let_reflectors_go();
        // What was served once is served for good: who has no reflector still attaches pods.
        if !self.core.awaits_sweep() || self.started.elapsed() > SYNC_PATIENCE {
            self.vitals.ready.set(true);
        }
    }

    /// Does what is to be done; what is to be removed is collected, to go at once.
    fn carry_out(&mut self, work: Work, removals: &mut Option<Vec<PortId>>) {
        match work {
            Work::Apply(changes) => {
                let handle = self.dataplane.clone();
                self.applying = Some(tokio::spawn(async move {
                    let results = handle.apply(changes.clone()).await;
                    (changes, results)
                }));
            }
            Work::Remove(port) => removals.get_or_insert_default().push(port),
            Work::Tidy => _ = removals.get_or_insert_default(),
            Work::Remember(attachment) => {
                if let Err(error) = self.write_down(&attachment) {
                    tracing::warn!(port = %attachment.port, %error, "the attachment's file is not up to date");
                }
            }
            Work::Forget(port) => self.store.iter().for_each(|store| store.remove(&port)),
        }
    }

    /// Writes the file of an attachment.
    pub(crate) fn write_down(&self, attachment: &Attachment) -> Result<(), ErrorReply> {
        let Some(store) = &self.store else { return Ok(()) };
        store.put(attachment).map_err(|error| {
            let cause = format!("{error}; make room, and let the worker write there");
            ErrorReply::new(ErrorCode::IO_FAILURE, format!("no file for {}", attachment.port), cause)
        })
    }

    fn applied(&mut self, (changes, results): Outcome) -> Result<(), String> {
        let results = results.map_err(|error| error.to_string())?;
        self.core.applied(changes, results, self.speaker.now());
        Ok(())
    }

    /// Takes over what a former life left in the kernel.
    async fn adopt(&mut self) -> Result<(), String> {
        let snapshot = self.dataplane.snapshot().await.map_err(|error| error.to_string())?;
        let remembered = self.store.as_ref().map(Store::load).unwrap_or_default();
        let rows = self.core.adopt(&snapshot, remembered, self.speaker.now());
        if !snapshot.lans.is_empty() {
            tracing::info!(lans = snapshot.lans.len(), rows, "took over what the kernel holds");
        }
        if let Some(limit) = snapshot.host.mtu {
            tracing::info!(mtu = limit.most(), reason = %limit, "the largest packet of LANs");
        }
        Ok(())
    }

    /// Compares everything with the kernel and mends the difference.
    async fn audit(&mut self) -> Result<(), String> {
        let result = self.dataplane.snapshot().await;
        let now = self.speaker.now();
        match result {
            Ok(snapshot) => {
                self.metrics.resyncs.inc();
                self.core.compare(&snapshot, now);
            }
            Err(dataplane::Error::Unsteady) => self.core.audit_failed(now),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    pub(crate) fn configure_peers(&mut self) -> Result<(), String> {
        let identity = Identity {
            asn: self.settings.asn,
            router_id: self.settings.router_id,
            internal_class: PeerClass::NonClient,
            // The kernel forwards whether this process runs or not.
            forwarding_preserved: true,
            restarting: true,
            // A node that is gone for good must not be sent to for long.
            long_lived_stale_secs: 600,
        };
        let gone: Vec<_> = self
            .speaker
            .peers()
            .filter(|peer| !self.settings.peers.contains_key(&peer.neighbor.spec.address.ip()))
            .map(|peer| peer.id)
            .collect();
        for id in gone {
            match &mut self.steering {
                Some(steering) => steering.leaves(id),
                None => self.speaker.remove_peer(id),
            }
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
            Topic::Routes => Rows::Routes(show::route_rows(&self.speaker, &self.core)),
            Topic::Vnis => Rows::Vnis(show::vni_rows(&self.core)),
            Topic::Macs => Rows::Macs(show::mac_rows(&self.core)),
        };
        let _ = pending.reply.send(Answer::Rows(rows));
    }

    fn sample(&mut self) {
        self.metrics.sample(&self.core);
        self.metrics.speaker.sample(&mut self.speaker);
        self.steering.iter().for_each(Steering::sample);
    }

    /// Leaves the kernel forwarding as it is, so that a next life finds it; or takes everything down.
    async fn leave(mut self) {
        tracing::info!(flush = self.options.flush_on_exit, "leaving");
        if self.options.flush_on_exit {
            let keys: Vec<Key> = self.core.engine().all_desired().into_keys().collect();
            let changes = keys.into_iter().map(|key| Change { key, desired: None }).collect();
            if let Err(error) = self.dataplane.apply(changes).await {
                tracing::warn!(%error, "forwarding state is left in the kernel");
            }
            self.speaker.shutdown(StopReason::HardReset).await;
            return;
        }
        self.settle();
        // Nobody is to send to an address that is not ours any more.
        let moved = self.steering.as_ref().is_some_and(Steering::has_moved);
        self.speaker.shutdown(if moved { StopReason::HardReset } else { StopReason::Restart }).await;
    }
}

/// What the log shows of a notice: its text, and the route as it stands in an UPDATE.
fn evidence(notice: &Notice) -> Evidence {
    let mut message = BytesMut::new();
    if let Some(key) = notice.route() {
        Evpn::encode_withdrawal(key, &mut message);
    }
    Evidence { message: message.freeze(), detail: notice.to_string(), ..Evidence::default() }
}

/// Waits for the batch under way; for ever if there is none. Cancel-safe.
async fn carried_out(applying: &mut Option<JoinHandle<Outcome>>) -> Result<Outcome, String> {
    let Some(running) = applying else { return std::future::pending().await };
    let joined = running.await;
    *applying = None;
    joined.map_err(|error| format!("the dataplane task failed: {error}"))
}
