//! The cluster as a source of peers: every Node is one, its addresses and next hops are those that Kubernetes names.
//!
//! ```text
//!   Nodes ──watch──► who they are ──┐
//!                                   ├──► neighbours, for the main loop
//!   Secret ─watch──► the key ───────┘
//!      ▲                 │ empty
//!      └───── fill ◄─────┘
//! ```
//!
//! Nobody is a peer before both are known: a Node without a key would be let in whoever speaks for it. Once known, neither
//! goes away because the API server does; what an earlier life knew is on disk. A reflector never dials a Node, it waits.

mod changes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bgp_io::Neighbor;
use cluster::client::{self, Source};
use cluster::metrics::WatchMetrics;
use cluster::nodes::{self, NodePeer, NodeRecord};
use cluster::pod::Pod;
use cluster::secret::{self, Content, Keeper, News};
use cluster::watch::{self, Config, View, Watched};
use daemon::config::{BGP_PORT, PeerSettings, Role};
use daemon::speaker::{Identity, neighbor};
use kube::Api;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use tokio::task::JoinSet;

/// Between two attempts to fill the Secret.
const FILL_PAUSE: Duration = Duration::from_secs(5);

/// How to be part of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterSettings {
    /// How the API server is reached.
    pub source: Source,
    /// Who and where we are.
    pub pod: Pod,
    /// Where the last known state is kept.
    pub state: PathBuf,
}

/// The cluster, watched.
pub struct Kubernetes {
    client: kube::Client,
    namespace: String,
    nodes: Watched<NodeRecord>,
    secret: Watched<Content>,
    keeper: Keeper,
    filling: JoinSet<()>,
    peers: BTreeMap<String, NodePeer>,
    metrics: Metrics,
}

impl Kubernetes {
    /// Begins to watch. What an earlier life knew is there at once.
    ///
    /// # Errors
    ///
    /// If there are no credentials; for people.
    pub async fn start(settings: &ClusterSettings, registry: &Registry) -> Result<Self, String> {
        let client = client::connect(&settings.source).await.map_err(|error| error.to_string())?;
        let namespace = settings.pod.namespace.clone();
        let config = Config::for_few().kept_in(settings.state.join("reflector-nodes.json"));
        let nodes = watch::start(Api::all(client.clone()), config, NodeRecord::of);
        let config = Config::for_few().kept_in(settings.state.join("reflector-key.json"));
        let secret = secret::watch(client.clone(), &namespace, config);
        Ok(Self {
            metrics: Metrics::new(registry).map_err(|error| error.to_string())?,
            client,
            namespace,
            nodes,
            secret,
            keeper: Keeper::default(),
            filling: JoinSet::new(),
            peers: BTreeMap::new(),
        })
    }

    /// Waits until there is something for [`Kubernetes::update`]. Cancel-safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = changed(&mut self.nodes.view) => {}
            () = changed(&mut self.secret.view) => {}
            Some(_) = self.filling.join_next() => {}
        }
    }

    /// Takes in what is known by now. Whether [`Kubernetes::neighbors`] are others.
    pub fn update(&mut self) -> bool {
        let peers = {
            let view = self.nodes.view.borrow_and_update();
            nodes::peers(&view.objects)
        };
        let differ = peers != self.peers;
        if differ {
            changes::log(&self.peers, &peers);
            self.peers = peers;
        }
        self.update_key() || differ
    }

    fn update_key(&mut self) -> bool {
        let news = {
            let view = self.secret.view.borrow_and_update();
            self.keeper.look(&view)
        };
        match news {
            Some(News::Key(_)) => {
                tracing::info!("the TCP-MD5 key of the workers is known; it is for all sessions from now on");
                true
            }
            Some(News::Fill) => {
                self.fill();
                false
            }
            Some(News::Problem(problem)) => {
                tracing::warn!(namespace = self.namespace, %problem, "the TCP-MD5 key of the workers");
                false
            }
            None => false,
        }
    }

    fn fill(&mut self) {
        if !self.filling.is_empty() {
            return;
        }
        let (client, namespace, known) = (self.client.clone(), self.namespace.clone(), self.keeper.key().cloned());
        self.filling.spawn(async move {
            loop {
                match secret::fill(client.clone(), &namespace, known.clone()).await {
                    Ok(filled) => {
                        tracing::info!(?filled, namespace, secret = secret::SECRET, "the TCP-MD5 key is made");
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "the TCP-MD5 key can't be made; trying again"),
                }
                tokio::time::sleep(FILL_PAUSE).await;
            }
        });
    }

    /// Whether it is known who may come: at least one Node, and the key.
    pub fn is_known(&self) -> bool {
        !self.peers.is_empty() && self.keeper.key().is_some()
    }

    /// The Nodes as neighbours, one for each of their addresses.
    pub fn neighbors(&self, identity: Identity, defaults: &PeerSettings) -> Vec<Neighbor> {
        let Some(key) = self.keeper.key() else { return Vec::new() };
        let mut all = Vec::new();
        for peer in self.peers.values().filter(|peer| peer.runs_worker) {
            let settings = settings_of(peer, defaults);
            let owner: Arc<str> = peer.uid.as_str().into();
            all.extend(peer.addresses.iter().map(|address| {
                // The port is for dialling, which a reflector never does.
                let address = SocketAddr::new(*address, BGP_PORT);
                let neighbor = neighbor(identity, address, &settings, Some(key.as_str().to_owned()), false);
                Neighbor {
                    owner: Some(Arc::clone(&owner)),
                    permission_source: "the Node's InternalIPs or its annotation megalos.dev/vtep",
                    ..neighbor
                }
            }));
        }
        all
    }

    /// Brings the metrics up to date.
    pub fn sample(&self) {
        self.metrics.sample(&self.peers, &self.nodes.view.borrow(), &self.secret.view.borrow());
        self.metrics.key.set(i64::from(self.keeper.key().is_some()));
    }
}

fn settings_of(peer: &NodePeer, defaults: &PeerSettings) -> PeerSettings {
    PeerSettings {
        name: Some(peer.name.clone()),
        next_hops: Some(peer.next_hops().into_iter().collect()),
        passive: Some(true),
        role: Some(Role::Client),
        ..defaults.clone()
    }
}

/// A watch whose task is gone never changes.
async fn changed<T>(view: &mut tokio::sync::watch::Receiver<View<T>>) {
    if view.changed().await.is_err() {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Metrics {
    watches: WatchMetrics,
    nodes: IntGauge,
    problems: IntGaugeVec,
    key: IntGauge,
}

impl Metrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let problems = Opts::new("megalos_cluster_node_problems", "What is wrong with a Node's addresses; 1 for each");
        let problems = IntGaugeVec::new(problems, &["node", "reason"])?;
        registry.register(Box::new(problems.clone()))?;
        let gauge = |name, help| daemon::speaker::gauge(registry, name, help);
        Ok(Self {
            watches: WatchMetrics::new(registry)?,
            nodes: gauge("megalos_cluster_nodes", "Nodes that are known")?,
            key: gauge("megalos_cluster_key_known", "1 once the TCP-MD5 key of the workers is known")?,
            problems,
        })
    }

    fn sample(&self, peers: &BTreeMap<String, NodePeer>, nodes: &View<NodeRecord>, secret: &View<Content>) {
        self.watches.sample("nodes", &nodes.health);
        self.watches.sample("secrets", &secret.health);
        self.nodes.set(i64::try_from(peers.len()).unwrap_or(i64::MAX));
        self.problems.reset();
        for peer in peers.values() {
            for problem in &peer.problems {
                self.problems.with_label_values(&[peer.name.as_str(), problem.reason()]).inc();
            }
        }
    }
}
