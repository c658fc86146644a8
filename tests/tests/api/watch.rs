//! The watch driver alone: nothing that an API server does wrong makes it forget what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cluster::client::{Source, connect};
use cluster::nodes::NodeRecord;
use cluster::watch::{Config, Origin, View, Watched, start};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tests::api_server::{ApiServer, Fault, Verb, What, node};
use tests::wait;

/// A directory of one test.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("megalos-watch-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A watch of Nodes in a runtime of its own.
struct Watcher {
    watched: Watched<NodeRecord>,
    runtime: tokio::runtime::Runtime,
}

impl Watcher {
    fn start(server: &ApiServer, directory: &Path, cache: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let source = Source::Kubeconfig(server.kubeconfig(directory));
        let watched = runtime.block_on(async {
            let client = connect(&source).await.unwrap();
            let config = Config {
                cache: cache.then(|| directory.join("nodes.json")),
                renewal: Duration::from_secs(1),
                pause_max: Duration::from_millis(50),
                ..Config::for_few()
            };
            start(Api::<Node>::all(client), config, NodeRecord::of)
        });
        Self { watched, runtime }
    }

    fn view(&self) -> View<NodeRecord> {
        self.watched.view.borrow().clone()
    }

    fn names(&self) -> BTreeSet<String> {
        self.view().objects.keys().cloned().collect()
    }

    fn wait_names(&self, why: &str, names: &[&str]) {
        let wanted: BTreeSet<_> = names.iter().map(|&name| name.to_owned()).collect();
        wait::until(why, || {
            let known = self.names();
            if known == wanted { Ok(()) } else { Err(format!("known is {known:?}, error {:?}", self.view().health)) }
        });
    }

    /// Collects every state there was in which one of these was missing.
    fn watch_over(&self, names: &'static [&'static str]) -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
        let missing = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (mut view, found) = (self.watched.view.clone(), missing.clone());
        self.runtime.spawn(async move {
            while view.changed().await.is_ok() {
                let view = view.borrow_and_update();
                if !names.iter().all(|name| view.objects.contains_key(*name)) {
                    found.lock().unwrap().push(format!("{:?} by {:?}", view.objects.keys(), view.health));
                }
            }
        });
        missing
    }
}

fn named(server: &ApiServer, names: &[&str]) {
    for (n, name) in names.iter().enumerate() {
        server.apply("nodes", node(name, &[&format!("10.0.0.{}", n + 1)]));
    }
}

const GARBAGE: &str = "{\"kind\": \"List\", \"items\": [{\"metadata\": 7}]}";

#[test]
fn nothing_that_goes_wrong_removes_anybody_and_what_is_mended_is_followed() {
    let list = |what| (Verb::List, what);
    let watch = |what| (Verb::Watch, what);
    let faults = [
        list(What::Status(500)),
        list(What::Status(401)),
        list(What::Status(403)),
        list(What::Status(410)),
        list(What::TooManyRequests(0)),
        list(What::Slow(Duration::from_millis(300))),
        list(What::Close),
        list(What::Body(GARBAGE)),
        list(What::Body("<html>")),
        list(What::Body("{\"kind\": \"List\", \"metadata\": {}, \"items\": []}")),
        list(What::EmptyList),
        watch(What::Status(500)),
        watch(What::Status(403)),
        watch(What::Status(410)),
        watch(What::TooManyRequests(1)),
        watch(What::Slow(Duration::from_millis(300))),
        watch(What::Close),
        watch(What::End),
        watch(What::ErrorEvent(410)),
        watch(What::ErrorEvent(500)),
        watch(What::Line("{\"type\": \"DELETED\", \"object\": {\"metadata\": {}}}")),
        watch(What::Line("{\"type\": \"EXPLODED\", \"object\": {}}")),
        watch(What::Line("garbage")),
    ];
    let server = ApiServer::here();
    named(&server, &["n1", "n2"]);
    let scratch = Scratch::new("faults");
    let watcher = Watcher::start(&server, &scratch.0, false);
    watcher.wait_names("the first list", &["n1", "n2"]);
    let missing = watcher.watch_over(&["n1", "n2"]);
    for (verb, what) in faults {
        let name = format!("{} {what:?}", verb.name());
        // An answer that is only slow is an answer: it is asked for once.
        let strikes = if matches!(what, What::Slow(_)) { 1 } else { 2 };
        server.fault(Fault::always(verb, "nodes", what));
        match verb {
            Verb::List => server.compact(),
            _ => server.end_watches(),
        }
        wait::until_true(&format!("{name} to strike"), || server.struck() >= strikes);
        server.mend();
        server.apply("nodes", node("canary", &["10.0.0.9"]));
        watcher.wait_names(&format!("a Node that joins after {name}"), &["canary", "n1", "n2"]);
        server.delete("nodes", "canary");
        watcher.wait_names(&format!("a Node that is deleted after {name}"), &["n1", "n2"]);
        wait::until_true(&format!("health after {name}"), || watcher.view().health.away.is_none());
        assert!(missing.lock().unwrap().is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn what_was_deleted_while_nobody_could_say_so_goes_when_somebody_can() {
    let server = ApiServer::here();
    let scratch = Scratch::new("deleted");
    named(&server, &["n1", "n2", "n3"]);
    let watcher = Watcher::start(&server, &scratch.0, false);
    watcher.wait_names("the first list", &["n1", "n2", "n3"]);
    let missing = watcher.watch_over(&["n1"]);
    // Away, compacted meanwhile: the deletion is not told by any event.
    server.leave();
    wait::until_true("the outage to be seen", || watcher.view().health.away.is_some());
    server.delete("nodes", "n2");
    server.compact();
    server.come_back();
    watcher.wait_names("the list after the outage", &["n1", "n3"]);
    // An empty list is not believed; what it would have said comes with the next one.
    server.leave();
    server.fault(Fault::once(Verb::List, "nodes", What::EmptyList));
    server.delete("nodes", "n3");
    server.compact();
    server.come_back();
    wait::until_true("the empty list", || watcher.view().health.doubted);
    watcher.wait_names("the list after the empty one", &["n1"]);
    wait::until_true("trust in it", || !watcher.view().health.doubted);
    assert!(missing.lock().unwrap().is_empty(), "{missing:?}");
}

#[test]
fn events_out_of_order_and_half_events_come_to_the_right_end() {
    let server = ApiServer::here();
    let scratch = Scratch::new("order");
    named(&server, &["n1"]);
    let watcher = Watcher::start(&server, &scratch.0, false);
    watcher.wait_names("the first list", &["n1"]);
    // Four changes of one Node, told backwards: created, changed, deleted, created anew.
    server.fault(Fault::once(Verb::Watch, "nodes", What::Reorder(4)));
    server.end_watches();
    wait::until_true("the watch that reorders", || server.struck() == 1);
    server.apply("nodes", node("n2", &["10.0.0.2"]));
    server.apply("nodes", node("n2", &["10.0.0.3"]));
    server.delete("nodes", "n2");
    server.apply("nodes", node("n2", &["10.0.0.4"]));
    wait::until_true("the last state", || {
        watcher.view().objects.get("n2").is_some_and(|node| node.internal_ips == ["10.0.0.4"])
    });
    server.bookmark("nodes");
    server.apply("nodes", node("n3", &["10.0.0.5"]));
    watcher.wait_names("what came after", &["n1", "n2", "n3"]);
    assert_eq!(watcher.view().objects["n2"].internal_ips, ["10.0.0.4"]);
    // Half an event was not taken, and is asked for again.
    server.fault(Fault::once(Verb::Watch, "nodes", What::Truncate));
    server.end_watches();
    wait::until_true("the watch that breaks", || server.struck() == 2);
    server.delete("nodes", "n3");
    watcher.wait_names("the deletion that was cut in half", &["n1", "n2"]);
}

#[test]
fn a_watch_that_says_nothing_any_more_is_given_up_and_nothing_is_missed() {
    let server = ApiServer::here();
    let scratch = Scratch::new("stall");
    named(&server, &["n1", "n2"]);
    server.fault(Fault::once(Verb::Watch, "nodes", What::Stall));
    let watcher = Watcher::start(&server, &scratch.0, false);
    watcher.wait_names("the first list", &["n1", "n2"]);
    wait::until_true("the watch that stalls", || server.struck() == 1);
    server.delete("nodes", "n2");
    watcher.wait_names("the deletion that the stalled watch kept to itself", &["n1"]);
    assert_eq!(server.asked(Verb::List, "nodes"), 1, "by another watch, not by another list");
}

#[test]
fn a_list_comes_in_pages_and_one_that_expires_half_way_begins_anew() {
    let server = ApiServer::here();
    let scratch = Scratch::new("pages");
    let names: Vec<String> = (0..1_234).map(|n| format!("n{n:04}")).collect();
    for name in &names {
        server.apply("nodes", node(name, &["10.0.0.1"]));
    }
    server.fault(Fault::once(Verb::List, "nodes", What::Status(410)).after(1));
    let watcher = Watcher::start(&server, &scratch.0, false);
    let expected: Vec<_> = names.iter().map(String::as_str).collect();
    watcher.wait_names("all pages", &expected);
    assert_eq!((server.struck(), server.asked(Verb::List, "nodes")), (1, 5), "a page, a 410, three pages");
}

#[test]
fn the_last_known_state_is_what_a_start_without_the_api_server_begins_with() {
    let server = ApiServer::here();
    let scratch = Scratch::new("disk");
    named(&server, &["n1", "n2"]);
    let cache = scratch.0.join("nodes.json");
    {
        let watcher = Watcher::start(&server, &scratch.0, true);
        watcher.wait_names("the first list", &["n1", "n2"]);
        wait::until_true("the file", || std::fs::read_to_string(&cache).is_ok_and(|text| text.contains("n2")));
    }
    server.leave();
    {
        let watcher = Watcher::start(&server, &scratch.0, true);
        assert_eq!(watcher.names().len(), 2, "known at once");
        wait::until_true("the outage to be seen", || watcher.view().health.away.is_some());
        let health = watcher.view().health;
        assert_eq!((health.origin, health.heard), (Origin::Disk, None));
        server.delete("nodes", "n2");
        server.come_back();
        watcher.wait_names("the list", &["n1"]);
        assert_eq!(watcher.view().health.origin, Origin::Api);
        wait::until_true("the file", || std::fs::read_to_string(&cache).is_ok_and(|text| !text.contains("n2")));
    }
    server.leave();
    std::fs::write(&cache, "{\"version\":1,\"kind\":\"nodes\",\"objects\":{\"n9\":{}}}").unwrap();
    let watcher = Watcher::start(&server, &scratch.0, true);
    assert_eq!(watcher.view().health.origin, Origin::Nothing, "what is no such file is not read");
    server.come_back();
    watcher.wait_names("the list", &["n1"]);
}

/// A generator for scenarios: the same from the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn whatever_happens_in_whatever_order_nobody_is_lost_and_the_end_is_right() {
    for seed in 1..=20 {
        let mut chance = Chance(seed);
        let server = ApiServer::here();
        let scratch = Scratch::new("chance");
        named(&server, &["stays"]);
        let watcher = Watcher::start(&server, &scratch.0, true);
        watcher.wait_names("the first list", &["stays"]);
        let missing = watcher.watch_over(&["stays"]);
        for _ in 0..40 {
            let name = format!("n{}", chance.below(5));
            match chance.below(9) {
                0..=2 => server.apply("nodes", node(&name, &[&format!("10.0.1.{}", chance.below(200))])),
                3 if server.get("nodes", &name).is_some() => server.delete("nodes", &name),
                4 => server.compact(),
                5 => server.end_watches(),
                6 => {
                    server.leave();
                    std::thread::sleep(Duration::from_millis(chance.below(20)));
                    server.come_back();
                }
                7 => {
                    let what =
                        [What::EmptyList, What::Status(500), What::Close, What::Body(GARBAGE), What::Status(410)];
                    let what = what[chance.below(5) as usize].clone();
                    server.fault(Fault::once(Verb::List, "nodes", what));
                }
                _ => {
                    let what =
                        [What::End, What::Truncate, What::ErrorEvent(410), What::Close, What::Reorder(2), What::Stall];
                    let what = what[chance.below(6) as usize].clone();
                    server.fault(Fault::once(Verb::Watch, "nodes", what));
                }
            }
            std::thread::sleep(Duration::from_millis(chance.below(4)));
        }
        server.mend();
        let wanted: BTreeMap<_, _> = server
            .names("nodes")
            .into_iter()
            .map(|name| {
                (name.clone(), server.get("nodes", &name).unwrap()["status"]["addresses"][0]["address"].clone())
            })
            .collect();
        wait::until(&format!("the end of seed {seed}"), || {
            let view = watcher.view();
            let known: BTreeMap<_, _> = view
                .objects
                .iter()
                .map(|(name, node)| (name.clone(), serde_json::json!(node.internal_ips.first())))
                .collect();
            if known == wanted { Ok(()) } else { Err(format!("{known:?} instead of {wanted:?}; {:?}", view.health)) }
        });
        assert!(missing.lock().unwrap().is_empty(), "seed {seed}: {missing:?}");
    }
}
