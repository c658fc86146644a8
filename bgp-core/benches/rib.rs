//! The RIB's share of a reflector's work: taking routes in, selecting and encoding, and handing them to clients.
//!
//! The shape is that of the measured comparisons: every client is one worker with its own next hop and 100 VNIs (the
//! same for all), with one type 3 and ten type 2 routes per VNI in two UPDATEs. Times are per route where routes come
//! in, and per (route, client) where they go out.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp_core::rib::{PeerClass, PeerFamily, PeerInfo, PeerLimits, Permission, Rib, RibConfig, Role, RouteTypes};
use bgp_core::time::Instant;
use bgp_core::types::{
    AddressFamily, Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility, PeerId,
    RouteDistinguisher, RouteTarget, RouterId, Vni,
};
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::message::{Reach, Routes};
use bgp_core::wire::{Evpn, EvpnKey, EvpnPayload, PathAttributes, Route, RtMembership, Update};
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ASN: Asn = Asn(65_000);
const VNIS: u32 = 100;
const MACS: u8 = 10;
const ROUTES: u64 = VNIS as u64 * (MACS as u64 + 1);

fn vtep(client: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + client))
}

fn reflector(clients: u32, constrained: bool) -> Rib {
    let role = Role::Reflector { cluster_id: None };
    let mut rib = Rib::new(RibConfig::new(role, ASN, RouterId(1), vtep(0xffff)), Instant::ZERO);
    rib.set_expected_peers([]);
    let family =
        |family| PeerFamily { family, graceful_restart: true, forwarding_preserved: true, long_lived_preserved: true };
    for client in 0..clients {
        let mut families = vec![family(AddressFamily::EVPN)];
        if constrained {
            families.push(family(AddressFamily::RT_CONSTRAIN));
        }
        let info = PeerInfo {
            class: PeerClass::Client,
            asn: ASN,
            router_id: RouterId(0x0a00_0001 + client),
            address: vtep(client),
            four_octet_as: true,
            extended_message: true,
            enhanced_refresh: true,
            long_lived_known: true,
            families: families.into(),
            limits: PeerLimits::default(),
            permission: Default::default(),
            sent_types: RouteTypes::ALL,
        };
        rib.peer_up(PeerId(client), info, Instant::ZERO);
    }
    rib.flush();
    drain(&mut rib);
    rib
}

fn attributes(client: u32, vni: u32) -> PathAttributes {
    let mut attributes = PathAttributes::new(vtep(client));
    attributes.local_pref = Some(100);
    let target = RouteTarget::auto(ASN, Vni::new(vni).expect("a VNI"));
    attributes.extended_communities.extend([target.community(), ExtendedCommunity::ENCAPSULATION_VXLAN]);
    attributes
}

fn update(attributes: PathAttributes, routes: Vec<Route<Evpn>>) -> Update {
    Update { reach: Some(Reach { attributes, routes: Routes::Evpn(routes) }), ..Update::default() }
}

fn mac(client: u32, vni: u32, host: u8) -> Route<Evpn> {
    let rd = RouteDistinguisher::ipv4(Ipv4Addr::from(0x0a00_0001 + client), u16::try_from(vni).expect("16 bits"));
    let [_, _, a, b] = client.to_be_bytes();
    let [_, _, c, d] = vni.to_be_bytes();
    let mac = MacAddr([2 | (c << 2), d, a, b, 0, host]);
    let label = Label::from(Vni::new(vni).expect("a VNI"));
    Route {
        key: EvpnKey::MacIp { rd, tag: EthernetTag(0), mac, ip: None },
        payload: EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label, label2: None },
    }
}

/// What one client announces.
fn updates(client: u32) -> Vec<Update> {
    let mut updates = Vec::new();
    for vni in 1..=VNIS {
        let rd = RouteDistinguisher::ipv4(Ipv4Addr::from(0x0a00_0001 + client), u16::try_from(vni).expect("16 bits"));
        let mut flood = attributes(client, vni);
        let label = Label::from(Vni::new(vni).expect("a VNI"));
        flood.pmsi_tunnel = Some(PmsiTunnel { flags: 0, label, tunnel: Tunnel::IngressReplication(vtep(client)) });
        let key = EvpnKey::InclusiveMulticast { rd, tag: EthernetTag(0), originator: vtep(client) };
        updates.push(update(flood, vec![Route { key, payload: EvpnPayload::InclusiveMulticast }]));
        updates.push(update(attributes(client, vni), (0..MACS).map(|host| mac(client, vni, host)).collect()));
    }
    updates
}

/// Every client that has something reads all of it; the octets handed out.
fn drain(rib: &mut Rib) -> usize {
    let mut octets = 0;
    for peer in rib.drain_ready() {
        while let Some(slices) = rib.poll_transmit(peer, 256 << 10) {
            octets += slices.iter().map(bytes::Bytes::len).sum::<usize>();
        }
    }
    octets
}

/// What a client may announce: its own VTEP, and every VNI of the bench.
fn own(client: u32) -> Arc<Permission> {
    let vnis = [(Vni::new(1).expect("a VNI"), Vni::new(VNIS).expect("a VNI"))].into_iter().collect();
    Arc::new(Permission { next_hops: Some([vtep(client)].into()), vnis: Some(vnis) })
}

fn insert(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert");
    group.sample_size(10).throughput(Throughput::Elements(50 * ROUTES));
    // The second is what a cluster's reflector does: each client may speak for itself alone.
    for (name, limited) in [("55,000 routes", false), ("55,000 routes that are judged", true)] {
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || {
                    let mut rib = reflector(50, false);
                    (0..50).filter(|_| limited).for_each(|client| _ = rib.set_permission(PeerId(client), own(client)));
                    (rib, (0..50).map(updates).collect::<Vec<_>>())
                },
                |(mut rib, all)| {
                    for (client, updates) in (0..).zip(all) {
                        for update in updates {
                            black_box(rib.forbidden(PeerId(client), &update));
                            rib.update(PeerId(client), update, Instant::ZERO);
                        }
                    }
                    rib
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// `sources` of `clients` announce everything; a flush after each; everybody reads.
fn fan_out<M: criterion::measurement::Measurement>(
    group: &mut BenchmarkGroup<'_, M>,
    name: &str,
    clients: u32,
    sources: u32,
) {
    group.throughput(Throughput::Elements(u64::from(sources) * ROUTES * u64::from(clients - 1)));
    group.bench_function(BenchmarkId::new(name, clients), |bench| {
        bench.iter_batched(
            || (reflector(clients, false), (0..sources).map(updates).collect::<Vec<_>>()),
            |(mut rib, all)| {
                for (client, updates) in (0..).zip(all) {
                    for update in updates {
                        rib.update(PeerId(client), update, Instant::ZERO);
                    }
                    rib.flush();
                    black_box(drain(&mut rib));
                }
                rib
            },
            BatchSize::PerIteration,
        );
    });
}

fn flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    group.sample_size(10);
    fan_out(&mut group, "everything to all", 50, 50);
    fan_out(&mut group, "everything to all", 1_000, 20);
    late_joiner(&mut group);
    group.finish();
    let mut group = criterion.benchmark_group("event");
    one_move(&mut group);
    membership(&mut group);
    group.finish();
}

/// A client that joins a full table.
fn late_joiner<M: criterion::measurement::Measurement>(group: &mut BenchmarkGroup<'_, M>) {
    let mut rib = full(51);
    group.throughput(Throughput::Elements(50 * ROUTES));
    group.bench_function("late joiner, 55,000 routes", |bench| {
        let info = rib.peers().nth(50).map(|peer| peer.info.clone()).expect("51 peers");
        bench.iter(|| {
            rib.peer_up(PeerId(50), info.clone(), Instant::ZERO);
            rib.flush();
            black_box(drain(&mut rib))
        });
    });
}

fn full(clients: u32) -> Rib {
    let mut rib = reflector(clients, false);
    for client in 0..50 {
        for update in updates(client) {
            rib.update(PeerId(client), update, Instant::ZERO);
        }
    }
    rib.flush();
    drain(&mut rib);
    rib
}

/// One MAC moves; a flush and a read by each of 1,000 clients follow.
fn one_move<M: criterion::measurement::Measurement>(group: &mut BenchmarkGroup<'_, M>) {
    let mut rib = full(1_000);
    let mut sequence = 0;
    group.throughput(Throughput::Elements(999));
    group.bench_function("one MAC moves, 1,000 clients", |bench| {
        bench.iter(|| {
            sequence += 1;
            let mut moved = attributes(7, 5);
            let mobility = MacMobility { sticky: false, sequence };
            moved.extended_communities.push(ExtendedCommunity::mac_mobility(mobility));
            rib.update(PeerId(7), update(moved, vec![mac(7, 5, 3)]), Instant::ZERO);
            rib.flush();
            black_box(drain(&mut rib))
        });
    });
}

/// One client asks for a VNI of 500 routes and declines it again, among 55,000.
fn membership<M: criterion::measurement::Measurement>(group: &mut BenchmarkGroup<'_, M>) {
    let mut rib = reflector(51, true);
    for client in 0..50 {
        for update in updates(client) {
            rib.update(PeerId(client), update, Instant::ZERO);
        }
    }
    rib.flush();
    let membership = RtMembership::Target { origin: ASN, target: RouteTarget::auto(ASN, Vni::new(5).expect("a VNI")) };
    group.throughput(Throughput::Elements(2 * 50 * (u64::from(MACS) + 1)));
    group.bench_function("membership of 550 routes, on and off", |bench| {
        bench.iter(|| {
            let routes = Routes::RtConstrain(vec![Route { key: membership, payload: () }]);
            let reach = Some(Reach { attributes: PathAttributes::new(vtep(50)), routes });
            rib.update(PeerId(50), Update { reach, ..Update::default() }, Instant::ZERO);
            rib.flush();
            let on = drain(&mut rib);
            let unreach = vec![bgp_core::wire::message::Unreach::RtConstrain(vec![membership])];
            rib.update(PeerId(50), Update { unreach, ..Update::default() }, Instant::ZERO);
            rib.flush();
            black_box(on + drain(&mut rib))
        });
    });
}

criterion_group!(benches, insert, flush);
criterion_main!(benches);
