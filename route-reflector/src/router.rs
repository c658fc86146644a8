//! `--router`: a physical router that speaks for itself.

use std::str::FromStr;

use bgp_core::types::ParseError;
use daemon::config::{PeerAddress, PeerSettings};

/// `ADDR[:PORT][@ASN]`: where the router listens, and its AS if that is not ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Router {
    address: PeerAddress,
    asn: Option<u32>,
}

impl Router {
    /// The router as a peer: its own address is the only next hop that it may announce. One whose VTEP is another
    /// address, that speaks for others, or that has a key, takes a `[[peer]]` section.
    pub fn peer(self) -> (PeerAddress, PeerSettings) {
        let next_hops = Some(vec![self.address.0.ip()]);
        (self.address, PeerSettings { asn: self.asn, next_hops, ..PeerSettings::default() })
    }
}

impl FromStr for Router {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError {
            expected: "an address, and an AS number if it is not ours, such as 198.51.100.1, 198.51.100.1@64512 or \
                       [2001:db8::1]:1179@64512",
            found: text.chars().take(64).collect(),
        };
        let (address, asn) = match text.split_once('@') {
            Some((address, asn)) => (address, Some(asn.parse().ok().filter(|asn| *asn != 0).ok_or_else(wrong)?)),
            None => (text, None),
        };
        Ok(Self { address: address.parse().map_err(|_| wrong())?, asn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_speaks_for_its_own_address_alone() {
        for (text, address, port, asn) in [
            ("198.51.100.1", "198.51.100.1", 179, None),
            ("198.51.100.1@64512", "198.51.100.1", 179, Some(64_512)),
            ("198.51.100.1:1179@4200000000", "198.51.100.1", 1_179, Some(4_200_000_000)),
            ("2001:db8::1@64512", "2001:db8::1", 179, Some(64_512)),
            ("[2001:db8::1]:1179@64512", "2001:db8::1", 1_179, Some(64_512)),
        ] {
            let (peer, settings) = text.parse::<Router>().unwrap().peer();
            let expected = address.parse().unwrap();
            assert_eq!((peer.0.ip(), peer.0.port(), settings.asn), (expected, port, asn), "{text}");
            assert_eq!(settings.next_hops, Some(vec![expected]), "{text}");
        }
    }

    #[test]
    fn what_is_no_router_is_refused_with_the_form_that_is_expected() {
        for text in ["tor1", "198.51.100.1@", "198.51.100.1@0", "198.51.100.1@4294967296", "198.51.100.1@a", "@64512"] {
            let error = text.parse::<Router>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("198.51.100.1@64512"), "{error}");
        }
    }
}
