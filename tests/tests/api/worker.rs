//! Workers that a cluster tells who they are: with an API server that is there, that says odd things, and that is away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::api_server::{ApiServer, Fault, Verb, What, node};
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::{Reflector, Worker, attach};
use tests::ping::Flow;
use tests::{http, programs, wait};

const HTTP: &str = "127.0.0.1:9181";
const API: &str = "10.0.0.99:8080";
/// `key` in base64, as a Secret has it.
const KEY: &str = "a2V5";

/// An underlay with an API server on it.
struct Cluster {
    fabric: Fabric,
    api: ApiServer,
    kubeconfig: PathBuf,
    _host: Host,
}

impl Cluster {
    /// With the Secret of the key, and Multus.
    fn new() -> Self {
        let cluster = Self::bare();
        cluster.install_multus();
        cluster
    }

    fn install_multus(&self) {
        let name = "network-attachment-definitions.k8s.cni.cncf.io";
        self.api.apply("customresourcedefinitions", json!({"metadata": {"name": name}}));
    }

    /// With the Secret of the key.
    fn bare() -> Self {
        let fabric = Fabric::empty(Family::V4);
        let host = fabric.host("api", 99);
        let api = ApiServer::on(&host, API.parse::<SocketAddr>().unwrap());
        let kubeconfig = api.kubeconfig(host.directory());
        api.apply("secrets", json!({"metadata": {"name": "megalos-bgp"}, "data": {"md5": KEY}}));
        Self { fabric, api, kubeconfig, _host: host }
    }

    /// The reflectors that the Service lists.
    fn list_reflectors(&self, numbers: &[usize]) {
        let endpoint = |number: &usize| {
            json!({"addresses": [format!("10.0.0.{number}")], "conditions": {"ready": false},
                "targetRef": {"kind": "Pod", "uid": format!("rr{number}")}})
        };
        let endpoints: Vec<Value> = numbers.iter().map(endpoint).collect();
        self.api.apply(
            "endpointslices",
            json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "megalos-reflector"}},
                "addressType": "IPv4", "ports": [{"name": "bgp", "port": 1179}], "endpoints": endpoints}),
        );
    }

    fn reflector(&self, number: usize) -> Reflector {
        let host = self.fabric.host(&format!("rr{number}"), number);
        let kubeconfig = self.kubeconfig.display().to_string();
        let state = host.directory().join("state").display().to_string();
        let router_id = format!("10.0.0.{number}");
        Reflector::with_flags(host, &["--kubeconfig", &kubeconfig, "--state", &state, "--router-id", &router_id])
    }

    /// The worker of the Node `nINDEX` with the address of that host, which the API server need not know.
    fn worker(&self, index: usize) -> Worker {
        let host = self.fabric.host(&format!("w{index}"), 10 + index);
        Worker::of_node(host, &format!("n{index}"), &self.kubeconfig, &["--http", HTTP])
    }

    /// Two workers that the cluster knows, with a session to each listed reflector.
    fn workers(&self) -> [Worker; 2] {
        let workers = [1, 2].map(|index| {
            self.api.apply("nodes", node(&format!("n{index}"), &[&format!("10.0.0.{}", 10 + index)]));
            self.worker(index)
        });
        for worker in &workers {
            wait_for_sessions(worker);
        }
        workers
    }

    /// Waits until the Node's condition has this status and reason; its message.
    fn wait_condition(&self, node: &str, status: &str, reason: &str) -> String {
        wait::until(&format!("MegalosReady of {node} to be {status}, {reason}"), || {
            let object = self.api.get("nodes", node).ok_or("there is no such Node")?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|condition| condition["type"] == "MegalosReady");
            match found {
                Some(found) if found["status"] == status && found["reason"] == reason => {
                    Ok(found["message"].as_str().unwrap_or_default().to_owned())
                }
                other => Err(format!("it is {other:?}")),
            }
        })
    }

    /// The reasons of all Events so far.
    fn events(&self) -> BTreeSet<String> {
        let reason = |name: &String| Some(self.api.get("events", name)?["reason"].as_str()?.to_owned());
        self.api.names("events").iter().filter_map(reason).collect()
    }
}

fn wait_for_sessions(worker: &Worker) {
    wait::until("the worker to serve", || daemon::control::ask(&worker.control(), daemon::show::Topic::Peers));
    worker.wait_established();
}

fn metric(worker: &Worker, line: &str) -> bool {
    let (_, text) = http::get(&worker.host, HTTP, "/metrics");
    text.lines().any(|found| found == line)
}

/// One device on each worker, on the LAN.
fn devices(workers: &[Worker; 2]) -> [Host; 2] {
    [0, 1].map(|index| {
        let device = Host::new(&format!("pc{}", index + 1));
        workers[index].attach(&device, LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
        device
    })
}

#[test]
fn a_worker_takes_address_reflectors_and_key_from_the_cluster_and_needs_it_no_more() {
    let cluster = Cluster::new();
    let mut reflector = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    let mut workers = cluster.workers();
    let devices = devices(&workers);
    devices[0].wait_pings("192.168.1.2");
    assert_eq!(cluster.wait_condition("n1", "True", "Ready"), "the LANs of this node work");
    wait::until_true("readiness", || http::get(&workers[0].host, HTTP, "/readyz").0 == 200);
    assert!(metric(&workers[0], "megalos_cluster_api_up{resource=\"nodes\"} 1"));
    let flow = Flow::start(&devices[0], "192.168.1.2");
    let state = reflector.host.directory().join("state");
    let kept = |file: &str, what: &str| std::fs::read_to_string(state.join(file)).is_ok_and(|text| text.contains(what));
    wait::until_true("what the reflector knows to be on its disk", || {
        kept("reflector-nodes.json", "10.0.0.12") && kept("reflector-key.json", "\"Key\"")
    });
    // A worker is killed and comes back, a pod comes, a reflector comes back: all without the API server.
    cluster.api.leave();
    workers[0].kill(Signal::SIGKILL);
    workers[0].restart();
    wait_for_sessions(&workers[0]);
    let late = Host::new("late");
    workers[0].attach(&late, LAN, MACS[2], "192.168.1.3/24");
    late.wait_pings("192.168.1.2");
    reflector.kill(Signal::SIGKILL);
    reflector.restart();
    wait_for_sessions(&workers[0]);
    wait_for_sessions(&workers[1]);
    for worker in &workers {
        assert_eq!(http::get(&worker.host, HTTP, "/healthz").0, 200);
        wait::until_true("readiness", || http::get(&worker.host, HTTP, "/readyz").0 == 200);
    }
    wait::until_true("the outage in the metrics", || {
        metric(&workers[0], "megalos_cluster_api_up{resource=\"nodes\"} 0")
    });
    assert_eq!(flow.stop().lost, Vec::<u64>::new());
    // When it is back it is followed again.
    cluster.api.come_back();
    wait::until_true("the API server to be heard", || {
        metric(&workers[0], "megalos_cluster_api_up{resource=\"nodes\"} 1")
    });
}

#[test]
fn a_node_that_cannot_be_served_yet_says_why_to_everybody_and_is_served_once_that_is_mended() {
    let cluster = Cluster::new();
    let _reflector = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    // The very first start, and there is no API server.
    cluster.api.leave();
    let worker = cluster.worker(1);
    let device = Host::new("pc");
    let refusal = || {
        let wanted = attach(&device, LAN, MACS[0], "192.168.1.1/24");
        worker.try_attach(&device, wanted).err().map(|error| format!("{error:?} {error}")).unwrap_or_default()
    };
    wait::until_true("the CNI socket", || worker.host.directory().join("cni.sock").exists());
    wait::until("an ADD to be told why it has to wait", || {
        let text = refusal();
        if text.contains("list nodes") && text.contains("(11)") { Ok(()) } else { Err(text) }
    });
    assert_eq!(http::get(&worker.host, HTTP, "/healthz").0, 200);
    assert_eq!(http::get(&worker.host, HTTP, "/readyz").0, 503);
    let mut idle = cluster.worker(2);
    wait::until_true("the other's CNI socket", || idle.host.directory().join("cni.sock").exists());
    // Returns when the process has ended.
    idle.kill(Signal::SIGTERM);
    cluster.api.apply("nodes", node("old", &["10.0.0.11"]));
    let cases: [(&[&str], &str, &str); 3] = [
        (&[], "NoInternalIP", "--node-ip"),
        (&["10.0.0.77"], "VtepNotLocal", "is on no interface"),
        (&["10.0.0.11"], "DuplicateInternalIP", "kubectl delete node"),
    ];
    for (addresses, reason, cure) in cases {
        cluster.api.apply("nodes", node("n1", addresses));
        cluster.api.come_back();
        let message = cluster.wait_condition("n1", "False", reason);
        assert!(message.contains(cure), "{reason}: {message}");
        wait::until_true(&format!("the Event {reason}"), || cluster.events().contains(reason));
        assert!(metric(&worker, &format!("megalos_node_problems{{reason=\"{reason}\"}} 1")));
        assert!(worker.host.log("megalos-speaker").contains(cure), "{reason} in the log");
        let text = refusal();
        assert!(text.contains(cure) && text.contains("(11)"), "{reason}: {text}");
        assert_eq!(http::get(&worker.host, HTTP, "/healthz").0, 200);
        assert_eq!(http::get(&worker.host, HTTP, "/readyz").0, 503);
    }
    cluster.api.delete("nodes", "old");
    wait_for_sessions(&worker);
    worker.attach(&device, LAN, MACS[0], "192.168.1.1/24");
    cluster.wait_condition("n1", "True", "Ready");
    wait::until_true("no problem in the metrics", || {
        !http::get(&worker.host, HTTP, "/metrics").1.contains("megalos_node_problems{")
    });
    wait::until_true("readiness", || http::get(&worker.host, HTTP, "/readyz").0 == 200);
    // What is wrong later takes away nothing that works.
    cluster.api.apply("nodes", node("n1", &[]));
    cluster.wait_condition("n1", "False", "NoInternalIP");
    assert_eq!(http::get(&worker.host, HTTP, "/readyz").0, 200);
    assert!(worker.has_device(&format!("br{LAN}")));
    cluster.api.apply("nodes", node("n1", &["10.0.0.11"]));
    cluster.wait_condition("n1", "True", "Ready");
    worker.wait_established();
}

#[test]
fn a_reflector_is_let_go_only_when_another_one_has_said_what_it_knew() {
    let cluster = Cluster::new();
    let first = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    let workers = cluster.workers();
    let devices = devices(&workers);
    let flow = Flow::start(&devices[0], "192.168.1.2");
    let reflectors = || workers[0].peers().into_iter().map(|peer| peer.address).collect::<Vec<_>>();
    // No address at all removes nobody; nor does one at which nobody is.
    cluster.list_reflectors(&[]);
    cluster.list_reflectors(&[2]);
    wait::until_true("the new reflector to be dialled", || reflectors().contains(&"10.0.0.2".to_owned()));
    flow.wait_for_replies(10);
    assert_eq!(reflectors(), ["10.0.0.1", "10.0.0.2"]);
    let message = cluster.wait_condition("n1", "False", "ReflectorUnreachable");
    assert!(message.contains("10.0.0.2") && !message.contains("10.0.0.1"), "{message}");
    let _second = cluster.reflector(2);
    for worker in &workers {
        wait::until_true("the old reflector to be let go", || {
            let peers = worker.peers();
            peers.len() == 1 && peers[0].address == "10.0.0.2" && peers[0].state == "Established"
        });
    }
    cluster.wait_condition("n1", "True", "Ready");
    assert!(first.peers().iter().all(|peer| peer.state != "Established"));
    flow.wait_for_replies(10);
    assert_eq!(flow.stop().lost, Vec::<u64>::new());
}

#[test]
fn a_node_with_another_address_starts_again_and_nobody_else_notices() {
    let cluster = Cluster::new();
    let _reflector = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    let mut workers = cluster.workers();
    cluster.api.apply("nodes", node("n3", &["10.0.0.13"]));
    let third = cluster.worker(3);
    wait_for_sessions(&third);
    let devices = devices(&workers);
    let other = Host::new("pc3");
    third.attach(&other, LAN, MACS[2], "192.168.1.3/24");
    let flow = Flow::start(&devices[1], "192.168.1.3");
    devices[0].wait_pings("192.168.1.3");
    // The cluster says it before the node has it: the worker stays what it is for an address that cannot be used.
    cluster.api.apply("nodes", node("n1", &["10.0.0.21"]));
    cluster.wait_condition("n1", "False", "VtepNotLocal");
    workers[0].host.sh("ip address del 10.0.0.11/24 dev eth0 && ip address add 10.0.0.21/24 dev eth0");
    wait::until_true("the worker to end", || {
        workers[0].host.log("megalos-speaker").contains("is 10.0.0.21 now and was 10.0.0.11: the worker starts again")
    });
    workers[0].kill(Signal::SIGKILL);
    workers[0].restart();
    wait_for_sessions(&workers[0]);
    third.wait_row(LAN, MACS[0], Some([10, 0, 0, 21].into()));
    devices[0].wait_pings("192.168.1.3");
    cluster.wait_condition("n1", "True", "Ready");
    // The other way round: the node has it first, and what the cluster says comes on no connection that there was.
    workers[0].host.sh("ip address del 10.0.0.21/24 dev eth0 && ip address add 10.0.0.31/24 dev eth0");
    wait::until_true("the worker to miss its address", || {
        workers[0].host.log("megalos-speaker").contains("the address 10.0.0.21 is on no interface")
            && metric(&workers[0], "megalos_node_problems{reason=\"VtepNotLocal\"} 1")
    });
    cluster.api.apply("nodes", node("n1", &["10.0.0.31"]));
    wait::until_true("the worker to end once more", || {
        workers[0].host.log("megalos-speaker").contains("is 10.0.0.31 now and was 10.0.0.21")
    });
    workers[0].kill(Signal::SIGKILL);
    workers[0].restart();
    wait_for_sessions(&workers[0]);
    devices[0].wait_pings("192.168.1.3");
    assert_eq!(flow.stop().lost, Vec::<u64>::new());
}

#[test]
fn a_node_that_is_alone_has_its_reflector_beside_its_worker() {
    let cluster = Cluster::new();
    cluster.list_reflectors(&[11]);
    cluster.api.apply("nodes", node("n1", &["10.0.0.11"]));
    let mut host = cluster.fabric.host("w1", 11);
    let mut command = host.command(programs::path("megalos-rr"));
    command.arg("--kubeconfig").arg(&cluster.kubeconfig).arg("--state").arg(host.directory().join("state"));
    command.env("HOST_IP", "10.0.0.11");
    host.spawn("megalos-rr", command);
    let worker = Worker::of_node(host, "n1", &cluster.kubeconfig, &["--http", HTTP]);
    wait_for_sessions(&worker);
    let devices = [0, 1].map(|index| {
        let device = Host::new(&format!("pc{}", index + 1));
        worker.attach(&device, LAN, MACS[index], &format!("192.168.1.{}/24", index + 1));
        device
    });
    devices[0].wait_pings("192.168.1.2");
    cluster.wait_condition("n1", "True", "Ready");
    wait::until_true("readiness", || http::get(&worker.host, HTTP, "/readyz").0 == 200);
}

#[test]
fn a_key_that_is_replaced_ends_no_session_and_is_used_by_the_next() {
    let cluster = Cluster::new();
    let mut reflector = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    let workers = cluster.workers();
    let devices = devices(&workers);
    let flow = Flow::start(&devices[0], "192.168.1.2");
    let sessions = || workers.each_ref().map(|worker| worker.peers()[0].established_count);
    let before = sessions();
    // `other` in base64.
    cluster.api.apply("secrets", json!({"metadata": {"name": "megalos-bgp"}, "data": {"md5": "b3RoZXI="}}));
    let key = |worker: &Worker| {
        let state = format!("/run/megalos/{}-overlay/bgp-key.json", worker.host.name());
        std::fs::read_to_string(state).unwrap_or_default()
    };
    for worker in &workers {
        wait::until_true("the key to have come", || key(worker).contains("other"));
    }
    flow.wait_for_replies(20);
    assert_eq!(sessions(), before, "a session ended for a key");
    reflector.kill(Signal::SIGKILL);
    reflector.restart();
    for worker in &workers {
        wait::until_true("a session with the other key", || worker.peers()[0].established_count > before[0]);
        worker.wait_established();
    }
    assert_eq!(flow.stop().lost, Vec::<u64>::new());
}

#[test]
fn a_vni_of_the_node_s_own_vxlan_is_reported_and_one_that_takes_the_port_as_well() {
    let cluster = Cluster::new();
    let _reflector = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    cluster.api.apply("nodes", node("n1", &["10.0.0.11"]));
    let host = cluster.fabric.host("w1", 11);
    let foreign = |id: &str| format!("ip link add foreign type vxlan {id} dstport 4789 local 10.0.0.11");
    host.sh(&foreign("id 4096"));
    let mut worker = Worker::of_node(host, "n1", &cluster.kubeconfig, &["--http", HTTP]);
    wait_for_sessions(&worker);
    let message = cluster.wait_condition("n1", "True", "VniReserved");
    assert!(message.contains("VNI 4096") && message.contains("foreign"), "{message}");
    wait::until_true("the Event", || cluster.events().contains("VniReserved"));
    assert!(metric(&worker, "megalos_node_problems{reason=\"VniReserved\"} 1"));
    assert!(worker.host.log("megalos-speaker").contains("give the LAN another VNI"));
    let device = Host::new("pc");
    worker.attach(&device, LAN, MACS[0], "192.168.1.1/24");
    worker.kill(Signal::SIGTERM);
    worker.host.sh("ip link del foreign");
    worker.host.sh(&format!("{} && ip link set foreign up", foreign("external")));
    worker.restart();
    let message = cluster.wait_condition("n1", "False", "VxlanPortTaken");
    assert!(message.contains("foreign") && message.contains("another UDP port"), "{message}");
}

#[test]
fn a_cluster_that_refuses_reports_costs_nothing_but_the_reports() {
    let cluster = Cluster::bare();
    let _reflector = cluster.reflector(1);
    cluster.list_reflectors(&[1]);
    for verb in [Verb::Patch, Verb::Create] {
        for resource in ["nodes", "events"] {
            cluster.api.fault(Fault::always(verb, resource, What::Status(403)));
        }
    }
    let workers = cluster.workers();
    let devices = devices(&workers);
    devices[0].wait_pings("192.168.1.2");
    wait::until_true("the refusal to be explained", || {
        workers[0].host.log("megalos-speaker").contains("resources: [\"nodes/status\"], verbs: [\"patch\"]")
    });
    cluster.api.mend();
    let message = cluster.wait_condition("n1", "True", "MultusMissing");
    assert!(message.contains("deploy/components/multus"), "{message}");
    cluster.install_multus();
    cluster.wait_condition("n1", "True", "Ready");
}
