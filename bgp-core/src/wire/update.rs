//! UPDATE: reading it with the error classes of RFC 7606.
//!
//! ```text
//!   fields ──► attributes, each judged ──► NLRI, judged with the attributes ──► reach, unreach, findings
//! ```
//!
//! What ends the session is an error; everything else is a finding beside what could be read. IPv4 unicast has no
//! decoder here: its fields are framed, so that the attributes can be found, and otherwise ignored.

use super::attributes::{AttributeSet, Class, RawAttribute, code};
use super::context::{DecodeContext, MultiprotocolErrors};
use super::error::{Malformed, NotificationCode};
use super::findings::Findings;
use super::message::{Reach, Routes, Treatment, Unreach, Update};
use super::nlri::multiprotocol::{self, Unreadable};
use super::nlri::{Evpn, Route, RtConstrain};
use super::reader::Reader;
use super::rules::{self, Fault};
use crate::rule::Rule;
use crate::types::AddressFamily;

/// The three variable fields (RFC 4271 section 4.3).
struct Fields<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    nlri: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let withdrawn = reader.prefixed_u16()?.rest();
        let attributes = reader.prefixed_u16()?.rest();
        Some(Self { withdrawn, attributes, nlri: reader.rest() })
    }
}

impl Update {
    pub(crate) fn decode(body: &[u8], ctx: &DecodeContext) -> Result<Self, Fault> {
        let fields = Fields::read(body).ok_or_else(|| NotificationCode::MALFORMED_ATTRIBUTE_LIST.notification())?;
        if !ipv4_prefixes_are_framed(fields.withdrawn) || !ipv4_prefixes_are_framed(fields.nlri) {
            return Err(NotificationCode::INVALID_NETWORK_FIELD.notification().into());
        }
        let has_ipv4 = !fields.withdrawn.is_empty() || !fields.nlri.is_empty();
        if fields.attributes.is_empty() && !has_ipv4 {
            return Ok(Self { end_of_rib: Some(AddressFamily::IPV4_UNICAST), ..Self::default() });
        }
        let mut decoder = Decoder { ctx, findings: Findings::default(), update: Self::default() };
        let set = AttributeSet::decode(fields.attributes, ctx, &mut decoder.findings)?;
        if has_ipv4 {
            decoder.ignore(rules::IPV4_UNICAST_ROUTES, None);
        }
        decoder.unreach(&set, has_ipv4)?;
        decoder.reach(set, !fields.nlri.is_empty())?;
        decoder.drop_disabled();
        Ok(Self { findings: decoder.findings.into_list(), ..decoder.update })
    }

    /// Adds keys to the withdrawals of their family.
    fn add_unreach(&mut self, keys: Unreach) {
        if keys.is_empty() {
            return;
        }
        for known in &mut self.unreach {
            match (known, &keys) {
                (Unreach::Evpn(known), Unreach::Evpn(keys)) => return known.extend_from_slice(keys),
                (Unreach::RtConstrain(known), Unreach::RtConstrain(keys)) => return known.extend_from_slice(keys),
                _ => {}
            }
        }
        self.unreach.push(keys);
    }
}

/// An update being read.
struct Decoder<'c> {
    ctx: &'c DecodeContext,
    findings: Findings,
    update: Update,
}

impl Decoder<'_> {
    fn ignore(&mut self, rule: Rule, attribute: Option<u8>) {
        self.findings.add(Malformed { treatment: Treatment::SkipRoute, rule }, attribute);
    }

    /// Reads MP_UNREACH_NLRI; alone in its message and empty, it is an end-of-RIB marker.
    fn unreach(&mut self, set: &AttributeSet<'_>, has_ipv4: bool) -> Result<(), Fault> {
        let Some(raw) = set.unreach else { return Ok(()) };
        let Some(family) = self.admit(raw)? else { return Ok(()) };
        match multiprotocol::decode_unreach(family, raw.value, self.ctx, &mut self.findings) {
            Err(unreadable) => self.unreadable(unreadable, raw)?,
            Ok(None) => self.ignore(rules::FAMILY_NOT_SUPPORTED, Some(raw.code)),
            Ok(Some(_)) if raw.value.len() == 3 && !set.has_others && !has_ipv4 => {
                self.update.end_of_rib = Some(family);
            }
            Ok(Some(keys)) => self.update.add_unreach(keys),
        }
        Ok(())
    }

    /// Reads MP_REACH_NLRI and decides whether its routes are announced or withdrawn.
    fn reach(&mut self, set: AttributeSet<'_>, has_ipv4_nlri: bool) -> Result<(), Fault> {
        let located = set.reach.is_some_and(|raw| multiprotocol::has_reachable(raw.value));
        let has_reachable = has_ipv4_nlri || located;
        // RFC 7606 section 5.2: with nothing to withdraw, the NLRI may have been what was misread. IPv4 routes, of which
        // none is kept, are nothing to withdraw.
        if self.findings.withdraw_all() && set.has_others && !located {
            let notification = NotificationCode::MALFORMED_ATTRIBUTE_LIST.notification();
            return Err(Fault { rule: rules::UPDATE_NO_ROUTES, notification });
        }
        if has_reachable && let Some((malformed, code)) = set.missing() {
            self.findings.add(malformed, Some(code));
        }
        let Some(raw) = set.reach else { return Ok(()) };
        let Some(family) = self.admit(raw)? else { return Ok(()) };
        let communities = set.extended_communities();
        if communities.iter().filter(|community| community.as_mac_mobility().is_some()).nth(1).is_some() {
            self.findings.add(Malformed::note(rules::MAC_MOBILITY_TWICE), Some(code::EXTENDED_COMMUNITIES));
        }
        match multiprotocol::decode_reach(family, raw.value, self.ctx, communities, &mut self.findings) {
            Err(unreadable) => self.unreadable(unreadable, raw),
            Ok(None) => {
                self.ignore(rules::FAMILY_NOT_SUPPORTED, Some(raw.code));
                Ok(())
            }
            Ok(Some((next_hop, routes, withdrawn))) => {
                self.update.add_unreach(withdrawn);
                if self.findings.withdraw_all() {
                    self.update.add_unreach(routes.into_keys());
                } else if !routes.is_empty() {
                    self.update.reach = Some(Reach { attributes: set.into_attributes(next_hop), routes });
                }
                Ok(())
            }
        }
    }

    /// The family of a multiprotocol attribute that is to be read; `None` where it is ignored.
    fn admit(&mut self, raw: RawAttribute<'_>) -> Result<Option<AddressFamily>, Fault> {
        let (bad_flags, bad_length) = match raw.code {
            code::MP_REACH_NLRI => (rules::MP_REACH_FLAGS, rules::MP_REACH_LENGTH),
            _ => (rules::MP_UNREACH_FLAGS, rules::MP_UNREACH_LENGTH),
        };
        if !raw.has_flags(Class::OptionalNonTransitive) {
            self.unreadable(Unreadable(bad_flags), raw)?;
            return Ok(None);
        }
        let Some(family) = multiprotocol::family(raw.value) else {
            self.unreadable(Unreadable(bad_length), raw)?;
            return Ok(None);
        };
        if self.ctx.negotiated(family) {
            return Ok(Some(family));
        }
        self.ignore(rules::FAMILY_NOT_NEGOTIATED, Some(raw.code));
        Ok(None)
    }

    /// NLRI that cannot be located: the family is ignored from now on where that is configured and enough, else the
    /// session ends (RFC 7606 section 5.3).
    fn unreadable(&mut self, Unreadable(rule): Unreadable, raw: RawAttribute<'_>) -> Result<(), Fault> {
        let family = multiprotocol::family(raw.value).filter(|family| self.ctx.negotiated(*family));
        let alone = self.update.disable.is_none() || self.update.disable == family;
        match self.ctx.multiprotocol_errors {
            MultiprotocolErrors::DisableFamily if family.is_some() && alone => {
                self.update.disable = family;
                let malformed = Malformed { treatment: Treatment::DisableFamily, rule };
                self.findings.add(malformed, Some(raw.code));
                Ok(())
            }
            _ => Err(Fault { rule, notification: NotificationCode::OPTIONAL_ATTRIBUTE_ERROR.with_data(raw.whole) }),
        }
    }

    /// Nothing of a family counts once it is disabled.
    fn drop_disabled(&mut self) {
        let Some(disabled) = self.update.disable else { return };
        self.update.unreach.retain(|keys| keys.family() != disabled);
        if self.update.reach.as_ref().is_some_and(|reach| reach.routes.family() == disabled) {
            self.update.reach = None;
        }
        if self.update.end_of_rib == Some(disabled) {
            self.update.end_of_rib = None;
        }
    }
}

impl Routes {
    /// Their family.
    pub fn family(&self) -> AddressFamily {
        match self {
            Self::Evpn(_) => AddressFamily::EVPN,
            Self::RtConstrain(_) => AddressFamily::RT_CONSTRAIN,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Evpn(routes) => routes.len(),
            Self::RtConstrain(routes) => routes.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their identities, to withdraw them.
    pub fn into_keys(self) -> Unreach {
        match self {
            Self::Evpn(routes) => Unreach::Evpn(routes.into_iter().map(|Route::<Evpn> { key, .. }| key).collect()),
            Self::RtConstrain(routes) => {
                Unreach::RtConstrain(routes.into_iter().map(|Route::<RtConstrain> { key, .. }| key).collect())
            }
        }
    }
}

impl Unreach {
    /// Their family.
    pub fn family(&self) -> AddressFamily {
        match self {
            Self::Evpn(_) => AddressFamily::EVPN,
            Self::RtConstrain(_) => AddressFamily::RT_CONSTRAIN,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Evpn(keys) => keys.len(),
            Self::RtConstrain(keys) => keys.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether the octets are whole IPv4 prefixes (RFC 4271 section 4.3).
fn ipv4_prefixes_are_framed(field: &[u8]) -> bool {
    let mut reader = Reader::new(field);
    while let Some(bits) = reader.u8() {
        if bits > 32 || reader.take(usize::from(bits.div_ceil(8))).is_none() {
            return false;
        }
    }
    true
}
