//! What the cluster's objects mean for the node that this is. Pure.
//!
//! In: views of the Nodes, of the reflectors' EndpointSlices and of the key's Secret. Out: what settings need, and what is
//! wrong. Nothing that was known is lost by an answer that says less: a node that had an address keeps it until it is said to
//! have another one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cluster::nodes::{self, NodePeer, NodeRecord};
use cluster::reflectors::{Keeper as Reflectors, SliceRecord};
use cluster::report::Problem;
use cluster::secret::{Content, Keeper as Key, News};
use cluster::watch::{Origin, View};

use crate::settings::Discovered;

/// See the module.
#[derive(Debug)]
pub(super) struct Picture {
    node: String,
    /// This node as its fellows see it, last.
    me: Option<NodePeer>,
    /// The tunnel endpoint that the worker runs with.
    held: Option<IpAddr>,
    /// Its InternalIPs when it had some.
    addresses: BTreeSet<IpAddr>,
    reflectors: Reflectors,
    key: Key,
    key_problem: Option<String>,
    /// How far the Nodes are known, and why not further.
    nodes: (Origin, Option<String>),
    slices_known: bool,
}

impl Picture {
    /// Of the Node of this name.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            me: None,
            held: None,
            addresses: BTreeSet::new(),
            reflectors: Reflectors::default(),
            key: Key::default(),
            key_problem: None,
            nodes: (Origin::Nothing, None),
            slices_known: false,
        }
    }

    /// This is what is known now.
    pub fn look(&mut self, nodes: &View<NodeRecord>, slices: &View<SliceRecord>, secret: &View<Content>) {
        self.nodes = (nodes.health.origin, nodes.health.away.as_ref().map(|away| away.error.clone()));
        if let Some(me) = nodes::peers(&nodes.objects).remove(&self.node) {
            if !me.addresses.is_empty() {
                self.addresses.clone_from(&me.addresses);
            }
            self.me = Some(me);
        }
        self.slices_known |= slices.health.origin == Origin::Api;
        self.reflectors.look(&slices.objects);
        match self.key.look(secret) {
            Some(News::Problem(problem)) => self.key_problem = Some(problem),
            Some(News::Key(_)) => self.key_problem = None,
            // Reflectors do that.
            Some(News::Fill) => {
                self.key_problem = self.key.key().is_none().then(|| {
                    "the Secret of the BGP key is empty: the first reflector fills it; are the reflectors running? \
                     `kubectl -n megalos-system get pods`"
                        .to_owned()
                });
            }
            None => {}
        }
    }

    /// The worker runs with this tunnel endpoint: until the cluster names another one it keeps it.
    pub fn hold(&mut self, vtep: IpAddr) {
        self.held = Some(vtep);
    }

    /// Whether the worker runs.
    pub const fn is_served(&self) -> bool {
        self.held.is_some()
    }

    /// What settings need; none before this node's tunnel endpoint is known. Sessions come from InternalIPs that `is_local`
    /// says the node has.
    pub fn discovered(&self, is_local: impl Fn(IpAddr) -> bool) -> Option<Discovered> {
        let vtep = self.me.as_ref().and_then(|me| me.vtep).or(self.held)?;
        let key = self.key.key().map(|key| key.as_str().to_owned());
        let ours = self.addresses.iter().copied().filter(|address| is_local(*address)).collect();
        // Reflectors take no session without the key.
        let reflectors = key.iter().flat_map(|_| self.reflectors.dial(&ours)).collect();
        Some(Discovered { vtep, reflectors, key })
    }

    /// The Node's uid.
    pub fn uid(&self) -> Option<String> {
        self.me.as_ref().map(|me| me.uid.clone())
    }

    /// Why the tunnel endpoint is not known, and what helps.
    pub fn ignorance(&self) -> String {
        match (&self.me, &self.nodes) {
            (Some(me), _) if !me.problems.is_empty() => {
                me.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and: ")
            }
            (Some(_), _) => "the Node has no address that is its own".to_owned(),
            (None, (_, Some(error))) => format!("nothing is known of the Node {}: {error}", self.node),
            (None, (Origin::Api, None)) => format!(
                "there is no Node {}; NODE_NAME must be the name that `kubectl get nodes` shows for this one",
                self.node
            ),
            (None, _) => format!("the API server was not heard yet, and nothing is known of the Node {}", self.node),
        }
    }

    /// What is wrong by what the objects say, the gravest first.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match &self.me {
            Some(me) => problems.extend(me.problems.iter().map(|problem| Problem {
                // One InternalIP of several may be odd as long as another one serves.
                impairs: me.vtep.is_none() || !matches!(problem, nodes::Problem::InvalidInternalIp { .. }),
                reason: problem.reason(),
                message: problem.to_string(),
            })),
            // The first answer may be on its way.
            None if self.nodes == (Origin::Nothing, None) || self.nodes == (Origin::Disk, None) => {}
            None => problems.push(Problem { impairs: true, reason: "NodeUnknown", message: self.ignorance() }),
        }
        if let Some(message) = &self.key_problem {
            problems.push(Problem { impairs: true, reason: "NoBgpKey", message: message.clone() });
        }
        if self.slices_known && self.reflectors.dial(&self.addresses).is_empty() {
            let message =
                "the Service megalos-reflector lists no reflector: LANs end at this node until there is one; see \
                           `kubectl -n megalos-system get pods`"
                    .to_owned();
            problems.push(Problem { impairs: true, reason: "NoReflector", message });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::SystemTime;

    use cluster::watch::{Away, Health};

    use super::*;

    fn view<T>(origin: Origin, objects: Vec<(&str, T)>) -> View<T> {
        let objects = objects.into_iter().map(|(name, object)| (name.to_owned(), object)).collect::<BTreeMap<_, _>>();
        View { objects: Arc::new(objects), health: Health { origin, ..Health::default() } }
    }

    fn node(name: &str, age: i64, ips: &[&str], vtep: Option<&str>) -> NodeRecord {
        NodeRecord {
            name: name.into(),
            uid: format!("uid-{name}"),
            created_secs: age,
            internal_ips: ips.iter().map(|&ip| ip.into()).collect(),
            vtep: vtep.map(str::to_owned),
            is_linux: true,
        }
    }

    fn slice(addresses: &[&str]) -> SliceRecord {
        let endpoints = addresses.iter().map(|address| ((*address).to_owned(), address.parse().unwrap())).collect();
        SliceRecord { endpoints }
    }

    fn key(text: &str) -> Content {
        Content::Key(cluster::secret::Key::new(text).unwrap())
    }

    /// A node with an address, one reflector and the key.
    fn usual(picture: &mut Picture, nodes: Vec<NodeRecord>) {
        let nodes = nodes.iter().map(|node| (node.name.as_str(), node.clone())).collect();
        picture.look(
            &view(Origin::Api, nodes),
            &view(Origin::Api, vec![("s", slice(&["10.0.0.1:1179"]))]),
            &view(Origin::Api, vec![("megalos-bgp", key("k"))]),
        );
    }

    fn reasons(picture: &Picture) -> Vec<(&'static str, bool)> {
        picture.problems().iter().map(|problem| (problem.reason, problem.impairs)).collect()
    }

    #[test]
    fn a_node_s_endpoint_is_its_own_address_and_what_is_wrong_with_it_has_a_name_and_a_cure() {
        type Case =
            (&'static str, Vec<NodeRecord>, Option<&'static str>, &'static [(&'static str, bool)], &'static str);
        let cases: [Case; 8] = [
            ("an InternalIP", vec![node("me", 2, &["10.0.0.9"], None)], Some("10.0.0.9"), &[], ""),
            ("IPv4 first", vec![node("me", 2, &["fd00::9", "10.0.0.9"], None)], Some("10.0.0.9"), &[], ""),
            ("unless annotated", vec![node("me", 2, &["10.0.0.9"], Some("fd00::9"))], Some("fd00::9"), &[], ""),
            ("none", vec![node("me", 2, &[], None)], None, &[("NoInternalIP", true)], "--node-ip"),
            (
                "another's, which is older",
                vec![node("me", 2, &["10.0.0.9"], None), node("old", 1, &["10.0.0.9"], None)],
                None,
                &[("DuplicateInternalIP", true)],
                "Node old's",
            ),
            (
                "another's, which is younger",
                vec![node("me", 2, &["10.0.0.9"], None), node("new", 3, &["10.0.0.9"], None)],
                Some("10.0.0.9"),
                &[],
                "",
            ),
            (
                "an annotation that is none",
                vec![node("me", 2, &["10.0.0.9"], Some("eth0"))],
                Some("10.0.0.9"),
                &[("InvalidVtep", true)],
                "megalos.dev/vtep",
            ),
            (
                "no such Node",
                vec![node("other", 1, &["10.0.0.9"], None)],
                None,
                &[("NodeUnknown", true)],
                "kubectl get nodes",
            ),
        ];
        for (name, nodes, vtep, problems, part) in cases {
            let mut picture = Picture::new("me");
            usual(&mut picture, nodes);
            let found = picture.discovered(|_| true).map(|discovered| discovered.vtep.to_string());
            assert_eq!((found.as_deref(), reasons(&picture).as_slice()), (vtep, problems), "{name}");
            let said = picture.problems().iter().all(|problem| problem.message.contains(part));
            assert!(said && (vtep.is_some() || picture.ignorance().contains(part)), "{name}: {}", picture.ignorance());
        }
    }

    #[test]
    fn what_was_known_is_kept_whatever_is_said_less_of_it() {
        let mut picture = Picture::new("me");
        usual(&mut picture, vec![node("me", 2, &["10.0.0.9"], None)]);
        let known = picture.discovered(|_| true).unwrap();
        assert_eq!(known.reflectors.len(), 1);
        picture.hold(known.vtep);
        usual(&mut picture, vec![node("me", 2, &[], None)]);
        assert_eq!(picture.discovered(|_| true), Some(known.clone()));
        assert_eq!(reasons(&picture), [("NoInternalIP", true)]);
        picture.look(
            &view(Origin::Api, vec![]),
            &view(Origin::Api, vec![("s", SliceRecord::default())]),
            &view(Origin::Api, vec![("megalos-bgp", Content::Empty)]),
        );
        assert_eq!(picture.discovered(|_| true), Some(known));
        usual(&mut picture, vec![node("me", 2, &["10.0.0.8"], None)]);
        let moved = picture.discovered(|_| true).unwrap();
        assert_eq!(moved.vtep.to_string(), "10.0.0.8");
        assert_eq!(moved.reflectors.values().next().unwrap().unwrap().to_string(), "10.0.0.8");
        assert!(reasons(&picture).is_empty());
        let source = |discovered: Option<Discovered>| discovered.unwrap().reflectors.into_values().next().unwrap();
        assert_eq!(source(picture.discovered(|_| false)), None, "what is not local is no session's source");
    }

    #[test]
    fn nobody_is_dialled_without_the_key_and_what_is_missing_is_said() {
        let mut picture = Picture::new("me");
        let nodes = || view(Origin::Api, vec![("me", node("me", 2, &["10.0.0.9"], None))]);
        let slices = || view(Origin::Api, vec![("s", slice(&["10.0.0.1:1179"]))]);
        picture.look(&nodes(), &slices(), &view(Origin::Api, vec![("megalos-bgp", Content::Empty)]));
        assert!(picture.discovered(|_| true).unwrap().reflectors.is_empty());
        assert_eq!(reasons(&picture), [("NoBgpKey", true)]);
        picture.look(&nodes(), &slices(), &view(Origin::Api, vec![("megalos-bgp", key("k"))]));
        assert_eq!(picture.discovered(|_| true).unwrap().key.as_deref(), Some("k"));
        assert!(reasons(&picture).is_empty());
        let mut picture = Picture::new("me");
        picture.look(&nodes(), &view(Origin::Api, vec![]), &view(Origin::Api, vec![("megalos-bgp", key("k"))]));
        assert_eq!(reasons(&picture), [("NoReflector", true)]);
    }

    #[test]
    fn before_the_api_server_is_heard_it_is_said_why() {
        let mut picture = Picture::new("me");
        let mut nodes = view(Origin::Nothing, vec![]);
        let look = |picture: &mut Picture, nodes: &View<NodeRecord>| {
            picture.look(nodes, &view(Origin::Nothing, vec![]), &view(Origin::Nothing, vec![]));
        };
        look(&mut picture, &nodes);
        assert!(picture.discovered(|_| true).is_none() && picture.ignorance().contains("was not heard yet"));
        assert!(reasons(&picture).is_empty(), "the answer may be on its way");
        nodes.health.away = Some(Away { since: SystemTime::UNIX_EPOCH, error: "connection refused".into() });
        look(&mut picture, &nodes);
        assert!(picture.ignorance().contains("connection refused"), "{}", picture.ignorance());
        assert_eq!(reasons(&picture), [("NodeUnknown", true)]);
    }
}
