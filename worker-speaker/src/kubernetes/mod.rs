//! The cluster that this worker is part of: where its settings come from, and who is told what is wrong.
//!
//! ```text
//!   Nodes, EndpointSlices, Secret ──watch──► Picture ──► Discovered ──► Settings (with flags and file)
//!   problems ──► log, metric, Node condition, Events
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `picture` | what the objects mean for this node, without I/O |
//! | `steering` | a running worker that follows its cluster |
//! | `waiting` | the time before this node's tunnel endpoint is known |

mod picture;
mod steering;
mod waiting;

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::client;
use cluster::metrics::WatchMetrics;
use cluster::multus;
use cluster::nodes::NodeRecord;
use cluster::reflectors::{self, SliceRecord};
use cluster::report::{Problem, Report, Reporter};
use cluster::secret::{self, Content};
use cluster::watch::{self, Config, Watched};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::task::JoinSet;

use self::picture::Picture;
use crate::settings::{ClusterSettings, Discovered};

pub(crate) use steering::Steering;
pub(crate) use waiting::{Endpoint, wait_for_endpoint};

/// Whether an interface of this node has the address.
fn is_local(address: IpAddr) -> bool {
    // Only a lack of the address counts, not one of ports or descriptors.
    let bound = UdpSocket::bind((address, 0));
    !bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    settings: ClusterSettings,
    state: PathBuf,
    line: Line,
    /// When the line may be opened anew, and the pause after that.
    reconnect: (Instant, Duration),
    picture: Picture,
    reported: BTreeSet<Problem>,
    problems: IntGaugeVec,
    metrics: WatchMetrics,
}

/// The first pause between two lines to the API server, and the longest.
const RECONNECT: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(300)];

/// Everything that has connections to the API server.
#[derive(Debug)]
struct Line {
    nodes: Watched<NodeRecord>,
    slices: Watched<SliceRecord>,
    secret: Watched<Content>,
    reporter: Reporter,
    lacks_multus: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Line {
    /// Begins to watch; the last known state stands in `state`. The API server may be away.
    async fn open(settings: &ClusterSettings, state: &Path) -> Result<Self, String> {
        let ClusterSettings { source, pod } = settings;
        let client = client::connect(source).await.map_err(|error| error.to_string())?;
        let (lacks_multus, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        tasks.spawn(look_for_multus(client.clone(), Arc::clone(&lacks_multus)));
        let config = |file: &str| Config::for_many().kept_in(state.join(file));
        Ok(Self {
            nodes: watch::start(Api::<Node>::all(client.clone()), config("nodes.json"), NodeRecord::of),
            slices: reflectors::watch(client.clone(), &pod.namespace, config("reflectors.json")),
            secret: secret::watch(client.clone(), &pod.namespace, Config::for_many().kept_in(secret::cache(state))),
            reporter: Reporter::start(client, pod.node.as_deref().unwrap_or_default()),
            lacks_multus,
            _tasks: tasks,
        })
    }
}

/// How often it is asked for Multus while it is missing, and while it is there.
const MULTUS_INTERVALS: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(600)];

/// Looks now and then whether Multus is there; while that is not known it is not missed.
async fn look_for_multus(client: Client, lacks: Arc<AtomicBool>) {
    loop {
        if let Ok(served) = multus::definitions_served(&client).await {
            lacks.store(!served, Ordering::Relaxed);
        }
        let [missing, there] = MULTUS_INTERVALS;
        tokio::time::sleep(if lacks.load(Ordering::Relaxed) { missing } else { there }).await;
    }
}

impl Cluster {
    /// Begins to watch; the last known state stands in `state`. The API server may be away.
    pub async fn start(settings: &ClusterSettings, state: &Path, registry: &Registry) -> Result<Self, String> {
        let node = settings.pod.node.clone().ok_or(
            "which Node is this? NODE_NAME is not set; the pod's manifest sets it from spec.nodeName, as install.yaml does",
        )?;
        let problems = IntGaugeVec::new(
            Opts::new(
                "megalos_node_problems",
                "What keeps this node from its LANs, by the reason in the Node's condition MegalosReady",
            ),
            &["reason"],
        );
        let problems = problems.map_err(|error| error.to_string())?;
        registry.register(Box::new(problems.clone())).map_err(|error| error.to_string())?;
        Ok(Self {
            line: Line::open(settings, state).await?,
            reconnect: (Instant::now(), RECONNECT[0]),
            settings: settings.clone(),
            state: state.to_owned(),
            picture: Picture::new(&node),
            reported: BTreeSet::new(),
            problems,
            metrics: WatchMetrics::new(registry).map_err(|error| error.to_string())?,
        })
    }

    /// The node has lost an address, and connections that came from it wait for answers that will never arrive: begins with
    /// new ones, again and again with longer and longer pauses.
    pub async fn reconnect(&mut self) {
        let (at, pause) = self.reconnect;
        if Instant::now() < at {
            return;
        }
        self.reconnect = (Instant::now() + pause, (pause * 2).min(RECONNECT[1]));
        match Line::open(&self.settings, &self.state).await {
            Ok(line) => self.line = line,
            Err(error) => tracing::warn!(%error, "the API server is not asked anew"),
        }
    }

    /// The node has the addresses that it should have.
    pub fn is_connected(&mut self) {
        self.reconnect = (Instant::now(), RECONNECT[0]);
    }

    /// Waits until something is different in the cluster, or whether it is heard. Cancel-safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.line.nodes.view.changed() => {}
            Ok(()) = self.line.slices.view.changed() => {}
            Ok(()) = self.line.secret.view.changed() => {}
            else => std::future::pending().await,
        }
    }

    /// Takes in what the cluster says now.
    pub fn look(&mut self) {
        let (nodes, slices, secret) = (
            self.line.nodes.view.borrow_and_update().clone(),
            self.line.slices.view.borrow_and_update().clone(),
            self.line.secret.view.borrow_and_update().clone(),
        );
        self.picture.look(&nodes, &slices, &secret);
    }

    /// What that means for this node; none before it was enough.
    pub fn discovered(&self) -> Option<Discovered> {
        self.picture.discovered(is_local)
    }

    /// The worker runs with this tunnel endpoint.
    pub fn hold(&mut self, vtep: IpAddr) {
        self.picture.hold(vtep);
    }

    /// Brings the metrics of watches up to date.
    pub fn sample(&self) {
        self.metrics.sample("nodes", &self.line.nodes.view.borrow().health);
        self.metrics.sample("endpointslices", &self.line.slices.view.borrow().health);
        self.metrics.sample("secrets", &self.line.secret.view.borrow().health);
    }

    /// Why nothing is known of this node's tunnel endpoint.
    pub fn ignorance(&self) -> String {
        self.picture.ignorance()
    }

    /// Tells whom it may concern what is wrong: what the objects say themselves, and `others`.
    pub fn report(&mut self, others: Vec<Problem>) {
        let mut problems = self.picture.problems();
        problems.extend(others);
        if self.line.lacks_multus.load(Ordering::Relaxed) {
            // LANs work without it, for whoever calls the plugin by other means.
            let message = multus::MISSING.to_owned();
            problems.push(Problem { impairs: false, reason: "MultusMissing", message });
        }
        let now: BTreeSet<Problem> = problems.iter().cloned().collect();
        if now != self.reported {
            for problem in now.difference(&self.reported) {
                tracing::warn!(reason = problem.reason, "{}", problem.message);
            }
            let reasons: BTreeSet<_> = now.iter().map(|problem| problem.reason).collect();
            for problem in self.reported.iter().filter(|problem| !reasons.contains(problem.reason)) {
                tracing::info!(reason = problem.reason, "this is no problem any more");
            }
            self.reported = now;
            self.problems.reset();
            for problem in &self.reported {
                self.problems.with_label_values(&[problem.reason]).inc();
            }
        }
        // Nothing is wrong, but nothing is served either.
        if problems.is_empty() && !self.picture.is_served() {
            return;
        }
        self.line.reporter.report(Report { problems, node_uid: self.picture.uid() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_local_or_not() {
        assert!(is_local([127, 0, 0, 1].into()));
        assert!(!is_local([198, 51, 100, 1].into()));
    }
}
