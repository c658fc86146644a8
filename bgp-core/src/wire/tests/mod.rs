//! Tests of the codec as a whole; those of one part stand beside it.
//!
//! The tables give each malformed input a name, and the verdict on it as text:
//! `reset 3/9`, or what is left of the UPDATE and why, such as `withdraw 1: origin-length`.

mod attributes;
mod control;
mod corpus;
mod evpn;
mod fixtures;
mod framing;
mod multiprotocol;
mod open;
mod properties;
mod wellformed;

use bytes::Bytes;

use super::arbitrary::context;
use super::attributes::code;
use super::{DecodeContext, Frame, Message, MessageKind, Notification, Update};

/// Flags as the RFCs want them.
const WELL_KNOWN: u8 = 0x40;
const TRANSITIVE: u8 = 0xc0;
const NON_TRANSITIVE: u8 = 0x80;

/// A peer in our AS with 4-octet AS numbers. Unknown EVPN types are skipped, as by default.
fn internal() -> DecodeContext {
    DecodeContext { opaque_routes: false, ..context(true) }
}

/// A peer in another AS.
fn external() -> DecodeContext {
    DecodeContext { external: true, ..internal() }
}

/// An attribute with a length of one octet, or of two where it needs them.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(length) => [&[flags, code, length], value].concat(),
        Err(_) => {
            let length = u16::try_from(value.len()).unwrap().to_be_bytes();
            [&[flags | 0x10, code], &length[..], value].concat()
        }
    }
}

/// The body of an UPDATE.
fn body(withdrawn: &[u8], attributes: &[Vec<u8>], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap().to_be_bytes();
    [&length(withdrawn), withdrawn, &length(&attributes), &attributes, nlri].concat()
}

/// One NLRI.
fn nlri(route_type: u8, body: &[u8]) -> Vec<u8> {
    [&[route_type, u8::try_from(body.len()).unwrap()], body].concat()
}

/// The body of a type 2 route up to its labels: MAC 02:00:00:00:00:`last`, no IP address.
fn mac_body(last: u8) -> Vec<u8> {
    let mut body = vec![0, 1, 10, 0, 0, 1, 0, 100];
    body.extend([0; 14]);
    body.extend([48, 2, 0, 0, 0, 0, last, 0]);
    body
}

/// A type 2 route with VNI 100.
fn mac_route(last: u8) -> Vec<u8> {
    nlri(2, &[mac_body(last), vec![0, 0, 100]].concat())
}

/// MP_REACH_NLRI of EVPN with next hop 10.0.0.1.
fn reach(nlri: &[u8]) -> Vec<u8> {
    attribute(NON_TRANSITIVE, code::MP_REACH_NLRI, &[&[0, 25, 70, 4, 10, 0, 0, 1, 0], nlri].concat())
}

/// MP_UNREACH_NLRI of EVPN.
fn unreach(nlri: &[u8]) -> Vec<u8> {
    attribute(NON_TRANSITIVE, code::MP_UNREACH_NLRI, &[&[0, 25, 70], nlri].concat())
}

/// The attributes of a valid announcement beside MP_REACH_NLRI.
fn basics() -> Vec<Vec<u8>> {
    vec![
        attribute(WELL_KNOWN, code::ORIGIN, &[0]),
        attribute(WELL_KNOWN, code::AS_PATH, &[2, 1, 0, 0, 0xfd, 0xe9]),
        attribute(WELL_KNOWN, code::LOCAL_PREF, &[0, 0, 0, 100]),
    ]
}

/// A valid announcement of one type 2 route, `attribute` put in the place of the one with its code, or at the end.
fn announcement_with(attribute: Vec<u8>) -> Vec<Vec<u8>> {
    let mut attributes = [vec![reach(&mac_route(1))], basics()].concat();
    match attributes.iter_mut().find(|known| known[1] == attribute[1]) {
        Some(known) => *known = attribute,
        None => attributes.push(attribute),
    }
    attributes
}

fn decode(body: Vec<u8>, ctx: &DecodeContext) -> Result<Update, Notification> {
    match Message::decode(&Frame { kind: MessageKind::Update, body: Bytes::from(body) }, ctx)? {
        Message::Update(update) => Ok(*update),
        message => panic!("not an UPDATE: {message:?}"),
    }
}

/// What became of a message, as text.
fn verdict(body: Vec<u8>, ctx: &DecodeContext) -> String {
    let update = match decode(body, ctx) {
        Ok(update) => update,
        Err(Notification { code, subcode, .. }) => return format!("reset {code}/{subcode}"),
    };
    let mut parts = Vec::new();
    if let Some(family) = update.disable {
        parts.push(format!("disable {family}"));
    }
    if let Some(reach) = &update.reach {
        parts.push(format!("announce {}", reach.routes.len()));
    }
    for keys in &update.unreach {
        parts.push(format!("withdraw {}", keys.len()));
    }
    if let Some(family) = update.end_of_rib {
        parts.push(format!("end-of-rib {family}"));
    }
    if parts.is_empty() {
        parts.push("nothing".to_owned());
    }
    let reasons: Vec<_> = update
        .findings
        .iter()
        .map(|finding| match finding.count {
            1 => finding.rule.to_string(),
            count => format!("{} x{count}", finding.rule),
        })
        .collect();
    let colon = if reasons.is_empty() { "" } else { ": " };
    format!("{}{colon}{}", parts.join(", "), reasons.join(", "))
}

/// Checks the verdicts on a table of announcements.
fn assert_verdicts(ctx: &DecodeContext, table: &[(&str, Vec<Vec<u8>>, &str)]) {
    for (name, attributes, expected) in table {
        assert_eq!(verdict(body(&[], attributes, &[]), ctx), *expected, "{name}");
    }
}
