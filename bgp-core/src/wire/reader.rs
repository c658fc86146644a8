//! A cursor over received octets that cannot read past its end.
//!
//! Nested structures get a [`Reader`] of exactly their declared length, so an inner length can never reach outside
//! its container. Every read yields `None` where octets are missing, and then consumes nothing.

/// Reads big-endian integers and slices from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `octets` from the start.
    pub const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// Whether all octets have been read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets left, without reading them.
    pub const fn peek(&self) -> &'a [u8] {
        self.0
    }

    /// All octets left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.0 = &[];
        rest
    }

    /// The next `length` octets.
    pub const fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(length) else {
            return None;
        };
        self.0 = rest;
        Some(taken)
    }

    /// A reader of the next `length` octets.
    pub const fn sub(&mut self, length: usize) -> Option<Self> {
        match self.take(length) {
            Some(octets) => Some(Self(octets)),
            None => None,
        }
    }

    /// The next `N` octets.
    pub const fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else {
            return None;
        };
        self.0 = rest;
        Some(*taken)
    }

    /// One octet.
    pub const fn u8(&mut self) -> Option<u8> {
        match self.array() {
            Some([octet]) => Some(octet),
            None => None,
        }
    }

    /// Two octets.
    pub const fn u16(&mut self) -> Option<u16> {
        match self.array() {
            Some(octets) => Some(u16::from_be_bytes(octets)),
            None => None,
        }
    }

    /// Four octets.
    pub const fn u32(&mut self) -> Option<u32> {
        match self.array() {
            Some(octets) => Some(u32::from_be_bytes(octets)),
            None => None,
        }
    }

    /// A reader of a structure preceded by its length in one octet.
    pub const fn prefixed_u8(&mut self) -> Option<Self> {
        let mut ahead = *self;
        let Some(length) = ahead.u8() else {
            return None;
        };
        let inner = ahead.sub(length as usize);
        if inner.is_some() {
            *self = ahead;
        }
        inner
    }

    /// A reader of a structure preceded by its length in two octets.
    pub const fn prefixed_u16(&mut self) -> Option<Self> {
        let mut ahead = *self;
        let Some(length) = ahead.u16() else {
            return None;
        };
        let inner = ahead.sub(length as usize);
        if inner.is_some() {
            *self = ahead;
        }
        inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_yields_nothing_and_consumes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.array::<4>(), None);
        assert_eq!(reader.take(4), None);
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(reader.u16(), None);
        assert_eq!(reader.rest(), &[3]);
        assert!(reader.is_empty());
        assert_eq!(reader.u8(), None);
    }

    #[test]
    fn an_inner_length_cannot_reach_outside_its_container() {
        let mut outer = Reader::new(&[2, 9, 9, 7]);
        let mut inner = outer.prefixed_u8().unwrap();
        assert!(inner.prefixed_u8().is_none());
        assert_eq!(inner.peek().len(), 2);
        assert_eq!(outer.u8(), Some(7));
        assert!(Reader::new(&[0, 4, 1, 2, 3]).prefixed_u16().is_none());
    }
}
