//! Reading the path attributes of an UPDATE, each with its own error class (RFC 7606 sections 3 and 7).
//!
//! In: the attribute field. Out: an [`AttributeSet`], the two multiprotocol attributes still unread in it, since their
//! NLRI are judged with the other attributes at hand, in whatever order those came.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use smallvec::{Array, SmallVec};

use super::as_path::AsWidth;
use super::{AsPath, Origin, PathAttributes, PmsiTunnel, Tunnel, UnknownAttribute, carried, code, flag};
use crate::rule::Rule;
use crate::types::{Asn, ExtendedCommunity, Label, RouterId};
use crate::wire::context::{AttributeTypes, DecodeContext};
use crate::wire::error::{Malformed, NotificationCode};
use crate::wire::findings::Findings;
use crate::wire::reader::Reader;
use crate::wire::rules::{self, Fault};

/// Lists up to this length are searched one by one for duplicates, longer ones through an ordered set.
const SHORT_LIST: usize = 16;
/// PMSI tunnel type of ingress replication (RFC 6514 section 5).
const INGRESS_REPLICATION: u8 = 6;

/// One attribute, cut out and not yet read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAttribute<'a> {
    /// Flags octet.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: &'a [u8],
    /// The attribute whole, as the data of a NOTIFICATION.
    pub whole: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let before = reader.peek();
        let [flags, code] = reader.array()?;
        let extended = flags & flag::EXTENDED_LENGTH != 0;
        let value = if extended { reader.prefixed_u16()? } else { reader.prefixed_u8()? }.peek();
        let whole = before.get(..before.len().saturating_sub(reader.peek().len()))?;
        Some(Self { flags, code, value, whole })
    }

    /// Whether Optional and Transitive are as `class` demands.
    pub fn has_flags(&self, class: Class) -> bool {
        let (optional, transitive) = match class {
            Class::WellKnown => (0, flag::TRANSITIVE),
            Class::OptionalTransitive => (flag::OPTIONAL, flag::TRANSITIVE),
            Class::OptionalNonTransitive => (flag::OPTIONAL, 0),
        };
        self.flags & (flag::OPTIONAL | flag::TRANSITIVE) == optional | transitive
    }
}

/// Attribute categories (RFC 4271 section 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    WellKnown,
    OptionalTransitive,
    OptionalNonTransitive,
}

impl Class {
    /// Whether an optional transitive attribute is kept in a field of its own and sent on.
    const fn travels_typed(code: u8) -> bool {
        matches!(
            code,
            code::AGGREGATOR
                | code::COMMUNITIES
                | code::EXTENDED_COMMUNITIES
                | code::PMSI_TUNNEL
                | code::IPV6_EXTENDED_COMMUNITIES
                | code::LARGE_COMMUNITY
        )
    }

    /// The category of a code that is understood, or at least checked.
    const fn of(code: u8) -> Option<Self> {
        match code {
            code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
                Some(Self::WellKnown)
            }
            code::AGGREGATOR
            | code::COMMUNITIES
            | code::EXTENDED_COMMUNITIES
            | code::AS4_PATH
            | code::AS4_AGGREGATOR
            | code::PMSI_TUNNEL
            | code::TUNNEL_ENCAPSULATION
            | code::IPV6_EXTENDED_COMMUNITIES
            | code::LARGE_COMMUNITY
            | code::ONLY_TO_CUSTOMER
            | code::NEXT_HOP_CHARACTERISTICS
            | code::PREFIX_SID => Some(Self::OptionalTransitive),
            code::MULTI_EXIT_DISC
            | code::ORIGINATOR_ID
            | code::CLUSTER_LIST
            | code::MP_REACH_NLRI
            | code::MP_UNREACH_NLRI => Some(Self::OptionalNonTransitive),
            _ => None,
        }
    }
}

/// The attributes of one UPDATE.
#[derive(Debug)]
pub(crate) struct AttributeSet<'a> {
    /// MP_REACH_NLRI, unread.
    pub reach: Option<RawAttribute<'a>>,
    /// MP_UNREACH_NLRI, unread.
    pub unreach: Option<RawAttribute<'a>>,
    /// Whether anything but MP_UNREACH_NLRI is there, readable or not.
    pub has_others: bool,
    /// ORIGIN, AS_PATH: whether the mandatory ones are there.
    mandatory: (bool, bool),
    as4_path: Option<AsPath>,
    as4_aggregator: Option<(Asn, Ipv4Addr)>,
    /// All others; the next hop is set with the NLRI.
    attributes: PathAttributes,
}

impl<'a> AttributeSet<'a> {
    /// Reads the attribute field of an UPDATE.
    ///
    /// # Errors
    ///
    /// 3/1 for a second MP_REACH_NLRI or MP_UNREACH_NLRI, 3/2 for a well-known attribute that is not known.
    pub fn decode(field: &'a [u8], ctx: &DecodeContext, findings: &mut Findings) -> Result<Self, Fault> {
        let mut set = Self {
            reach: None,
            unreach: None,
            has_others: false,
            mandatory: (false, false),
            as4_path: None,
            as4_aggregator: None,
            attributes: PathAttributes::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        let mut seen = AttributeTypes::default();
        let mut reader = Reader::new(field);
        while !reader.is_empty() {
            let Some(raw) = RawAttribute::read(&mut reader) else {
                set.has_others = true;
                findings.add(Malformed::withdraw(rules::ATTRIBUTE_TRUNCATED), None);
                break;
            };
            set.has_others |= raw.code != code::MP_UNREACH_NLRI;
            if seen.insert(raw.code) {
                set.place(raw, ctx, findings)?;
            } else if matches!(raw.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
                let notification = NotificationCode::MALFORMED_ATTRIBUTE_LIST.notification();
                return Err(Fault { rule: rules::MP_DUPLICATE, notification });
            } else {
                findings.add(Malformed::discard(rules::ATTRIBUTE_DUPLICATE), Some(raw.code));
            }
        }
        set.attributes.unknown.sort_by_key(|unknown| unknown.code);
        set.merge_as4();
        Ok(set)
    }

    /// The first of the mandatory attributes that is missing (RFC 7606 section 3 d), as its finding.
    pub fn missing(&self) -> Option<(Malformed, u8)> {
        match self.mandatory {
            (false, _) => Some((Malformed::withdraw(rules::ORIGIN_MISSING), code::ORIGIN)),
            (_, false) => Some((Malformed::withdraw(rules::AS_PATH_MISSING), code::AS_PATH)),
            _ => None,
        }
    }

    /// The attributes with the next hop of their NLRI.
    pub fn into_attributes(self, next_hop: IpAddr) -> PathAttributes {
        PathAttributes { next_hop, ..self.attributes }
    }

    /// The extended communities, which decide whether some routes are valid.
    pub fn extended_communities(&self) -> &[ExtendedCommunity] {
        &self.attributes.extended_communities
    }

    /// Judges one attribute by its flags and its code, and reads it.
    fn place(&mut self, raw: RawAttribute<'a>, ctx: &DecodeContext, findings: &mut Findings) -> Result<(), Fault> {
        match raw.code {
            code::MP_REACH_NLRI => self.reach = Some(raw),
            code::MP_UNREACH_NLRI => self.unreach = Some(raw),
            code => match Class::of(code) {
                Some(class) => {
                    if let Err(malformed) = self.known(raw, class, ctx) {
                        findings.add(malformed, Some(code));
                    }
                }
                None => self.unrecognised(raw, ctx, findings)?,
            },
        }
        Ok(())
    }

    /// Reads an attribute of a known code.
    fn known(&mut self, raw: RawAttribute<'a>, class: Class, ctx: &DecodeContext) -> Result<(), Malformed> {
        // What is not for us to look at is dropped whatever its form.
        match raw.code {
            code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if ctx.external => {
                return Err(Malformed::discard(rules::ATTRIBUTE_INTERNAL));
            }
            code::AS4_PATH | code::AS4_AGGREGATOR if ctx.four_octet_as => {
                return Err(Malformed::discard(rules::ATTRIBUTE_AS4));
            }
            _ => {}
        }
        let partial = raw.flags & flag::PARTIAL != 0;
        if !raw.has_flags(class) || (partial && class != Class::OptionalTransitive) {
            return Err(Malformed::withdraw(rules::ATTRIBUTE_FLAGS));
        }
        self.read(raw, ctx)?;
        // AS4_PATH and AS4_AGGREGATOR end here; what is carried is partial in any case.
        if partial && Class::travels_typed(raw.code) {
            self.attributes.partial.insert(raw.code);
        }
        Ok(())
    }

    fn read(&mut self, raw: RawAttribute<'a>, ctx: &DecodeContext) -> Result<(), Malformed> {
        let width = if ctx.four_octet_as { AsWidth::Four } else { AsWidth::Two };
        let value = raw.value;
        let attributes = &mut self.attributes;
        match raw.code {
            code::ORIGIN => {
                attributes.origin = origin(value)?;
                self.mandatory.0 = true;
            }
            code::AS_PATH => {
                attributes.as_path = AsPath::decode(value, width)?;
                self.mandatory.1 = true;
            }
            // Its value means nothing beside MP_REACH_NLRI (RFC 4760 section 3).
            code::NEXT_HOP => _ = four(value, Malformed::withdraw(rules::NEXT_HOP_LENGTH))?,
            code::MULTI_EXIT_DISC => attributes.med = Some(four(value, Malformed::withdraw(rules::MED_LENGTH))?),
            code::LOCAL_PREF => {
                attributes.local_pref = Some(four(value, Malformed::withdraw(rules::LOCAL_PREF_LENGTH))?);
            }
            code::ATOMIC_AGGREGATE if value.is_empty() => attributes.atomic_aggregate = true,
            code::ATOMIC_AGGREGATE => return Err(Malformed::discard(rules::ATOMIC_AGGREGATE_LENGTH)),
            code::AGGREGATOR => attributes.aggregator = Some(aggregator(value, width)?),
            code::COMMUNITIES => attributes.communities = unique(value, rules::COMMUNITIES_LENGTH, u32::from_be_bytes)?,
            code::ORIGINATOR_ID => {
                let id = four(value, Malformed::withdraw(rules::ORIGINATOR_ID_LENGTH))?;
                attributes.originator_id = Some(RouterId(id));
            }
            code::CLUSTER_LIST => attributes.cluster_list = cluster_list(value)?,
            code::EXTENDED_COMMUNITIES => {
                attributes.extended_communities = unique(value, rules::EXTENDED_COMMUNITIES_LENGTH, ExtendedCommunity)?;
            }
            code::AS4_PATH => self.as4_path = Some(AsPath::decode_as4(value)?),
            code::AS4_AGGREGATOR => self.as4_aggregator = Some(aggregator(value, AsWidth::Four)?),
            code::PMSI_TUNNEL => attributes.pmsi_tunnel = Some(pmsi_tunnel(value)?),
            code::IPV6_EXTENDED_COMMUNITIES => {
                let list: SmallVec<[[u8; 20]; 1]> =
                    unique(value, rules::IPV6_EXTENDED_COMMUNITIES_LENGTH, core::convert::identity)?;
                attributes.ipv6_extended_communities = list.into_vec();
            }
            code::LARGE_COMMUNITY => {
                let list: SmallVec<[[u32; 3]; 1]> = unique(value, rules::LARGE_COMMUNITIES_LENGTH, large_community)?;
                attributes.large_communities = list.into_vec();
            }
            _ => {
                carried::check(raw.code, value)?;
                self.carry(raw, ctx);
            }
        }
        Ok(())
    }

    /// RFC 4271 section 5: an unrecognised attribute is fatal if well-known, passed along if transitive, else dropped.
    fn unrecognised(
        &mut self,
        raw: RawAttribute<'a>,
        ctx: &DecodeContext,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        if raw.flags & flag::OPTIONAL == 0 {
            return Err(NotificationCode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE.with_data(raw.whole).into());
        }
        if raw.flags & flag::TRANSITIVE == 0 {
            return Ok(());
        }
        // AIGP must stay within its administrative domain (RFC 7311 section 3.1).
        let checked = match raw.code {
            code::AIGP => Err(Malformed::discard(rules::AIGP_TRANSITIVE)),
            code => carried::check(code, raw.value),
        };
        match checked {
            Ok(()) => self.carry(raw, ctx),
            Err(malformed) => findings.add(malformed, Some(raw.code)),
        }
        Ok(())
    }

    /// Keeps the attribute, unless an operator wants it stripped. Copied, because a slice would keep the whole receive
    /// buffer alive.
    fn carry(&mut self, raw: RawAttribute<'_>, ctx: &DecodeContext) {
        if ctx.stripped.contains(raw.code) {
            return;
        }
        let value = Bytes::copy_from_slice(raw.value);
        self.attributes.unknown.push(UnknownAttribute { code: raw.code, value });
    }

    /// Undoes what a 2-octet speaker in between has done to wide AS numbers (RFC 6793 section 4.2.3).
    fn merge_as4(&mut self) {
        let attributes = &mut self.attributes;
        if let (Some(as4), Some((asn, _))) = (self.as4_aggregator, attributes.aggregator) {
            if asn != Asn::TRANS {
                // The aggregation took place at a speaker that did not know of either attribute.
                return;
            }
            attributes.aggregator = Some(as4);
        }
        if let Some(as4_path) = self.as4_path.take() {
            attributes.as_path = core::mem::take(&mut attributes.as_path).merged(as4_path);
        }
    }
}

fn origin(value: &[u8]) -> Result<Origin, Malformed> {
    match value {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        [_] => Err(Malformed::withdraw(rules::ORIGIN_VALUE)),
        _ => Err(Malformed::withdraw(rules::ORIGIN_LENGTH)),
    }
}

/// A value of exactly four octets.
fn four(value: &[u8], malformed: Malformed) -> Result<u32, Malformed> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| malformed)
}

fn aggregator(value: &[u8], width: AsWidth) -> Result<(Asn, Ipv4Addr), Malformed> {
    let mut reader = Reader::new(value);
    let fields = width.read(&mut reader).zip(reader.u32());
    match fields.filter(|_| reader.is_empty()) {
        Some((Asn(0), _)) => Err(Malformed::discard(rules::AGGREGATOR_ZERO)),
        Some((asn, address)) => Ok((asn, Ipv4Addr::from(address))),
        None => Err(Malformed::discard(rules::AGGREGATOR_LENGTH)),
    }
}

/// Repetitions count here: the length of the list decides between routes (RFC 4456 section 9).
fn cluster_list(value: &[u8]) -> Result<SmallVec<[u32; 2]>, Malformed> {
    match value.as_chunks() {
        ([], _) | (_, [_, ..]) => Err(Malformed::withdraw(rules::CLUSTER_LIST_LENGTH)),
        (chunks, []) => Ok(chunks.iter().copied().map(u32::from_be_bytes).collect()),
    }
}

fn large_community(octets: [u8; 12]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = octets;
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]), u32::from_be_bytes([i, j, k, l])]
}

/// A list of elements of `N` octets, at least one of them, each kept at its first occurrence.
fn unique<const N: usize, A>(
    value: &[u8],
    rule: Rule,
    element: impl Fn([u8; N]) -> A::Item,
) -> Result<SmallVec<A>, Malformed>
where
    A: Array,
    A::Item: Copy + Ord,
{
    let (chunks, []) = value.as_chunks::<N>() else {
        return Err(Malformed::withdraw(rule));
    };
    if chunks.is_empty() {
        return Err(Malformed::withdraw(rule));
    }
    let elements = chunks.iter().copied().map(element);
    let mut list = SmallVec::with_capacity(chunks.len());
    if chunks.len() <= SHORT_LIST {
        for element in elements {
            if !list.contains(&element) {
                list.push(element);
            }
        }
    } else {
        // Ordered: no choice of elements makes it slow, and it needs no randomness for that.
        let mut known = BTreeSet::new();
        list.extend(elements.filter(|element| known.insert(*element)));
    }
    Ok(list)
}

/// RFC 6514 section 5.
fn pmsi_tunnel(value: &[u8]) -> Result<PmsiTunnel, Malformed> {
    let mut reader = Reader::new(value);
    let Some([flags, tunnel_type, a, b, c]) = reader.array() else {
        return Err(Malformed::withdraw(rules::PMSI_LENGTH));
    };
    let identifier = reader.rest();
    let tunnel = match tunnel_type {
        INGRESS_REPLICATION => {
            let endpoint = endpoint(identifier).ok_or(Malformed::withdraw(rules::PMSI_ENDPOINT_LENGTH))?;
            Tunnel::IngressReplication(endpoint)
        }
        // Registered types, composite ones (RFC 8317) and those for experiments.
        0..=0x0d | 0x7b..=0x7e | 0x80..=0xfe => {
            Tunnel::Other { tunnel_type, identifier: Bytes::copy_from_slice(identifier) }
        }
        _ => return Err(Malformed::withdraw(rules::PMSI_TUNNEL_TYPE)),
    };
    Ok(PmsiTunnel { flags, label: Label([a, b, c]), tunnel })
}

/// An address of either family by its length.
fn endpoint(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        16 => <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
        _ => None,
    }
}
