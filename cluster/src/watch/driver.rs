//! Asks the API server what the tracker wants to know, tells the tracker what came, and publishes what changed by it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt};
use kube::api::{ListParams, WatchParams};
use kube::core::{ObjectList, WatchEvent};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::disk;
use super::store::{Object, Store};
use super::tracker::{Effect, Failure, Step, Tracker};
use super::{Away, Config, Health, Origin, View, Watched};
use crate::explain::{Attempt, asked_pause, explain, explain_status};

/// Objects per page of a list.
const PAGE: u32 = 500;
/// How long a page may take: the API server itself gives up after a minute.
const PAGE_TIMEOUT: Duration = Duration::from_secs(65);
/// What a watch may be silent for beyond its life; then its connection is dead.
const SILENCE: Duration = Duration::from_secs(5);
/// A watch that ended before this was not worth the request: the next one waits.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// Events applied before what changed is published.
const EVENT_BATCH: usize = 256;
/// When a write that failed is tried again, though nothing changed.
const SAVE_AGAIN: Duration = Duration::from_secs(30);
/// Pause after a write of the file, in terms of what the write took: a key that is new is on disk at once, and many thousand
/// Nodes in motion do not keep the disk busy.
const SAVE_PAUSE: u32 = 10;

/// Something went wrong while asking.
struct Trouble {
    failure: Failure,
    error: String,
    pause: Option<Duration>,
}

struct Driver<K, T> {
    api: Api<K>,
    config: Config,
    keep: fn(&K) -> T,
    resource: String,
    group: String,
    namespace: Option<String>,
    tracker: Tracker<T>,
    backoff: Backoff,
    sender: watch::Sender<View<T>>,
}

pub(super) fn start<K, T>(api: Api<K>, config: Config, keep: fn(&K) -> T) -> Watched<T>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let resource = K::plural(&()).into_owned();
    let store = restored(&config, &resource);
    let origin = if store.objects().is_empty() { Origin::Nothing } else { Origin::Disk };
    let health = Health { origin, ..Health::default() };
    let (sender, view) = watch::channel(View { objects: Arc::clone(store.objects()), health });
    let mut tasks = JoinSet::new();
    if let Some(path) = config.cache.clone() {
        tasks.spawn(save_changes(view.clone(), path, resource.clone()));
    }
    let driver = Driver {
        namespace: namespace_of(api.resource_url()),
        group: K::group(&()).into_owned(),
        backoff: Backoff::new(config.pause_max, seed()),
        tracker: Tracker::new(store),
        api,
        config,
        keep,
        resource,
        sender,
    };
    tasks.spawn(driver.run());
    Watched { view, _tasks: tasks }
}

fn restored<T: Clone + PartialEq + DeserializeOwned>(config: &Config, resource: &str) -> Store<T> {
    let Some(path) = &config.cache else { return Store::default() };
    match disk::load(path, resource) {
        Ok(Some(objects)) => {
            tracing::info!(resource, count = objects.len(), path = %path.display(), "the last known state was read");
            Store::restore(objects)
        }
        Ok(None) => Store::default(),
        Err(error) => {
            let path = path.display();
            tracing::warn!(resource, %path, %error, "the last known state is of no use; it is written anew");
            Store::default()
        }
    }
}

/// The namespace in the path of a resource.
fn namespace_of(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces");
    parts.next()?;
    parts.next().map(str::to_owned)
}

/// Different in every process, without a source of randomness of our own.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

impl<K, T> Driver<K, T>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    async fn run(mut self) {
        loop {
            let result = match self.tracker.step().clone() {
                Step::List { token } => self.list(token).await,
                Step::Watch { version } => self.watch(&version).await,
            };
            if let Err(trouble) = result {
                self.tracker.failed(trouble.failure);
                self.away(trouble.error);
                tokio::time::sleep(self.backoff.pause(trouble.pause)).await;
            }
        }
    }

    async fn list(&mut self, token: Option<String>) -> Result<(), Trouble> {
        let params = ListParams {
            label_selector: self.config.labels.clone(),
            field_selector: self.config.fields.clone(),
            limit: Some(PAGE),
            continue_token: token,
            ..ListParams::default()
        };
        let list: ObjectList<K> = match tokio::time::timeout(PAGE_TIMEOUT, self.api.list(&params)).await {
            Ok(answer) => answer.map_err(|error| self.trouble("list", &error))?,
            Err(_) => return Err(self.silence("list", PAGE_TIMEOUT)),
        };
        let objects: Vec<_> = list.items.iter().map(|object| self.object(object)).collect();
        let page = self.tracker.page(objects, list.metadata.continue_, list.metadata.resource_version);
        let effect = page.map_err(|what| self.garbage("list", what))?;
        self.heard(effect);
        Ok(())
    }

    async fn watch(&mut self, version: &str) -> Result<(), Trouble> {
        let renewal = self.config.renewal;
        let params = WatchParams {
            label_selector: self.config.labels.clone(),
            field_selector: self.config.fields.clone(),
            timeout: Some(u32::try_from(renewal.as_secs()).unwrap_or(u32::MAX)),
            bookmarks: true,
            send_initial_events: false,
        };
        let begun = tokio::time::Instant::now();
        let stream = match tokio::time::timeout(PAGE_TIMEOUT, self.api.watch(&params, version)).await {
            Ok(answer) => answer.map_err(|error| self.trouble("watch", &error))?,
            Err(_) => return Err(self.silence("watch", PAGE_TIMEOUT)),
        };
        self.heard(Effect::default());
        let step = Step::Watch { version: version.into() };
        if self.follow(stream, renewal + SILENCE).await? {
            self.tracker.ended();
            let nothing = *self.tracker.step() == step;
            if nothing && begun.elapsed() < SHORT_WATCH {
                return Err(self.transient("watch", "the API server closes watches as soon as they begin"));
            }
        }
        Ok(())
    }

    /// Applies events until the watch ends (true), or another step is due (false).
    async fn follow(
        &mut self,
        stream: impl Stream<Item = kube::Result<WatchEvent<K>>>,
        silence: Duration,
    ) -> Result<bool, Trouble> {
        let mut batches = std::pin::pin!(stream.ready_chunks(EVENT_BATCH));
        loop {
            // A connection that died without a word looks like a watch without events.
            let Ok(Some(batch)) = tokio::time::timeout(silence, batches.next()).await else { return Ok(true) };
            let mut effect = Effect::default();
            let mut trouble = Ok(());
            for event in batch {
                match event.map_err(|error| self.trouble("watch", &error)).and_then(|event| self.event(event)) {
                    Ok(next) => effect.changed |= next.changed,
                    Err(problem) => {
                        trouble = Err(problem);
                        break;
                    }
                }
            }
            self.heard(effect);
            trouble?;
            if !matches!(self.tracker.step(), Step::Watch { .. }) {
                return Ok(false);
            }
        }
    }

    fn event(&mut self, event: WatchEvent<K>) -> Result<Effect, Trouble> {
        const ODD: &str = "an event is about an object without name, uid or resourceVersion";
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let object = self.object(&object).ok_or_else(|| self.garbage("watch", ODD))?;
                Ok(self.tracker.applied(object))
            }
            WatchEvent::Deleted(object) => {
                let object = self.object(&object).ok_or_else(|| self.garbage("watch", ODD))?;
                Ok(self.tracker.deleted(&object))
            }
            WatchEvent::Bookmark(bookmark) => {
                self.tracker.bookmark(&bookmark.metadata.resource_version);
                Ok(Effect::default())
            }
            WatchEvent::Error(status) => Err(Trouble {
                failure: Failure::of_status(status.code),
                error: explain_status(&self.attempt("watch"), &status),
                pause: None,
            }),
        }
    }

    fn object(&self, object: &K) -> Option<Object<T>> {
        let meta = object.meta();
        let field = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        Some(Object {
            name: field(&meta.name)?,
            uid: field(&meta.uid)?,
            version: object.resource_version().filter(|version| !version.is_empty())?,
            value: (self.keep)(object),
        })
    }

    fn attempt<'a>(&'a self, verb: &'a str) -> Attempt<'a> {
        Attempt { verb, group: &self.group, resource: &self.resource, namespace: self.namespace.as_deref() }
    }

    fn trouble(&self, verb: &str, error: &kube::Error) -> Trouble {
        let failure = match error {
            kube::Error::Api(status) => Failure::of_status(status.code),
            // The event that could not be read is lost.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::LinesCodecMaxLineLengthExceeded => {
                Failure::OutOfStep
            }
            _ => Failure::Transient,
        };
        Trouble { failure, error: explain(&self.attempt(verb), error), pause: asked_pause(error) }
    }

    fn garbage(&self, verb: &str, what: &str) -> Trouble {
        Trouble { failure: Failure::OutOfStep, ..self.transient(verb, what) }
    }

    fn transient(&self, verb: &str, what: &str) -> Trouble {
        let error = format!("can't {verb} {}: {what}", self.resource);
        Trouble { failure: Failure::Transient, error, pause: None }
    }

    fn silence(&self, verb: &str, timeout: Duration) -> Trouble {
        self.transient(verb, &format!("no answer of the API server for {} s", timeout.as_secs()))
    }

    /// The API server answered as it should.
    fn heard(&mut self, effect: Effect) {
        self.backoff.reset();
        let now = SystemTime::now();
        let doubted = self.tracker.doubted();
        let objects = Arc::clone(self.tracker.store().objects());
        let resource = self.resource.as_str();
        self.sender.send_if_modified(|view| {
            let health = &mut view.health;
            let away = health.away.take();
            if let Some(away) = &away {
                let secs = now.duration_since(away.since).unwrap_or_default().as_secs();
                tracing::info!(resource, secs, "the API server is back");
            }
            let mut changed = effect.changed || away.is_some() || health.doubted != doubted;
            if doubted && !health.doubted {
                let kept = objects.len();
                tracing::warn!(resource, kept, "the API server's list is empty; it is not believed, all are kept");
            }
            health.doubted = doubted;
            health.heard = Some(now);
            if effect.listed.is_some() && health.origin != Origin::Api {
                health.origin = Origin::Api;
                changed = true;
            }
            view.objects = objects;
            changed
        });
    }

    /// It did not.
    fn away(&self, error: String) {
        let resource = self.resource.as_str();
        self.sender.send_if_modified(|view| {
            let news = view.health.away.as_ref().is_none_or(|away| away.error != error);
            if news {
                let kept = view.objects.len();
                tracing::warn!(resource, kept, %error, "the API server does not tell us what is there; all are kept");
                let since = view.health.away.as_ref().map_or_else(SystemTime::now, |away| away.since);
                view.health.away = Some(Away { since, error });
            }
            news
        });
    }
}

/// Writes the file whenever objects changed that the API server told of.
async fn save_changes<T>(mut view: watch::Receiver<View<T>>, path: std::path::PathBuf, resource: String)
where
    T: Serialize + Send + Sync + 'static,
{
    let mut saved = Arc::clone(&view.borrow_and_update().objects);
    let mut broken = false;
    loop {
        let again = if broken { SAVE_AGAIN } else { Duration::MAX };
        if let Ok(Err(_)) = tokio::time::timeout(again, view.changed()).await {
            return;
        }
        let (objects, origin) = {
            let view = view.borrow_and_update();
            (Arc::clone(&view.objects), view.health.origin)
        };
        if origin != Origin::Api || Arc::ptr_eq(&objects, &saved) {
            continue;
        }
        let begun = tokio::time::Instant::now();
        let (to, kind, written) = (path.clone(), resource.clone(), Arc::clone(&objects));
        let result = tokio::task::spawn_blocking(move || disk::save(&to, &kind, &written)).await;
        match result.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => {
                saved = objects;
                broken = false;
            }
            Err(error) if !broken => {
                broken = true;
                let path = path.display();
                tracing::warn!(resource, %path, %error, "what is known can't be kept for a start without the API server");
            }
            Err(_) => {}
        }
        tokio::time::sleep(begun.elapsed() * SAVE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_in_the_path() {
        assert_eq!(namespace_of("/api/v1/nodes"), None);
        assert_eq!(namespace_of("/api/v1/namespaces/megalos-system/secrets").as_deref(), Some("megalos-system"));
    }
}
