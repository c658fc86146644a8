//! Where other daemons differ from what was sent, with the RFC that says otherwise.

use std::collections::BTreeSet;

use tests::peers::Software;
use tests::peers::table::{Attribute, Difference};

/// On which way a difference arises.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From our workers to a reflector of theirs: what its table holds.
    ToReflector,
    /// From one of our workers through that reflector to another.
    ThroughReflector,
    /// From our reflector to a client of theirs: what its table holds.
    ToClient,
    /// From that client to our reflector: what our table holds.
    FromClient,
}

/// A difference that is known.
#[derive(Debug)]
struct Waiver {
    software: &'static [Software],
    ways: &'static [Way],
    /// What the key begins with.
    key: &'static str,
    /// None: the route itself.
    attribute: Option<Attribute>,
    /// What the receiver holds.
    held: Option<&'static str>,
    /// What the daemon does, and the words that it does not keep; empty for what an RFC leaves to it.
    says: &'static str,
}

const FRR: &[Software] = &[Software::FrrDebian, Software::FrrSid];

const WAIVERS: &[Waiver] = &[
    Waiver {
        software: &[Software::FrrDebian],
        ways: &[Way::ThroughReflector],
        key: "",
        attribute: Some(Attribute::Med),
        held: Some("0"),
        says: "adds a MED of 0 to what it reflects; RFC 4456 section 10: 'when a RR reflects a route, it SHOULD NOT modify the \
               following path attributes: NEXT_HOP, AS_PATH, LOCAL_PREF, and MED'",
    },
    Waiver {
        software: FRR,
        ways: &[Way::ToReflector, Way::ToClient],
        key: "[2][10.0.0.13:100][0][02:00:00:00:00:ee]",
        attribute: Some(Attribute::ExtendedCommunities),
        held: Some("UNK:6,2 rt:65000:100"),
        says: "prints no value of an unknown community, which it passes on whole",
    },
    Waiver {
        software: &[Software::FrrDebian],
        ways: &[Way::ToReflector, Way::ToClient],
        key: "[1]",
        attribute: Some(Attribute::Label),
        held: None,
        says: "prints no label of a type 1",
    },
    Waiver {
        software: &[Software::FrrDebian],
        ways: &[Way::ThroughReflector],
        key: "[1]",
        attribute: Some(Attribute::Label),
        held: Some("0"),
        says: "clears the label of a type 1, which is what remote PEs send with (RFC 7432 sections 7.1, 8.4.1)",
    },
    Waiver {
        software: &[Software::FrrDebian],
        ways: &[Way::ThroughReflector],
        key: "[5]",
        attribute: Some(Attribute::Gateway),
        held: None,
        says: "clears the gateway of a type 5, the overlay index of the route (RFC 9136 section 3.1)",
    },
    Waiver {
        software: &[Software::FrrDebian],
        ways: &[Way::ToReflector, Way::ToClient],
        key: "[5]",
        attribute: Some(Attribute::Gateway),
        held: None,
        says: "prints no gateway of a type 5",
    },
    Waiver {
        software: FRR,
        ways: &[Way::ToClient],
        key: "[4]",
        attribute: Some(Attribute::Esi),
        held: Some("00:01:02:03:04:05:06:07:08:09"),
        says: "takes the Ethernet segment of a route over to those after it in the same UPDATE; each has its own (RFC 7432 \
               section 7)",
    },
    Waiver {
        software: FRR,
        ways: &[Way::ToClient],
        key: "[5]",
        attribute: Some(Attribute::Esi),
        held: Some("00:01:02:03:04:05:06:07:08:09"),
        says: "as with type 4; the type 5 itself had a segment of zero",
    },
    Waiver {
        software: &[Software::Gobgp],
        ways: &[Way::ToReflector, Way::ToClient],
        key: "[2][10.0.0.13:100][0][02:00:00:00:00:ee]",
        attribute: None,
        held: None,
        says: "withdraws a route with an EVPN community of unknown sub-type; RFC 7606 section 7.14: 'a BGP speaker MUST \
               NOT treat an unrecognized Extended Community Type or Sub-Type as an error'",
    },
    Waiver {
        software: &[Software::Gobgp],
        ways: &[Way::ThroughReflector],
        key: "[2][10.0.0.13:100][0][02:00:00:00:00:ee]",
        attribute: None,
        held: None,
        says: "as on the way to it",
    },
    Waiver {
        software: &[Software::Bird],
        ways: &[Way::ThroughReflector],
        key: "[2][10.0.0.13:100][0][02:00:00:00:00:33][fd00:1::33]",
        attribute: None,
        held: None,
        says: "does not pass on a VNI above 1048575, which is no MPLS label; in VXLAN all 24 bits of the label field are the \
               VNI (RFC 8365 section 5.1.3)",
    },
];

/// Whether the differences on this way are exactly the known ones.
///
/// # Errors
///
/// Differences that are not known, and waivers without a difference.
pub fn check(software: Software, way: Way, differences: &[Difference]) -> Result<(), String> {
    let waivers: Vec<&Waiver> =
        WAIVERS.iter().filter(|waiver| waiver.software.contains(&software) && waiver.ways.contains(&way)).collect();
    let mut used = BTreeSet::new();
    let mut complaints = Vec::new();
    for difference in differences {
        match waivers.iter().position(|waiver| waiver.covers(difference)) {
            Some(index) => _ = used.insert(index),
            None => complaints.push(difference.to_string()),
        }
    }
    let unused = waivers.iter().enumerate().filter(|(index, _)| !used.contains(index));
    complaints.extend(unused.map(|(_, waiver)| format!("not seen, so no longer to be waived: {}", waiver.says)));
    if complaints.is_empty() { Ok(()) } else { Err(format!("{way:?}:\n  {}", complaints.join("\n  "))) }
}

impl Waiver {
    fn covers(&self, difference: &Difference) -> bool {
        difference.key.starts_with(self.key)
            && difference.attribute == self.attribute
            && difference.held.as_deref() == self.held
    }
}
