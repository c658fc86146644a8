//! `[[peer]]` and `[[accept]]` sections of a configuration file: one key that says who, and [`PeerSettings`].
//!
//! A derived `flatten` would let unknown keys pass, and reading by way of a table would lose the lines of errors. So the
//! section is handed on to [`PeerSettings`] key by key, and the one key that is not a setting is kept back.

use std::fmt;
use std::marker::PhantomData;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

use crate::config::{PeerAddress, PeerSettings};

/// A `[[peer]]` section: `address` and the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerEntry {
    /// Where the peer listens.
    pub address: PeerAddress,
    /// The other keys.
    pub settings: PeerSettings,
}

/// An `[[accept]]` section: `prefix` and the settings of every peer in it.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptEntry {
    /// Addresses that may connect.
    pub prefix: IpNet,
    /// The other keys.
    pub settings: PeerSettings,
}

impl<'de> Deserialize<'de> for PeerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (address, settings) = deserializer.deserialize_map(Section::new("address"))?;
        Ok(Self { address, settings })
    }
}

impl<'de> Deserialize<'de> for AcceptEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (prefix, settings) = deserializer.deserialize_map(Section::new("prefix"))?;
        Ok(Self { prefix, settings })
    }
}

/// Reads a section whose own key is `name`.
struct Section<T> {
    name: &'static str,
    value: PhantomData<T>,
}

impl<T> Section<T> {
    fn new(name: &'static str) -> Self {
        Self { name, value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Section<T> {
    type Value = (T, PeerSettings);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a section with `{}` and settings of a peer", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut own = None;
        let rest = Rest { map, name: self.name, own: &mut own };
        let settings = PeerSettings::deserialize(MapAccessDeserializer::new(rest))?;
        let own = own.ok_or_else(|| A::Error::missing_field(self.name))?;
        Ok((own, settings))
    }
}

/// The keys of a section but for its own, whose value is put aside.
struct Rest<'a, A, T> {
    map: A,
    name: &'static str,
    own: &'a mut Option<T>,
}

impl<'de, A: MapAccess<'de>, T: Deserialize<'de>> MapAccess<'de> for Rest<'_, A, T> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = seed;
        loop {
            match self.map.next_key_seed(KeyBut { name: self.name, seed })? {
                None => return Ok(None),
                Some(Key::Other(key)) => return Ok(Some(key)),
                Some(Key::Own(unused)) => {
                    *self.own = Some(self.map.next_value()?);
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads a key with `seed` unless it is `name`. It runs inside the reader's own step, which knows the line.
struct KeyBut<K> {
    name: &'static str,
    seed: K,
}

enum Key<K, V> {
    Own(K),
    Other(V),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeyBut<K> {
    type Value = Key<K, K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if key == self.name {
            return Ok(Key::Own(self.seed));
        }
        self.seed.deserialize(key.into_deserializer()).map(Key::Other)
    }
}
