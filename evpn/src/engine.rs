//! The engine: all MAC-VRFs of a worker, found by VNI.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bgp_core::time::Instant;
use bgp_core::types::{EthernetTag, MacAddr, MacMobility, RouteDistinguisher, Vni};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes, RtMembership};
use thiserror::Error;

use crate::config::Config;
use crate::forwarding::{Desired, Key};
use crate::import::{self, Exclusion, Imported, MacRoute, MulticastRoute, Refusal, Remote};
use crate::mac::Learned;
use crate::outputs::{Context, Outputs, Timer};
use crate::report::Report;
use crate::routes::{self, LocalRoute, Origination};
use crate::vrf::{MacVrf, Sighting, Standing};

/// A local port of a LAN, named by the owner: any number that no two ports of a LAN share, such as the interface index.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Member(pub u64);

/// What a CNI ADD knows of an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its addresses, if any.
    pub ips: Vec<IpAddr>,
    /// Announce the MAC as sticky: it must not move (RFC 7432 section 15.2).
    pub sticky: bool,
}

/// Why a claim was not taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ClaimError {
    /// The port is not a member of the LAN.
    #[error("port {} is not attached to VNI {vni}: attach it before claiming a MAC for it", member.0)]
    NotAttached {
        /// The LAN.
        vni: Vni,
        /// The port.
        member: Member,
    },
    /// No station can own the MAC.
    #[error("{mac} is zero or a group address: give the interface a unicast MAC")]
    NotUnicast {
        /// The MAC.
        mac: MacAddr,
    },
}

/// All MAC-VRFs of a worker. Inputs take effect at once; outputs are polled until `None`. Bridge events are to be given
/// in the order in which they happened.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    vrfs: BTreeMap<Vni, MacVrf>,
    /// Where the route of a key was imported.
    homes: HashMap<EvpnKey, Vni>,
    out: Outputs,
}

/// How much an engine remembers: all zero where no LAN is and nothing is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Footprint {
    /// LANs of which anything is known.
    pub lans: usize,
    /// Imported routes.
    pub routes: usize,
    /// Own routes and memberships as last polled.
    pub announced: usize,
    /// Outputs that nobody has polled.
    pub waiting: usize,
    /// Deadlines.
    pub timers: usize,
    /// What deadlines are for: tunnels that linger and MACs that are frozen for a time, in LANs without members too.
    pub timed: usize,
}

/// Identity of an imported route within its LAN.
enum RouteId {
    Mac(MacAddr, MacRoute),
    Multicast(MulticastRoute),
}

impl Engine {
    /// An engine without LANs.
    pub fn new(config: Config) -> Self {
        Self { config, vrfs: BTreeMap::new(), homes: HashMap::new(), out: Outputs::default() }
    }

    /// What the engine was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    // ---- LANs and their members ----

    /// A port joins a LAN. With the first, the LAN is announced: membership, type 3.
    pub fn attach(&mut self, vni: Vni, member: Member, now: Instant) {
        self.with(vni, now, |vrf, cx| vrf.attach(member, cx));
    }

    /// A port leaves a LAN, or is gone: its claims and the MACs learned on it end. With the last, the LAN is withdrawn,
    /// and nothing of it should stay in the kernel.
    pub fn detach(&mut self, vni: Vni, member: Member, now: Instant) {
        self.with_known(vni, now, |vrf, cx| vrf.detach(member, cx));
    }

    /// The LAN is served whether it has members or not, because its VXLAN device exists and belongs to someone else.
    pub fn serve(&mut self, vni: Vni, now: Instant) {
        self.with(vni, now, |vrf, cx| vrf.set_served(true, cx));
    }

    /// The device of a served LAN is gone.
    pub fn unserve(&mut self, vni: Vni, now: Instant) {
        self.with_known(vni, now, |vrf, cx| vrf.set_served(false, cx));
    }

    /// A device of this node in the LAN, such as the bridge, has this MAC, or has it no more. No route leads frames for it
    /// away, whatever its sequence.
    pub fn device(&mut self, vni: Vni, mac: MacAddr, present: bool, now: Instant) {
        if mac.is_unicast() {
            self.with(vni, now, |vrf, cx| vrf.device(mac, present, cx));
        }
    }

    /// The MACs of this node's devices, by LAN.
    pub fn devices(&self) -> impl Iterator<Item = (Vni, MacAddr)> + '_ {
        self.vrfs.values().flat_map(|vrf| vrf.devices.iter().map(|mac| (vrf.vni, *mac)))
    }

    // ---- Local MACs ----

    /// A CNI ADD: the MAC moves here, with the highest known sequence + 1. A claim made before the LAN's routes are known
    /// ([`Self::set_informed`], [`Config::learning_time`]) is repeated above whoever turns up meanwhile. One made in knowledge of its
    /// former owner is repeated once above that owner within the claim window, and yields to everybody else: who comes later
    /// and higher has seen it. A claim that has yielded is not taken back by frames, only by another claim or the
    /// withdrawal of the last rival.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]; nothing has changed then.
    pub fn claim(&mut self, vni: Vni, member: Member, claim: &Claim, now: Instant) -> Result<(), ClaimError> {
        self.hold(vni, member, claim, Standing::Fresh, now)
    }

    /// A claim that an earlier life of this worker took, with the sequence it had then: with less, what is left of the MAC's
    /// former places would win over it. It is announced again, but it is no move: it does not outbid a
    /// known rival, and does not answer one that arrives.
    ///
    /// # Errors
    ///
    /// As [`Self::claim`].
    pub fn restore(
        &mut self,
        vni: Vni,
        member: Member,
        claim: &Claim,
        sequence: u32,
        now: Instant,
    ) -> Result<(), ClaimError> {
        self.hold(vni, member, claim, Standing::Restored { sequence }, now)
    }

    /// The sequence that a MAC is held with here, if it is.
    pub fn sequence(&self, vni: Vni, mac: MacAddr) -> Option<u32> {
        Some(self.vrfs.get(&vni)?.macs.get(&mac)?.local.as_ref()?.sequence)
    }

    /// The next MAC whose claim was repeated with another sequence since it was made.
    pub fn poll_renumbered(&mut self) -> Option<(Vni, MacAddr)> {
        self.out.renumbered.pop_first()
    }

    fn hold(
        &mut self,
        vni: Vni,
        member: Member,
        claim: &Claim,
        standing: Standing,
        now: Instant,
    ) -> Result<(), ClaimError> {
        if !claim.mac.is_unicast() {
            return Err(ClaimError::NotUnicast { mac: claim.mac });
        }
        if !self.vrfs.get(&vni).is_some_and(|vrf| vrf.ports.contains_key(&member)) {
            return Err(ClaimError::NotAttached { vni, member });
        }
        self.with_known(vni, now, |vrf, cx| vrf.claim(member, claim, standing, cx));
        Ok(())
    }

    /// A CNI DEL: ends the claim of that member, and what the bridge learned on it for that MAC.
    pub fn release(&mut self, vni: Vni, member: Member, mac: MacAddr, now: Instant) {
        self.with_known(vni, now, |vrf, cx| vrf.release(mac, member, cx));
    }

    /// The bridge has a row for the MAC on a local port. `sticky` is the row's flag. A MAC known as remote moves here
    /// with its sequence + 1 (RFC 7432 section 15), unless it is sticky there, claimed here, or frozen; its key is then
    /// dirty, so that the row is written again. Repeating a row that never left the port changes nothing. On a
    /// port that is not attached, the event says only that the MAC has left the port where it was learned.
    pub fn learned(&mut self, vni: Vni, member: Member, mac: MacAddr, sticky: bool, now: Instant) {
        if mac.is_unicast() {
            let learned = Learned { member, sticky };
            self.with_known(vni, now, |vrf, cx| vrf.learned(mac, learned, Sighting::Row, cx));
        }
    }

    /// A frame on a local port took over the bridge's remote row. As [`Self::learned`], but always a move.
    pub fn taken_over(&mut self, vni: Vni, member: Member, mac: MacAddr, sticky: bool, now: Instant) {
        if mac.is_unicast() {
            let learned = Learned { member, sticky };
            self.with_known(vni, now, |vrf, cx| vrf.learned(mac, learned, Sighting::TakenOver, cx));
        }
    }

    /// The bridge has no row for the MAC on this port any more: aged, deleted, or moved. A late event of an earlier port
    /// does no harm.
    pub fn forgotten(&mut self, vni: Vni, member: Member, mac: MacAddr, now: Instant) {
        self.with_known(vni, now, |vrf, cx| vrf.forgotten(mac, member, cx));
    }

    /// The MAC's rows were written as remote, as this engine wished: whatever port the bridge knew it on, it no longer
    /// does. May come later than the news that a frame has taken the written row over; that stands.
    pub fn written_remote(&mut self, vni: Vni, mac: MacAddr, now: Instant) {
        self.with_known(vni, now, |vrf, cx| vrf.written_remote(mac, cx));
    }

    /// An operator says that a frozen MAC may move again.
    pub fn clear_duplicate(&mut self, vni: Vni, mac: MacAddr, now: Instant) {
        self.with_known(vni, now, |vrf, cx| vrf.unfreeze(mac, cx));
    }

    // ---- Routes ----

    /// The best path of a key changed; `None` where there is none any more. Routes of this worker itself are not to be
    /// given. Types 1, 4, 5 and unknown ones are ignored.
    pub fn route_changed(&mut self, key: &EvpnKey, best: Option<(&EvpnPayload, &PathAttributes)>, now: Instant) {
        let imported = best.and_then(|(payload, attributes)| self.classify(key, payload, attributes));
        let home = self.homes.get(key).copied();
        if let Some(home) = home
            && imported.as_ref().is_none_or(|imported| imported.vni != home)
        {
            self.remove_route(home, key, now);
        }
        if let Some(imported) = imported {
            self.put_route(key, imported, now);
        }
    }

    /// Which LAN a route belongs to, if any.
    pub(crate) fn import(
        &self,
        key: &EvpnKey,
        payload: &EvpnPayload,
        attributes: &PathAttributes,
    ) -> Result<Option<Imported>, Refusal> {
        let serves = |vni| self.vrfs.get(&vni).is_some_and(MacVrf::is_active);
        import::classify(&self.config, key, payload, attributes, serves)
    }

    fn classify(&mut self, key: &EvpnKey, payload: &EvpnPayload, attributes: &PathAttributes) -> Option<Imported> {
        self.import(key, payload, attributes).unwrap_or_else(|reason| {
            self.out.report(Report::RouteRefused { key: key.clone(), reason });
            None
        })
    }

    fn put_route(&mut self, key: &EvpnKey, imported: Imported, now: Instant) {
        let Imported { vni, route } = imported;
        let stored = self.with(vni, now, |vrf, cx| {
            let exclusion = match &route {
                Remote::Mac(route) => {
                    route.exclusion.or(vrf.devices.contains(&route.mac).then_some(Exclusion::OwnDevice))
                }
                Remote::Multicast(route) => route.exclusion,
            };
            if let Some(reason) = exclusion.filter(|_| vrf.is_active()) {
                cx.out.report(Report::RouteExcluded { vni: vrf.vni, key: key.clone(), reason });
            }
            match route {
                Remote::Mac(route) => vrf.put_mac(route, cx).is_ok(),
                Remote::Multicast(route) => {
                    vrf.put_multicast(route, cx);
                    true
                }
            }
        });
        if stored {
            self.homes.insert(key.clone(), vni);
        } else {
            self.out.report(Report::RouteRefused { key: key.clone(), reason: Refusal::TooMany });
        }
    }

    fn remove_route(&mut self, home: Vni, key: &EvpnKey, now: Instant) {
        self.homes.remove(key);
        let Some(id) = route_id(key) else { return };
        self.with_known(home, now, |vrf, cx| match id {
            RouteId::Mac(mac, route) => vrf.remove_mac(mac, &route, cx),
            RouteId::Multicast(route) => vrf.remove_multicast(&route, cx),
        });
    }

    // ---- Restart ----

    /// A row that was found in the kernel at start. It stays desired until a route confirms or replaces it, or
    /// [`Self::sweep`]. The members of its LAN are to be attached first: what has no member is not desired.
    pub fn adopted(&mut self, key: Key, found: Desired, now: Instant) {
        self.with(key.vni(), now, |vrf, cx| vrf.adopt(key, found, cx));
    }

    /// Every reflector has said what it knows: rows that no route has confirmed go.
    pub fn sweep(&mut self, now: Instant) {
        let stale: Vec<Vni> = self.vrfs.iter().filter(|(_, vrf)| !vrf.stale.is_empty()).map(|(vni, _)| *vni).collect();
        for vni in stale {
            self.with_known(vni, now, MacVrf::sweep);
        }
    }

    /// Whether a reflector has said all it knows. While none has, and for [`Config::learning_time`] after that, a claim is
    /// made without knowing who had the MAC before. Repeating it changes nothing.
    pub fn set_informed(&mut self, informed: bool, now: Instant) {
        self.out.knowledge.set(informed, now);
    }

    // ---- Time ----

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.out.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.next_deadline().is_some_and(|at| at <= now) {
            let Some((_, timer)) = self.out.timers.pop_first() else { return };
            match timer {
                Timer::Tunnel(vni) => self.with_known(vni, now, MacVrf::linger_ended),
                Timer::Thaw(vni, mac) => self.with_known(vni, now, |vrf, cx| vrf.unfreeze(mac, cx)),
            }
        }
    }

    // ---- Outputs ----

    /// The next route to announce or to withdraw. Ten changes between polls are one origination, and none where the end
    /// is the beginning.
    pub fn poll_origination(&mut self) -> Option<Origination> {
        while let Some(route) = self.out.routes.pop_first() {
            let wanted = self.wanted(route);
            let announced = match wanted {
                Some(mobility) => self.out.announced.insert(route, mobility),
                None => self.out.announced.remove(&route),
            };
            if announced != wanted {
                let announcement = wanted.map(|mobility| route.announcement(&self.config, mobility));
                return Some(Origination { key: route.key(&self.config), route: announcement });
            }
        }
        None
    }

    /// The next membership to announce (`true`) or to withdraw.
    pub fn poll_membership(&mut self) -> Option<(RtMembership, bool)> {
        while self.out.memberships.is_empty() {
            let vni = self.out.interests.pop_first()?;
            let wanted = self.vrfs.get(&vni).is_some_and(MacVrf::is_active);
            let changed = if wanted { self.out.interested.insert(vni) } else { self.out.interested.remove(&vni) };
            if changed {
                let all = routes::memberships(&self.config, vni);
                self.out.memberships.extend(all.into_iter().map(|membership| (membership, wanted)));
            }
        }
        self.out.memberships.pop_front()
    }

    /// The next key whose state may have changed: tunnels first, each key once however often it changed.
    pub fn poll_dirty(&mut self) -> Option<Key> {
        self.out.dirty.pop_first()
    }

    /// The state of a key, now. `None`: it should not exist.
    pub fn desired(&self, key: Key) -> Option<Desired> {
        self.vrfs.get(&key.vni()).and_then(|vrf| vrf.desired(key))
    }

    /// All keys that should exist, with their state: for audits. Costs a walk over everything.
    pub fn all_desired(&self) -> BTreeMap<Key, Desired> {
        let keys = self.vrfs.values().flat_map(MacVrf::keys);
        keys.filter_map(|key| self.desired(key).map(|desired| (key, desired))).collect()
    }

    /// The next thing that an operator should know.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.out.pop_report()
    }

    /// Reports that were lost because nobody polled.
    pub fn dropped_reports(&self) -> u64 {
        self.out.dropped_reports()
    }

    /// Whether a LAN has a member here, or is served.
    pub fn is_active(&self, vni: Vni) -> bool {
        self.vrfs.get(&vni).is_some_and(MacVrf::is_active)
    }

    /// How much is remembered.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            lans: self.vrfs.len(),
            routes: self.homes.len(),
            announced: self.out.announced.len() + self.out.interested.len(),
            waiting: self.out.dirty.len()
                + self.out.routes.len()
                + self.out.interests.len()
                + self.out.memberships.len()
                + self.out.renumbered.len(),
            timers: self.out.timers.len(),
            timed: self.vrfs.values().map(MacVrf::timed).sum(),
        }
    }

    // ---- Inside ----

    pub(crate) fn vrfs(&self) -> &BTreeMap<Vni, MacVrf> {
        &self.vrfs
    }

    /// What an own route should be announced with, if at all.
    fn wanted(&self, route: LocalRoute) -> Option<MacMobility> {
        match route {
            LocalRoute::Multicast(vni) => {
                self.vrfs.get(&vni).filter(|vrf| vrf.is_active()).map(|_| MacMobility::default())
            }
            LocalRoute::Mac(vni, mac, ip) => {
                let vrf = self.vrfs.get(&vni)?;
                let mobility = vrf.macs.get(&mac)?.published?;
                ip.is_none_or(|ip| vrf.claims_address(mac, ip)).then_some(mobility)
            }
        }
    }

    /// Runs an input on the MAC-VRF of a VNI, made if there is none and dropped if nothing of it is left.
    fn with<T>(&mut self, vni: Vni, now: Instant, input: impl FnOnce(&mut MacVrf, &mut Context<'_>) -> T) -> T {
        let Self { config, vrfs, out, .. } = self;
        let vrf = vrfs.entry(vni).or_insert_with(|| MacVrf::new(vni, &config.limits));
        let output = input(vrf, &mut Context { config, out, now });
        if vrf.is_empty() {
            vrfs.remove(&vni);
        }
        output
    }

    /// Runs an input on the MAC-VRF of a VNI, if there is one.
    fn with_known(&mut self, vni: Vni, now: Instant, input: impl FnOnce(&mut MacVrf, &mut Context<'_>)) {
        if self.vrfs.contains_key(&vni) {
            self.with(vni, now, input);
        }
    }
}

fn route_id(key: &EvpnKey) -> Option<RouteId> {
    match *key {
        EvpnKey::MacIp { rd, tag, mac, ip } => Some(RouteId::Mac(mac, mac_route(rd, tag, ip))),
        EvpnKey::InclusiveMulticast { rd, tag, originator } => {
            Some(RouteId::Multicast(MulticastRoute { rd, tag, originator }))
        }
        _ => None,
    }
}

fn mac_route(rd: RouteDistinguisher, tag: EthernetTag, ip: Option<IpAddr>) -> MacRoute {
    MacRoute { rd, tag, ip }
}
