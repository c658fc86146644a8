//! A reflector whose peers are a real API server's Nodes, many of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Instant;

use cluster::client::{Source, connect};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::json;
use tests::cluster::{Cluster, without_megalos};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::{http, inside, wait};

/// How many Nodes join; none of them is more than an object.
const MANY: usize = 1_000;
/// Requests under way at once.
const PARALLEL: usize = 16;
const LABEL: &str = "megalos.test/many=yes";
const HTTP: &str = "127.0.0.1:9180";

const SECRET: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: megalos-system }
---
apiVersion: v1
kind: Secret
metadata: { name: megalos-bgp, namespace: megalos-system }
type: Opaque
";

/// A client of the API server, in a runtime whose threads are on a host of the underlay.
struct Client {
    runtime: tokio::runtime::Runtime,
    nodes: Api<Node>,
}

impl Client {
    fn on(host: &Host, cluster: &Cluster) -> Self {
        let namespace: File = host.open();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || inside::enter(&namespace))
            .build()
            .unwrap();
        let source = Source::Kubeconfig(cluster.kubeconfig());
        let client = runtime.block_on(async { tokio::spawn(async move { connect(&source).await }).await.unwrap() });
        Self { runtime, nodes: Api::all(client.unwrap()) }
    }

    /// Does something about many Nodes, several at once.
    fn each<F>(&self, numbers: std::ops::Range<usize>, work: impl Fn(Api<Node>, usize) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), kube::Error>> + Send + 'static,
    {
        let nodes = self.nodes.clone();
        let all = async move {
            let tasks = stream::iter(numbers).map(|number| tokio::spawn(work(nodes.clone(), number)));
            tasks.buffer_unordered(PARALLEL).map(|joined| joined.unwrap()).try_collect::<Vec<_>>().await
        };
        self.runtime.block_on(all).unwrap_or_else(|error| panic!("{error}"));
    }

    fn addresses(&self) -> BTreeSet<String> {
        let nodes = self.nodes.clone();
        let list = self.runtime.block_on(async move {
            tokio::spawn(async move { nodes.list(&ListParams::default()).await }).await.unwrap()
        });
        let addresses = list.unwrap().items.into_iter().flat_map(|node| node.status.unwrap_or_default().addresses);
        let internal = addresses.flatten().filter(|address| address.type_ == "InternalIP");
        internal.map(|address| address.address).collect()
    }
}

fn name(number: usize) -> String {
    format!("many-{number:04}")
}

/// Without the label of an operating system, so that no DaemonSet wants to be there.
fn object(number: usize, third: u8) -> Node {
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name(number), "labels": {"megalos.test/many": "yes"}},
        "spec": {"unschedulable": true},
        "status": addresses(number, third),
    });
    serde_json::from_value(node).unwrap()
}

fn addresses(number: usize, third: u8) -> serde_json::Value {
    let address = format!("10.{third}.{}.{}", number / 250, number % 250 + 1);
    json!({"addresses": [{"type": "InternalIP", "address": address}]})
}

fn metric(reflector: &Reflector, name: &str) -> Option<i64> {
    let (_, text) = http::get(&reflector.host, HTTP, "/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn wait_metric(reflector: &Reflector, name: &str, value: usize) {
    wait::until(&format!("{name} to be {value}"), || match metric(reflector, name) {
        Some(found) if usize::try_from(found) == Ok(value) => Ok(()),
        other => Err(format!("it is {other:?}")),
    });
}

/// Waits until the reflector's peers are the API server's Nodes.
fn wait_exact(reflector: &Reflector, client: &Client) {
    let wanted = client.addresses();
    wait::until("the peers to be the Nodes", || {
        let peers: BTreeSet<_> = reflector.peers().into_iter().map(|peer| peer.address).collect();
        let differ: Vec<_> = peers.symmetric_difference(&wanted).take(5).collect();
        if differ.is_empty() {
            Ok(())
        } else {
            Err(format!("{} peers, {} Nodes: {differ:?}", peers.len(), wanted.len()))
        }
    });
}

#[test]
fn a_thousand_nodes_come_flap_move_and_go_and_the_peers_are_always_the_nodes() {
    let cluster = without_megalos();
    cluster.apply(SECRET);
    let host = Host::new("rr");
    cluster.plug(&host, &["192.0.2.90/24"]);
    let client = Client::on(&host, &cluster);
    let (kubeconfig, state) = (cluster.kubeconfig().display().to_string(), host.directory().join("state"));
    let state = state.display().to_string();
    let flags = ["--kubeconfig", &kubeconfig, "--state", &state, "--router-id", "192.0.2.90"];
    let reflector = Reflector::with_flags(host, &flags);
    let real = cluster.nodes().len();
    wait_metric(&reflector, "megalos_cluster_nodes", real);
    wait_metric(&reflector, "megalos_cluster_key_known", 1);
    wait_exact(&reflector, &client);

    let begin = Instant::now();
    client.each(0..MANY, |nodes, number| async move {
        nodes.create(&PostParams::default(), &object(number, 77)).await.map(drop)
    });
    let created = begin.elapsed();
    wait_metric(&reflector, "megalos_cluster_nodes", real + MANY);
    wait_exact(&reflector, &client);
    println!("{MANY} Nodes created in {created:?}; all were peers {:?} later", begin.elapsed() - created);

    for _ in 0..3 {
        client.each(0..50, |nodes, number| async move {
            nodes.delete(&name(number), &DeleteParams::default()).await?;
            nodes.create(&PostParams::default(), &object(number, 77)).await.map(drop)
        });
    }
    client.each(100..200, |nodes, number| async move {
        let status = Patch::Merge(json!({"status": addresses(number, 78)}));
        nodes.patch_status(&name(number), &PatchParams::default(), &status).await.map(drop)
    });
    wait_exact(&reflector, &client);

    // Its watch cache begins anew: who was there before must list.
    let before = reflector.peers().len();
    cluster.stop_api();
    wait_metric(&reflector, "megalos_cluster_api_up{resource=\"nodes\"}", 0);
    assert_eq!(reflector.peers().len(), before);
    cluster.start_api();
    let begin = Instant::now();
    wait_metric(&reflector, "megalos_cluster_api_up{resource=\"nodes\"}", 1);
    println!("the API server was heard {:?} after it was back", begin.elapsed());
    client.each(0..100, |nodes, number| async move {
        nodes.delete(&name(number), &DeleteParams::default()).await.map(drop)
    });
    wait_exact(&reflector, &client);

    let begin = Instant::now();
    let nodes = client.nodes.clone();
    let deleted = client.runtime.spawn(async move {
        nodes.delete_collection(&DeleteParams::default(), &ListParams::default().labels(LABEL)).await
    });
    client.runtime.block_on(deleted).unwrap().unwrap_or_else(|error| panic!("{error}"));
    let asked = begin.elapsed();
    wait_metric(&reflector, "megalos_cluster_nodes", real);
    wait_exact(&reflector, &client);
    println!("{} Nodes deleted in {asked:?}; none was a peer {:?} later", MANY - 100, begin.elapsed() - asked);
    drop(reflector);
    cluster.delete(SECRET);
}

/// What the fake API server does at will, a real one does for a version that is too old.
#[test]
fn a_real_api_server_answers_a_version_that_is_too_old_with_410() {
    let cluster = without_megalos();
    // Its watch cache begins anew, and what is before is too old.
    cluster.stop_api();
    cluster.start_api();
    let host = Host::new("old");
    cluster.plug(&host, &["192.0.2.91/24"]);
    let client = Client::on(&host, &cluster);
    let nodes = client.nodes.clone();
    let first = client.runtime.spawn(async move {
        match nodes.watch(&WatchParams::default(), "1").await {
            Ok(events) => std::pin::pin!(events).next().await,
            Err(error) => Some(Err(error)),
        }
    });
    let code = match client.runtime.block_on(first).unwrap() {
        Some(Ok(WatchEvent::Error(status))) => status.code,
        Some(Err(kube::Error::Api(status))) => status.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code, 410);
}
