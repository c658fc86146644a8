//! A running worker that follows its cluster: reflectors come and go, the node's address may change, and what is wrong is
//! reported.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp_core::types::PeerId;
use cluster::report::Problem;
use daemon::options::Settings as _;

use super::waiting::not_local;
use super::{Cluster, is_local};
use crate::core::HostProblem;
use crate::settings::Settings;
use crate::worker::Worker;

/// How long a reflector may be without a session before that is a problem: longer than a reflector needs to restart.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cluster, and what of it is not done yet.
#[derive(Debug)]
pub(crate) struct Steering {
    cluster: Cluster,
    /// Reflectors that are not listed any more, and whose routes nobody else has confirmed yet.
    leaving: BTreeSet<PeerId>,
    lacking: Lacking,
    /// The tunnel endpoint that this node should have.
    vtep: IpAddr,
    moved: bool,
}

impl Steering {
    /// A worker runs with these settings.
    pub fn new(cluster: Cluster, settings: &Settings) -> Self {
        Self { cluster, leaving: BTreeSet::new(), lacking: Lacking::default(), vtep: settings.vtep, moved: false }
    }

    /// Waits until the cluster has something to say; for ever where there is none. Cancel-safe.
    pub async fn changed(steering: &mut Option<Self>) {
        match steering {
            Some(steering) => steering.cluster.changed().await,
            None => std::future::pending().await,
        }
    }

    /// A reflector is not listed any more.
    pub fn leaves(&mut self, reflector: PeerId) {
        self.leaving.insert(reflector);
    }

    /// Brings the metrics of watches up to date.
    pub fn sample(&self) {
        self.cluster.sample();
    }

    /// The process ends because the node has another address.
    pub const fn has_moved(&self) -> bool {
        self.moved
    }
}

impl Worker {
    /// Takes in what the cluster says.
    pub(crate) fn cluster_changed(&mut self) {
        if let Some(steering) = &mut self.steering {
            steering.cluster.look();
        }
        self.follow_cluster();
    }

    /// Follows what the cluster said last, as far as this node has the addresses for it.
    fn follow_cluster(&mut self) {
        let Some(steering) = &mut self.steering else { return };
        let Some(discovered) = steering.cluster.discovered() else { return };
        if self.options.discovered.as_ref() == Some(&discovered) {
            return;
        }
        self.options.discovered = Some(discovered);
        let newer = match Settings::load(&self.options) {
            Ok(newer) => newer,
            Err(error) => {
                tracing::error!(%error, "what the cluster says does not go with the configuration; what runs stays as it is");
                return;
            }
        };
        steering.vtep = newer.vtep;
        if self.settings.peers == newer.peers {
            return;
        }
        if !newer.peers.keys().eq(self.settings.peers.keys()) {
            tracing::info!(reflectors = ?newer.peers.keys().collect::<Vec<_>>(), "the reflectors are others now");
        }
        self.settings.peers = newer.peers;
        if let Err(error) = self.configure_peers() {
            tracing::error!(%error, "not every reflector is dialled");
        }
    }

    /// Forgets reflectors that are not listed any more, once all others with a session, and at least one, have said what they
    /// know.
    pub(crate) fn let_reflectors_go(&mut self) {
        let Some(steering) = self.steering.as_mut().filter(|steering| !steering.leaving.is_empty()) else { return };
        let listed = &self.settings.peers;
        let is_listed = |peer: &bgp_io::PeerStatus<'_>| listed.contains_key(&peer.neighbor.spec.address.ip());
        let (mut back, mut up) = (Vec::new(), Vec::new());
        for peer in self.speaker.peers().filter(is_listed) {
            back.push(peer.id);
            up.extend(peer.session.map(|_| peer.id));
        }
        steering.leaving.retain(|id| !back.contains(id));
        if up.is_empty() || !up.iter().all(|id| self.speaker.rib.has_said_all(*id)) {
            return;
        }
        for id in std::mem::take(&mut steering.leaving) {
            tracing::info!(reflector = ?self.speaker.address(id), "this reflector is not listed any more, and others know what it knew");
            self.speaker.remove_peer(id);
        }
    }

    /// Looks whether this node is as it should be, and tells what is not; the error ends the process, for people.
    pub(crate) async fn check_node(&mut self) -> Result<(), String> {
        self.follow_cluster();
        let Some(steering) = &mut self.steering else { return Ok(()) };
        let mut problems = Vec::new();
        let (had, wanted) = (self.settings.vtep, steering.vtep);
        if is_local(had) {
            steering.cluster.is_connected();
        } else {
            steering.cluster.reconnect().await;
        }
        if !is_local(wanted) {
            problems.push(Problem { impairs: true, reason: "VtepNotLocal", message: not_local(wanted) });
        } else if had != wanted {
            steering.moved = true;
            return Err(format!(
                "this node's address for LANs is {wanted} now and was {had}: the worker starts again with it, and takes over the \
                 LANs that there are"
            ));
        }
        let now = Instant::now();
        let listed = &self.settings.peers;
        let sessions = self.speaker.peers().map(|peer| (peer.neighbor.spec.address.ip(), peer.session.is_some()));
        let lacking = steering.lacking.look(sessions.filter(|(address, _)| listed.contains_key(address)), now);
        if !lacking.is_empty() {
            problems.push(Problem { impairs: true, reason: "ReflectorUnreachable", message: unreachable(&lacking) });
        }
        problems.extend(self.core.host_problems().into_iter().map(|problem| Problem {
            impairs: problem.impairs(),
            reason: problem.reason(),
            message: problem.to_string(),
        }));
        problems.extend(self.core.host_problems().iter().map(host_problem));
        steering.cluster.report(problems);
        Ok(())
    }
}

/// What is wrong with the host, for the cluster. A VNI that nobody asks for is only worth knowing: a cluster network's own
/// VXLAN has one for good.
fn host_problem(problem: &HostProblem) -> Problem {
    let impairs = !matches!(problem, HostProblem::VniReserved { members: 0, .. });
    Problem { impairs, reason: problem.reason(), message: problem.to_string() }
}

fn unreachable(reflectors: &[IpAddr]) -> String {
    let list = reflectors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "no session with the reflector {list}: nodes that share no reflector do not meet on their LANs; is its pod running, and \
         does TCP port 1179 pass between the nodes? `megalos show peers` on the node has the last error"
    )
}

/// Since when reflectors are without a session. Pure.
#[derive(Debug, Default)]
struct Lacking {
    since: BTreeMap<IpAddr, Instant>,
}

impl Lacking {
    /// Those that are without a session for longer than they may be.
    fn look(&mut self, sessions: impl Iterator<Item = (IpAddr, bool)>, now: Instant) -> Vec<IpAddr> {
        let down: BTreeSet<IpAddr> = sessions.filter_map(|(address, up)| (!up).then_some(address)).collect();
        self.since.retain(|address, _| down.contains(address));
        for address in down {
            self.since.entry(address).or_insert(now);
        }
        let late = self.since.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= PATIENCE);
        late.map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_vni_impairs_only_those_who_are_on_it() {
        let reserved = |members| HostProblem::VniReserved {
            vni: bgp_core::types::Vni::new(4_096).unwrap(),
            device: "vxlan.calico".into(),
            udp_port: 4_789,
            members,
        };
        let taken = HostProblem::PortTaken { device: "geneve".into(), udp_port: 4_789 };
        for (problem, impairs) in [(reserved(0), false), (reserved(1), true), (taken, true)] {
            assert_eq!(host_problem(&problem).impairs, impairs, "{problem}");
        }
    }

    #[test]
    fn a_reflector_is_lacking_when_it_was_without_a_session_for_long_enough_in_a_row() {
        let start = Instant::now();
        let [a, b] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let mut lacking = Lacking::default();
        let mut look = |secs, sessions: &[(IpAddr, bool)]| {
            lacking.look(sessions.iter().copied(), start + Duration::from_secs(secs))
        };
        assert!(look(0, &[(a, false), (b, true)]).is_empty());
        assert!(look(29, &[(a, false), (b, false)]).is_empty());
        assert_eq!(look(30, &[(a, false), (b, false)]), [a]);
        assert_eq!(look(59, &[(a, false), (b, false)]), [a, b]);
        assert_eq!(look(60, &[(a, true), (b, false)]), [b]);
        assert_eq!(look(61, &[(a, false), (b, false)]), [b], "a begins anew");
        assert!(look(62, &[(a, false)]).is_empty(), "who is not listed is not missed");
    }
}
