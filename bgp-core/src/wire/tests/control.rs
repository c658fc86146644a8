//! NOTIFICATION and ROUTE-REFRESH: texts of peers, wrapped reasons, wrong lengths.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::types::AddressFamily;
use crate::wire::message::{Capability, RefreshKind};
use crate::wire::notification::MAX_SHUTDOWN_COMMUNICATION;
use crate::wire::{EncodeContext, NotificationCode, RouteRefresh};

fn shutdown(data: &[u8]) -> Notification {
    NotificationCode::CEASE_ADMINISTRATIVE_SHUTDOWN.with_data(data)
}

#[test]
fn texts_of_peers_are_made_fit_for_a_log() {
    for (name, data, expected) in [
        ("plain", &b"\x05hello"[..], Some("hello")),
        ("octets behind the text", b"\x05hello world", Some("hello")),
        ("length past the data", b"\x06hello", None),
        ("length alone", b"\x00", None),
        ("no data", b"", None),
        ("invalid UTF-8", b"\x03a\xffb", Some("a\u{fffd}b")),
        ("terminal escape", b"\x06\x1b[31mx", Some("\u{fffd}[31mx")),
        ("line break", b"\x03a\nb", Some("a\u{fffd}b")),
        ("direction override", b"\x05a\xe2\x80\xaeb", Some("a\u{fffd}b")),
    ] {
        assert_eq!(shutdown(data).communication().as_deref(), expected, "{name}");
    }
    let longest = [&[255][..], &[b'x'; 255]].concat();
    assert_eq!(shutdown(&longest).communication().unwrap().len(), 255);
    let other = NotificationCode::CEASE_CONFIGURATION_CHANGE.with_data(b"\x05hello");
    assert_eq!(other.communication(), None, "only two subcodes carry a text");
}

#[test]
fn texts_of_our_own_are_cut_at_a_characters_end() {
    let error = NotificationCode::CEASE_ADMINISTRATIVE_RESET;
    let text = "ü".repeat(200);
    let notification = Notification::with_communication(error, &text);
    assert_eq!(notification.data.len(), MAX_SHUTDOWN_COMMUNICATION);
    assert_eq!(notification.communication().unwrap(), "ü".repeat(127));
    assert_eq!(Notification::with_communication(error, "").communication(), None);
}

#[test]
fn a_hard_reset_wraps_its_reason() {
    let inner = Notification::with_communication(NotificationCode::CEASE_ADMINISTRATIVE_SHUTDOWN, "bye");
    let outer = inner.clone().into_hard_reset();
    assert!(outer.is_hard_reset() && !inner.is_hard_reset());
    assert_eq!(outer.hard_reset_reason(), Some(inner.clone()));
    assert_eq!(inner.hard_reset_reason(), None);
    assert_eq!(outer.to_string(), "Cease / Hard Reset (6/9): Cease / Administrative Shutdown (6/2): \"bye\"");
    assert_eq!(NotificationCode::CEASE_HARD_RESET.with_data(&[6]).hard_reset_reason(), None);
}

#[test]
fn codes_have_names_and_unknown_ones_numbers() {
    for (code, subcode, expected) in [
        (4, 0, "Hold Timer Expired (4/0)"),
        (3, 9, "UPDATE Message Error / Optional Attribute Error (3/9)"),
        (6, 77, "Cease / Unknown Subcode 77 (6/77)"),
        (0, 0, "Unknown Error 0 (0/0)"),
        (200, 3, "Unknown Error 200 / Unknown Subcode 3 (200/3)"),
    ] {
        assert_eq!(NotificationCode { code, subcode }.to_string(), expected);
    }
    assert!(NotificationCode::ALL.is_sorted());
    for code in NotificationCode::ALL {
        assert!(code.code_name().is_some() && code.subcode_name().is_some(), "{code}");
    }
}

#[test]
fn a_missing_capability_is_named_in_the_data() {
    let required = [Capability::Multiprotocol(AddressFamily::EVPN)];
    let notification = Notification::unsupported_capability(&required);
    assert_eq!(notification.error(), NotificationCode::UNSUPPORTED_CAPABILITY);
    assert_eq!(notification.data[..], [1, 4, 0, 25, 0, 70]);
}

#[test]
fn long_data_is_cut_to_the_message() {
    let notification = NotificationCode::OPTIONAL_ATTRIBUTE_ERROR.with_data(&[7; 60_000]);
    let mut out = BytesMut::new();
    Message::Notification(notification).encode(&EncodeContext::default(), &mut out);
    assert_eq!(out.len(), 4_096);
}

fn refresh(body: &[u8]) -> Result<RouteRefresh, Notification> {
    match Message::decode(&Frame { kind: MessageKind::RouteRefresh, body: Bytes::copy_from_slice(body) }, &internal())?
    {
        Message::RouteRefresh(refresh) => Ok(refresh),
        message => panic!("not a ROUTE-REFRESH: {message:?}"),
    }
}

#[test]
fn demarcations_of_a_wrong_length_are_refused_with_the_message_as_data() {
    for body in [&[0, 25, 1, 70, 0][..], &[0, 25, 2, 70, 1, 2, 3], &[0, 25, 1]] {
        let notification = refresh(body).unwrap_err();
        assert_eq!(notification.error(), NotificationCode::ROUTE_REFRESH_INVALID_LENGTH);
        assert_eq!(notification.data[..19], [&[255; 16][..], &[0, 19 + body.len() as u8, 5]].concat());
        assert_eq!(notification.data[19..], *body);
    }
}

#[test]
fn refreshes_of_any_family_and_subtype_are_read() {
    for (body, kind) in [
        (&[0, 25, 0, 70][..], RefreshKind::Request),
        (&[0, 25, 0, 70, 1, 2, 0, 99], RefreshKind::Request),
        (&[0, 25, 1, 70], RefreshKind::Begin),
        (&[0, 25, 2, 70], RefreshKind::End),
        (&[0, 25, 3, 70, 9], RefreshKind::Unknown(3)),
        (&[0, 25, 255, 70], RefreshKind::Unknown(255)),
    ] {
        assert_eq!(refresh(body).unwrap(), RouteRefresh { family: AddressFamily::EVPN, kind });
    }
    assert_eq!(refresh(&[0x40, 4, 0, 71]).unwrap().family, AddressFamily { afi: 16_388, safi: 71 });
}
