//! The TCP-MD5 key that workers and reflectors share (RFC 2385): a Secret that the manifest creates empty and the first
//! reflector fills.
//!
//! ```text
//!   Secret, empty ──watch──► reflector ──PUT with its resourceVersion──► filled: everybody's watch brings the key
//!                                          └── 409: another one was first, and its key comes the same way
//! ```
//!
//! A key is never lost: neither a Secret that is deleted nor one that is emptied takes it away from who knows it, and an
//! emptied one gets it back. A key that is replaced holds for new sessions; those that run keep theirs, so that it does not matter who learns of it first. Whoever
//! has the old one alone can't connect until its watch has brought the new one.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::explain::{Attempt, explain};
use crate::watch::{self, Config, Origin, View, Watched};

/// The name of the Secret.
pub const SECRET: &str = "megalos-bgp";
/// The entry of its data that holds the key.
pub const ENTRY: &str = "md5";
/// The longest key that Linux takes, in octets.
const MAX_KEY: usize = 80;
/// Random octets in a key of ours; written in hexadecimal.
const RANDOM: usize = 32;

/// A key. Its debug form does not show it.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct Key(String);

impl Key {
    /// From text of 1 to 80 octets without control characters.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        match text {
            _ if text.is_empty() => Err(KeyError::Empty),
            _ if text.len() > MAX_KEY => Err(KeyError::TooLong(text.len())),
            _ if text.chars().any(char::is_control) => Err(KeyError::Control),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// A new one that nobody can guess.
    ///
    /// # Errors
    ///
    /// If the kernel's source of randomness can't be read.
    pub fn random() -> std::io::Result<Self> {
        let mut octets = [0; RANDOM];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
        Ok(Self(octets.iter().map(|octet| format!("{octet:02x}")).collect()))
    }

    /// For a socket.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(&text)
    }
}

/// Why the Secret's content is no key.
#[derive(Clone, Debug, Error, Eq, PartialEq, Serialize, Deserialize)]
pub enum KeyError {
    /// There is nothing.
    #[error("the key is empty")]
    Empty,
    /// The kernel takes 80 octets.
    #[error("the key has {0} octets, Linux takes {MAX_KEY}")]
    TooLong(usize),
    /// Text ends in a line feed, say.
    #[error("the key has control characters, such as a line feed at its end")]
    Control,
    /// Not UTF-8.
    #[error("the key is no text")]
    NoText,
}

/// What the Secret holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Content {
    /// Nothing yet.
    Empty,
    /// A key.
    Key(Key),
    /// Something that is no key.
    Unusable(KeyError),
}

impl Content {
    /// Of this object.
    pub fn of(secret: &Secret) -> Self {
        let value = secret.data.as_ref().and_then(|data| data.get(ENTRY));
        match value.map(|ByteString(octets)| std::str::from_utf8(octets).map(Key::new)) {
            None | Some(Ok(Err(KeyError::Empty))) => Self::Empty,
            Some(Ok(Ok(key))) => Self::Key(key),
            Some(Ok(Err(error))) => Self::Unusable(error),
            Some(Err(_)) => Self::Unusable(KeyError::NoText),
        }
    }
}

/// Watches the Secret of this namespace. `config` says how, and where the last known key is kept.
pub fn watch(client: Client, namespace: &str, config: Config) -> Watched<Content> {
    watch::start(Api::<Secret>::namespaced(client, namespace), config.named(SECRET), Content::of)
}

/// The file of the last known key in a directory of state.
pub fn cache(directory: &std::path::Path) -> PathBuf {
    directory.join("bgp-key.json")
}

/// What changed about the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// There is a key, or another one.
    Key(Key),
    /// The API server says that the Secret is empty: a reflector fills it, with the key that is known if there is one.
    Fill,
    /// There is something wrong that a person has to put right; said once per cause.
    Problem(String),
}

/// Remembers the key through everything that happens to its Secret. Pure.
#[derive(Debug, Default)]
pub struct Keeper {
    key: Option<Key>,
    problem: Option<String>,
}

impl Keeper {
    /// The key, if there ever was one.
    pub const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// What a view of the Secret means.
    pub fn look(&mut self, view: &View<Content>) -> Option<News> {
        let fresh = view.health.origin == Origin::Api;
        let problem = match view.objects.get(SECRET) {
            Some(Content::Key(key)) => {
                self.problem = None;
                if self.key.as_ref() == Some(key) {
                    return None;
                }
                self.key = Some(key.clone());
                return Some(News::Key(key.clone()));
            }
            Some(Content::Empty) if fresh => return Some(News::Fill),
            Some(Content::Unusable(error)) => format!(
                "Secret {SECRET}, entry {ENTRY}: {error}; put 1 to {MAX_KEY} octets of text there, or remove the entry: \
                 a reflector then makes a key"
            ),
            None if fresh => format!("there is no Secret {SECRET}; apply install.yaml again"),
            Some(Content::Empty) | None => return None,
        };
        let new = self.problem.as_ref() != Some(&problem);
        self.problem = Some(problem.clone());
        new.then_some(News::Problem(problem))
    }
}

/// What came of an attempt to fill the Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filled {
    /// Our key is in it.
    ByUs,
    /// Another reflector was faster; its key comes by the watch.
    ByAnother,
}

/// Puts the key that is known, else a new one, into the Secret if it is still empty: of several who try at once, one
/// succeeds.
///
/// # Errors
///
/// What went wrong, and its cure.
pub async fn fill(client: Client, namespace: &str, known: Option<Key>) -> Result<Filled, String> {
    let secrets = Api::<Secret>::namespaced(client, namespace);
    let words = |verb, error: &kube::Error| {
        explain(&Attempt { verb, group: "", resource: "secrets", namespace: Some(namespace) }, error)
    };
    let mut secret = secrets.get(SECRET).await.map_err(|error| words("get", &error))?;
    if Content::of(&secret) != Content::Empty {
        return Ok(Filled::ByAnother);
    }
    let made = || Key::random().map_err(|error| format!("can't make a TCP-MD5 key: /dev/urandom: {error}"));
    let key = known.map_or_else(made, Ok)?;
    let data = secret.data.get_or_insert_default();
    data.insert(ENTRY.into(), ByteString(key.0.into_bytes()));
    // The object carries the resourceVersion it was read with: the API server refuses it if it is not the last any more.
    match secrets.replace(SECRET, &PostParams::default(), &secret).await {
        Ok(_) => Ok(Filled::ByUs),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Filled::ByAnother),
        Err(error) => Err(words("update", &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::watch::Health;

    fn content(value: Option<&[u8]>) -> Content {
        let data = value.map(|value| BTreeMap::from([(ENTRY.to_owned(), ByteString(value.to_vec()))]));
        Content::of(&Secret { data, ..Secret::default() })
    }

    #[test]
    fn a_secret_holds_a_key_or_nothing_or_something_with_a_reason() {
        for (value, expected) in [
            (None, Content::Empty),
            (Some(&b""[..]), Content::Empty),
            (Some(b"secret"), Content::Key(Key("secret".into()))),
            (Some(b"secret\n"), Content::Unusable(KeyError::Control)),
            (Some(&[b'x'; 81]), Content::Unusable(KeyError::TooLong(81))),
            (Some(&[0xff]), Content::Unusable(KeyError::NoText)),
        ] {
            assert_eq!(content(value), expected, "{value:?}");
        }
        assert!(matches!(content(Some(&[b'x'; 80])), Content::Key(_)));
    }

    #[test]
    fn a_key_of_ours_fits_and_is_never_the_same() {
        let (one, other) = (Key::random().unwrap(), Key::random().unwrap());
        assert!(one != other && Key::new(one.as_str()) == Ok(one.clone()) && one.as_str().len() == 2 * RANDOM);
        assert!(!format!("{one:?}").contains(one.as_str()));
    }

    #[test]
    fn a_key_read_back_from_disk_is_checked() {
        for (text, good) in [(r#""secret""#, true), (r#""""#, false), (r#""a\nb""#, false), ("7", false)] {
            assert_eq!(serde_json::from_str::<Key>(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_key_is_never_lost() {
        let view = |content: Option<Content>, origin| View {
            objects: Arc::new(content.map(|content| (SECRET.to_owned(), content)).into_iter().collect()),
            health: Health { origin, ..Health::default() },
        };
        let key = |text: &str| Key(text.into());
        let mut keeper = Keeper::default();
        let mut look = |content, origin| {
            let news = keeper.look(&view(content, origin));
            (news, keeper.key().map(|key| key.0.clone()))
        };
        let kept = |text: &str| Some(text.to_owned());
        assert_eq!(look(None, Origin::Nothing), (None, None));
        assert_eq!(look(Some(Content::Empty), Origin::Disk), (None, None), "an old emptiness is filled by nobody");
        assert_eq!(look(Some(Content::Empty), Origin::Api), (Some(News::Fill), None));
        assert_eq!(look(Some(Content::Key(key("a"))), Origin::Api), (Some(News::Key(key("a"))), kept("a")));
        assert_eq!(look(Some(Content::Key(key("a"))), Origin::Api), (None, kept("a")));
        assert_eq!(look(Some(Content::Empty), Origin::Api), (Some(News::Fill), kept("a")));
        for content in [None, Some(Content::Unusable(KeyError::Control))] {
            let (news, key) = look(content.clone(), Origin::Api);
            assert!(matches!(news, Some(News::Problem(_))) && key == kept("a"), "{content:?}");
            assert_eq!(look(content, Origin::Api), (None, kept("a")), "said once");
        }
        assert_eq!(look(Some(Content::Key(key("b"))), Origin::Api), (Some(News::Key(key("b"))), kept("b")));
    }
}
