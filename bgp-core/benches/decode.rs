//! What the codec costs per route: decoding and encoding UPDATEs of 100 type 2 routes.
//!
//! `cargo bench -p bgp-core --bench decode`; criterion prints the time per route as the inverse of its throughput.

use std::hint::black_box;
use std::net::IpAddr;

use bgp_core::types::{
    AddressFamily, Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, RouteDistinguisher,
    RouteTarget, Vni,
};
use bgp_core::wire::message::{Reach, Routes};
use bgp_core::wire::{
    DecodeContext, EncodeContext, EncodedAttributes, Evpn, EvpnKey, EvpnPayload, Frame, MaxMessage, Message,
    PathAttributes, Route, Update, announce, frame, withdraw,
};
use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use smallvec::smallvec;

const ROUTES: u8 = 100;

fn attributes(vni: Vni) -> PathAttributes {
    let target = RouteTarget::auto(Asn(65_000), vni).community();
    PathAttributes {
        local_pref: Some(100),
        extended_communities: smallvec![target, ExtendedCommunity::ENCAPSULATION_VXLAN],
        ..PathAttributes::new(IpAddr::from([10, 0, 0, 1]))
    }
}

fn routes(vni: Vni) -> Vec<Route<Evpn>> {
    let rd = RouteDistinguisher::ipv4([10, 0, 0, 1].into(), 100);
    let route = |host: u8| Route {
        key: EvpnKey::MacIp {
            rd,
            tag: EthernetTag(0),
            mac: MacAddr([2, 0, 0, 0, 0, host]),
            ip: Some(IpAddr::from([192, 168, 0, host])),
        },
        payload: EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: Label::from(vni), label2: None },
    };
    (0..ROUTES).map(route).collect()
}

fn codec(criterion: &mut Criterion) {
    let Some(vni) = Vni::new(100) else { return };
    let (attributes, routes) = (attributes(vni), routes(vni));
    let encode = EncodeContext { four_octet_as: true, max_message: MaxMessage::Extended };
    let decode =
        DecodeContext { four_octet_as: true, families: smallvec![AddressFamily::EVPN], ..DecodeContext::default() };
    let encoded = EncodedAttributes::new(&attributes, &encode);
    let pairs = || routes.iter().map(|route| (&route.key, &route.payload));

    let reach = Reach { attributes: attributes.clone(), routes: Routes::Evpn(routes.clone()) };
    let announced = one_frame(&Update { reach: Some(reach.clone()), ..Update::default() }, &encode);
    let withdrawn = one_frame(&Update { unreach: vec![reach.routes.into_keys()], ..Update::default() }, &encode);
    assert!(Message::decode(&announced, &decode).is_ok());

    let mut group = criterion.benchmark_group("update of 100 type 2 routes");
    group.throughput(Throughput::Elements(u64::from(ROUTES)));
    group.bench_function("decode announcement", |bencher| {
        bencher.iter(|| Message::decode(black_box(&announced), &decode));
    });
    group.bench_function("decode withdrawal", |bencher| {
        bencher.iter(|| Message::decode(black_box(&withdrawn), &decode));
    });
    group.bench_function("encode announcement", |bencher| {
        let buffer = || BytesMut::with_capacity(8_192);
        bencher.iter_batched_ref(
            buffer,
            |out| announce::<Evpn>(&encode, black_box(&encoded), pairs(), out),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("encode withdrawal", |bencher| {
        let buffer = || BytesMut::with_capacity(8_192);
        bencher.iter_batched_ref(
            buffer,
            |out| withdraw::<Evpn>(&encode, routes.iter().map(|route| &route.key), out),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    criterion.bench_function("encode attributes", |bencher| {
        bencher.iter(|| EncodedAttributes::new(black_box(&attributes), &encode));
    });
}

/// The update as the one frame that it fits.
fn one_frame(update: &Update, ctx: &EncodeContext) -> Frame {
    let mut out = BytesMut::new();
    update.encode(ctx, &mut out);
    match frame(&mut out, ctx.max_message) {
        Ok(Some(frame)) if out.is_empty() => frame,
        other => panic!("100 routes are not one message: {other:?}"),
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
