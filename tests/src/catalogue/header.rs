//! Section A: TCP and the message header.

use super::{Row, Verdict};
use crate::bgp::{KEEPALIVE, OPEN, UPDATE, message};

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        Row::greeting("A06", "HTTP", "RFC 4271 6.1", Verdict::Reset(1, 1), |_| {
            b"GET / HTTP/1.1\r\nHost: reflector\r\n\r\n".to_vec()
        }),
        Row::greeting("A06", "4096 zeros", "RFC 4271 6.1", Verdict::Reset(1, 1), |_| vec![0; 4_096]),
    ];
    for (id, what, octets, verdict, data) in malformed() {
        rows.push(
            Row::greeting(id, what, "RFC 4271 6.1", verdict, move |_| octets.clone())
                .also(move |stage| assert_eq!(stage.data(), data, "data of the NOTIFICATION")),
        );
    }
    rows
}

/// Row, what, octets, verdict, data of the NOTIFICATION.
type Greeting = (&'static str, &'static str, Vec<u8>, Verdict, Vec<u8>);

/// Headers before the OPEN.
fn malformed() -> Vec<Greeting> {
    let length = |length: u16| length.to_be_bytes().to_vec();
    let (size, kind) = (Verdict::Reset(1, 2), Verdict::Reset(1, 3));
    vec![
        ("A06", "a bad octet in the marker", header(0xfe, 19, KEEPALIVE), Verdict::Reset(1, 1), vec![]),
        ("A07", "length 18", header(0xff, 18, KEEPALIVE), size, length(18)),
        ("A08", "length 0", header(0xff, 0, KEEPALIVE), size, length(0)),
        ("A12", "an OPEN of 4097 octets", header(0xff, 4_097, OPEN), size, length(4_097)),
        ("A12", "an OPEN of 65535 octets", header(0xff, 65_535, OPEN), size, length(65_535)),
        ("A14", "an OPEN of 28 octets", header(0xff, 28, OPEN), size, length(28)),
        ("A16", "a KEEPALIVE of 20 octets", header(0xff, 20, KEEPALIVE), size, length(20)),
        ("A18", "type 0", header(0xff, 19, 0), kind, vec![0]),
        ("A18", "type 6", header(0xff, 19, 6), kind, vec![6]),
        ("A18", "type 255", header(0xff, 19, 255), kind, vec![255]),
        ("B33", "a KEEPALIVE before the OPEN", message(KEEPALIVE, &[]), Verdict::Reset(5, 1), vec![KEEPALIVE]),
        ("B33", "an UPDATE before the OPEN", message(UPDATE, &[0, 0, 0, 0]), Verdict::Reset(5, 1), vec![UPDATE]),
    ]
}

/// A header of any kind.
pub fn header(marker: u8, length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![marker; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets
}
