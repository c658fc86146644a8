//! Many at once: ADDs from many plugins, interfaces of one pod, the last and the first member of a LAN.

use std::net::{IpAddr, SocketAddr};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cni::Attachment;
use tests::bgp::{Connection, Open, base, mac_route, reach, update};
use tests::fabric::{Fabric, LAN};
use tests::host::Host;
use tests::overlay::{Worker, descriptors};
use tests::wait;

use super::bed::{add, attachment, lone_worker, mac, wait_exact, wanted};

/// Attaches all at once, each from a connection of its own; how long each took, sorted.
fn add_at_once(worker: &Worker, wanted: Vec<(cni::Attach, &Host)>) -> Vec<Duration> {
    let start = Barrier::new(wanted.len());
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = wanted
            .into_iter()
            .map(|(attach, pod)| {
                scope.spawn(move || {
                    let descriptors = descriptors(pod);
                    start.wait();
                    let begun = Instant::now();
                    let id = attach.attachment.clone();
                    worker.cni().attach(attach, &descriptors).unwrap_or_else(|error| panic!("{id:?}: {error}"));
                    begun.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    times.sort_unstable();
    times
}

fn print(what: &str, times: &[Duration]) {
    let at = |share: usize| times.get((times.len() - 1) * share / 100).copied().unwrap_or_default();
    println!("{what}: median {:?}, 99 % {:?}, longest {:?}", at(50), at(99), at(100));
}

#[test]
fn a_hundred_and_fifty_adds_at_once_are_all_served() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let pods: Vec<Host> = (0..50).map(|number| Host::new(&format!("p{number}"))).collect();
    let ids: Vec<(Attachment, u32)> = (0..150_u32)
        .map(|number| (attachment(&format!("pod{}", number % 50), &format!("eth{}", number / 50)), 100 + number % 7))
        .collect();
    let all = ids.iter().zip(0_u16..).map(|((id, vni), number)| {
        let attach = wanted(id.container_id.as_str(), id.interface.as_str(), *vni, number);
        (attach, &pods[usize::from(number) % 50])
    });
    let begun = Instant::now();
    let times = add_at_once(worker, all.collect());
    println!("150 ADDs at once: {:?} in all", begun.elapsed());
    print("150 ADDs at once", &times);
    let exact: Vec<(&Attachment, u32)> = ids.iter().map(|(id, vni)| (id, *vni)).collect();
    wait_exact(worker, &exact);
    // All pods die at once.
    drop(pods);
    wait_exact(worker, &[]);
}

#[test]
fn one_pod_may_have_five_hundred_interfaces() {
    let fabric = lone_worker(&[]);
    let worker = &fabric.workers[0];
    let pod = Host::new("pod");
    let ids: Vec<(Attachment, u32)> =
        (0..500_u32).map(|number| (attachment("pod", &format!("lab{number}")), 1_000 + number / 2)).collect();
    let mut client = worker.cni();
    let begun = Instant::now();
    for ((id, vni), number) in ids.iter().zip(0_u16..) {
        let attach = wanted("pod", id.interface.as_str(), *vni, number);
        client.attach(attach, &descriptors(&pod)).unwrap_or_else(|error| panic!("{id:?}: {error}"));
    }
    println!("500 interfaces of one pod: {:?}", begun.elapsed());
    assert!(pod.sh("ip -brief link show").lines().count() >= 501);
    let exact: Vec<(&Attachment, u32)> = ids.iter().map(|(id, vni)| (id, *vni)).collect();
    wait_exact(worker, &exact);
    drop(pod);
    wait_exact(worker, &[]);
}

const ROUNDS: usize = 1_000;

#[test]
fn the_last_member_goes_while_the_first_comes_a_thousand_times() {
    let fabric = Fabric::new(2);
    let [worker, other] = [0, 1].map(|index: usize| &fabric.workers[index]);
    let far = Host::new("far");
    add(other, &far, "far", LAN, 9).unwrap_or_else(|error| panic!("{error}"));
    let pods = ["a", "b"].map(Host::new);
    let ids = ["a", "b"].map(|container| attachment(container, "eth0"));
    add(worker, &pods[0], "a", LAN, 0).unwrap_or_else(|error| panic!("{error}"));
    let begun = Instant::now();
    let turn = Barrier::new(2);
    let (turn, pods_of, ids_of) = (&turn, &pods, &ids);
    std::thread::scope(|scope| {
        for mine in 0..2_usize {
            let (pod, id) = (&pods_of[mine], &ids_of[mine]);
            scope.spawn(move || {
                let mut client = worker.cni();
                for round in 0..ROUNDS {
                    turn.wait();
                    // Each in turn is the one that is there.
                    if round % 2 == mine {
                        client.detach(id.clone()).unwrap_or_else(|error| panic!("round {round}: {error}"));
                    } else {
                        let attach = wanted(id.container_id.as_str(), "eth0", LAN, mine as u16);
                        let attached = client.attach(attach, &descriptors(pod));
                        attached.unwrap_or_else(|error| panic!("round {round}: {error}"));
                    }
                    turn.wait();
                    if round % 100 == 99 && mine == 0 {
                        let there = (round + 1) % 2;
                        wait_exact(worker, &[(&ids_of[there], LAN)]);
                        other.wait_row(LAN, &mac(there as u16), Some(IpAddr::from([10, 0, 0, 11])));
                        other.wait_row(LAN, &mac(1 - there as u16), None);
                    }
                    turn.wait();
                }
            });
        }
    });
    println!("{ROUNDS} rounds of the last and the first member: {:?}", begun.elapsed());
    // Rows and routes are exact at the end, on both sides, and frames find their way.
    worker.wait_row(LAN, &mac(9), Some(IpAddr::from([10, 0, 0, 12])));
    pods[0].sh("ip address add 192.168.1.1/24 dev eth0");
    far.sh("ip address add 192.168.1.9/24 dev eth0");
    pods[0].wait_pings("192.168.1.9");
    worker.cni().detach(ids[0].clone()).unwrap_or_else(|error| panic!("{error}"));
    wait_exact(worker, &[]);
    other.wait_row(LAN, &mac(0), None);
    wait::until_true("no route of a node without attachments", || {
        let evpn = fabric.reflectors[0].routes().into_iter();
        evpn.filter(|route| route.family == "evpn" && route.next_hop == fabric.vtep(0)).count() == 0
    });
}

/// Remote MACs of the table under which ADDs are timed.
const TABLE: u32 = 20_000;

#[test]
fn an_add_is_answered_as_soon_under_a_large_table_as_without() {
    let fabric = Fabric::new(1);
    let worker = &fabric.workers[0];
    let pods: Vec<Host> = (0..40).map(|number| Host::new(&format!("p{number}"))).collect();
    let timed = |pods: &[Host], from: u16| -> Vec<Duration> {
        let mut times: Vec<Duration> = pods
            .iter()
            .zip(from..)
            .map(|(pod, number)| {
                let (mut client, with) = (worker.cni(), descriptors(pod));
                let begun = Instant::now();
                client.attach(wanted(pod.name(), "eth0", LAN, number), &with).unwrap_or_else(|error| panic!("{error}"));
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        times
    };
    let (before, after) = pods.split_at(20);
    print("ADD with an empty table", &timed(before, 0));
    let peer = fabric.host("peer", 50);
    let source = [10, 0, 0, 50];
    let to: SocketAddr = "10.0.0.1:1179".parse().unwrap_or_else(|error| panic!("{error}"));
    let mut session = Connection::open(&peer, IpAddr::from(source), to).unwrap_or_else(|error| panic!("{error}"));
    session.establish(&Open::of(source));
    for block in (0..TABLE).collect::<Vec<_>>().chunks(50) {
        let routes: Vec<Vec<u8>> = block
            .iter()
            .map(|number| {
                let [_, a, b, c] = number.to_be_bytes();
                mac_route(source, LAN, [2, 0, 9, a, b, c])
            })
            .collect();
        session.send(&update(&[base(LAN), vec![reach(source, &routes)]].concat()));
    }
    wait::until_true("the table", || {
        worker.vnis().iter().any(|row| row.vni == LAN && row.remote_macs == u64::from(TABLE))
    });
    wait::until_true("the table in the kernel", || {
        let rows = worker.overlay_sh("bridge fdb show dev vx100").lines().filter(|row| row.contains(" dst ")).count();
        rows >= TABLE as usize
    });
    print(&format!("ADD with {TABLE} remote MACs on its LAN"), &timed(after, 20));
    wait::until_true("all to be announced", || {
        let routes = fabric.reflectors[0].routes();
        routes.iter().filter(|route| route.next_hop == fabric.vtep(0) && route.route.contains("02:00:00:01")).count()
            == 40
    });
}
