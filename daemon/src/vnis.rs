//! VNIs in a configuration file: `100` or `"100-199"`.

use std::fmt;

use bgp_core::types::{ParseError, Vni};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A VNI or a range of them, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VniRange {
    /// The first.
    pub first: Vni,
    /// The last, not below the first.
    pub last: Vni,
}

const FORM: &str = "a VNI from 1 to 16777215 such as 100, or a range such as \"100-199\"";

impl VniRange {
    fn of(number: u64) -> Option<Self> {
        let vni = Vni::new(u32::try_from(number).ok()?)?;
        Some(Self { first: vni, last: vni })
    }
}

impl std::str::FromStr for VniRange {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let number = |text: &str| text.trim().parse().ok().and_then(Vni::new);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match number(first).zip(number(last)) {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            _ => Err(ParseError { expected: FORM, found: text.chars().take(64).collect() }),
        }
    }
}

impl<'de> Deserialize<'de> for VniRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = VniRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORM)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<VniRange, E> {
                VniRange::of(number).ok_or_else(|| E::custom(format_args!("expected {FORM}, found `{number}`")))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<VniRange, E> {
                let range = u64::try_from(number).ok().and_then(VniRange::of);
                range.ok_or_else(|| E::custom(format_args!("expected {FORM}, found `{number}`")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<VniRange, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        vnis: Vec<VniRange>,
    }

    fn read(list: &str) -> Result<Vec<(u32, u32)>, String> {
        let file: File = toml::from_str(&format!("vnis = {list}")).map_err(|error| error.to_string())?;
        Ok(file.vnis.iter().map(|range| (range.first.get(), range.last.get())).collect())
    }

    #[test]
    fn a_list_of_vnis_holds_numbers_and_ranges() {
        let all = read("[1, \"2\", \"100-199\", \"5 - 5\", 16777215]").unwrap();
        assert_eq!(all, [(1, 1), (2, 2), (100, 199), (5, 5), (16_777_215, 16_777_215)]);
    }

    #[test]
    fn what_is_no_vni_is_refused_with_what_was_found() {
        for (list, found) in [
            ("[0]", "`0`"),
            ("[16777216]", "`16777216`"),
            ("[-5]", "`-5`"),
            ("[\"200-100\"]", "`200-100`"),
            ("[\"100-\"]", "`100-`"),
            ("[\"lab\"]", "`lab`"),
            ("[true]", "boolean"),
        ] {
            let error = read(list).unwrap_err();
            assert!(error.contains(found) && error.contains("16777215"), "{list}: {error}");
        }
    }
}
