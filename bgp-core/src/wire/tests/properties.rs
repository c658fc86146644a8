//! What must hold for any message, and for any octets at all.

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::sample::Index;
use smallvec::smallvec;

use crate::types::AddressFamily;
use crate::wire::arbitrary::{self, decode_stream, rejoin};
use crate::wire::{
    DecodeContext, EncodeContext, EvpnErrors, Frame, MaxMessage, Message, MessageKind, MultiprotocolErrors, Update,
    frame,
};

fn encode(message: &Message, ctx: &EncodeContext) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(ctx, &mut out);
    out
}

fn max_message() -> impl Strategy<Value = MaxMessage> {
    prop_oneof![Just(MaxMessage::Standard), Just(MaxMessage::Extended)]
}

/// Every combination of what a session can negotiate.
fn any_context() -> impl Strategy<Value = DecodeContext> {
    (any::<[bool; 6]>()).prop_map(|[four_octet_as, external, strict, disable, opaque_routes, constrain]| {
        DecodeContext {
            four_octet_as,
            families: if constrain {
                smallvec![AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN]
            } else {
                smallvec![AddressFamily::EVPN]
            },
            external,
            evpn_errors: if strict { EvpnErrors::Strict } else { EvpnErrors::Contain },
            multiprotocol_errors: if disable { MultiprotocolErrors::DisableFamily } else { MultiprotocolErrors::Reset },
            opaque_routes,
            ..DecodeContext::default()
        }
    })
}

/// One change that a damaged or hostile sender makes.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Add(Index, u8),
    Remove(Index),
    Insert(Index, u8),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(index, octet)| Damage::Set(index, octet)),
        (at(), prop_oneof![Just(1_u8), Just(255)]).prop_map(|(index, step)| Damage::Add(index, step)),
        at().prop_map(Damage::Remove),
        (at(), any::<u8>()).prop_map(|(index, octet)| Damage::Insert(index, octet)),
        at().prop_map(Damage::Truncate),
    ]
}

fn apply(damages: Vec<Damage>, octets: &mut Vec<u8>) {
    for damage in damages {
        if octets.is_empty() {
            return;
        }
        let length = octets.len();
        match damage {
            Damage::Set(index, octet) => octets[index.index(length)] = octet,
            Damage::Add(index, step) => {
                let octet = &mut octets[index.index(length)];
                *octet = octet.wrapping_add(step);
            }
            Damage::Remove(index) => _ = octets.remove(index.index(length)),
            Damage::Insert(index, octet) => octets.insert(index.index(length), octet),
            Damage::Truncate(index) => octets.truncate(index.index(length)),
        }
    }
}

/// Whatever was read must be written in a form that the strictest reader takes without a finding, and that means the
/// same. This is what keeps damage from travelling.
fn assert_clean_when_sent_on(update: &Update, four_octet_as: bool) {
    let ctx = EncodeContext { four_octet_as, max_message: MaxMessage::Extended };
    let mut out = BytesMut::new();
    update.encode(&ctx, &mut out);
    let strict = DecodeContext { evpn_errors: EvpnErrors::Strict, ..arbitrary::context(four_octet_as) };
    let again = rejoin(decode_stream(&out, &strict).unwrap());
    assert_eq!(again.reach, update.reach);
    assert_eq!(again.unreach, update.unreach);
    assert_eq!(again.end_of_rib, update.end_of_rib);
}

proptest! {
    #[test]
    fn a_valid_message_survives_encoding_and_decoding(
        message in arbitrary::message(),
        four_octet_as: bool,
        max_message in max_message(),
    ) {
        let octets = encode(&message, &EncodeContext { four_octet_as, max_message });
        let decoded = decode_stream(&octets, &arbitrary::context(four_octet_as)).unwrap();
        match message {
            Message::Update(update) => prop_assert_eq!(rejoin(decoded), *update),
            message => prop_assert_eq!(decoded, vec![message]),
        }
    }

    #[test]
    fn no_message_exceeds_the_limit_and_none_could_have_been_spared(
        update in arbitrary::update(),
        max_message in max_message(),
    ) {
        let mut out = BytesMut::new();
        update.encode(&EncodeContext { four_octet_as: true, max_message }, &mut out);
        let mut sizes = Vec::new();
        while let Some(frame) = frame(&mut out, max_message).unwrap() {
            sizes.push(frame.body.len() + 19);
        }
        // Withdrawals and announcements apart; the last of each may be short, no other lacks room for an NLRI more.
        let short = sizes.iter().filter(|size| **size < max_message.octets() - 257).count();
        prop_assert!(short <= 3, "{sizes:?}");
    }

    #[test]
    fn a_stream_fed_octet_by_octet_gives_the_same_messages(
        messages in prop::collection::vec(arbitrary::message(), 1..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut stream = BytesMut::new();
        for message in &messages {
            message.encode(&EncodeContext { four_octet_as: true, max_message: MaxMessage::Standard }, &mut stream);
        }
        stream.extend_from_slice(&tail);
        let drain = |buffer: &mut BytesMut, results: &mut Vec<_>| loop {
            match frame(buffer, MaxMessage::Standard) {
                Ok(None) => return true,
                Ok(Some(frame)) => results.push(Ok(frame)),
                Err(notification) => {
                    results.push(Err(notification));
                    return false;
                }
            }
        };
        let (mut whole, mut single) = (Vec::new(), Vec::new());
        drain(&mut stream.clone(), &mut whole);
        let mut buffer = BytesMut::new();
        for octet in &stream {
            buffer.extend_from_slice(&[*octet]);
            if !drain(&mut buffer, &mut single) {
                break;
            }
        }
        prop_assert_eq!(single, whole);
    }

    #[test]
    fn any_octets_are_decoded_without_panic(
        octets in prop::collection::vec(any::<u8>(), 0..200),
        ctx in any_context(),
    ) {
        for kind in [
            MessageKind::Open, MessageKind::Update, MessageKind::Notification, MessageKind::RouteRefresh,
        ] {
            let _ = Message::decode(&Frame { kind, body: octets.clone().into() }, &ctx);
        }
        let _ = frame(&mut BytesMut::from(&octets[..]), MaxMessage::Standard);
    }

    #[test]
    fn damaged_messages_are_contained_and_leave_no_trace_in_what_is_sent_on(
        message in arbitrary::message(),
        damages in prop::collection::vec(damage(), 1..6),
        ctx in any_context(),
    ) {
        let encode_ctx = EncodeContext { four_octet_as: ctx.four_octet_as, max_message: MaxMessage::Extended };
        let mut octets = encode(&message, &encode_ctx);
        while let Some(Frame { kind, body }) = frame(&mut octets, MaxMessage::Extended).unwrap() {
            let mut body = body.to_vec();
            apply(damages.clone(), &mut body);
            if let Ok(Message::Update(update)) = Message::decode(&Frame { kind, body: body.into() }, &ctx) {
                assert_clean_when_sent_on(&update, ctx.four_octet_as);
            }
        }
    }

    #[test]
    fn damaged_attributes_are_contained_and_leave_no_trace_in_what_is_sent_on(
        update in arbitrary::update().prop_filter("announces", |update| update.reach.is_some()),
        damages in prop::collection::vec(damage(), 1..4),
        ctx in any_context(),
    ) {
        let update = Update { unreach: Vec::new(), end_of_rib: None, ..update };
        let mut octets = BytesMut::new();
        let max_message = MaxMessage::Extended;
        update.encode(&EncodeContext { four_octet_as: ctx.four_octet_as, max_message }, &mut octets);
        let frame = frame(&mut octets, max_message).unwrap().unwrap();
        // The length fields in front stay consistent, so that the damage reaches the attribute decoders.
        let mut attributes = frame.body[4..].to_vec();
        apply(damages, &mut attributes);
        let mut body = vec![0, 0];
        body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        body.extend(attributes);
        if let Ok(Message::Update(update)) = Message::decode(&Frame { kind: frame.kind, body: body.into() }, &ctx) {
            assert_clean_when_sent_on(&update, ctx.four_octet_as);
        }
    }
}
