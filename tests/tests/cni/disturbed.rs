//! A worker that is away, mute or speaks nonsense; a plugin that is killed; DELs of what is not there, or not ours.

use std::os::fd::{AsFd, OwnedFd};

use cni::transport;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::host::Host;
use tests::wait;

use crate::runtime::{Call, Node, config, finish};

#[test]
fn without_a_worker_add_says_so_and_del_succeeds() {
    let mut node = Node::new();
    let (pod, other) = (Host::new("pod"), Host::new("other"));
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100));
    let result = node.run(&call).ok();
    let (del, check) = (call.clone().verb("DEL"), call.clone().verb("CHECK").key("prevResult", result));
    node.worker_mut().kill(Signal::SIGKILL);
    assert_eq!(node.run(&Call::new("ADD", &other, "net1", config("1.1.0", 100))).error(&["worker", "kubectl"]), 11);
    assert_eq!(node.run(&check).error(&["worker"]), 11);
    assert_eq!(node.run(&call.clone().verb("STATUS")).error(&["worker"]), 50);
    for _ in 0..2 {
        node.run(&del).ok();
        assert!(!pod.sh("ip link").contains("net1"));
    }
    node.worker_mut().restart();
    node.fabric.wait_established();
    // The worker that came back announces nothing of it, and the same attachment can be made again.
    wait::until_true("the LAN to be gone", || node.worker().vnis().is_empty());
    node.run(&call).ok();
    node.run(&del).ok();
}

#[test]
fn add_needs_no_reflector() {
    let mut node = Node::new();
    node.fabric.reflectors[0].kill(Signal::SIGKILL);
    let pod = Host::new("pod");
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100));
    node.run(&call).ok();
    node.run(&call.verb("DEL")).ok();
}

#[test]
fn del_touches_nothing_that_is_not_ours() {
    let node = Node::new();
    let pod = Host::new("pod");
    pod.sh("ip link add eth0 type veth peer name eth0-peer");
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100));
    node.run(&call).ok();
    let before = node.ports();
    let del = call.verb("DEL");
    for (what, call) in [
        // Multus does this after it has refused the name itself.
        ("the pod's own eth0", del.clone().with("CNI_IFNAME", "eth0")),
        (
            "another container id, as after a reboot",
            del.clone().with("CNI_CONTAINERID", "another").with("CNI_NETNS", ""),
        ),
        ("an interface that never was", del.clone().with("CNI_IFNAME", "net7")),
    ] {
        node.run(&call).ok();
        assert_eq!(node.ports(), before, "{what}");
        assert!(pod.sh("ip link").contains("eth0-peer") && pod.sh("ip link").contains("net1"), "{what}");
    }
}

#[test]
fn del_needs_neither_the_namespace_nor_the_configuration_of_add() {
    let node = Node::new();
    let call = |pod: &Host| Call::new("ADD", pod, "net1", config("1.1.0", 100));
    let other = json!({ "cniVersion": "0.3.1", "name": "red", "type": "megalos", "vni": 7, "mtu": 1, "colour": "red" });
    type Change<'a> = (&'a str, &'a dyn Fn(Call) -> (Call, String));
    let changes: [Change<'_>; 7] = [
        ("no namespace", &|call| with_config(call.with("CNI_NETNS", ""))),
        ("a namespace that is gone", &|call| with_config(call.with("CNI_NETNS", "/run/netns/gone"))),
        ("another configuration", &|call| (call, other.to_string())),
        ("a configuration with the type alone", &|call| (call, r#"{"type":"megalos"}"#.to_owned())),
        ("no configuration", &|call| (call, String::new())),
        ("garbage", &|call| (call, "\u{1}{".to_owned())),
        ("arguments that make no sense", &|call| with_config(call.with("CNI_ARGS", "===;;x"))),
    ];
    for (what, change) in changes {
        let pod = Host::new("pod");
        let call = call(&pod);
        node.run(&call).ok();
        let (del, input) = change(call.verb("DEL"));
        assert_eq!(node.run_with(&del, &input).ok(), Value::Null, "{what}");
        assert_eq!(node.ports(), [""; 0], "{what}");
        node.run_with(&del, &input).ok();
    }
}

fn with_config(call: Call) -> (Call, String) {
    let config = call.config.to_string();
    (call, config)
}

/// A worker's socket in the place of the real one.
struct Impostor {
    listener: cni::server::Listener,
}

impl Impostor {
    fn new(pod: &Host) -> Self {
        let path = pod.directory().join("impostor.sock");
        Self { listener: cni::server::Listener::bind(&path).unwrap_or_else(|error| panic!("{error}")) }
    }

    /// The next connection of the plugin.
    fn accept(&self) -> OwnedFd {
        let patience = PollTimeout::try_from(wait::PATIENCE).unwrap_or(PollTimeout::NONE);
        let waiting = poll(&mut [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)], patience);
        assert_eq!(waiting, Ok(1), "the plugin does not connect");
        self.listener.accept_socket().unwrap_or_else(|error| panic!("{error}"))
    }

    fn path(&self) -> String {
        self.listener.path().display().to_string()
    }
}

#[test]
fn a_socket_that_answers_nonsense_costs_an_error_object() {
    let node = Node::new();
    let pod = Host::new("pod");
    let impostor = Impostor::new(&pod);
    let attached = r#"{"result":"attached","mac":"02:00:00:00:00:01","mtu":1500,"host_interface":"ve0"}"#;
    for (answer, named) in [
        (Some("nonsense"), "one version"),
        (Some("{}"), "one version"),
        (Some(r#"{"result":"done"}"#), "one version"),
        (Some(r#"{"result":"attached","mac":"zz"}"#), "one version"),
        (Some(r#"{"result":"error","code":7,"message":"no","details":"because"}"#), "because"),
        (None, "closed"),
    ] {
        let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100)).with("MEGALOS_CNI_SOCKET", &impostor.path());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The request, then the detach of an answer that made no sense.
                let socket = impostor.accept();
                let request = transport::receive(socket.as_fd(), 2);
                assert!(matches!(request, Ok(Some(packet)) if packet.descriptors.len() == 2));
                if let Some(answer) = answer {
                    transport::send(socket.as_fd(), answer.as_bytes(), &[]).unwrap_or_else(|error| panic!("{error}"));
                }
                drop(socket);
                if answer != Some(r#"{"result":"error","code":7,"message":"no","details":"because"}"#) {
                    let again = impostor.accept();
                    let request = transport::receive(again.as_fd(), 2).ok().flatten().map(|packet| packet.bytes);
                    let text = String::from_utf8(request.unwrap_or_default()).unwrap_or_default();
                    assert!(text.contains("detach") && text.contains("net1"), "{text}");
                    transport::send(again.as_fd(), br#"{"result":"done"}"#, &[])
                        .unwrap_or_else(|error| panic!("{error}"));
                }
            });
            node.run(&call).error(&[named]);
        });
    }
    // What it is told to be made and is not there: the announcement fails, which only the log has to know.
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100)).with("MEGALOS_CNI_SOCKET", &impostor.path());
    let call = call.key("ips", json!(["10.0.0.1/24"]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = impostor.accept();
            let _ = transport::receive(socket.as_fd(), 2);
            transport::send(socket.as_fd(), attached.as_bytes(), &[]).unwrap_or_else(|error| panic!("{error}"));
        });
        let outcome = node.run(&call);
        assert!(outcome.stderr.contains("not announced"), "{}", outcome.stderr);
        outcome.ok();
    });
}

/// Where an ADD is killed.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Before the worker has read anything.
    Connected,
    /// The worker has got the request, the plugin waits for the reply.
    Asked,
    /// The reply is on its way.
    Answered,
}

#[test]
fn an_add_that_is_killed_leaves_nothing_that_del_does_not_remove() {
    let node = Node::new();
    for step in [Step::Connected, Step::Asked, Step::Answered] {
        for _ in 0..5 {
            let pod = Host::new("pod");
            let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100)).key("ips", json!(["10.0.0.1/24"]));
            kill_at(&node, &pod, &call, step);
            node.run(&call.clone().verb("DEL")).ok();
            wait::until("nothing to be left", || {
                let ports = node.ports();
                if ports.is_empty() && node.worker().vnis().is_empty() { Ok(()) } else { Err(format!("{ports:?}")) }
            });
            assert!(!pod.sh("ip link").contains("net1"), "{step:?}");
            // The runtime tries again, and it works.
            node.run(&call).ok();
            node.run(&call.verb("DEL")).ok();
        }
    }
}

/// Executes an ADD through a relay before the worker's socket and kills the plugin at a step; the worker finishes what it
/// has got.
fn kill_at(node: &Node, pod: &Host, call: &Call, step: Step) {
    let relay = Impostor::new(pod);
    let call = call.clone().with("MEGALOS_CNI_SOCKET", &relay.path());
    let mut child = node.start(0, &call, &call.config.to_string());
    let plugin = relay.accept();
    let mut kill = || {
        child.kill().unwrap_or_else(|error| panic!("{error}"));
        let _ = child.wait();
    };
    if matches!(step, Step::Connected) {
        return kill();
    }
    let request = transport::receive(plugin.as_fd(), 2).ok().flatten().unwrap_or_else(|| panic!("no request"));
    let worker = transport::connect(&node.worker().cni_socket()).unwrap_or_else(|error| panic!("{error}"));
    let descriptors: Vec<_> = request.descriptors.iter().map(AsFd::as_fd).collect();
    transport::send(worker.as_fd(), &request.bytes, &descriptors).unwrap_or_else(|error| panic!("{error}"));
    if matches!(step, Step::Asked) {
        return kill();
    }
    let reply = transport::receive(worker.as_fd(), 0).ok().flatten().unwrap_or_else(|| panic!("no reply"));
    transport::send(plugin.as_fd(), &reply.bytes, &[]).unwrap_or_else(|error| panic!("{error}"));
    kill();
}

#[test]
fn an_add_that_is_killed_while_ipam_works_is_undone_by_del() {
    let node = Node::new();
    let pod = Host::new("pod");
    let (started, release) = (pod.directory().join("started"), pod.directory().join("release"));
    let directory = pod.directory().join("plugins");
    std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{error}"));
    let text = format!(
        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\ntouch {}\nwhile [ ! -e {} ]; do sleep 0.05; done\n",
        started.display(),
        release.display()
    );
    let file = directory.join("slow");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("{error}"));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap_or_else(|error| panic!("{error}"));
    let call = Call::new("ADD", &pod, "net1", config("1.1.0", 100))
        .key("ipam", json!({ "type": "slow" }))
        .with("CNI_PATH", &directory.display().to_string());
    let mut child = node.start(0, &call, &call.config.to_string());
    wait::until_true("the IPAM plugin to run", || started.exists());
    child.kill().unwrap_or_else(|error| panic!("{error}"));
    let _ = child.wait();
    std::fs::write(&release, "").unwrap_or_else(|error| panic!("{error}"));
    node.run(&call.verb("DEL")).ok();
    assert_eq!(node.ports(), [""; 0]);
    assert!(!pod.sh("ip link").contains("net1"));
}

#[test]
fn many_adds_at_once_all_succeed() {
    const PODS: usize = 150;
    let node = Node::new();
    let pod = Host::new("pod");
    let calls: Vec<_> = (0..PODS)
        .map(|at| {
            Call::new("ADD", &pod, &format!("net{at}"), config("1.1.0", 100 + u32::try_from(at % 30).unwrap_or(0)))
        })
        .collect();
    let children: Vec<_> = calls.iter().map(|call| node.start(0, call, &call.config.to_string())).collect();
    for child in children {
        finish(child).ok();
    }
    assert_eq!(node.ports().len(), PODS);
    let children: Vec<_> =
        calls.iter().map(|call| node.start(0, &call.clone().verb("DEL"), &call.config.to_string())).collect();
    for child in children {
        finish(child).ok();
    }
    assert_eq!(node.ports(), [""; 0]);
}

#[test]
fn the_plugin_and_the_dataplane_name_devices_alike() {
    for (container, interface) in [("a", "eth0"), ("4f.5-_x", "lan0"), (&"c".repeat(253), "fifteen-letters")] {
        let attachment = cni::Attachment {
            container_id: container.parse().unwrap_or_else(|error| panic!("{error}")),
            interface: interface.parse().unwrap_or_else(|error| panic!("{error}")),
        };
        let port = dataplane::PortId::attachment(container, interface);
        assert_eq!(cni::plugin::removal::device_name(&attachment), port.device_name());
    }
}
