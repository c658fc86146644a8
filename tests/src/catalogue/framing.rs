//! Section C: the framing of UPDATE and the headers of attributes.

use super::{Row, STRICT_OR_DROP, Verdict};
use crate::bgp::{UPDATE, attribute, evpn_route, message};

/// All rows.
pub fn rows() -> Vec<Row> {
    vec![
        Row::session("C01", "withdrawn routes beyond the end", "RFC 4271 6.3", Verdict::Reset(3, 1), |_| {
            message(UPDATE, &[0xff, 0xff, 0, 0])
        }),
        Row::session("C01", "attributes beyond the end", "RFC 4271 6.3", Verdict::Reset(3, 1), |_| {
            message(UPDATE, &[0, 0, 0xff, 0xff, 0x40, 1, 1, 0])
        }),
        Row::session("C09", "an unknown well-known attribute", "RFC 4271 6.3", Verdict::Reset(3, 2), |actor| {
            actor.key_and(&[attribute(0x40, 222, &[1])])
        }),
        Row::session("C10", "an unknown transitive attribute", "RFC 4271 5", Verdict::Accepted, |actor| {
            actor.key_and(&[attribute(0xc0, 222, &[1, 2, 3])])
        }),
        Row::session("C14", "MP_REACH_NLRI twice", "RFC 7606 3(g)", Verdict::Reset(3, 1), |actor| {
            actor.key_and(&[actor.reach(&[actor.key_route()])])
        }),
        Row::session(
            "C16",
            "ORIGIN with the flags of an optional attribute",
            "RFC 7606 3(c)",
            Verdict::Withdrawn,
            |actor| actor.key_but(1, attribute(0xc0, 1, &[0])),
        ),
        Row::session("F03", "an unknown EVPN route type beside", "RFC 7606 5.4", Verdict::Trimmed, |actor| {
            actor.update_with(actor.base(), &[evpn_route(99, &[7; 30]), actor.key_route()])
        }),
        // The key cannot be told, so nothing can be withdrawn where the error is contained: the route is dropped.
        Row::session("F09", "a MAC of 40 bits beside", "RFC 7432 7.2", STRICT_OR_DROP, |actor| {
            let mut route = actor.route(actor.marker);
            route[2 + 8 + 10 + 4] = 40;
            actor.update_with(actor.base(), &[route, actor.key_route()])
        }),
    ]
}
