//! Clients that die, send garbage, flood, or do nothing: each costs itself at most.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cni::transport::{connect, receive, send};
use cni::{ErrorCode, Reply, Request};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tests::host::Host;
use tests::overlay::{Worker, descriptors};
use tests::wait;

use super::bed::{add, attachment, delete, lone_worker, wait_exact, wanted};

fn connection(worker: &Worker) -> OwnedFd {
    connect(&worker.cni_socket()).unwrap_or_else(|error| panic!("{error}"))
}

/// Sends an ADD of the container's `eth0` and leaves its reply alone.
fn ask(worker: &Worker, pod: &Host, container: &str, number: u16) -> OwnedFd {
    let connection = connection(worker);
    let text = serde_json::to_vec(&Request::Attach(wanted(container, "eth0", 100, number)))
        .unwrap_or_else(|error| panic!("{error}"));
    let pod = descriptors(pod);
    send(connection.as_fd(), &text, &[pod.netns.as_fd(), pod.netlink.as_fd()])
        .unwrap_or_else(|error| panic!("{error}"));
    connection
}

fn has_member(worker: &Worker) -> bool {
    worker.vnis().iter().any(|row| row.members > 0)
}

#[test]
fn a_client_that_dies_before_it_has_its_reply_leaves_nothing_and_blocks_nobody() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let pod = Host::new("a");
    let port = attachment("a", "eth0");
    for round in 0..30 {
        let client = match round % 3 {
            // Before anything is asked.
            0 => connection(worker),
            // While it is being made, at whatever step: sooner or later.
            1 => {
                let client = ask(worker, &pod, "a", 1);
                std::thread::sleep(Duration::from_micros(round * 200));
                client
            }
            // When it is made, announced and answered, and the answer is not read.
            _ => {
                let client = ask(worker, &pod, "a", 1);
                wait::until_true("the interface", || has_member(worker));
                client
            }
        };
        drop(client);
        // The runtime asks again at once; until the worker knows that nobody read the reply, it is told to wait or to undo.
        wait::until("the next ADD to be served", || add(worker, &pod, "a", 100, 1));
        wait_exact(worker, &[(&port, 100)]);
        delete(worker, "a");
        wait_exact(worker, &[]);
    }
    // And where nobody asks again, nothing is left either.
    let client = ask(worker, &pod, "a", 1);
    wait::until_true("the interface", || has_member(worker));
    drop(client);
    wait_exact(worker, &[]);
    assert!(!pod.try_sh("ip link show eth0").status.success());
}

#[test]
fn a_client_that_reads_its_reply_and_goes_keeps_what_it_asked_for() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let pods = ["a", "b"].map(Host::new);
    add(worker, &pods[0], "a", 100, 1).unwrap_or_else(|error| panic!("{error}"));
    let [a, b] = ["a", "b"].map(|container| attachment(container, "eth0"));
    wait_exact(worker, &[(&a, 100)]);
    // Its connection is closed by now; what comes after is served by a thread that has seen it go.
    add(worker, &pods[1], "b", 100, 2).unwrap_or_else(|error| panic!("{error}"));
    wait_exact(worker, &[(&a, 100), (&b, 100)]);
}

/// The descriptors that a process has open.
fn open_files(worker: &Worker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).map_or(0, Iterator::count)
}

/// What the worker answers to a packet.
fn answer(worker: &Worker, text: &[u8], with: &[&OwnedFd]) -> Reply {
    let connection = connection(worker);
    let borrowed: Vec<_> = with.iter().map(|descriptor| descriptor.as_fd()).collect();
    send(connection.as_fd(), text, &borrowed).unwrap_or_else(|error| panic!("{error}"));
    let packet = receive(connection.as_fd(), 0).unwrap_or_else(|error| panic!("{error}"));
    let packet = packet.unwrap_or_else(|| panic!("closed without an answer to {}", String::from_utf8_lossy(text)));
    serde_json::from_slice(&packet.bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn netlink(protocol: SockProtocol) -> OwnedFd {
    socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn garbage_and_wrong_descriptors_cost_their_sender_an_error_and_nobody_else_anything() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let pod = Host::new("a");
    let before = open_files(worker);
    let null: OwnedFd = File::open("/dev/null").unwrap_or_else(|error| panic!("{error}")).into();
    let asked = serde_json::to_vec(&Request::Attach(wanted("a", "eth0", 100, 1))).unwrap_or_default();
    let right = descriptors(&pod);
    let datagrams = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .unwrap_or_else(|error| panic!("{error}"));
    let [ours, generic] = [SockProtocol::NetlinkRoute, SockProtocol::NetlinkKObjectUEvent].map(netlink);
    let packets: [(&[u8], Vec<&OwnedFd>, ErrorCode); 11] = [
        (b"x", vec![], ErrorCode::DECODE_FAILURE),
        (b"{}", vec![], ErrorCode::DECODE_FAILURE),
        (b"{\"verb\":\"attach\",\"vni\":0}", vec![], ErrorCode::DECODE_FAILURE),
        (&[0xff; 4_000], vec![], ErrorCode::DECODE_FAILURE),
        (&asked, vec![], ErrorCode::INVALID_PARAMETERS),
        (&asked, vec![&null; 253], ErrorCode::DECODE_FAILURE),
        (&asked, vec![&null, &right.netlink], ErrorCode::IO_FAILURE),
        (&asked, vec![&right.netns, &null], ErrorCode::IO_FAILURE),
        (&asked, vec![&right.netns, &datagrams], ErrorCode::IO_FAILURE),
        (&asked, vec![&right.netns, &generic], ErrorCode::IO_FAILURE),
        (&asked, vec![&right.netns, &ours], ErrorCode::INVALID_PARAMETERS),
    ];
    for (number, (text, with, expected)) in packets.iter().enumerate() {
        match answer(worker, text, with) {
            Reply::Error(error) => assert_eq!(error.code, *expected, "packet {number}: {error}"),
            other => panic!("packet {number}: {other:?}"),
        }
    }
    assert!(!pod.try_sh("ip link show eth0").status.success());
    wait_exact(worker, &[]);
    // A flood of descriptors on one connection, none of whose answers is read.
    let flood = connection(worker);
    for _ in 0..40 {
        send(flood.as_fd(), b"x", &[null.as_fd(); 253]).unwrap_or_else(|error| panic!("{error}"));
    }
    add(worker, &pod, "a", 100, 1).unwrap_or_else(|error| panic!("{error}"));
    delete(worker, "a");
    drop(flood);
    wait::until("the worker to have closed what it was sent", || match open_files(worker) {
        now if now <= before + 2 => Ok(()),
        now => Err(format!("{now} descriptors are open, {before} were")),
    });
}

#[test]
fn connections_that_ask_nothing_make_room_for_those_that_do() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let pod = Host::new("a");
    // More than the worker serves at once and the kernel keeps waiting together.
    let idle: Vec<OwnedFd> = (0..600).map(|_| connection(worker)).collect();
    for round in 0..5 {
        add(worker, &pod, "a", 100, 1).unwrap_or_else(|error| panic!("round {round}: {error}"));
        delete(worker, "a");
    }
    drop(idle);
}
