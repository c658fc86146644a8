//! AS_PATH and AS4_PATH: reading, writing and merging them (RFC 4271 section 4.3, RFC 6793 section 4.2).

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::{AsPath, AsSegment};
use crate::rule::Rule;
use crate::types::Asn;
use crate::wire::error::Malformed;
use crate::wire::reader::Reader;
use crate::wire::rules;

/// Segment types (RFC 4271 section 4.3, RFC 5065 section 3).
const AS_SET: u8 = 1;
const AS_SEQUENCE: u8 = 2;
const AS_CONFED_SEQUENCE: u8 = 3;
const AS_CONFED_SET: u8 = 4;
/// Most numbers in a segment: its count has one octet.
const MAX_SEGMENT: usize = 255;

/// Octets of an AS number on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AsWidth {
    /// As without the 4-octet AS capability.
    Two,
    /// As with it, and always in AS4_PATH.
    Four,
}

impl AsWidth {
    pub const fn octets(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    pub fn read(self, reader: &mut Reader<'_>) -> Option<Asn> {
        match self {
            Self::Two => reader.u16().map(|number| Asn(u32::from(number))),
            Self::Four => reader.u32().map(Asn),
        }
    }

    /// Writes the number, or AS_TRANS where it does not fit.
    pub fn write(self, asn: Asn, out: &mut BytesMut) {
        match self {
            Self::Two => out.put_u16(u16::try_from(asn.0).unwrap_or(Asn::TRANS.0 as u16)),
            Self::Four => out.put_u32(asn.0),
        }
    }
}

/// Whether the number needs four octets.
pub(crate) fn is_wide(asn: Asn) -> bool {
    asn.0 > u32::from(u16::MAX)
}

impl AsPath {
    /// Reads AS_PATH (RFC 7606 section 7.2, RFC 7607, RFC 9774, RFC 5065).
    pub(crate) fn decode(value: &[u8], width: AsWidth) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value);
        let mut segments = SmallVec::new();
        while !reader.is_empty() {
            match read_segment(&mut reader, width).map_err(Malformed::withdraw)? {
                (AS_SEQUENCE, numbers) => segments.push(AsSegment(numbers)),
                (AS_SET, _) => return Err(Malformed::withdraw(rules::AS_PATH_SET)),
                (AS_CONFED_SEQUENCE | AS_CONFED_SET, _) => {
                    return Err(Malformed::withdraw(rules::AS_PATH_CONFEDERATION));
                }
                _ => return Err(Malformed::withdraw(rules::AS_PATH_SEGMENT_TYPE)),
            }
        }
        Ok(Self { segments })
    }

    /// Reads AS4_PATH (RFC 6793 section 6): malformed means discard, confederation segments are left out. AS_SET makes
    /// the routes invalid here too (RFC 9774 section 3).
    pub(crate) fn decode_as4(value: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(value);
        if reader.is_empty() {
            return Err(Malformed::discard(rules::AS4_PATH_LENGTH));
        }
        let mut segments = SmallVec::new();
        while !reader.is_empty() {
            match read_segment(&mut reader, AsWidth::Four).map_err(|_| Malformed::discard(rules::AS4_PATH_MALFORMED))? {
                (AS_SEQUENCE, numbers) => segments.push(AsSegment(numbers)),
                (AS_SET, _) => return Err(Malformed::withdraw(rules::AS4_PATH_SET)),
                (AS_CONFED_SEQUENCE | AS_CONFED_SET, _) => {}
                _ => return Err(Malformed::discard(rules::AS4_PATH_SEGMENT_TYPE)),
            }
        }
        Ok(Self { segments })
    }

    /// Octets of the attribute's value.
    pub(crate) fn encoded_length(&self, width: AsWidth) -> usize {
        self.chunks().map(|chunk| 2 + chunk.len() * width.octets()).sum()
    }

    /// Appends the attribute's value.
    pub(crate) fn encode(&self, width: AsWidth, out: &mut BytesMut) {
        for chunk in self.chunks() {
            out.put_u8(AS_SEQUENCE);
            out.put_u8(u8::try_from(chunk.len()).unwrap_or(u8::MAX));
            for asn in chunk {
                width.write(*asn, out);
            }
        }
    }

    /// Segments as they fit their count octet.
    fn chunks(&self) -> impl Iterator<Item = &[Asn]> {
        self.segments.iter().flat_map(|segment| segment.0.chunks(MAX_SEGMENT))
    }

    /// What a 2-octet peer's AS_PATH means beside its AS4_PATH (RFC 6793 section 4.2.3): the numbers that AS4_PATH
    /// lacks in front of it, or `self` alone where AS4_PATH is the longer of the two.
    pub(crate) fn merged(self, as4_path: Self) -> Self {
        let Some(mut missing) = self.len().checked_sub(as4_path.len()) else {
            return self;
        };
        let mut segments = SmallVec::new();
        for segment in &self.segments {
            let taken: Vec<Asn> = segment.0.iter().copied().take(missing).collect();
            missing = missing.saturating_sub(taken.len());
            if !taken.is_empty() {
                segments.push(AsSegment(taken));
            }
        }
        segments.extend(as4_path.segments);
        Self { segments }
    }
}

/// A segment's type and its numbers: at least one, none of them zero.
fn read_segment(reader: &mut Reader<'_>, width: AsWidth) -> Result<(u8, Vec<Asn>), Rule> {
    let [kind, count] = reader.array().ok_or(rules::AS_PATH_LENGTH)?;
    if count == 0 {
        return Err(rules::AS_PATH_EMPTY_SEGMENT);
    }
    let mut inner = reader.sub(usize::from(count) * width.octets()).ok_or(rules::AS_PATH_LENGTH)?;
    let mut numbers = Vec::with_capacity(usize::from(count));
    while let Some(asn) = width.read(&mut inner) {
        if asn == Asn(0) {
            return Err(rules::AS_PATH_ZERO);
        }
        numbers.push(asn);
    }
    Ok((kind, numbers))
}
