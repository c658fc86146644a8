//! Who the peers are, changed while sessions run: a reflector, and workers on loopback addresses of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_core::rib::{PeerClass, PeerLimits, Permission, RibConfig, Role, RouteTypes};
use bgp_core::session::{PeerConfig, State, StopReason};
use bgp_core::types::{Asn, MacAddr, RouteDistinguisher, RouteTarget, RouterId, Vni};
use bgp_core::wire::{Evpn, EvpnKey, EvpnPayload, PathAttributes, Route, RtMembership};
use bgp_io::{Event, Io, Neighbor, PeerSpec, Speaker};
use tokio::sync::mpsc::Receiver;

const ASN: Asn = Asn(65_000);
const PATIENCE: Duration = Duration::from_secs(20);
/// A next hop that is nobody's loopback address.
const VTEP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Workers keep forwarding while they are away (F bit).
fn spec(address: SocketAddr, local: Option<IpAddr>, router_id: RouterId) -> PeerSpec {
    let mut session = PeerConfig::new(ASN, router_id);
    session.passive = local.is_none();
    session.connect_retry = bgp_core::time::Duration::from_millis(100);
    let families = session.graceful_restart.iter_mut().flat_map(|restart| &mut restart.families);
    families.for_each(|(_, forwarding)| *forwarding = true);
    PeerSpec { address, local_address: local, key: None, gtsm: false, restarting: false, session }
}

/// A speaker with its sessions, and what it heard.
struct Host {
    speaker: Speaker,
    events: Receiver<Event>,
    listens: Vec<SocketAddr>,
    router_id: RouterId,
    /// Best routes by MAC, at a worker.
    routes: BTreeMap<MacAddr, IpAddr>,
    /// Changes of them.
    changes: usize,
}

impl Host {
    async fn start(role: Role, number: u8, listen: &[SocketAddr]) -> Self {
        let router_id = RouterId(number.into());
        let (mut io, events) = Io::start(listen, 64).await.unwrap();
        io.open().unwrap();
        let listens = io.local_addresses();
        let mut speaker = Speaker::new(RibConfig::new(role, ASN, router_id, VTEP), io);
        if role == Role::Worker {
            speaker.rib.originate_membership(RtMembership::Default);
            speaker.rib.local_ready();
        }
        Self { speaker, events, listens, router_id, routes: BTreeMap::new(), changes: 0 }
    }

    fn step(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            assert!(self.speaker.handle(event).is_none(), "nobody is accepted who is no peer");
        }
        if self.speaker.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.speaker.handle_timeout();
        }
        self.speaker.flush();
        for change in self.speaker.rib.drain_changes() {
            let EvpnKey::MacIp { mac, .. } = change.key else { panic!("only type 2 is announced") };
            self.changes += 1;
            match change.best {
                Some(best) => _ = self.routes.insert(mac, best.attributes.next_hop),
                None => _ = self.routes.remove(&mac),
            }
        }
    }

    /// Dials the reflector from `local`.
    fn dial(&mut self, reflector: SocketAddr, local: IpAddr) {
        let spec = spec(reflector, Some(local), self.router_id);
        self.speaker.set_peer(neighbor(spec, None, Permission::default())).unwrap();
    }

    fn announce(&mut self, mac: u8, next_hop: IpAddr) {
        let vni = Vni::new(100).unwrap();
        let mac = MacAddr([2, 0, 0, 0, 0, mac]);
        let rd = RouteDistinguisher::ipv4(self.router_id.0.into(), 100);
        let key = EvpnKey::MacIp { rd, tag: Default::default(), mac, ip: None };
        let payload = EvpnPayload::MacIp { esi: Default::default(), label: vni.into(), label2: None };
        let mut attributes = PathAttributes::new(next_hop);
        attributes.extended_communities.push(RouteTarget::auto(ASN, vni).community());
        self.speaker.rib.originate(Route::<Evpn> { key, payload }, attributes);
    }

    fn count(&self, code: &str) -> u64 {
        self.speaker.ledger().counts().iter().filter(|count| count.rule.code() == code).map(|count| count.count).sum()
    }

    /// The peers with their states and numbers of sessions.
    fn peers(&self) -> BTreeMap<IpAddr, (State, u64)> {
        self.speaker.peers().map(|peer| (peer.neighbor.spec.address.ip(), (peer.state, peer.established))).collect()
    }
}

fn neighbor(spec: PeerSpec, owner: Option<&str>, permission: Permission) -> Neighbor {
    Neighbor {
        spec,
        class: if owner.is_some() { PeerClass::Client } else { PeerClass::NonClient },
        limits: PeerLimits::default(),
        owner: owner.map(Into::into),
        name: owner.map(Into::into),
        permission: Arc::new(permission),
        permission_source: "the test",
        sent_types: RouteTypes::ALL,
        dynamic: false,
    }
}

/// A reflector, and workers that it knows as Nodes.
struct Fabric {
    reflector: Host,
    workers: Vec<Host>,
}

impl Fabric {
    async fn start(workers: u8) -> Self {
        let listen = [SocketAddr::new(ip("127.0.0.1"), 0), SocketAddr::new(ip("::1"), 0)];
        let reflector = Host::start(Role::Reflector { cluster_id: None }, 200, &listen).await;
        let mut all = Vec::new();
        for number in 1..=workers {
            all.push(Host::start(Role::Worker, number, &[]).await);
        }
        Self { reflector, workers: all }
    }

    /// The Nodes as the reflector is told of them: owner, address, allowed next hops.
    fn know(&mut self, nodes: &[(&str, &str, &[IpAddr])]) {
        let wanted = nodes.iter().map(|(owner, address, hops)| {
            let permission = Permission { next_hops: Some(hops.iter().copied().collect::<BTreeSet<_>>()), vnis: None };
            neighbor(spec(SocketAddr::new(ip(address), 179), None, RouterId(200)), Some(owner), permission)
        });
        self.reflector.speaker.set_peers(wanted.collect()).unwrap();
        self.reflector.speaker.expect_peers();
    }

    fn dial(&mut self, worker: usize, local: &str) {
        let local = ip(local);
        let address = self.reflector.listens.iter().find(|address| address.is_ipv4() == local.is_ipv4()).copied();
        self.workers[worker].dial(address.unwrap(), local);
    }

    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.reflector.step();
            self.workers.iter_mut().for_each(Host::step);
            if holds(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.reflector.peers());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn up(&self, address: &str, sessions: u64) -> bool {
        self.reflector.peers().get(&ip(address)) == Some(&(State::Established, sessions))
    }

    /// Until a marker that a worker announces last has crossed: what was on its way before has arrived.
    async fn settle(&mut self, from: usize, at: usize, marker: u8, next_hop: IpAddr) {
        self.workers[from].announce(marker, next_hop);
        let mac = MacAddr([2, 0, 0, 0, 0, marker]);
        self.until("a marker crosses", |fabric| fabric.workers[at].routes.get(&mac) == Some(&next_hop)).await;
    }
}

/// Two workers with a route each and one that watches: at 127.0.0.11, .12 and .13.
async fn three() -> Fabric {
    let mut fabric = Fabric::start(3).await;
    fabric.know(&[("a", "127.0.0.11", &[VTEP]), ("b", "127.0.0.12", &[ip("192.0.2.2")]), ("c", "127.0.0.13", &[])]);
    fabric.workers[0].announce(1, VTEP);
    fabric.workers[1].announce(2, ip("192.0.2.2"));
    for (worker, local) in ["127.0.0.11", "127.0.0.12", "127.0.0.13"].into_iter().enumerate() {
        fabric.dial(worker, local);
    }
    fabric.until("all routes are everywhere", |fabric| fabric.workers[2].routes.len() == 2).await;
    fabric.workers[2].changes = 0;
    fabric
}

#[tokio::test]
async fn a_node_that_is_removed_is_purged_at_once_and_nobody_else_hears_of_anything_else() {
    let mut fabric = three().await;
    fabric.know(&[("b", "127.0.0.12", &[ip("192.0.2.2")]), ("c", "127.0.0.13", &[])]);
    fabric.until("its route goes", |fabric| fabric.workers[2].routes.len() == 1).await;
    assert_eq!(fabric.workers[2].changes, 1);
    assert!(fabric.up("127.0.0.12", 1) && fabric.up("127.0.0.13", 1));
    assert_eq!(fabric.reflector.peers().len(), 2);
}

#[tokio::test]
async fn routes_wait_for_a_node_that_comes_to_another_address() {
    let mut fabric = three().await;
    fabric.know(&[("a", "127.0.0.21", &[VTEP]), ("b", "127.0.0.12", &[ip("192.0.2.2")]), ("c", "127.0.0.13", &[])]);
    fabric.dial(0, "127.0.0.21");
    fabric.until("the session is up again", |fabric| fabric.up("127.0.0.21", 2)).await;
    fabric.until("nothing is stale", |fabric| fabric.reflector.speaker.rib.routes().all(|route| !route.stale)).await;
    fabric.settle(0, 2, 9, VTEP).await;
    assert_eq!(fabric.workers[2].changes, 1, "the marker alone");
    assert!(fabric.up("127.0.0.12", 1) && fabric.up("127.0.0.13", 1));
    assert_eq!(fabric.reflector.peers().len(), 3);
}

#[tokio::test]
async fn routes_wait_for_a_node_that_keeps_one_of_its_addresses_and_came_from_the_other() {
    let mut fabric = three().await;
    let (b, c): ([IpAddr; 1], [IpAddr; 0]) = ([ip("192.0.2.2")], []);
    let others: [(&str, &str, &[IpAddr]); 2] = [("b", "127.0.0.12", &b), ("c", "127.0.0.13", &c)];
    let [both, new] = [&["127.0.0.11", "127.0.0.21"][..], &["127.0.0.21"]];
    for addresses in [both, new] {
        let mut nodes: Vec<(&str, &str, &[IpAddr])> =
            addresses.iter().map(|address| ("a", *address, &[VTEP][..])).collect();
        nodes.extend(others);
        fabric.know(&nodes);
    }
    fabric.dial(0, "127.0.0.21");
    fabric.until("the session is up again", |fabric| fabric.up("127.0.0.21", 2)).await;
    fabric.settle(0, 2, 9, VTEP).await;
    assert_eq!(fabric.workers[2].changes, 1, "the marker alone");
    assert_eq!(fabric.reflector.peers().len(), 3);
}

#[tokio::test]
async fn a_next_hop_that_is_not_the_nodes_any_more_goes_at_once_and_the_new_one_follows() {
    let mut fabric = three().await;
    let new = ip("192.0.2.77");
    fabric.know(&[("a", "127.0.0.21", &[new]), ("b", "127.0.0.12", &[ip("192.0.2.2")]), ("c", "127.0.0.13", &[])]);
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    fabric.until("the old one goes", |fabric| !fabric.workers[2].routes.contains_key(&mac)).await;
    fabric.dial(0, "127.0.0.21");
    fabric.workers[0].announce(1, new);
    fabric.until("the new one comes", |fabric| fabric.workers[2].routes.get(&mac) == Some(&new)).await;
    assert_eq!(fabric.workers[2].changes, 2);
}

#[tokio::test]
async fn an_address_that_another_node_has_now_takes_nothing_over_from_the_old_one() {
    let mut fabric = three().await;
    // The same address and the same allowed next hop: only the Node is another.
    fabric.know(&[("x", "127.0.0.11", &[VTEP]), ("b", "127.0.0.12", &[ip("192.0.2.2")]), ("c", "127.0.0.13", &[])]);
    fabric.until("the old Node's route goes", |fabric| fabric.workers[2].changes > 0).await;
    fabric.until("who is there now is heard", |fabric| fabric.workers[2].routes.len() == 2).await;
    assert!(fabric.up("127.0.0.12", 1) && fabric.up("127.0.0.13", 1));
}

#[tokio::test]
async fn two_nodes_that_swap_their_addresses_both_come_back() {
    let mut fabric = three().await;
    fabric.know(&[("b", "127.0.0.11", &[ip("192.0.2.2")]), ("a", "127.0.0.12", &[VTEP]), ("c", "127.0.0.13", &[])]);
    fabric.until("both are purged", |fabric| fabric.workers[2].routes.is_empty()).await;
    fabric.dial(0, "127.0.0.12");
    fabric.dial(1, "127.0.0.11");
    fabric.until("both are back", |fabric| fabric.workers[2].routes.len() == 2).await;
    assert!(fabric.up("127.0.0.13", 1));
}

#[tokio::test]
async fn a_node_may_come_from_each_of_its_addresses_and_need_not() {
    let mut fabric = Fabric::start(2).await;
    fabric.know(&[("a", "127.0.0.11", &[VTEP]), ("a", "::1", &[VTEP]), ("b", "127.0.0.12", &[])]);
    fabric.workers[0].announce(1, VTEP);
    fabric.dial(0, "::1");
    fabric.dial(1, "127.0.0.12");
    fabric.until("one address is enough", |fabric| fabric.reflector.speaker.rib.is_synchronised()).await;
    fabric.until("its route arrives", |fabric| fabric.workers[1].routes.len() == 1).await;
    fabric.dial(0, "127.0.0.11");
    fabric.until("both sessions are up", |fabric| fabric.up("127.0.0.11", 1) && fabric.up("::1", 1)).await;
    fabric.settle(0, 1, 9, VTEP).await;
    assert_eq!(fabric.reflector.count("router-id-shared"), 0, "one speaker has one router id");
    // What came by one address stays when the other is taken away.
    fabric.workers[1].changes = 0;
    fabric.know(&[("a", "::1", &[VTEP]), ("b", "127.0.0.12", &[])]);
    fabric.settle(0, 1, 10, VTEP).await;
    assert_eq!(fabric.workers[1].routes.len(), 3);
}

#[tokio::test]
async fn the_restart_bit_is_set_until_our_own_end_of_rib_has_left() {
    let mut fabric = Fabric::start(1).await;
    // The second Node is not there, so the reflector holds its end-of-RIB back.
    let restarting = |address: &str, owner| {
        let spec = PeerSpec { restarting: true, ..spec(SocketAddr::new(ip(address), 179), None, RouterId(200)) };
        neighbor(spec, Some(owner), Permission::default())
    };
    let both = vec![restarting("127.0.0.11", "a"), restarting("127.0.0.12", "b")];
    fabric.reflector.speaker.set_peers(both).unwrap();
    fabric.reflector.speaker.expect_peers();
    fabric.dial(0, "127.0.0.11");
    for (sessions, told) in [(1, false), (2, false), (3, true)] {
        fabric.until("the session is up", |fabric| fabric.up("127.0.0.11", sessions)).await;
        let heard = |fabric: &Fabric| {
            let worker = &fabric.workers[0].speaker;
            worker.peers().find_map(|peer| peer.session.map(|(agreed, _)| agreed.peer_restarting()))
        };
        fabric.until("the worker says what it heard", |fabric| heard(fabric) == Some(!told)).await;
        if sessions == 2 {
            fabric.reflector.speaker.set_peers(vec![restarting("127.0.0.11", "a")]).unwrap();
            fabric.until("end-of-RIB arrives", |fabric| fabric.workers[0].speaker.rib.is_informed()).await;
        }
        let id = fabric.reflector.speaker.peer_at(ip("127.0.0.11")).unwrap();
        fabric.reflector.speaker.io().stop(id, StopReason::Reset { administrative: true });
    }
}

#[tokio::test]
async fn another_permission_takes_effect_without_ending_a_session() {
    let mut fabric = three().await;
    let other = ip("192.0.2.5");
    fabric.workers[0].announce(3, other);
    fabric.until("it is refused", |fabric| fabric.reflector.count("next-hop-not-allowed") > 0).await;
    fabric.settle(0, 2, 9, VTEP).await;
    assert_eq!(fabric.workers[2].routes.len(), 3, "the refused one is not among them");
    let refusal = |fabric: &Fabric| {
        let mut peers = fabric.reflector.speaker.peers();
        let peer = peers.find(|peer| peer.neighbor.name.as_deref() == Some("a")).unwrap();
        peer.last_refusal.map(str::to_owned)
    };
    let words = refusal(&fabric).unwrap();
    for part in ["127.0.0.11 (a)", "next hop 192.0.2.5", "192.0.2.1", "change the test"] {
        assert!(words.contains(part), "{part} is missing in: {words}");
    }
    let nodes =
        |hops: &'static [IpAddr]| [("a", "127.0.0.11", hops), ("b", "127.0.0.12", &[]), ("c", "127.0.0.13", &[])];
    const BOTH: &[IpAddr] = &[VTEP, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5))];
    fabric.know(&nodes(BOTH));
    let mac = MacAddr([2, 0, 0, 0, 0, 3]);
    fabric.until("it is asked for again", |fabric| fabric.workers[2].routes.get(&mac) == Some(&other)).await;
    assert_eq!(refusal(&fabric), None);
    fabric.know(&nodes(&[VTEP]));
    fabric.until("it goes again", |fabric| !fabric.workers[2].routes.contains_key(&mac)).await;
    assert!(["127.0.0.11", "127.0.0.12", "127.0.0.13"].iter().all(|address| fabric.up(address, 1)));
}
