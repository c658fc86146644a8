//! Malformed OPENs.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::types::{AddressFamily, Asn, RouterId};
use crate::wire::arbitrary::decode_stream;
use crate::wire::message::{Capability, GracefulRestart};
use crate::wire::{EncodeContext, Open};

/// The fields in front of the optional parameters, then `parameters` as they are.
fn open_body(version: u8, asn: u16, hold: u16, id: u32, parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id.to_be_bytes());
    body.extend(parameters);
    body
}

fn decode_open(body: Vec<u8>) -> Result<Open, Notification> {
    match Message::decode(&Frame { kind: MessageKind::Open, body: Bytes::from(body) }, &internal())? {
        Message::Open(open) => Ok(open),
        message => panic!("not an OPEN: {message:?}"),
    }
}

/// An otherwise good OPEN with these optional parameters, their length included.
fn with_parameters(parameters: &[u8]) -> Result<Open, Notification> {
    decode_open(open_body(4, 65_000, 9, 1, parameters))
}

/// An otherwise good OPEN with one parameter that holds these capabilities.
fn with_capabilities(capabilities: &[u8]) -> Result<Open, Notification> {
    let length = u8::try_from(capabilities.len()).unwrap();
    with_parameters(&[&[length + 2, 2, length], capabilities].concat())
}

fn refusal(result: Result<Open, Notification>) -> (u8, u8) {
    let notification = result.unwrap_err();
    (notification.code, notification.subcode)
}

#[test]
fn fields_that_no_speaker_can_have_are_refused() {
    for (name, body, expected) in [
        ("version 3", open_body(3, 1, 9, 1, &[0]), (2, 1)),
        ("version 5", open_body(5, 1, 9, 1, &[0]), (2, 1)),
        ("AS 0", open_body(4, 0, 9, 1, &[0]), (2, 2)),
        ("hold time 1", open_body(4, 1, 1, 1, &[0]), (2, 6)),
        ("hold time 2", open_body(4, 1, 2, 1, &[0]), (2, 6)),
        ("identifier 0.0.0.0", open_body(4, 1, 9, 0, &[0]), (2, 3)),
    ] {
        assert_eq!(refusal(decode_open(body)), expected, "{name}");
    }
    let version = decode_open(open_body(3, 1, 9, 1, &[0])).unwrap_err();
    assert_eq!(version.data[..], [0, 4], "data is the version we speak");
    for hold in [0, 3, u16::MAX] {
        assert_eq!(decode_open(open_body(4, 1, hold, 1, &[0])).unwrap().hold_time_secs, hold);
    }
    assert_eq!(refusal(with_capabilities(&[65, 4, 0, 0, 0, 0])), (2, 2), "AS 0 in the capability");
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    for (name, parameters, expected) in [
        ("longer than the message", &[9, 2, 1][..], (2, 0)),
        ("shorter than the message", &[0, 2, 0], (2, 0)),
        ("length octet is the last", &[1, 2], (2, 0)),
        ("parameter past the end", &[4, 2, 3, 2, 0], (2, 0)),
        ("unknown parameter", &[2, 1, 0], (2, 4)),
        ("extended form not in front", &[4, 2, 0, 255, 0], (2, 4)),
        ("extended form without its length", &[255, 255, 0], (2, 0)),
        ("extended form past the end", &[255, 255, 0, 9, 2, 0, 0], (2, 0)),
        ("extended form, parameter past the end", &[255, 255, 0, 3, 2, 0, 9], (2, 0)),
        ("extended form, unknown parameter", &[255, 255, 0, 3, 9, 0, 0], (2, 4)),
    ] {
        assert_eq!(refusal(with_parameters(parameters)), expected, "{name}");
    }
}

#[test]
fn the_extended_form_is_taken_whatever_the_other_length_says() {
    assert_eq!(with_parameters(&[255, 255, 0, 0]).unwrap().capabilities, []);
    let one = [1, 255, 0, 5, 2, 0, 2, 2, 0];
    assert_eq!(with_parameters(&one).unwrap().capabilities, [Capability::RouteRefresh]);
}

#[test]
fn capabilities_that_decide_how_messages_are_read_must_be_whole() {
    for (name, capabilities) in [
        ("code alone", &[2][..]),
        ("value past the end of the parameter", &[2, 1]),
        ("value past the end in the second", &[2, 0, 65, 4, 0, 0, 1]),
        ("multiprotocol of 3 octets", &[1, 3, 0, 25, 70]),
        ("multiprotocol of 5 octets", &[1, 5, 0, 25, 0, 70, 0]),
        ("4-octet AS of 2 octets", &[65, 2, 0, 1]),
    ] {
        assert_eq!(refusal(with_capabilities(capabilities)), (2, 0), "{name}");
    }
}

#[test]
fn all_other_capabilities_are_ignored_if_unknown_or_odd() {
    for (name, capabilities) in [
        ("unknown code", &[200, 3, 1, 2, 3][..]),
        ("add-path with a send/receive of 4", &[69, 4, 0, 25, 70, 4]),
        ("add-path cut", &[69, 3, 0, 25, 70]),
        ("software version with an inner length of 0", &[75, 1, 0]),
        ("software version longer than its capability", &[75, 2, 200, b'x']),
        ("FQDN with a host of 255 octets", &[73, 3, 255, b'a', b'b']),
        ("graceful restart of one octet", &[64, 1, 0]),
        ("graceful restart with half a tuple", &[64, 4, 0, 0, 0, 25]),
        ("long-lived graceful restart with half a tuple", &[71, 3, 0, 25, 70]),
        ("route refresh with a value", &[2, 1, 0]),
    ] {
        let open = with_capabilities(capabilities).unwrap();
        let [Capability::Unknown { code, value }] = &open.capabilities[..] else { panic!("{name}: {open:?}") };
        assert_eq!((*code, &value[..]), (capabilities[0], &capabilities[2..]), "{name}");
        assert_eq!(open.families().collect::<Vec<_>>(), [AddressFamily::IPV4_UNICAST], "{name}");
    }
}

#[test]
fn graceful_restart_is_read_leniently() {
    let open = with_capabilities(&[64, 10, 0x8f, 0xff, 0, 25, 70, 0, 0, 25, 70, 0x80]).unwrap();
    let restart = open.graceful_restart().unwrap();
    assert_eq!((restart.restarting, restart.notification, restart.restart_time_secs), (true, false, 4_095));
    assert_eq!(restart.families, [(AddressFamily::EVPN, true)], "the last tuple of a family counts");

    let twice = with_capabilities(&[64, 2, 0, 5, 64, 2, 0, 9]).unwrap();
    assert_eq!(twice.graceful_restart().unwrap().restart_time_secs, 9, "the last capability counts");

    let long_lived = [71, 7, 0, 25, 70, 0, 0xff, 0xff, 0xff];
    assert_eq!(
        with_capabilities(&long_lived).unwrap().long_lived_graceful_restart(),
        None,
        "nothing without the other"
    );
    let both = with_capabilities(&[&long_lived[..], &[64, 2, 0, 0]].concat()).unwrap();
    let expected = [(AddressFamily::EVPN, false, 0x00ff_ffff)];
    assert_eq!(both.long_lived_graceful_restart(), Some(&expected[..]));
}

fn encoded(open: &Open) -> BytesMut {
    let mut out = BytesMut::new();
    Message::Open(open.clone()).encode(&EncodeContext::default(), &mut out);
    out
}

fn open_with(capabilities: Vec<Capability>) -> Open {
    Open { asn: Asn(70_000), hold_time_secs: 9, router_id: RouterId(1), capabilities }
}

#[test]
fn the_extended_form_is_written_only_where_the_plain_one_cannot_hold_the_capabilities() {
    let filler = |length: usize| Capability::Unknown { code: 200, value: vec![1; length].into() };
    let own_as = Capability::FourOctetAs(Asn(70_000));
    for (length, extended) in [(0, false), (244, false), (245, true), (255, true)] {
        let open = open_with(vec![own_as.clone(), filler(length)]);
        let octets = encoded(&open);
        assert_eq!(octets[29] == 255, extended, "{length}");
        assert_eq!(octets[20..22], 23_456_u16.to_be_bytes(), "AS_TRANS stands for a wide number");
        assert_eq!(decode_stream(&octets, &internal()).unwrap(), [Message::Open(open)]);
    }
}

#[test]
fn what_exceeds_a_message_is_left_out() {
    let family = |afi: u16| AddressFamily { afi, safi: 1 };
    let restart = GracefulRestart { families: (0..99).map(|afi| (family(afi), true)).collect(), ..Default::default() };
    let octets = encoded(&open_with(vec![Capability::GracefulRestart(restart)]));
    let Message::Open(open) = decode_stream(&octets, &internal()).unwrap().remove(0) else { panic!() };
    assert_eq!(open.graceful_restart().unwrap().families.len(), 63);

    let many = (0..60_u8).map(|code| Capability::Unknown { code: 128 + code, value: vec![0; 200].into() });
    let octets = encoded(&open_with(many.collect()));
    assert!(octets.len() <= 4_096);
    let Message::Open(open) = decode_stream(&octets, &internal()).unwrap().remove(0) else { panic!() };
    assert_eq!(open.capabilities.len(), 20);
}

#[test]
fn every_capability_in_use_has_a_name() {
    let named = with_capabilities(&[69, 0, 73, 0, 2, 0]).unwrap();
    let names: Vec<_> = named.capabilities.iter().map(Capability::name).collect();
    assert_eq!(names, [Some("add-path"), Some("fqdn"), Some("route-refresh")]);
}
