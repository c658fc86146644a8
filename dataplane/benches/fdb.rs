//! How fast rows reach the real kernel, and how long devices take. Needs root; works in namespaces of its own.
//!
//! `cargo bench -p dataplane --bench fdb [-- ROWS]`

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use bgp_core::types::{MacAddr, Vni};
use dataplane::linux::{Config, Linux};
use dataplane::{AttachRequest, Change, Dataplane, Existing, MAX_BATCH, Pod, PortId, plan};
use evpn::forwarding::{Desired, Key};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{UsageWho, getrusage};

const LANS: u32 = 500;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make network namespaces");
        return;
    }
    let rows = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("a /run of our own");
    sh("ip link add u0 type veth peer name u1; ip addr add 192.0.2.1/24 dev u0; ip link set u0 up; ip link set u1 up");
    sh("ip netns add pod");
    let vtep = "192.0.2.1".parse().expect("an address");
    let mut linux = Linux::open(Config::new(vtep, "overlay")).expect("a dataplane");
    attach(&mut linux, 0, 1);
    apply(&mut linux, &[tunnel(1)]);
    measure_rows(&mut linux, rows);
    measure_lans(&mut linux);
}

fn measure_rows(linux: &mut Linux, rows: u32) {
    let first: Vec<Change> = (0..rows).map(|n| remote(n, 2)).collect();
    let second: Vec<Change> = (0..rows).map(|n| remote(n, 3)).collect();
    let gone: Vec<Change> = first.iter().map(|change| Change { desired: None, ..*change }).collect();
    report("add, both rows", rows, || apply(linux, &first));
    report("add again, no change", rows, || apply(linux, &first));
    report("move to another VTEP", rows, || apply(linux, &second));
    let mut desired: BTreeMap<Key, Desired> =
        second.iter().filter_map(|change| Some((change.key, change.desired?))).collect();
    desired.insert(Key::Tunnel(vni(1)), Desired::Tunnel);
    report("snapshot and plan", rows, || {
        let snapshot = linux.snapshot().expect("a snapshot");
        assert!(plan(&desired, &snapshot).is_empty());
    });
    report("remove, both rows", rows, || apply(linux, &gone));
    assert!(linux.poll_events(Duration::ZERO).expect("events").is_empty(), "own work is no news, and none was lost");
}

fn measure_lans(linux: &mut Linux) {
    report("attach, each to a LAN of its own", LANS, || (1..=LANS).for_each(|n| attach(linux, n, n + 1)));
    let tunnels: Vec<Change> = (1..=LANS).map(|n| tunnel(n + 1)).collect();
    report("make tunnels", LANS, || apply(linux, &tunnels));
    let ports: Vec<PortId> = (0..=LANS).map(port).collect();
    report("detach all, LANs and tunnels with them", LANS, || linux.detach(&ports).expect("no port"));
}

/// Prints the time that passed and the processor time of this thread, in the program and in the kernel: the latter do
/// not depend on what else runs.
fn report(what: &str, count: u32, work: impl FnOnce()) {
    let (start, [user, system]) = (Instant::now(), processor_time());
    work();
    let elapsed = start.elapsed();
    let [user, system] = [processor_time()[0] - user, processor_time()[1] - system];
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
    println!(
        "{what:40} {count:>7} in {elapsed:>8.1?} {:>9.0} /s; us each: {:>8.2}, of these program {:.2}, kernel {:.2}",
        f64::from(count) / elapsed.as_secs_f64(),
        each(elapsed),
        each(user),
        each(system)
    );
}

fn processor_time() -> [Duration; 2] {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the thread's usage");
    [usage.user_time(), usage.system_time()].map(|time| {
        Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
    })
}

fn apply(linux: &mut Linux, changes: &[Change]) {
    for batch in changes.chunks(MAX_BATCH) {
        linux.apply(batch).into_iter().for_each(|result| result.expect("a change"));
    }
}

fn vni(number: u32) -> Vni {
    Vni::new(number).expect("a VNI")
}

fn tunnel(of: u32) -> Change {
    Change { key: Key::Tunnel(vni(of)), desired: Some(Desired::Tunnel) }
}

fn remote(number: u32, vtep: u8) -> Change {
    let [a, b, c, d] = number.to_be_bytes();
    let desired = Desired::RemoteMac { vtep: [192, 0, 2, vtep].into(), sticky: false };
    Change { key: Key::Mac(vni(1), MacAddr([2, 0, a, b, c, d])), desired: Some(desired) }
}

fn port(number: u32) -> PortId {
    PortId::attachment("pod", &format!("eth{number}"))
}

fn attach(linux: &mut Linux, number: u32, of: u32) {
    let namespace = File::open("/run/netns/pod").expect("the pod");
    let netlink = std::thread::scope(|scope| {
        let open = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("the pod's namespace");
            netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).expect("a socket").into_raw_fd()
        };
        scope.spawn(open).join().expect("the thread")
    });
    // SAFETY: the socket has just been given up to us.
    let netlink = unsafe { OwnedFd::from_raw_fd(netlink) };
    let request = AttachRequest {
        port: port(number),
        vni: vni(of),
        lan: format!("lan {of}"),
        pod: Pod::Descriptors { namespace: namespace.into(), netlink },
        interface: format!("eth{number}"),
        mac: None,
        mtu: None,
        addresses: Vec::new(),
        routes: Vec::new(),
        existing: Existing::Keep,
    };
    linux.attach(request).expect("a port");
}

fn sh(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().expect("a shell").success(), "{command}");
}
