//! The naive model of a RIB, which recomputes everything: the table against a naive decision, and what each peer holds,
//! from decoding what it was sent, against what the rules say it is to hold.
//!
//! In go [`Step`]s, from the property tests and from the fuzz targets; a difference is a panic.

use std::collections::BTreeMap;

use super::*;
use crate::mobility::newest_sequence;
use crate::types::MacMobility;
use crate::wire::attributes::{AsSegment, community};

/// The families of all peers that constrain their routes.
pub const FAMILIES: [AddressFamily; 2] = [AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN];

/// Number, class, and whether RT-constrain is negotiated.
pub const PEERS: [(u8, PeerClass, bool); 7] = [
    (2, PeerClass::Client, true),
    (4, PeerClass::Client, true),
    (5, PeerClass::Client, true),
    (6, PeerClass::Client, false),
    (8, PeerClass::NonClient, true),
    (10, PeerClass::NonClient, false),
    (12, PeerClass::External, true),
];

/// What differs between the attributes of two announcements.
#[derive(Clone, Debug)]
pub struct Flavour {
    pub vni: u32,
    pub sequence: u32,
    pub sticky: bool,
    pub local_pref: u32,
    pub med: Option<u32>,
    pub neighbour: Option<u32>,
    pub long: bool,
    pub community: Option<u32>,
}

/// What of a session outlives it.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    Nothing,
    /// For 100 s (RFC 4724).
    Restart,
    /// For 100 s, then long-lived for 300 s (RFC 9494).
    Both,
    /// Long-lived for 300 s.
    LongLived,
}

/// What happens; peers are named by their place in [`PEERS`].
#[derive(Clone, Debug)]
pub enum Step {
    Announce {
        peer: usize,
        origin: u8,
        macs: Vec<u8>,
        label: u32,
        flavour: Flavour,
    },
    Withdraw {
        peer: usize,
        origin: u8,
        macs: Vec<u8>,
    },
    Ask {
        peer: usize,
        membership: RtMembership,
    },
    Decline {
        peer: usize,
        membership: RtMembership,
    },
    /// With the F bits of both capabilities.
    Up {
        peer: usize,
        forwarding: bool,
        long_lived: bool,
    },
    Down {
        peer: usize,
        keep: Keep,
    },
    /// Seconds pass.
    Wait(u64),
    EndOfRib {
        peer: usize,
        family: AddressFamily,
    },
    Refresh(usize),
    Flush,
    Read {
        peer: usize,
        octets: usize,
    },
}

/// A path in the model.
#[derive(Clone, Debug)]
struct Path {
    payload: EvpnPayload,
    attributes: PathAttributes,
    stale: bool,
}

/// Since a peer has said all that a family has.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// When its time to come back, or to say all, is over.
    deadline: Option<Instant>,
    /// When all that it has not repeated goes.
    until: Option<Instant>,
    long_lived: bool,
    overdue: bool,
}

/// The naive model: all paths, and what each peer was sent.
struct Model {
    rib: Rib,
    paths: BTreeMap<EvpnKey, BTreeMap<u32, Path>>,
    memberships: BTreeMap<u32, BTreeMap<RtMembership, bool>>,
    views: BTreeMap<u32, View>,
    times: BTreeMap<(u32, AddressFamily), Times>,
    now: Instant,
}

fn class(peer: u32) -> (PeerClass, bool) {
    let found = PEERS.iter().find(|(number, ..)| u32::from(*number) == peer).unwrap();
    (found.1, found.2)
}

impl Model {
    fn new(role: Role) -> Self {
        let mut config = RibConfig::new(role, ASN, RouterId(1), address(1));
        config.log_limit_octets = 1_500;
        let mut rib = Rib::new(config, NOW);
        rib.set_expected_peers([]);
        rib.local_ready();
        let mut model = Self {
            rib,
            paths: BTreeMap::new(),
            memberships: BTreeMap::new(),
            views: BTreeMap::new(),
            times: BTreeMap::new(),
            now: NOW,
        };
        (0..PEERS.len()).for_each(|peer| model.up(peer, true, true));
        model
    }

    fn up(&mut self, index: usize, forwarding: bool, long_lived: bool) {
        let (number, class, constrained) = PEERS[index];
        let peer = u32::from(number);
        if self.views.contains_key(&peer) {
            return;
        }
        let mut info = info(number, class, constrained);
        for family in &mut info.families {
            (family.forwarding_preserved, family.long_lived_preserved) = (forwarding, long_lived);
        }
        self.rib.peer_up(PeerId(peer), info, self.now);
        self.views.insert(peer, View::default());
        for family in FAMILIES {
            let times = self.times.entry((peer, family)).or_default();
            let preserved = if times.long_lived { long_lived } else { forwarding };
            if !preserved {
                *times = Times::default();
            }
            times.deadline = Some(self.now + Duration::from_secs(120));
            if !preserved {
                self.sweep(peer, family, false);
            }
        }
    }

    fn down(&mut self, peer: u32, keep: Keep) {
        if self.views.remove(&peer).is_none() {
            return;
        }
        let (restart, long) = match keep {
            Keep::Nothing | Keep::Restart => (100, 0),
            Keep::Both => (100, 300),
            Keep::LongLived => (0, 300),
        };
        let families: &[AddressFamily] = if matches!(keep, Keep::Nothing) { &[] } else { &FAMILIES };
        self.rib.peer_down(PeerId(peer), &keeping(families, restart, long), self.now);
        for family in FAMILIES {
            let mut times = self.times.get(&(peer, family)).copied().unwrap_or_default();
            let restart_over = self.now + Duration::from_secs(restart);
            if matches!(keep, Keep::Nothing) || times.overdue {
                times = Times::default();
                self.sweep(peer, family, false);
            } else if long == 0 {
                times = Times { deadline: Some(restart_over), ..Times::default() };
                self.sweep(peer, family, true);
            } else {
                times.until = times.until.or(Some(restart_over + Duration::from_secs(long)));
                times.deadline = Some(restart_over).min(times.until);
            }
            self.times.insert((peer, family), times);
            self.mark_stale(peer, family);
        }
        self.expire();
    }

    fn mark_stale(&mut self, peer: u32, family: AddressFamily) {
        if family == AddressFamily::EVPN {
            self.paths.values_mut().filter_map(|paths| paths.get_mut(&peer)).for_each(|path| path.stale = true);
        } else {
            self.memberships.entry(peer).or_default().values_mut().for_each(|stale| *stale = true);
        }
    }

    /// Every deadline that has come is acted on.
    fn expire(&mut self) {
        let now = self.now;
        for ((peer, family), mut times) in self.times.clone() {
            let up = self.views.contains_key(&peer);
            let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
            if over(times.deadline) && !up && times.until.is_some() && !over(times.until) {
                (times.deadline, times.long_lived) = (times.until, true);
                self.mark_long_lived(peer, family);
            } else if over(times.deadline) {
                times = Times::default();
                self.sweep(peer, family, true);
            } else if up && over(times.until) && !times.overdue {
                times.overdue = true;
                self.sweep(peer, family, true);
            }
            self.times.insert((peer, family), times);
        }
    }

    fn mark_long_lived(&mut self, peer: u32, family: AddressFamily) {
        for paths in self.paths.values_mut().filter(|_| family == AddressFamily::EVPN) {
            let refuses = |path: &Path| path.stale && path.attributes.communities.contains(&community::NO_LLGR);
            paths.retain(|other, path| *other != peer || !refuses(path));
            let Some(path) = paths.get_mut(&peer).filter(|path| path.stale) else { continue };
            if !path.attributes.communities.contains(&community::LLGR_STALE) {
                path.attributes.communities.push(community::LLGR_STALE);
            }
        }
    }

    /// Drops stale routes, or all.
    fn sweep(&mut self, peer: u32, family: AddressFamily, stale_only: bool) {
        if family == AddressFamily::EVPN {
            for paths in self.paths.values_mut() {
                paths.retain(|other, path| *other != peer || (stale_only && !path.stale));
            }
        } else {
            self.memberships.entry(peer).or_default().retain(|_, stale| stale_only && !*stale);
        }
    }

    /// Does the same to the RIB and to the model.
    fn apply(&mut self, step: Step) {
        match step {
            Step::Up { peer, forwarding, long_lived } => self.up(peer, forwarding, long_lived),
            Step::Wait(secs) => {
                self.now = self.now + Duration::from_secs(secs);
                self.rib.handle_timeout(self.now);
                self.expire();
            }
            Step::Down { peer, keep } => self.down(u32::from(PEERS[peer].0), keep),
            Step::Flush => self.rib.flush(),
            Step::Announce { peer, .. }
            | Step::Withdraw { peer, .. }
            | Step::Ask { peer, .. }
            | Step::Decline { peer, .. }
            | Step::EndOfRib { peer, .. }
            | Step::Refresh(peer)
            | Step::Read { peer, .. } => {
                let number = u32::from(PEERS[peer].0);
                if self.views.contains_key(&number) {
                    self.apply_up(number, step);
                }
            }
        }
    }

    fn apply_up(&mut self, peer: u32, step: Step) {
        let id = PeerId(peer);
        match step {
            Step::Announce { origin, macs, label, flavour, .. } => self.announce(peer, origin, &macs, label, &flavour),
            Step::Withdraw { origin, macs, .. } => {
                let routes: Vec<_> = macs.iter().map(|mac| mac_route(origin, 1, *mac)).collect();
                self.rib.update(id, withdraw(&routes), self.now);
                for route in routes {
                    self.paths.entry(route.key).or_default().remove(&peer);
                }
            }
            Step::Ask { membership, .. } => {
                if self.rib.update(id, ask(membership), self.now).ignored == 0 {
                    self.memberships.entry(peer).or_default().insert(membership, false);
                }
            }
            Step::Decline { membership, .. } => {
                self.rib.update(id, decline(membership), self.now);
                self.memberships.entry(peer).or_default().remove(&membership);
            }
            Step::EndOfRib { family, .. } => {
                // Of a family that the session does not have it means nothing.
                if class(peer).1 || family == AddressFamily::EVPN {
                    self.sweep(peer, family, true);
                    self.times.insert((peer, family), Times::default());
                }
                self.rib.update(id, end_of_rib(family), self.now);
            }
            Step::Refresh(_) => {
                let refresh = RouteRefresh { family: AddressFamily::EVPN, kind: RefreshKind::Request };
                self.rib.route_refresh(id, refresh, self.now);
            }
            Step::Read { octets, .. } => {
                self.views.get_mut(&peer).unwrap().read(&mut self.rib, id, octets);
            }
            Step::Up { .. } | Step::Down { .. } | Step::Wait(_) | Step::Flush => unreachable!(),
        }
    }

    fn announce(&mut self, peer: u32, origin: u8, macs: &[u8], label: u32, flavour: &Flavour) {
        let payload = EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: vni(label).into(), label2: None };
        let attributes = flavoured(peer, flavour);
        let routes: Vec<_> =
            macs.iter().map(|mac| Route { key: mac_route(origin, 1, *mac).key, payload: payload.clone() }).collect();
        self.rib.update(PeerId(peer), announce(routes.clone(), attributes.clone()), self.now);
        for route in routes {
            let path = Path { payload: payload.clone(), attributes: attributes.clone(), stale: false };
            self.paths.entry(route.key).or_default().insert(peer, path);
        }
    }

    /// The best path of a key, computed step by step from all of them.
    fn best(&self, key: &EvpnKey) -> Option<u32> {
        let paths = self.paths.get(key)?;
        let mut left: Vec<(u32, &Path)> = paths.iter().map(|(peer, path)| (*peer, path)).collect();
        keep_lowest(&mut left, |(_, path)| path.attributes.communities.contains(&community::LLGR_STALE));
        keep_lowest(&mut left, |(_, path)| path.stale);
        keep_lowest(&mut left, |(_, path)| !path.attributes.mac_mobility().sticky);
        let newest = newest_sequence(left.iter().map(|(_, path)| path.attributes.mac_mobility().sequence));
        left.retain(|(_, path)| Some(path.attributes.mac_mobility().sequence) == newest);
        keep_lowest(&mut left, |(_, path)| path.attributes.next_hop);
        let local_pref = |peer: u32, path: &Path| match class(peer).0 {
            PeerClass::External => 100,
            _ => path.attributes.local_pref.unwrap_or(100),
        };
        keep_lowest(&mut left, |(peer, path)| core::cmp::Reverse(local_pref(*peer, path)));
        keep_lowest(&mut left, |(_, path)| path.attributes.as_path.len());
        keep_lowest(&mut left, |(_, path)| path.attributes.origin);
        let med = |path: &Path| (path.attributes.as_path.first(), path.attributes.med.unwrap_or(0));
        let all: Vec<_> = left.iter().map(|(_, path)| med(path)).collect();
        left.retain(|(_, path)| !all.iter().any(|(asn, other)| *asn == med(path).0 && *other < med(path).1));
        keep_lowest(&mut left, |(peer, _)| class(*peer).0 != PeerClass::External);
        // Router ids and addresses of these peers rise with their numbers.
        left.first().map(|(peer, _)| *peer)
    }

    fn wants(&self, peer: u32, attributes: &PathAttributes) -> bool {
        let asked = self.memberships.get(&peer);
        !class(peer).1
            || asked.into_iter().flatten().any(|(membership, _)| match membership {
                RtMembership::Default => true,
                RtMembership::Target { target, .. } => attributes.route_targets().any(|rt| rt.vni() == target.vni()),
                RtMembership::Prefix { .. } => attributes.route_targets().next().is_some(),
            })
    }

    /// What a peer is to hold.
    fn expected(&self, peer: u32) -> BTreeMap<EvpnKey, (EvpnPayload, PathAttributes)> {
        let mut expected = BTreeMap::new();
        for key in self.paths.keys() {
            let Some(source) = self.best(key).filter(|source| *source != peer) else { continue };
            let path = &self.paths[key][&source];
            let extended = peer.is_multiple_of(2);
            let too_long = path.attributes.large_communities.len() > 100 && !extended;
            let long_lived = path.attributes.communities.contains(&community::LLGR_STALE);
            // An external peer that does not know what that is.
            let unknown = long_lived && peer == 12;
            let split = class(source).0 == PeerClass::NonClient && class(peer).0 == PeerClass::NonClient;
            if !split && !too_long && !unknown && self.wants(peer, &path.attributes) {
                expected.insert(key.clone(), (path.payload.clone(), as_sent(path, source, peer)));
            }
        }
        expected
    }

    /// The table holds every path, and has chosen as the rules say.
    fn check_table(&self) {
        let mut held: BTreeMap<(EvpnKey, u32), (bool, bool, PathAttributes)> = BTreeMap::new();
        for route in self.rib.routes() {
            let facts = (route.best, route.stale, PathAttributes::clone(route.attributes));
            held.insert((route.key.clone(), route.peer.0), facts);
        }
        let mut expected = BTreeMap::new();
        for (key, paths) in &self.paths {
            let best = self.best(key);
            let facts = |(peer, path): (&u32, &Path)| {
                ((key.clone(), *peer), (best == Some(*peer), path.stale, path.attributes.clone()))
            };
            expected.extend(paths.iter().map(facts));
        }
        assert_eq!(held, expected);
    }

    /// Everybody reads everything.
    fn settle(&mut self) {
        self.rib.flush();
        let mut views = core::mem::take(&mut self.views);
        for (peer, view) in &mut views {
            view.drain(&mut self.rib, PeerId(*peer));
        }
        self.views = views;
    }

    /// The end of a history: everybody reads everything, timers run out, all leave, and nothing remains.
    fn finish(mut self) {
        self.settle();
        self.check_table();
        self.check_views();
        // After all timers, stale routes are gone, and each peer has had one end-of-RIB per family.
        self.apply(Step::Wait(1_000));
        assert!(self.rib.routes().all(|route| !route.stale));
        self.settle();
        self.check_table();
        self.check_views();
        for (peer, view) in &self.views {
            let evpn = view.end_of_ribs.iter().filter(|family| **family == AddressFamily::EVPN).count();
            assert_eq!(evpn, 1, "peer {peer}");
        }
        for (peer, ..) in PEERS {
            self.rib.peer_removed(PeerId(u32::from(peer)));
        }
        self.rib.flush();
        let stats = self.rib.stats();
        assert_eq!(stats.destinations + stats.paths + stats.dead_destinations, 0);
        assert_eq!(stats.attribute_sets + stats.target_sets + stats.log_octets, 0);
    }

    /// Every peer holds exactly what the rules say.
    fn check_views(&self) {
        for (peer, view) in &self.views {
            let expected = self.expected(*peer);
            assert_eq!(view.routes, expected, "peer {peer}");
            if peer.is_multiple_of(2) {
                assert_eq!(self.rib.advertised(PeerId(*peer)), expected.len());
            }
        }
    }
}

fn keep_lowest<T, K: Ord>(left: &mut Vec<T>, key: impl Fn(&T) -> K) {
    if let Some(lowest) = left.iter().map(&key).min() {
        left.retain(|item| key(item) == lowest);
    }
}

fn flavoured(peer: u32, flavour: &Flavour) -> PathAttributes {
    let mut attributes = PathAttributes::new(address(u8::try_from(peer).unwrap() % 4 + 1));
    if flavour.vni > 0 {
        attributes.extended_communities.push(RouteTarget::auto(ASN, vni(flavour.vni)).community());
    }
    let mobility = MacMobility { sticky: flavour.sticky, sequence: flavour.sequence };
    attributes.extended_communities.push(ExtendedCommunity::mac_mobility(mobility));
    (attributes.local_pref, attributes.med) = (Some(flavour.local_pref), flavour.med);
    attributes.communities.extend(flavour.community);
    if let Some(neighbour) = flavour.neighbour {
        attributes.as_path.segments.push(AsSegment(vec![Asn(neighbour)]));
    }
    if flavour.long {
        attributes.large_communities = (0..400).map(|number| [1, 2, number]).collect();
    }
    attributes
}

fn as_sent(path: &Path, source: u32, peer: u32) -> PathAttributes {
    let mut attributes = path.attributes.clone();
    let external = class(source).0 == PeerClass::External;
    if class(peer).0 == PeerClass::External {
        if !attributes.as_path.is_empty() {
            attributes.med = None;
        }
        attributes.local_pref = None;
        match attributes.as_path.segments.first_mut() {
            Some(first) => first.0.insert(0, ASN),
            None => attributes.as_path.segments.push(AsSegment(vec![ASN])),
        }
    } else if !external {
        attributes.originator_id = Some(RouterId(0x0a00_0000 + source));
        attributes.cluster_list.insert(0, 99);
    }
    if peer == 6 && attributes.communities.contains(&community::LLGR_STALE) {
        attributes.local_pref = Some(0);
        attributes.communities.push(community::NO_EXPORT);
    }
    attributes
}

/// A reflector's history: the table is right whenever it has settled, and in the end everybody holds what the rules say.
pub fn reflector_history(steps: impl IntoIterator<Item = Step>) {
    let mut model = Model::new(Role::Reflector { cluster_id: Some(99) });
    for step in steps {
        let flushed = matches!(step, Step::Flush);
        model.apply(step);
        if flushed {
            model.check_table();
        }
    }
    model.finish();
}

/// A worker's history: the changes that it is told of add up to the best routes.
pub fn worker_history(steps: impl IntoIterator<Item = Step>) {
    let mut model = Model::new(Role::Worker);
    let mut known = BTreeMap::new();
    for step in steps {
        let flushed = matches!(step, Step::Flush);
        model.apply(step);
        if !flushed {
            continue;
        }
        for change in model.rib.drain_changes() {
            match change.best {
                Some(best) => known.insert(change.key, (best.peer.0, best.payload, (*best.attributes).clone())),
                None => known.remove(&change.key),
            };
        }
        let best = model.rib.routes().filter(|route| route.best);
        let expected: BTreeMap<_, _> = best
            .map(|route| (route.key.clone(), (route.peer.0, route.payload.clone(), (**route.attributes).clone())))
            .collect();
        assert_eq!(known, expected);
    }
}
