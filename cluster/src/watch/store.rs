//! What is known of the watched objects. No I/O, no clock.
//!
//! ```text
//!                  ADDED, MODIFIED             DELETED
//!   nothing ──────────────────────► known ────────────────► gone, its uid never comes back by an event
//!                                    │  ▲
//!     complete list that lacks it,   │  │  everything else: empty list, failed list, 410, silence
//!     but has others                 ▼  │
//!                                   gone
//! ```
//!
//! Whoever loses all Nodes at once loses all routes, and nothing that a cluster does in earnest looks like that: an empty
//! list comes from a server that was just restored, or is not the one that we think it is. So an empty list is put on
//! record and not believed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Objects kept, at most. Kubernetes itself is tested up to 5,000 Nodes.
pub const MAX_OBJECTS: usize = 65_536;
/// Deleted objects that are remembered, so that an event which comes late does not bring them back.
const REMEMBERED: usize = 4_096;

/// An object as it arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T> {
    /// Its name, unique among those watched.
    pub name: String,
    /// Its uid: another one under the same name is another object.
    pub uid: String,
    /// Its resource version.
    pub version: String,
    /// What we keep of it.
    pub value: T,
}

/// What a complete list meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listed {
    /// It is what is known now.
    Believed {
        /// Whether anything is different from before.
        changed: bool,
    },
    /// It was empty: what was known stays.
    Empty,
}

/// Where an object is in the order of changes.
#[derive(Clone, Debug)]
struct Place {
    uid: String,
    version: Option<u64>,
}

impl Place {
    fn of<T>(object: &Object<T>) -> Self {
        Self { uid: object.uid.clone(), version: object.version.parse().ok() }
    }

    /// Versions are compared where both are numbers, as Kubernetes' own are.
    fn is_after(&self, version: Option<u64>) -> bool {
        self.version.zip(version).is_some_and(|(ours, theirs)| ours > theirs)
    }
}

/// The store.
#[derive(Debug)]
pub struct Store<T> {
    objects: Arc<BTreeMap<String, T>>,
    places: HashMap<String, Place>,
    listing: Option<BTreeMap<String, Object<T>>>,
    buried: HashSet<String>,
    graves: VecDeque<String>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: Arc::default(),
            places: HashMap::new(),
            listing: None,
            buried: HashSet::new(),
            graves: VecDeque::new(),
        }
    }
}

impl<T: Clone + PartialEq> Store<T> {
    /// What is known from an earlier life.
    pub fn restore(objects: BTreeMap<String, T>) -> Self {
        Self { objects: Arc::new(objects), ..Self::default() }
    }

    /// All that is known, by name.
    pub const fn objects(&self) -> &Arc<BTreeMap<String, T>> {
        &self.objects
    }

    /// A list begins; pages of one that did not end are forgotten.
    pub fn begin_list(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    /// An object of the list. False: there are too many, it is left out.
    pub fn list(&mut self, object: Object<T>) -> bool {
        let listing = self.listing.get_or_insert_default();
        if listing.len() >= MAX_OBJECTS && !listing.contains_key(&object.name) {
            return false;
        }
        listing.insert(object.name.clone(), object);
        true
    }

    /// The list is complete.
    pub fn end_list(&mut self) -> Listed {
        let listing = self.listing.take().unwrap_or_default();
        if listing.is_empty() {
            return Listed::Empty;
        }
        self.places = listing.values().map(|object| (object.name.clone(), Place::of(object))).collect();
        self.buried.clear();
        self.graves.clear();
        let objects: BTreeMap<_, _> = listing.into_values().map(|object| (object.name, object.value)).collect();
        let changed = *self.objects != objects;
        if changed {
            self.objects = Arc::new(objects);
        }
        Listed::Believed { changed }
    }

    /// An object is there, or is different. Whether anything changed by that; what came too late changes nothing.
    pub fn apply(&mut self, object: Object<T>) -> bool {
        let place = Place::of(&object);
        let late = self.places.get(&object.name).is_some_and(|known| known.is_after(place.version));
        let full = self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(&object.name);
        if late || full || self.buried.contains(&object.uid) {
            return false;
        }
        if let Some(known) = self.places.insert(object.name.clone(), place)
            && known.uid != object.uid
        {
            // Another object under that name: the deletion of the first has not come, or never will.
            self.bury(known.uid);
        }
        if self.objects.get(&object.name) == Some(&object.value) {
            return false;
        }
        Arc::make_mut(&mut self.objects).insert(object.name, object.value);
        true
    }

    /// An object was deleted. Whether anything changed by that: not if another one has its name by now.
    pub fn delete(&mut self, name: &str, uid: &str) -> bool {
        self.bury(uid.to_owned());
        if self.places.get(name).is_some_and(|known| known.uid != uid) || !self.objects.contains_key(name) {
            return false;
        }
        self.places.remove(name);
        Arc::make_mut(&mut self.objects).remove(name);
        true
    }

    fn bury(&mut self, uid: String) {
        if self.buried.insert(uid.clone()) {
            self.graves.push_back(uid);
        }
        if self.graves.len() > REMEMBERED
            && let Some(oldest) = self.graves.pop_front()
        {
            self.buried.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, uid: &str, version: u64, value: u32) -> Object<u32> {
        Object { name: name.into(), uid: uid.into(), version: version.to_string(), value }
    }

    fn list(store: &mut Store<u32>, objects: &[Object<u32>]) -> Listed {
        store.begin_list();
        for object in objects {
            assert!(store.list(object.clone()));
        }
        store.end_list()
    }

    fn known(store: &Store<u32>) -> Vec<(&str, u32)> {
        store.objects().iter().map(|(name, value)| (name.as_str(), *value)).collect()
    }

    enum Event {
        Apply(&'static str, &'static str, u64, u32),
        Delete(&'static str, &'static str),
        List(&'static [(&'static str, &'static str, u64, u32)]),
        Broken(&'static [(&'static str, &'static str, u64, u32)]),
    }
    use Event::{Apply, Broken, Delete, List};

    #[test]
    fn an_object_goes_by_its_deletion_or_by_a_list_of_others_and_by_nothing_else() {
        type Case = (&'static str, &'static [Event], &'static [(&'static str, u32)]);
        let cases: &[Case] = &[
            ("a deletion removes", &[Delete("a", "A")], &[("b", 2)]),
            ("the last one goes by a deletion too", &[Delete("a", "A"), Delete("b", "B")], &[]),
            ("a list of others removes", &[List(&[("b", "B", 2, 2)])], &[("b", 2)]),
            ("an empty list removes nothing", &[List(&[])], &[("a", 1), ("b", 2)]),
            ("half a list removes nothing", &[Broken(&[("b", "B", 2, 2)])], &[("a", 1), ("b", 2)]),
            (
                "pages of a broken list are not in the next one",
                &[Broken(&[("c", "C", 3, 3)]), List(&[("b", "B", 2, 2)])],
                &[("b", 2)],
            ),
            ("after an empty list a full one counts", &[List(&[]), List(&[("b", "B", 2, 2)])], &[("b", 2)]),
            ("a deletion of what is not known", &[Delete("c", "C")], &[("a", 1), ("b", 2)]),
            ("a later state counts", &[Apply("a", "A", 5, 7)], &[("a", 7), ("b", 2)]),
            ("an earlier one does not", &[Apply("a", "A", 5, 7), Apply("a", "A", 4, 6)], &[("a", 7), ("b", 2)]),
            ("what was deleted is not brought back", &[Delete("a", "A"), Apply("a", "A", 9, 7)], &[("b", 2)]),
            ("its successor comes", &[Delete("a", "A"), Apply("a", "N", 9, 7)], &[("a", 7), ("b", 2)]),
            (
                "a deletion that comes after the successor",
                &[Apply("a", "N", 9, 7), Delete("a", "A")],
                &[("a", 7), ("b", 2)],
            ),
            (
                "a late state of the predecessor",
                &[Apply("a", "N", 9, 7), Apply("a", "A", 10, 1)],
                &[("a", 7), ("b", 2)],
            ),
            ("a list may be older than an event", &[Apply("a", "A", 9, 7), List(&[("a", "A", 1, 1)])], &[("a", 1)]),
            ("a list may bring back", &[Delete("a", "A"), List(&[("a", "A", 1, 1)])], &[("a", 1)]),
        ];
        for (name, events, expected) in cases {
            let mut store = Store::default();
            list(&mut store, &[object("a", "A", 1, 1), object("b", "B", 2, 2)]);
            for event in *events {
                match event {
                    Apply(name, uid, version, value) => _ = store.apply(object(name, uid, *version, *value)),
                    Delete(name, uid) => _ = store.delete(name, uid),
                    List(objects) => {
                        let objects: Vec<_> = objects.iter().map(|(n, u, v, x)| object(n, u, *v, *x)).collect();
                        list(&mut store, &objects);
                    }
                    Broken(objects) => {
                        store.begin_list();
                        objects.iter().for_each(|(n, u, v, x)| _ = store.list(object(n, u, *v, *x)));
                        store.begin_list();
                    }
                }
            }
            assert_eq!(known(&store), *expected, "{name}");
        }
    }

    #[test]
    fn what_an_earlier_life_knew_stays_until_a_list_says_otherwise() {
        let mut store = Store::restore(BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
        assert_eq!(list(&mut store, &[]), Listed::Empty);
        assert_eq!(known(&store), [("a", 1), ("b", 2)]);
        assert_eq!(list(&mut store, &[object("b", "B", 2, 2)]), Listed::Believed { changed: true });
        assert_eq!(known(&store), [("b", 2)]);
        assert_eq!(list(&mut store, &[object("b", "B", 3, 2)]), Listed::Believed { changed: false });
    }

    #[test]
    fn versions_that_are_no_numbers_are_not_compared() {
        let mut store = Store::default();
        let at = |version: &str, value| Object { version: version.into(), ..object("a", "A", 0, value) };
        assert!(store.apply(at("zz", 1)) && store.apply(at("aa", 2)));
        assert_eq!(known(&store), [("a", 2)]);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut store = Store::default();
        store.begin_list();
        let all = (0..MAX_OBJECTS as u64).all(|n| store.list(object(&n.to_string(), &n.to_string(), n, 0)));
        assert!(all && !store.list(object("one more", "x", 1, 0)));
        store.end_list();
        assert!(!store.apply(object("one more", "x", 1, 0)));
        for n in 0..2 * REMEMBERED {
            store.delete("nobody", &format!("u{n}"));
        }
        assert_eq!((store.graves.len(), store.buried.len()), (REMEMBERED, REMEMBERED));
    }
}
