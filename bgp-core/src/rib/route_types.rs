//! Which EVPN route types a peer is sent.

/// A set of EVPN route types, for peers that end the session on a type they do not know although they are to pass it
/// over (RFC 7606 section 5.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteTypes([u64; 4]);

impl RouteTypes {
    /// Every type, the unknown ones among them.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// Whether the type is one of them.
    pub fn contains(self, route_type: u8) -> bool {
        self.0.get(usize::from(route_type / 64)).is_some_and(|word| word >> (route_type % 64) & 1 != 0)
    }
}

impl Default for RouteTypes {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<u8> for RouteTypes {
    fn from_iter<I: IntoIterator<Item = u8>>(types: I) -> Self {
        let mut words = [0_u64; 4];
        for route_type in types {
            if let Some(word) = words.get_mut(usize::from(route_type / 64)) {
                *word |= 1 << (route_type % 64);
            }
        }
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_it_was_made_of_and_nothing_else() {
        let types = [0, 2, 3, 63, 64, 255];
        let set: RouteTypes = types.into_iter().collect();
        for route_type in 0..=u8::MAX {
            assert_eq!(set.contains(route_type), types.contains(&route_type), "{route_type}");
            assert!(RouteTypes::ALL.contains(route_type));
        }
    }
}
