//! What nobody tells a worker: pods that die, its own death at any step, another start of the machine.

use cni::{ErrorCode, List, Origin};
use nix::sys::signal::Signal;
use tests::host::Host;
use tests::overlay::{Worker, descriptors};

use super::bed::{add, attachment, code, delete, difference, files, lone_worker, wait_exact, wanted};

#[test]
fn pods_that_die_leave_nothing_whether_the_worker_sees_it_or_not() {
    let mut fabric = lone_worker(&[]);
    let worker = &mut fabric.workers[0];
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Host::new);
    for (pod, container, vni, number) in [(&a, "a", 100, 1), (&b, "b", 100, 2), (&c, "c", 200, 3), (&d, "d", 300, 4)] {
        add(worker, pod, container, vni, number).unwrap_or_else(|error| panic!("{error}"));
    }
    drop((a, c));
    let [b_port, d_port] = ["b", "d"].map(|container| attachment(container, "eth0"));
    wait_exact(worker, &[(&b_port, 100), (&d_port, 300)]);
    worker.kill(Signal::SIGKILL);
    drop(b);
    // And what no worker of ours made: a bridge without members, files that mean nothing.
    worker.overlay_sh("ip link add br999 type bridge");
    let name = dataplane::PortId::new("eth0@gone").device_name();
    let stray = worker.attachment_files().join(format!("{name}.json"));
    let record = br#"{"port":"eth0@gone","vni":7,"mac":"02:00:00:00:00:01","ips":[]}"#;
    std::fs::write(&stray, record).unwrap_or_else(|error| panic!("{error}"));
    worker.restart();
    wait_exact(worker, &[(&d_port, 300)]);
    drop(d);
    wait_exact(worker, &[]);
}

/// Ends the worker as if it had died before the file of its last ADD was written, and starts it again.
fn die_before_the_file(worker: &mut Worker) {
    worker.kill(Signal::SIGKILL);
    for file in files(worker) {
        std::fs::remove_file(worker.attachment_files().join(file)).unwrap_or_else(|error| panic!("{error}"));
    }
    worker.restart();
}

#[test]
fn an_interface_that_nobody_was_told_of_blocks_nobody() {
    let mut fabric = lone_worker(&[]);
    let worker = &mut fabric.workers[0];
    let pod = Host::new("a");
    let port = attachment("a", "eth0");
    let index = || pod.sh("ip -o link show eth0").split(':').next().map(str::to_owned);
    add(worker, &pod, "a", 100, 1).unwrap_or_else(|error| panic!("{error}"));
    wait_exact(worker, &[(&port, 100)]);
    die_before_the_file(worker);
    // It leads to a pod that lives, so it stays, as a member of which nothing is claimed.
    let rows = worker.vnis();
    assert!(rows.iter().any(|row| (row.vni, row.members) == (100, 1)), "{rows:?}");
    assert!(worker.macs().iter().all(|row| row.state != "claimed"), "{:?}", worker.macs());
    // The runtime adds it again: it is made anew, in the LAN that is asked for now.
    let before = index();
    add(worker, &pod, "a", 200, 1).unwrap_or_else(|error| panic!("{error}"));
    assert_ne!(index(), before);
    wait_exact(worker, &[(&port, 200)]);
    die_before_the_file(worker);
    delete(worker, "a");
    wait_exact(worker, &[]);
}

#[test]
fn a_file_from_before_the_machines_last_start_claims_nothing() {
    let mut fabric = lone_worker(&[]);
    let worker = &mut fabric.workers[0];
    let [old, new] = ["a", "b"].map(Host::new);
    for (pod, container, number) in [(&old, "old", 1), (&new, "new", 2)] {
        add(worker, pod, container, 100, number).unwrap_or_else(|error| panic!("{error}"));
    }
    worker.kill(Signal::SIGKILL);
    let name = dataplane::PortId::attachment("old", "eth0").device_name();
    let file = worker.attachment_files().join(format!("{name}.json"));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}"));
    assert!(text.contains(boot.trim()), "{text}");
    std::fs::write(&file, text.replace(boot.trim(), "another")).unwrap_or_else(|error| panic!("{error}"));
    worker.restart();
    assert!(!file.exists());
    let claimed: Vec<_> = worker.macs().into_iter().filter(|row| row.state == "claimed").map(|row| row.mac).collect();
    assert_eq!(claimed, [super::bed::mac(2)]);
    // The pod of the same name after the machine's start has another container: its DEL is not the old one's.
    delete(worker, "another-container");
    assert!(old.try_sh("ip link show eth0").status.success() && new.try_sh("ip link show eth0").status.success());
    delete(worker, "old");
    wait_exact(worker, &[(&attachment("new", "eth0"), 100)]);
}

#[test]
fn a_second_add_is_refused_while_its_interface_lives_and_served_once_that_is_gone() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let port = attachment("pod", "eth0");
    let mut pod = Host::new("a");
    add(worker, &pod, "pod", 100, 1).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(code(&add(worker, &pod, "pod", 100, 1)), Some(ErrorCode::INVALID_PARAMETERS));
    assert_eq!(difference(worker, &[(&port, 100)]), Ok(()));
    for round in 0..20 {
        // Nobody waits for the worker to notice that the pod has died.
        drop(std::mem::replace(&mut pod, Host::new("a")));
        let gone = || match add(worker, &pod, "pod", 100 + round % 2, 1) {
            Ok(_) => Ok(()),
            // The kernel takes its time to end a namespace.
            Err(error) => Err(error.to_string()),
        };
        tests::wait::until("the pod's successor to be attached", gone);
        wait_exact(worker, &[(&port, 100 + round % 2)]);
    }
    assert_eq!(code(&add(worker, &pod, "pod", 100, 1)), Some(ErrorCode::INVALID_PARAMETERS));
}

#[test]
fn the_attachments_of_a_network_are_named_after_a_restart_too() {
    let mut fabric = lone_worker(&[]);
    let worker = &mut fabric.workers[0];
    let pods = ["a", "b", "c", "d"].map(Host::new);
    let networks = [("blue", 100), ("blue", 100), ("red", 100), ("blue", 200)];
    for ((pod, container), (number, (network, vni))) in pods.iter().zip(["a", "b", "c", "d"]).zip((1..).zip(networks)) {
        let origin = Origin { network: network.parse().ok(), ..Origin::default() };
        let wanted = cni::Attach { origin, ..wanted(container, "eth0", vni, number) };
        worker.cni().attach(wanted, &descriptors(pod)).unwrap_or_else(|error| panic!("{error}"));
    }
    let listed = |worker: &Worker| {
        let list = List {
            network: "blue".parse().unwrap_or_else(|error| panic!("{error}")),
            vni: 100.try_into().unwrap_or_else(|error| panic!("{error}")),
            after: None,
        };
        worker.cni().list(list).unwrap_or_else(|error| panic!("{error}")).attachments
    };
    let expected = ["a", "b"].map(|container| attachment(container, "eth0"));
    assert_eq!(listed(worker), expected);
    worker.kill(Signal::SIGKILL);
    worker.restart();
    assert_eq!(listed(worker), expected);
}
