//! Objects and their history. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::faults::{Faults, Verb};
use super::patch;

/// A change, as watches tell it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) resource: String,
    pub(super) kind: &'static str,
    pub(super) object: Value,
}

/// Which objects are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    pub(super) name: Option<String>,
    pub(super) labels: Vec<(String, String)>,
}

impl Selector {
    fn selects(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        let named = self.name.as_ref().is_none_or(|name| meta["name"] == **name);
        named && self.labels.iter().all(|(key, value)| meta["labels"][key] == **value)
    }
}

/// Why a request is refused: HTTP status, reason and message.
pub(super) type Refusal = (u16, &'static str, String);

#[derive(Debug, Default)]
pub(super) struct State {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    uids: u64,
    history: Vec<Change>,
    /// Changes up to this version are forgotten.
    compacted: u64,
    /// Watches that began in an earlier one end.
    pub(super) epoch: u64,
    pub(super) faults: Faults,
    asked: BTreeMap<(&'static str, String), usize>,
    replaced: BTreeMap<String, usize>,
}

impl State {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(super) fn apply(&mut self, resource: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let version = self.next_version();
        let key = (resource.to_owned(), name);
        let old = self.objects.get(&key);
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        for field in ["uid", "creationTimestamp"] {
            if object["metadata"][field].is_null() {
                let kept = old.map(|old| old["metadata"][field].clone());
                object["metadata"][field] = kept.unwrap_or_else(|| match field {
                    "uid" => {
                        self.uids += 1;
                        json!(format!("00000000-0000-4000-8000-{:012}", self.uids))
                    }
                    _ => json!(format!(
                        "2026-01-01T{:02}:{:02}:{:02}Z",
                        version / 3_600 % 24,
                        version / 60 % 60,
                        version % 60
                    )),
                });
            }
        }
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.objects.insert(key, object.clone());
        self.history.push(Change { version, resource: resource.to_owned(), kind, object });
    }

    pub(super) fn delete(&mut self, resource: &str, name: &str) -> bool {
        let Some(mut object) = self.objects.remove(&(resource.to_owned(), name.to_owned())) else { return false };
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.history.push(Change { version, resource: resource.to_owned(), kind: "DELETED", object });
        true
    }

    pub(super) fn bookmark(&mut self, resource: &str) {
        let version = self.next_version();
        let object =
            json!({"kind": "Bookmark", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}});
        self.history.push(Change { version, resource: resource.to_owned(), kind: "BOOKMARK", object });
    }

    pub(super) fn compact(&mut self) {
        // Of a change that nobody has seen, so that every watch is behind it.
        self.compacted = self.next_version();
        self.history.clear();
    }

    pub(super) fn mend(&mut self) {
        self.faults.clear();
        self.epoch += 1;
    }

    pub(super) fn end_watches(&mut self) {
        self.epoch += 1;
    }

    pub(super) fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.objects.get(&(resource.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn names(&self, resource: &str) -> Vec<String> {
        self.objects.keys().filter(|(of, _)| of == resource).map(|(_, name)| name.clone()).collect()
    }

    /// One page of a list: objects after `after`, at most `limit`, and whether there are more.
    pub(super) fn list(&self, resource: &str, selector: &Selector, after: &str, limit: usize) -> (Vec<Value>, bool) {
        let of = self.objects.iter().filter(|((of, name), _)| of == resource && (after.is_empty() || **name > *after));
        let mut selected = of.map(|(_, object)| object).filter(|object| selector.selects(object));
        let page = selected.by_ref().take(limit).cloned().collect();
        (page, selected.next().is_some())
    }

    /// Changes after `version`; none if they are forgotten.
    pub(super) fn changes(&self, resource: &str, selector: &Selector, version: u64) -> Option<Vec<Change>> {
        if version < self.compacted {
            return None;
        }
        let later = self.history.iter().filter(|change| change.version > version && change.resource == resource);
        let of = later.filter(|change| change.kind == "BOOKMARK" || selector.selects(&change.object));
        Some(of.cloned().collect())
    }

    pub(super) fn replace(&mut self, resource: &str, name: &str, object: Value) -> Result<Value, Refusal> {
        let old = self.get(resource, name).ok_or_else(|| not_found(resource, name))?;
        let version = &object["metadata"]["resourceVersion"];
        if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
            let message =
                format!("Operation cannot be fulfilled on {resource} \"{name}\": the object has been modified");
            return Err((409, "Conflict", message));
        }
        self.apply(resource, object);
        *self.replaced.entry(resource.to_owned()).or_default() += 1;
        self.get(resource, name).ok_or_else(|| not_found(resource, name))
    }

    pub(super) fn patch(&mut self, resource: &str, name: &str, change: &Value) -> Result<Value, Refusal> {
        let mut object = self.get(resource, name).ok_or_else(|| not_found(resource, name))?;
        patch::merge(&mut object, change);
        self.apply(resource, object);
        self.get(resource, name).ok_or_else(|| not_found(resource, name))
    }

    pub(super) fn create(&mut self, resource: &str, mut object: Value) -> Result<Value, Refusal> {
        if object["metadata"]["name"].is_null() {
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or("x").to_owned();
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.version + 1));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.get(resource, &name).is_some() {
            return Err((409, "AlreadyExists", format!("{resource} \"{name}\" already exists")));
        }
        self.apply(resource, object);
        self.get(resource, &name).ok_or_else(|| not_found(resource, &name))
    }

    pub(super) fn count(&mut self, verb: Verb, resource: &str) {
        *self.asked.entry((verb.name(), resource.to_owned())).or_default() += 1;
    }

    pub(super) fn asked(&self, verb: Verb, resource: &str) -> usize {
        self.asked.get(&(verb.name(), resource.to_owned())).copied().unwrap_or_default()
    }

    pub(super) fn replaced(&self, resource: &str) -> usize {
        self.replaced.get(resource).copied().unwrap_or_default()
    }
}

pub(super) fn not_found(resource: &str, name: &str) -> Refusal {
    (404, "NotFound", format!("{resource} \"{name}\" not found"))
}
