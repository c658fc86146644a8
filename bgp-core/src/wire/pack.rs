//! Writing UPDATEs: as few messages as the limit allows, each filled.
//!
//! Attributes are encoded once ([`EncodedAttributes`]) and shared by all messages that announce routes with them.
//! MP_REACH_NLRI comes first (RFC 7606 section 5.1), the others follow in ascending type order.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::attributes::{EncodedAttributes, code, flag};
use super::context::EncodeContext;
use super::frame::{HEADER_LENGTH, MessageKind, begin_message, end_message, patch_u16};
use super::message::{Reach, Routes, Unreach, Update};
use super::nlri::{Evpn, RtConstrain, WireNlri};
use crate::types::AddressFamily;

/// The two length fields of an UPDATE.
const LENGTH_FIELDS: usize = 4;
/// Flags, code and a length of two octets.
const ATTRIBUTE_HEADER: usize = 4;

/// A route with its attributes exceeds the longest message that the peer takes. It must not stay announced in an
/// earlier form: withdraw it (RFC 4271 section 9.2).
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("one route with its attributes needs {needed} octets, and the peer takes messages of {limit}")]
pub struct TooLong {
    /// Octets of a message with that route alone.
    pub needed: usize,
    /// Octets that the peer takes.
    pub limit: usize,
}

/// Appends UPDATEs that announce `routes` with `attributes`; returns how many messages that took.
///
/// # Errors
///
/// [`TooLong`] where one of the routes cannot be announced. `out` is then as it was.
pub fn announce<'a, N: WireNlri + 'a>(
    ctx: &EncodeContext,
    attributes: &EncodedAttributes,
    routes: impl IntoIterator<Item = (&'a N::Key, &'a N::Payload)>,
    out: &mut BytesMut,
) -> Result<usize, TooLong> {
    let origin = out.len();
    let mut packer = Packer::new(ctx, Some(attributes), N::FAMILY, out);
    for (key, payload) in routes {
        if let Err(too_long) = packer.push(|out| N::encode(key, payload, out)) {
            out.truncate(origin);
            return Err(too_long);
        }
    }
    Ok(packer.finish())
}

/// Appends UPDATEs that withdraw `keys`; returns how many messages that took.
pub fn withdraw<'a, N: WireNlri + 'a>(
    ctx: &EncodeContext,
    keys: impl IntoIterator<Item = &'a N::Key>,
    out: &mut BytesMut,
) -> usize {
    let mut packer = Packer::new(ctx, None, N::FAMILY, out);
    for key in keys {
        // One NLRI has at most 257 octets and fits any message.
        let _fits = packer.push(|out| N::encode_withdrawal(key, out));
    }
    packer.finish()
}

/// Appends the end-of-RIB marker of `family` (RFC 4724 section 2).
pub fn end_of_rib(family: AddressFamily, out: &mut BytesMut) {
    let start = begin_message(MessageKind::Update, out);
    out.put_u16(0);
    if family == AddressFamily::IPV4_UNICAST {
        out.put_u16(0);
    } else {
        out.put_u16(6);
        out.put_slice(&[flag::OPTIONAL, code::MP_UNREACH_NLRI, 3]);
        put_family(family, out);
    }
    end_message(start, out);
}

impl Update {
    /// Appends the withdrawals, then the announcements, then the end-of-RIB, in as many messages as it takes. Routes
    /// that no message can hold are withdrawn instead.
    pub fn encode(&self, ctx: &EncodeContext, out: &mut BytesMut) {
        for keys in &self.unreach {
            match keys {
                Unreach::Evpn(keys) => withdraw::<Evpn>(ctx, keys, out),
                Unreach::RtConstrain(keys) => withdraw::<RtConstrain>(ctx, keys, out),
            };
        }
        if let Some(Reach { attributes, routes }) = &self.reach {
            let attributes = EncodedAttributes::new(attributes, ctx);
            let announced = match routes {
                Routes::Evpn(routes) => {
                    announce::<Evpn>(ctx, &attributes, routes.iter().map(|route| (&route.key, &route.payload)), out)
                }
                Routes::RtConstrain(routes) => {
                    announce::<RtConstrain>(ctx, &attributes, routes.iter().map(|route| (&route.key, &())), out)
                }
            };
            if announced.is_err() {
                match routes {
                    Routes::Evpn(routes) => withdraw::<Evpn>(ctx, routes.iter().map(|route| &route.key), out),
                    Routes::RtConstrain(routes) => {
                        withdraw::<RtConstrain>(ctx, routes.iter().map(|route| &route.key), out)
                    }
                };
            }
        }
        if let Some(family) = self.end_of_rib {
            end_of_rib(family, out);
        }
    }
}

/// Fills messages with the NLRI of one multiprotocol attribute each.
struct Packer<'a> {
    out: &'a mut BytesMut,
    /// What follows MP_REACH_NLRI; without it, routes are withdrawn by MP_UNREACH_NLRI.
    attributes: Option<&'a EncodedAttributes>,
    family: AddressFamily,
    limit: usize,
    open: Option<OpenMessage>,
    messages: usize,
}

/// Positions in a message that is being filled.
#[derive(Clone, Copy)]
struct OpenMessage {
    start: usize,
    /// The multiprotocol attribute's header.
    attribute: usize,
    /// Its first NLRI.
    nlri: usize,
}

impl<'a> Packer<'a> {
    fn new(
        ctx: &EncodeContext,
        attributes: Option<&'a EncodedAttributes>,
        family: AddressFamily,
        out: &'a mut BytesMut,
    ) -> Self {
        Self { out, attributes, family, limit: ctx.max_message.octets(), open: None, messages: 0 }
    }

    /// Adds the NLRI that `encode` appends, in a new message if this one is full.
    fn push(&mut self, encode: impl Fn(&mut BytesMut)) -> Result<(), TooLong> {
        let message = self.open_message();
        let before = self.out.len();
        encode(self.out);
        let needed = self.length(message);
        if needed <= self.limit {
            return Ok(());
        }
        self.out.truncate(before);
        if before == message.nlri {
            return Err(TooLong { needed, limit: self.limit });
        }
        self.close_message(message);
        self.push(encode)
    }

    /// Ends the last message; returns how many there are.
    fn finish(mut self) -> usize {
        if let Some(message) = self.open {
            self.close_message(message);
        }
        self.messages
    }

    /// Octets of the message as if it ended here.
    fn length(&self, message: OpenMessage) -> usize {
        let others = self.attributes.map_or(0, EncodedAttributes::len);
        self.out.len().saturating_sub(message.start).saturating_add(others)
    }

    fn open_message(&mut self) -> OpenMessage {
        if let Some(open) = self.open {
            return open;
        }
        let start = begin_message(MessageKind::Update, self.out);
        self.out.put_slice(&[0; LENGTH_FIELDS]);
        let attribute = self.out.len();
        let code = if self.attributes.is_some() { code::MP_REACH_NLRI } else { code::MP_UNREACH_NLRI };
        self.out.put_slice(&[flag::OPTIONAL | flag::EXTENDED_LENGTH, code, 0, 0]);
        put_family(self.family, self.out);
        if let Some(attributes) = self.attributes {
            put_next_hop(attributes.next_hop(), self.out);
        }
        let open = OpenMessage { start, attribute, nlri: self.out.len() };
        self.open = Some(open);
        open
    }

    fn close_message(&mut self, message: OpenMessage) {
        self.open = None;
        self.messages = self.messages.saturating_add(1);
        let OpenMessage { start, attribute, .. } = message;
        end_attribute(attribute, self.out);
        if let Some(attributes) = self.attributes {
            self.out.put_slice(attributes.as_bytes());
        }
        let attributes_length = self.out.len().saturating_sub(attribute);
        patch_u16(self.out, start + HEADER_LENGTH + 2, attributes_length);
        end_message(start, self.out);
    }
}

/// Writes the length of the attribute whose header of four octets stands at `position`; makes it one of three where
/// the value is short, since the extended form is for longer ones only (RFC 4271 section 4.3).
fn end_attribute(position: usize, out: &mut BytesMut) {
    let value = position.saturating_add(ATTRIBUTE_HEADER);
    let length = out.len().saturating_sub(value);
    let Ok(short) = u8::try_from(length) else {
        return patch_u16(out, position.saturating_add(2), length);
    };
    if let Some([flags, _code, length_field, rest @ ..]) = out.get_mut(position..) {
        *flags &= !flag::EXTENDED_LENGTH;
        *length_field = short;
        rest.rotate_left(1);
        out.truncate(value.saturating_sub(1).saturating_add(length));
    }
}

fn put_family(family: AddressFamily, out: &mut BytesMut) {
    out.put_u16(family.afi);
    out.put_u8(family.safi);
}

/// The next hop behind its length, and the reserved octet.
fn put_next_hop(next_hop: IpAddr, out: &mut BytesMut) {
    match next_hop {
        IpAddr::V4(address) => {
            out.put_u8(4);
            out.put_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.put_u8(16);
            out.put_slice(&address.octets());
        }
    }
    out.put_u8(0);
}
