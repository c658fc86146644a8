//! Where in the conversation with the API server we are: what to ask next. No I/O, no clock.
//!
//! ```text
//!            page, more to come
//!              ┌───┐
//!              ▼   │   last page            event, bookmark
//!   start ───► List ──────────────► Watch ◄──┐
//!              ▲ ▲ any failure       │  └────┘
//!              └─┘                   │
//!              └─────────────────────┘ 410, garbage, a refusal that names the version
//! ```
//!
//! A watch that just ends, or whose connection breaks, goes on where it was: events are lines, and half a line was not taken.
//! After an empty list every watch ends in a new list, and so does the first object that appears: one of them will be
//! complete.

use super::store::{Listed, Object, Store};

/// Pages of a list, at most: a server that always has one more is broken.
const MAX_PAGES: usize = 4_096;

/// What to ask the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A list, from its beginning or its next page.
    List {
        /// What the page before said to go on with.
        token: Option<String>,
    },
    /// Changes since this resource version.
    Watch {
        /// The version.
        version: String,
    },
}

/// What a failure means for what we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Nothing was missed: ask the same again.
    Transient,
    /// Something may have been missed, or the version is too old: list.
    OutOfStep,
}

impl Failure {
    /// What a refusal with this HTTP status means.
    pub const fn of_status(code: u16) -> Self {
        match code {
            // No credentials, no rule, too busy, no server: none of them is about the version.
            401 | 403 | 429 | 502 | 503 => Self::Transient,
            _ => Self::OutOfStep,
        }
    }
}

/// What changed by an input.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Effect {
    /// Objects differ.
    pub changed: bool,
    /// A list was completed.
    pub listed: Option<Listed>,
}

/// The store and the place in the conversation.
#[derive(Debug)]
pub struct Tracker<T> {
    store: Store<T>,
    step: Step,
    pages: usize,
    doubted: bool,
}

impl<T: Clone + PartialEq> Tracker<T> {
    /// At the beginning, with what is known already.
    pub fn new(store: Store<T>) -> Self {
        Self { store, step: Step::List { token: None }, pages: 0, doubted: false }
    }

    /// What is known.
    pub const fn store(&self) -> &Store<T> {
        &self.store
    }

    /// What to ask next.
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// Whether the last complete list was empty, and therefore not believed.
    pub const fn doubted(&self) -> bool {
        self.doubted
    }

    /// A page of a list arrived; none of its objects if one could not be read.
    ///
    /// # Errors
    ///
    /// Why the list is of no use; it begins anew.
    pub fn page(
        &mut self,
        objects: impl IntoIterator<Item = Option<Object<T>>>,
        token: Option<String>,
        version: Option<String>,
    ) -> Result<Effect, &'static str> {
        let result = self.take_page(objects, token, version);
        if result.is_err() {
            self.restart();
        }
        result
    }

    fn take_page(
        &mut self,
        objects: impl IntoIterator<Item = Option<Object<T>>>,
        token: Option<String>,
        version: Option<String>,
    ) -> Result<Effect, &'static str> {
        if matches!(self.step, Step::List { token: None } | Step::Watch { .. }) {
            self.pages = 0;
            self.store.begin_list();
        }
        self.pages += 1;
        for object in objects {
            if !self.store.list(object.ok_or("an object of the list has no name, uid or resourceVersion")?) {
                return Err("the list has more objects than we keep");
            }
        }
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            if self.pages >= MAX_PAGES {
                return Err("the list has no end");
            }
            self.step = Step::List { token: Some(token) };
            return Ok(Effect::default());
        }
        let version = version.filter(|version| !version.is_empty()).ok_or("the list has no resourceVersion")?;
        let listed = self.store.end_list();
        self.doubted = listed == Listed::Empty;
        self.step = Step::Watch { version };
        Ok(Effect { changed: listed == Listed::Believed { changed: true }, listed: Some(listed) })
    }

    /// An object was added or modified.
    pub fn applied(&mut self, object: Object<T>) -> Effect {
        self.advance(&object.version);
        let changed = self.store.apply(object);
        if self.doubted {
            self.restart();
        }
        Effect { changed, listed: None }
    }

    /// An object was deleted.
    pub fn deleted(&mut self, object: &Object<T>) -> Effect {
        self.advance(&object.version);
        Effect { changed: self.store.delete(&object.name, &object.uid), listed: None }
    }

    /// The server says how far we are.
    pub fn bookmark(&mut self, version: &str) {
        self.advance(version);
    }

    /// The watch came to its ordinary end.
    pub fn ended(&mut self) {
        if self.doubted {
            self.restart();
        }
    }

    /// What was asked failed.
    pub fn failed(&mut self, failure: Failure) {
        if failure == Failure::OutOfStep || matches!(self.step, Step::List { .. }) {
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.step = Step::List { token: None };
    }

    fn advance(&mut self, to: &str) {
        if let Step::Watch { version } = &mut self.step
            && !to.is_empty()
        {
            to.clone_into(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Step = Step::List { token: None };

    fn watch(version: &str) -> Step {
        Step::Watch { version: version.into() }
    }

    fn object(name: &str, version: &str) -> Object<u32> {
        Object { name: name.into(), uid: name.into(), version: version.into(), value: 1 }
    }

    fn tracker(names: &[&str]) -> Tracker<u32> {
        let mut tracker = Tracker::new(Store::default());
        tracker.page(names.iter().map(|name| Some(object(name, "1"))), None, Some("10".into())).unwrap();
        tracker
    }

    #[test]
    fn pages_are_one_list() {
        let mut tracker = Tracker::new(Store::default());
        assert_eq!(tracker.step(), &LIST);
        let effect = tracker.page([Some(object("a", "1"))], Some("t".into()), Some("10".into())).unwrap();
        assert_eq!((effect, tracker.store().objects().len()), (Effect::default(), 0));
        assert_eq!(tracker.step(), &Step::List { token: Some("t".into()) });
        tracker.page([Some(object("b", "1"))], Some(String::new()), Some("10".into())).unwrap();
        assert_eq!((tracker.step(), tracker.store().objects().len()), (&watch("10"), 2));
    }

    #[test]
    fn a_list_that_is_of_no_use_begins_anew_and_removes_nobody() {
        type Page = (Vec<Option<Object<u32>>>, Option<&'static str>);
        let pages: [Page; 3] =
            [(vec![None], Some("11")), (vec![Some(object("b", "1"))], None), (vec![Some(object("b", "1"))], Some(""))];
        for (objects, version) in pages {
            let mut tracker = tracker(&["a"]);
            tracker.failed(Failure::OutOfStep);
            assert!(tracker.page(objects, None, version.map(str::to_owned)).is_err());
            assert_eq!(tracker.step(), &LIST);
            assert!(tracker.store().objects().contains_key("a"));
        }
    }

    #[test]
    fn a_list_without_end_is_given_up() {
        let mut tracker = Tracker::<u32>::new(Store::default());
        let pages = (0..2 * MAX_PAGES).take_while(|_| tracker.page([], Some("t".into()), None).is_ok()).count();
        assert_eq!((pages, tracker.step()), (MAX_PAGES - 1, &LIST));
    }

    #[test]
    fn a_watch_goes_on_where_it_was_unless_something_may_have_been_missed() {
        for (code, expected) in [
            (401, watch("10")),
            (403, watch("10")),
            (429, watch("10")),
            (503, watch("10")),
            (410, LIST),
            (400, LIST),
            (500, LIST),
            (504, LIST),
        ] {
            let mut tracker = tracker(&["a"]);
            tracker.failed(Failure::of_status(code));
            assert_eq!(tracker.step(), &expected, "{code}");
            assert_eq!(tracker.store().objects().len(), 1, "{code}");
        }
        let mut tracker = tracker(&["a"]);
        tracker.ended();
        assert_eq!(tracker.step(), &watch("10"));
        tracker.bookmark("12");
        tracker.bookmark("");
        assert_eq!(tracker.step(), &watch("12"));
        tracker.applied(object("b", "13"));
        tracker.deleted(&object("a", "14"));
        assert_eq!((tracker.step(), tracker.store().objects().len()), (&watch("14"), 1));
    }

    #[test]
    fn a_list_that_fails_half_way_begins_at_its_first_page() {
        let mut tracker = Tracker::new(Store::default());
        tracker.page([Some(object("a", "1"))], Some("t".into()), None).unwrap();
        tracker.failed(Failure::Transient);
        assert_eq!(tracker.step(), &LIST);
        tracker.page([Some(object("b", "1"))], None, Some("10".into())).unwrap();
        assert!(!tracker.store().objects().contains_key("a"));
    }

    #[test]
    fn an_empty_list_is_asked_for_again_when_the_watch_ends_or_somebody_appears() {
        let mut tracker = tracker(&["a"]);
        let again = |tracker: &mut Tracker<u32>| {
            tracker.failed(Failure::OutOfStep);
            let effect = tracker.page([], None, Some("20".into())).unwrap();
            assert_eq!(effect, Effect { changed: false, listed: Some(Listed::Empty) });
            assert!(tracker.doubted() && tracker.store().objects().contains_key("a"));
            assert_eq!(tracker.step(), &watch("20"));
        };
        again(&mut tracker);
        tracker.ended();
        assert_eq!(tracker.step(), &LIST);
        again(&mut tracker);
        tracker.applied(object("b", "21"));
        assert_eq!(tracker.step(), &LIST);
        tracker.page([Some(object("b", "21"))], None, Some("22".into())).unwrap();
        assert!(!tracker.doubted() && !tracker.store().objects().contains_key("a"));
    }
}
