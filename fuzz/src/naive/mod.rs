//! A second decoder of UPDATE, written from the RFCs: plain, slow, and sharing no code with `bgp_core::wire`.
//!
//! It exists to disagree: every difference from the real decoder is a mistake in one of the two. Its author knew the real
//! one, and where the RFCs leave a choice it takes the same; a misreading that both share goes unseen.
//!
//! Identities and attributes are octets in a form of its own (described at [`Key`] and [`Attributes`]), so that nothing
//! of the real decoder's types is believed.

mod attributes;
mod evpn;

use std::collections::{BTreeMap, BTreeSet};

/// AFI and SAFI.
pub type Family = (u16, u8);
/// L2VPN EVPN.
pub const EVPN: Family = (25, 70);
/// Route target membership.
pub const RT_CONSTRAIN: Family = (1, 132);
/// IPv4 unicast.
pub const IPV4_UNICAST: Family = (1, 1);

/// Identity of a route. EVPN: the route type, then the identifying fields in wire order, each behind its length, an
/// absent address as one of length 0. Membership: bits of the target (255: the default route), origin AS, target.
pub type Key = Vec<u8>;
/// What else is in the NLRI: the fields that identify nothing, in wire order.
pub type Payload = Vec<u8>;

/// What the session has agreed on, and how strict it is.
#[derive(Clone, Debug)]
pub struct Context {
    /// AS numbers have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// Both sides announced these families.
    pub families: Vec<Family>,
    /// The peer is in another AS.
    pub external: bool,
    /// One bad route makes the whole attribute bad.
    pub strict: bool,
    /// An unreadable multiprotocol attribute disables its family, where that can be told.
    pub disable_family: bool,
    /// Unknown EVPN route types are kept.
    pub opaque_routes: bool,
}

/// The classes of RFC 7606 section 2, short of a reset, and the project's containment of one route.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Routes were passed over (section 5.4; families that were not negotiated).
    Skip,
    /// Attribute discard.
    Discard,
    /// One route was withdrawn or, where its identity cannot be read, dropped.
    WithdrawRoute,
    /// Treat-as-withdraw.
    Withdraw,
    /// AFI/SAFI disable.
    Disable,
}

/// The attributes of an announcement, by type code, in one form whatever the wire's: numbers in four octets, lists
/// without repetitions, AS_PATH with segments joined as (count in two octets, numbers). Code 14 is the next hop.
pub type Attributes = BTreeMap<u8, Vec<u8>>;

/// What an UPDATE means.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Meaning {
    /// Routes announced: the last one of each identity.
    pub announced: BTreeMap<(Family, Key), Payload>,
    /// Their attributes, if there are routes.
    pub attributes: Attributes,
    /// Attributes that came with the Partial bit.
    pub partial: BTreeSet<u8>,
    /// Identities withdrawn and not announced again by the same message.
    pub withdrawn: BTreeSet<(Family, Key)>,
    /// End-of-RIB.
    pub end_of_rib: Option<Family>,
    /// A family to be ignored from now on.
    pub disabled: Option<Family>,
    /// What had to be done about the malformed.
    pub classes: BTreeSet<Class>,
}

/// Error code and subcode of the NOTIFICATION that ends the session.
pub type Reset = (u8, u8);

/// Two octets, big-endian.
fn two(octets: &[u8], at: usize) -> usize {
    usize::from(octets[at]) * 256 + usize::from(octets[at + 1])
}

/// Reads the body of an UPDATE.
pub fn decode(body: &[u8], context: &Context) -> Result<Meaning, Reset> {
    // RFC 4271 section 6.3: the two lengths must fit the message.
    if body.len() < 2 || body.len() < 4 + two(body, 0) {
        return Err((3, 1));
    }
    let withdrawn = &body[2..2 + two(body, 0)];
    let after = &body[2 + withdrawn.len()..];
    if after.len() < 2 + two(after, 0) {
        return Err((3, 1));
    }
    let field = &after[2..2 + two(after, 0)];
    let nlri = &after[2 + field.len()..];
    // RFC 7606 section 5.3: IPv4 NLRI that cannot be parsed keep the session reset of RFC 4271.
    if !ipv4_is_framed(withdrawn) || !ipv4_is_framed(nlri) {
        return Err((3, 10));
    }
    let mut meaning = Meaning::default();
    let ipv4 = !withdrawn.is_empty() || !nlri.is_empty();
    if field.is_empty() && !ipv4 {
        // RFC 4724 section 2: the empty UPDATE.
        meaning.end_of_rib = Some(IPV4_UNICAST);
        return Ok(meaning);
    }
    if ipv4 {
        // A family that is never negotiated here.
        meaning.classes.insert(Class::Skip);
    }
    let read = attributes::read(field, context)?;
    meaning.classes.extend(&read.classes);
    if let Some(unreach) = &read.unreach {
        let marker = read.count == 1 && !read.truncated && !ipv4;
        withdraw(unreach, marker, context, &mut meaning)?;
    }
    announce(read, !nlri.is_empty(), context, &mut meaning)?;
    if let Some(disabled) = meaning.disabled {
        meaning.announced.retain(|(family, _), _| *family != disabled);
        meaning.withdrawn.retain(|(family, _)| *family != disabled);
        meaning.end_of_rib = meaning.end_of_rib.filter(|family| *family != disabled);
    }
    meaning.withdrawn.retain(|key| !meaning.announced.contains_key(key));
    if meaning.announced.is_empty() {
        meaning.attributes.clear();
        meaning.partial.clear();
    }
    Ok(meaning)
}

fn ipv4_is_framed(mut field: &[u8]) -> bool {
    while let Some((bits, rest)) = field.split_first() {
        let octets = usize::from(*bits).div_ceil(8);
        if *bits > 32 || rest.len() < octets {
            return false;
        }
        field = &rest[octets..];
    }
    true
}

/// One multiprotocol attribute, flags and value.
#[derive(Clone, Debug)]
struct Multiprotocol {
    flags: u8,
    value: Vec<u8>,
}

impl Multiprotocol {
    fn family(&self) -> Option<Family> {
        (self.value.len() >= 3).then(|| (two(&self.value, 0) as u16, self.value[2]))
    }

    /// The family whose routes are to be read. RFC 7606 section 5.3: flags in conflict are as bad as unreadable routes.
    fn readable(&self, context: &Context, meaning: &mut Meaning) -> Result<Option<Family>, Reset> {
        let Some(family) = self.family().filter(|_| self.flags & 0xc0 == 0x80) else {
            self.unreadable(context, meaning)?;
            return Ok(None);
        };
        if context.families.contains(&family) {
            return Ok(Some(family));
        }
        meaning.classes.insert(Class::Skip);
        Ok(None)
    }

    /// RFC 7606 section 5.3: AFI/SAFI disable where configured and possible, else the reset of RFC 4760 section 7.
    fn unreadable(&self, context: &Context, meaning: &mut Meaning) -> Result<(), Reset> {
        let family = self.family().filter(|family| context.families.contains(family)).ok_or((3, 9))?;
        if !context.disable_family || meaning.disabled.is_some_and(|disabled| disabled != family) {
            return Err((3, 9));
        }
        meaning.disabled = Some(family);
        meaning.classes.insert(Class::Disable);
        Ok(())
    }
}

/// MP_UNREACH_NLRI; alone and empty it is an end-of-RIB marker (RFC 4724 section 2).
fn withdraw(unreach: &Multiprotocol, marker: bool, context: &Context, meaning: &mut Meaning) -> Result<(), Reset> {
    let Some(family) = unreach.readable(context, meaning)? else { return Ok(()) };
    let Some(routes) = routes(family, &unreach.value[3..], context) else {
        return unreach.unreadable(context, meaning);
    };
    if unreach.value.len() == 3 && marker {
        meaning.end_of_rib = Some(family);
    }
    for route in routes {
        meaning.classes.extend(route.class);
        meaning.withdrawn.extend(route.key.map(|key| (family, key)));
    }
    Ok(())
}

/// MP_REACH_NLRI, and what the other attributes make of its routes.
fn announce(read: attributes::Read, ipv4: bool, context: &Context, meaning: &mut Meaning) -> Result<(), Reset> {
    let value = read.reach.as_ref().map(|reach| &reach.value[..]).unwrap_or_default();
    // AFI, SAFI, length of the next hop, next hop, a reserved octet.
    let start = value.get(3).map(|length| 5 + usize::from(*length)).filter(|start| *start <= value.len());
    let located = start.is_some_and(|start| start < value.len());
    let reachable = ipv4 || located;
    let others = read.count > usize::from(read.unreach.is_some()) || read.truncated;
    // RFC 7606 section 5.2. IPv4 routes are nothing that could be withdrawn.
    if meaning.classes.contains(&Class::Withdraw) && others && !located {
        return Err((3, 1));
    }
    // Section 3 d.
    if reachable && !(read.origin && read.as_path) {
        meaning.classes.insert(Class::Withdraw);
    }
    let Some(reach) = &read.reach else { return Ok(()) };
    let Some(family) = reach.readable(context, meaning)? else { return Ok(()) };
    let start = start.filter(|start| [4, 16, 32].contains(&(*start - 5)));
    let Some(found) = start.and_then(|start| routes(family, &value[start..], context)) else {
        return reach.unreadable(context, meaning);
    };
    let next_hop = &value[4..start.unwrap_or(5) - 1];
    let mut attributes = read.attributes;
    // RFC 2545 section 3: of two addresses the first is the global one.
    attributes.insert(14, next_hop[..next_hop.len().min(16)].to_vec());
    let mut refused = BTreeSet::new();
    let mut good = Vec::new();
    for mut route in found {
        if route.class.is_none() && family == EVPN && evpn::is_unusable(&route, &attributes) {
            route.class = Some(Class::WithdrawRoute);
        }
        meaning.classes.extend(route.class);
        match (route.class, route.key) {
            (_, None) => {}
            (None, Some(key)) => good.push(((family, key), route.payload)),
            (Some(_), Some(key)) => drop(refused.insert((family, key))),
        }
    }
    // Of two readings of one identity, one of them refused, the refusal counts.
    good.retain(|(key, _)| !refused.contains(key));
    meaning.withdrawn.extend(refused);
    if meaning.classes.contains(&Class::Withdraw) {
        meaning.withdrawn.extend(good.into_iter().map(|(key, _)| key));
    } else {
        meaning.announced.extend(good);
        meaning.attributes = attributes;
        meaning.partial = read.partial;
    }
    Ok(())
}

/// One NLRI.
#[derive(Clone, Debug)]
struct Found {
    /// Its identity, if that can be read.
    key: Option<Key>,
    payload: Payload,
    /// What is wrong with it.
    class: Option<Class>,
}

/// All NLRI of a field; `None` if they cannot be told apart or one of them must not be contained.
fn routes(family: Family, field: &[u8], context: &Context) -> Option<Vec<Found>> {
    let routes = if family == EVPN { evpn::read(field, context)? } else { memberships(field)? };
    let bad = routes.iter().any(|route| route.class == Some(Class::WithdrawRoute));
    (!(bad && context.strict)).then_some(routes)
}

/// RFC 4684 section 4: a length of 0, or 32 to 96 bits of origin AS and route target.
fn memberships(mut field: &[u8]) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    while let Some((bits, rest)) = field.split_first() {
        let octets = usize::from(*bits).div_ceil(8);
        if *bits > 96 || rest.len() < octets {
            return None;
        }
        let mut whole = [0; 12];
        whole[..octets].copy_from_slice(&rest[..octets]);
        for bit in usize::from(*bits)..96 {
            whole[bit / 8] &= !(0x80 >> (bit % 8));
        }
        field = &rest[octets..];
        found.push(match *bits {
            0 => Found { key: Some(vec![255]), payload: Vec::new(), class: None },
            1..=31 => Found { key: None, payload: Vec::new(), class: Some(Class::WithdrawRoute) },
            _ => Found { key: Some([&[bits - 32], &whole[..]].concat()), payload: Vec::new(), class: None },
        });
    }
    Some(found)
}
