//! Watches objects of one kind, and never forgets what it knew because the API server is away, refuses, or answers nothing.
//!
//! ```text
//!   API server ◄──list, watch──► driver ──► tracker { store } ──► View, to whoever looks
//!                                                │                  │
//!                               (what to ask)    └── pure           └──► disk, for the next start
//! ```
//!
//! In: a client, the kind, what to keep of an object. Out: a [`View`] in a `tokio::sync::watch` channel, whole and immutable.
//! The rule of what goes when is in `store`, what is asked when in `tracker`.

mod backoff;
mod disk;
mod driver;
mod store;
mod tracker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use backoff::Backoff;
pub use store::MAX_OBJECTS;

/// Which objects, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Only objects with these fields, such as `metadata.name=x`.
    pub fields: Option<String>,
    /// Only objects with these labels.
    pub labels: Option<String>,
    /// Where the last known state is kept; none: nowhere.
    pub cache: Option<PathBuf>,
    /// How long a watch lasts before it is renewed, which is also how long a connection that died without a word goes
    /// unnoticed.
    pub renewal: Duration,
    /// The longest pause after failures.
    pub pause_max: Duration,
}

impl Config {
    /// For daemons that run on every node: kind to the API server.
    pub fn for_many() -> Self {
        Self {
            fields: None,
            labels: None,
            cache: None,
            renewal: Duration::from_secs(290),
            pause_max: Duration::from_secs(30),
        }
    }

    /// For the few: quick to notice what went wrong.
    pub fn for_few() -> Self {
        Self { renewal: Duration::from_secs(30), pause_max: Duration::from_secs(5), ..Self::for_many() }
    }

    /// Only the object of this name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { fields: Some(format!("metadata.name={name}")), ..self }
    }

    /// Only objects with these labels.
    #[must_use]
    pub fn labelled(self, labels: &str) -> Self {
        Self { labels: Some(labels.into()), ..self }
    }

    /// Keeps the last known state in this file.
    #[must_use]
    pub fn kept_in(self, cache: PathBuf) -> Self {
        Self { cache: Some(cache), ..self }
    }
}

/// Where the objects of a view come from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// Nothing is known yet.
    #[default]
    Nothing,
    /// The file that an earlier life left; the API server was not heard yet.
    Disk,
    /// The API server: a list was complete in this life, even if it is away by now.
    Api,
}

/// The API server does not answer, or refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Away {
    /// Since when.
    pub since: SystemTime,
    /// The last failure, with its cure.
    pub error: String,
}

/// How far the objects of a view can be trusted to be the present.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Where they come from.
    pub origin: Origin,
    /// Set while the API server does not answer as it should.
    pub away: Option<Away>,
    /// When it was last heard: a list, the beginning of a watch, an event, a bookmark.
    pub heard: Option<SystemTime>,
    /// The last complete list was empty and is not believed.
    pub doubted: bool,
}

/// All that is known, at one moment.
#[derive(Clone, Debug)]
pub struct View<T> {
    /// The objects, by name. The same allocation for as long as nothing changes.
    pub objects: Arc<BTreeMap<String, T>>,
    /// What they are worth.
    pub health: Health,
}

/// A watch that runs for as long as this lives.
#[derive(Debug)]
pub struct Watched<T> {
    /// What is known. A change of `health.heard` alone wakes nobody.
    pub view: watch::Receiver<View<T>>,
    _tasks: JoinSet<()>,
}

/// Begins to watch. `keep` says what is kept of an object; less is better: it is compared, cloned and written to disk.
/// Reads the last known state before it returns.
pub fn start<K, T>(api: Api<K>, config: Config, keep: fn(&K) -> T) -> Watched<T>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    driver::start(api, config, keep)
}
