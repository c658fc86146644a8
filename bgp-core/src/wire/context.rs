//! What a session has negotiated or configured that changes how messages are read and written.

use smallvec::SmallVec;

use super::frame::MaxMessage;
use crate::types::AddressFamily;

/// How to read messages of one peer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DecodeContext {
    /// Both sides have the 4-octet AS capability (RFC 6793).
    pub four_octet_as: bool,
    /// The families that both sides announced. NLRI of any other are never parsed.
    pub families: SmallVec<[AddressFamily; 4]>,
    /// The peer is in another AS.
    pub external: bool,
    /// What an EVPN route with a good frame and a bad body costs.
    pub evpn_errors: EvpnErrors,
    /// What MP_REACH_NLRI or MP_UNREACH_NLRI that cannot be read costs.
    pub multiprotocol_errors: MultiprotocolErrors,
    /// Keep EVPN routes of unknown types as [`EvpnKey::Opaque`](super::EvpnKey::Opaque) instead of skipping them.
    pub opaque_routes: bool,
    /// Optional transitive attributes that are dropped, instead of being passed along without being understood.
    pub stripped: AttributeTypes,
}

impl DecodeContext {
    /// Whether NLRI of `family` are to be read.
    pub fn negotiated(&self, family: AddressFamily) -> bool {
        self.families.contains(&family)
    }
}

/// A set of attribute type codes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct AttributeTypes([u128; 2]);

impl AttributeTypes {
    /// Adds `code`; false if it was there before.
    pub fn insert(&mut self, code: u8) -> bool {
        let [low, high] = &mut self.0;
        let (word, bit) = if code < 128 { (low, code) } else { (high, code - 128) };
        let fresh = *word & (1 << bit) == 0;
        *word |= 1 << bit;
        fresh
    }

    /// Whether `code` is there.
    pub fn contains(self, code: u8) -> bool {
        let mut set = self;
        !set.insert(code)
    }
}

impl FromIterator<u8> for AttributeTypes {
    fn from_iter<I: IntoIterator<Item = u8>>(codes: I) -> Self {
        let mut set = Self::default();
        codes.into_iter().for_each(|code| _ = set.insert(code));
        set
    }
}

/// What to do with one NLRI whose length octet fits and whose body does not (RFC 7606 section 5.3 asks for the reset;
/// containing it is as safe, because the length octet still locates the next one).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum EvpnErrors {
    /// Withdraw that route alone, or drop it if its key cannot be read.
    #[default]
    Contain,
    /// Treat the whole attribute as unreadable.
    Strict,
}

/// What to do when NLRI cannot be located (RFC 7606 section 5.3 leaves the choice).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum MultiprotocolErrors {
    /// End the session with 3/9.
    #[default]
    Reset,
    /// Ignore the family for the rest of the session, where it can be told which one is meant.
    DisableFamily,
}

/// How to write messages to one peer, or to a group of peers.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct EncodeContext {
    /// Both sides have the 4-octet AS capability (RFC 6793).
    pub four_octet_as: bool,
    /// The longest message that the peer takes.
    pub max_message: MaxMessage,
}
