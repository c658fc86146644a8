//! BGP messages: any octets decode or are refused; what decodes means the same after being sent on, also to a reader
//! that forgives nothing.

use bgp_core::types::AddressFamily;
use bgp_core::wire::message::{Reach, Routes, Treatment, Unreach};
use bgp_core::wire::{
    DecodeContext, EncodeContext, EncodedAttributes, EvpnErrors, Frame, MaxMessage, Message, MessageKind,
    MultiprotocolErrors, Update, frame,
};
use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

use crate::memory;

/// Beyond this many octets of attributes a re-encoding may fit no message, and routes are withdrawn instead.
const MAX_ATTRIBUTES: usize = 60_000;

/// What a message may take of the heap while it is read: this much, so much for each of its octets, since lists of
/// attributes are lists in memory, and so much for each of its routes.
const SPARE_OCTETS: usize = 64 << 10;
const OCTETS_PER_OCTET: usize = 16;
const OCTETS_PER_ROUTE: usize = 512;

/// Bits of the first octet of an input, which choose the context.
pub mod bit {
    pub const FOUR_OCTET_AS: u8 = 1;
    pub const EXTERNAL: u8 = 1 << 1;
    pub const STRICT: u8 = 1 << 2;
    pub const DISABLE_FAMILY: u8 = 1 << 3;
    pub const OPAQUE_ROUTES: u8 = 1 << 4;
    pub const EVPN_ALONE: u8 = 1 << 5;
    pub const EXTENDED_MESSAGE: u8 = 1 << 6;
    /// The rest is the attribute field of one UPDATE, so that no effort goes into lengths around it.
    pub const ATTRIBUTES: u8 = 1 << 7;
}

/// Runs one input: a context octet, then a stream of messages or the attributes of an UPDATE.
pub fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let ctx = context(choice);
    if choice & bit::ATTRIBUTES != 0 {
        let Ok(length) = u16::try_from(rest.len()) else { return };
        let body = [&[0, 0], &length.to_be_bytes()[..], rest].concat();
        return check(&Frame { kind: MessageKind::Update, body: Bytes::from(body) }, &ctx);
    }
    let max_message = if choice & bit::EXTENDED_MESSAGE != 0 { MaxMessage::Extended } else { MaxMessage::Standard };
    let mut buffer = BytesMut::from(rest);
    while let Ok(Some(frame)) = frame(&mut buffer, max_message) {
        check(&frame, &ctx);
    }
}

/// The context that an octet stands for.
pub fn context(choice: u8) -> DecodeContext {
    let has = |bit: u8| choice & bit != 0;
    DecodeContext {
        four_octet_as: has(bit::FOUR_OCTET_AS),
        families: if has(bit::EVPN_ALONE) {
            smallvec![AddressFamily::EVPN]
        } else {
            smallvec![AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN]
        },
        external: has(bit::EXTERNAL),
        evpn_errors: if has(bit::STRICT) { EvpnErrors::Strict } else { EvpnErrors::Contain },
        multiprotocol_errors: if has(bit::DISABLE_FAMILY) {
            MultiprotocolErrors::DisableFamily
        } else {
            MultiprotocolErrors::Reset
        },
        opaque_routes: has(bit::OPAQUE_ROUTES),
        ..DecodeContext::default()
    }
}

/// Runs one input of the targets that know the structure: a context octet, then the body of an UPDATE.
pub fn run_update(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else { return };
    check(&Frame { kind: MessageKind::Update, body: Bytes::copy_from_slice(body) }, &context(choice));
}

fn routes_in(message: &Message) -> usize {
    let Message::Update(update) = message else { return 0 };
    let announced = update.reach.as_ref().map_or(0, |reach| reach.routes.len());
    announced + update.unreach.iter().map(Unreach::len).sum::<usize>()
}

/// The oracle.
fn check(frame: &Frame, ctx: &DecodeContext) {
    let (decoded, held) = memory::peak_of(|| Message::decode(frame, ctx));
    let Ok(message) = decoded else {
        assert!(
            held <= SPARE_OCTETS + frame.body.len() * OCTETS_PER_OCTET,
            "{held} octets for a message that is refused"
        );
        return;
    };
    let allowed = SPARE_OCTETS + frame.body.len() * OCTETS_PER_OCTET + routes_in(&message) * OCTETS_PER_ROUTE;
    assert!(held <= allowed, "{held} octets of heap for a message of {}", frame.body.len());
    let encode = EncodeContext { four_octet_as: ctx.four_octet_as, max_message: MaxMessage::Extended };
    if let Message::Update(update) = &message
        && let Some(reach) = &update.reach
        && EncodedAttributes::new(&reach.attributes, &encode).len() > MAX_ATTRIBUTES
    {
        return;
    }
    let mut sent = BytesMut::new();
    message.encode(&encode, &mut sent);
    let strict = DecodeContext { evpn_errors: EvpnErrors::Strict, ..context(0) };
    let strict = DecodeContext { four_octet_as: ctx.four_octet_as, opaque_routes: true, ..strict };
    let mut received = Vec::new();
    while let Some(frame) = bgp_core::wire::frame(&mut sent, MaxMessage::Extended).expect("we frame what we send") {
        received.push(Message::decode(&frame, &strict).expect("we read what we send"));
    }
    assert!(sent.is_empty(), "half a message was sent");
    match message {
        Message::Update(update) => {
            let again = joined(received);
            assert_eq!(again.reach, update.reach);
            assert_eq!(again.unreach, update.unreach);
            assert_eq!(again.end_of_rib, update.end_of_rib);
        }
        message => assert_eq!(received, [message]),
    }
}

/// Joins the UPDATEs that one was cut into.
fn joined(messages: Vec<Message>) -> Update {
    let mut joined = Update::default();
    for message in messages {
        let Message::Update(update) = message else { panic!("an UPDATE became {message:?}") };
        let malformed = update.findings.iter().find(|finding| finding.treatment != Treatment::Note);
        assert_eq!(malformed, None, "we send nothing that is malformed");
        joined.end_of_rib = joined.end_of_rib.or(update.end_of_rib);
        for keys in update.unreach {
            match (joined.unreach.last_mut(), keys) {
                (Some(Unreach::Evpn(known)), Unreach::Evpn(keys)) => known.extend(keys),
                (Some(Unreach::RtConstrain(known)), Unreach::RtConstrain(keys)) => known.extend(keys),
                (_, keys) => joined.unreach.push(keys),
            }
        }
        joined.reach = match (joined.reach, update.reach) {
            (Some(known), Some(more)) => Some(extended(known, more)),
            (known, more) => known.or(more),
        };
    }
    joined
}

fn extended(mut known: Reach, more: Reach) -> Reach {
    assert_eq!(known.attributes, more.attributes);
    match (&mut known.routes, more.routes) {
        (Routes::Evpn(known), Routes::Evpn(routes)) => known.extend(routes),
        (Routes::RtConstrain(known), Routes::RtConstrain(routes)) => known.extend(routes),
        (known, routes) => panic!("{known:?} became {routes:?}"),
    }
    known
}
