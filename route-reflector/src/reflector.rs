//! The reflector's main loop: owns the RIB and the sessions, and answers everything that is asked of the process.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp_core::rib::{PeerClass, RibConfig, Role};
use bgp_core::rule::Action;
use bgp_core::session::StopReason;
use bgp_io::{Event, Evidence, Incoming, Io, Speaker, Who, rules};
use daemon::control::{Answer, Pending};
use daemon::descriptors;
use daemon::http::{TURN, Vitals};
use daemon::options::Settings as _;
use daemon::routes::route_rows;
use daemon::service::{Service, ServiceEvent};
use daemon::show::{Rows, Topic};
use daemon::speaker::{Identity, SpeakerMetrics, neighbor, peer_rows};
use prometheus::Registry;
use tokio::sync::mpsc;

use crate::kubernetes::Kubernetes;
use crate::settings::{DYNAMIC_PEERS, Options, Settings};

/// Events that may wait before sessions stop reading.
const EVENT_QUEUE: usize = 1_024;
/// Events taken at once, between two flushes.
const EVENT_BATCH: usize = 256;

/// Runs until told to stop; the error is for people.
pub async fn run(options: Options, settings: Settings) -> Result<(), String> {
    let max_dynamic_peers = max_dynamic_peers(&settings)?;
    let registry = Registry::new();
    let metrics = SpeakerMetrics::new(&registry).map_err(|error| error.to_string())?;
    let vitals = Vitals::default();
    let kubernetes = match &settings.cluster {
        Some(cluster) => Some(Kubernetes::start(cluster, &registry).await?),
        None => None,
    };
    let (mut io, events) = Io::start(&settings.listen, EVENT_QUEUE).await.map_err(|error| error.to_string())?;
    io.accept(&accepted(&settings)).map_err(|error| error.to_string())?;
    let service = Service::start(&settings.http, settings.control.as_deref(), &registry, &vitals).await?;
    let role = Role::Reflector { cluster_id: Some(settings.cluster_id) };
    let address = settings.listen.first().map_or(IpAddr::V4(settings.router_id.0.into()), |listen| listen.ip());
    let mut config = RibConfig::new(role, settings.asn, settings.router_id, address);
    config.hash_seed = daemon::run::hash_seed();
    config.log_limit_octets = settings.limits.shared_log_octets;
    config.dead_destinations_limit = settings.limits.withdrawn_routes;
    let speaker = Speaker::new(config, io);
    let mut reflector = Reflector { speaker, options, settings, metrics, vitals, max_dynamic_peers, kubernetes };
    reflector.update_cluster();
    reflector.configure_peers()?;
    reflector.speaker.io().open().map_err(|error| error.to_string())?;
    tracing::info!(
        asn = %reflector.settings.asn,
        router_id = %reflector.settings.router_id,
        listen = ?reflector.settings.listen,
        "reflecting"
    );
    reflector.main_loop(events, service).await
}

/// How many peers may come by themselves, by the settings and by what open files there are.
fn max_dynamic_peers(settings: &Settings) -> Result<usize, String> {
    let wanted = settings.limits.dynamic_peers.filter(|_| !settings.accept.is_empty());
    let files = descriptors::raise();
    let peers = descriptors::room_for_dynamic(files, settings.peers.len(), wanted, DYNAMIC_PEERS)?;
    if peers < wanted.unwrap_or(DYNAMIC_PEERS) && !settings.accept.is_empty() {
        tracing::warn!(files, peers, "the limit of open files leaves room for so many peers that come by themselves");
    }
    Ok(peers)
}

fn accepted(settings: &Settings) -> Vec<(ipnet::IpNet, Option<String>, bool)> {
    let entry =
        |accept: &crate::settings::Accept| (accept.prefix, accept.key.clone(), accept.settings.gtsm.unwrap_or(false));
    settings.accept.iter().map(entry).collect()
}

struct Reflector {
    speaker: Speaker,
    options: Options,
    settings: Settings,
    metrics: SpeakerMetrics,
    vitals: Vitals,
    max_dynamic_peers: usize,
    kubernetes: Option<Kubernetes>,
}

impl Reflector {
    async fn main_loop(mut self, mut events: mpsc::Receiver<Event>, mut service: Service) -> Result<(), String> {
        let mut batch = Vec::with_capacity(EVENT_BATCH);
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.speaker.next_deadline();
            tokio::select! {
                count = events.recv_many(&mut batch, EVENT_BATCH) => {
                    if count == 0 {
                        return Err("all session tasks have ended; restart the reflector".into());
                    }
                }
                _ = turns.tick() => self.vitals.health.turns(),
                () = sleep_until(deadline) => {
                    self.hold();
                    self.speaker.handle_timeout();
                }
                () = changed(self.kubernetes.as_mut()) => {
                    if self.update_cluster()
                        && let Err(error) = self.configure_peers()
                    {
                        tracing::error!(%error, "not every Node is a peer");
                    }
                }
                request = service.next() => match request {
                    ServiceEvent::Stop => break,
                    ServiceEvent::Reload => self.reload(),
                    ServiceEvent::Question(pending) => self.answer(pending),
                    ServiceEvent::Sample(done) => {
                        self.metrics.sample(&mut self.speaker);
                        self.kubernetes.iter().for_each(Kubernetes::sample);
                        let _ = done.send(());
                    }
                },
            }
            for event in batch.drain(..) {
                if let Some(incoming) = self.speaker.handle(event) {
                    self.judge(incoming);
                }
            }
            self.speaker.flush();
            self.vitals.ready.set(self.speaker.rib.is_synchronised());
        }
        let reason = if self.options.flush_on_exit { StopReason::HardReset } else { StopReason::Restart };
        tracing::info!("leaving");
        self.speaker.shutdown(reason).await;
        Ok(())
    }

    fn identity(&self) -> Identity {
        Identity {
            asn: self.settings.asn,
            router_id: self.settings.router_id,
            internal_class: PeerClass::Client,
            // A reflector forwards nothing, so nothing is lost when it restarts.
            forwarding_preserved: true,
            restarting: true,
            // Workers forward by what they know for as long as no reflector is there to tell them anything else.
            long_lived_stale_secs: 86_400,
        }
    }

    /// Whether it is known who the peers are.
    fn knows_peers(&self) -> bool {
        self.kubernetes.as_ref().is_none_or(Kubernetes::is_known)
    }

    /// As long as nobody is let in, nobody's end-of-RIB can come: the time for that begins later.
    fn hold(&mut self) {
        if !self.knows_peers() {
            let now = self.speaker.now();
            self.speaker.rib.begin_hold(now);
        }
    }

    /// Takes in what the cluster says. Whether peers are others by that.
    fn update_cluster(&mut self) -> bool {
        self.hold();
        self.kubernetes.as_mut().is_some_and(Kubernetes::update)
    }

    /// Makes the sessions what settings and cluster say; unchanged peers are not touched.
    fn configure_peers(&mut self) -> Result<(), String> {
        let identity = self.identity();
        let peers = self.settings.peers.values();
        let mut wanted: Vec<_> =
            peers.map(|peer| neighbor(identity, peer.address, &peer.settings, peer.key.clone(), false)).collect();
        let cluster = self.kubernetes.as_ref();
        let nodes = cluster.map(|cluster| cluster.neighbors(identity, &self.settings.defaults)).unwrap_or_default();
        // What the settings say of an address they say of a Node too.
        wanted.extend(nodes.into_iter().filter(|node| !self.settings.peers.contains_key(&node.spec.address.ip())));
        let known: BTreeSet<_> = wanted.iter().map(|neighbor| neighbor.spec.address.ip()).collect();
        // Who came by itself stays as long as its prefix is accepted.
        let dynamic = self.speaker.peers().filter(|peer| peer.neighbor.dynamic).map(|peer| peer.neighbor.spec.address);
        for address in dynamic.filter(|address| !known.contains(&address.ip())) {
            if let Some(accept) = self.settings.accepts(address.ip()) {
                wanted.push(neighbor(identity, address, &accept.settings, accept.key.clone(), true));
            }
        }
        self.speaker.set_peers(wanted).map_err(|error| error.to_string())?;
        // Who may come by itself cannot be told; then the whole hold passes before our end-of-RIB.
        if self.settings.accept.is_empty() && self.knows_peers() {
            self.speaker.expect_peers();
        }
        Ok(())
    }

    /// A stranger from an accepted prefix becomes a peer.
    fn judge(&mut self, incoming: Incoming) {
        let address = incoming.from;
        let Some(accept) = self.settings.accepts(address.ip()) else { return };
        let limit = self.max_dynamic_peers;
        if self.speaker.dynamic_peers() >= limit && !self.speaker.make_room() {
            let detail = format!("{limit} are there; raise max_dynamic_peers if they are all right");
            let evidence = || Evidence { detail, ..Evidence::default() };
            let who = Who::Stranger(address);
            self.speaker.ledger().note(who, rules::TOO_MANY_PEERS, Action::Close, 1, evidence);
            return;
        }
        let neighbor = neighbor(self.identity(), address, &accept.settings, accept.key.clone(), true);
        match self.speaker.set_peer(neighbor) {
            Ok(id) => self.speaker.io().deliver(id, incoming),
            Err(error) => tracing::warn!(peer = %address.ip(), %error, "refused"),
        }
    }

    fn reload(&mut self) {
        let Some(newer) = self.settings.reload(&self.options) else { return };
        self.settings.peers = newer.peers;
        self.settings.accept = newer.accept;
        self.settings.defaults = newer.defaults;
        let accept = accepted(&self.settings);
        let result = self.speaker.io().accept(&accept).map_err(|error| error.to_string());
        match result.and_then(|()| self.configure_peers()) {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(%error, "configuration reloaded in part"),
        }
    }

    fn answer(&self, pending: Pending) {
        let answer = match pending.topic {
            Topic::Peers => Answer::Rows(Rows::Peers(peer_rows(&self.speaker))),
            Topic::Routes => Answer::Rows(Rows::Routes(route_rows(&self.speaker, |_| None))),
            Topic::Vnis | Topic::Macs => {
                Answer::Error("a reflector has no LANs of its own; ask a worker's control socket".into())
            }
        };
        let _ = pending.reply.send(answer);
    }
}

/// Never, outside of a cluster.
async fn changed(kubernetes: Option<&mut Kubernetes>) {
    match kubernetes {
        Some(kubernetes) => kubernetes.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
