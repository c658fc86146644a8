//! A throw-away world for each test: network and mount namespaces of a thread, gone with it. The host sees nothing.

use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use bgp_core::types::{MacAddr, Vni};
use dataplane::linux::{Config, Linux};
use dataplane::{AttachRequest, Attached, Change, Dataplane, Existing, Observation, Pod, PortId};
use evpn::forwarding::{Desired, Key};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// Runs a test in a world of its own; without root it says so and does nothing.
pub fn sandbox(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root to make network namespaces");
        return;
    }
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        sh("ip link set lo up");
        test();
    });
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs a shell command in the namespaces of the calling thread; its output.
pub fn sh(command: &str) -> String {
    let (ok, text) = try_sh(command);
    assert!(ok, "`{command}` failed: {text}");
    text
}

/// The same, with the answer whether it succeeded.
pub fn try_sh(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Runs `work` inside a namespace of `ip netns`.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    on_a_thread(|| {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Waits until a condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads observations until one is as wanted; all that were read.
pub fn observe(dataplane: &mut impl Dataplane, wanted: &Observation) -> Vec<Observation> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen.contains(wanted) {
        assert!(Instant::now() < deadline, "{wanted:?} was not observed within 20 s, only {seen:?}");
        seen.extend(dataplane.poll_events(Duration::from_millis(100)).unwrap());
    }
    seen
}

/// What has been observed until now, except the addresses of devices: these are told whoever made them.
pub fn observed(dataplane: &mut impl Dataplane) -> Vec<Observation> {
    let mut seen = Vec::new();
    loop {
        let more = dataplane.poll_events(Duration::ZERO).unwrap();
        if more.is_empty() {
            return seen;
        }
        seen.extend(more.into_iter().filter(|observation| !matches!(observation, Observation::DeviceMac { .. })));
    }
}

/// A node with an underlay interface of 1500 bytes that has the VTEP address 192.0.2.1.
pub fn node() -> Linux {
    sh("ip link add under0 type dummy 2>/dev/null || ip link add under0 type veth peer name under1");
    sh("ip addr add 192.0.2.1/24 dev under0; ip link set under0 up");
    open()
}

/// Opens the dataplane of [`node`] once more.
pub fn open() -> Linux {
    Linux::open(Config::new("192.0.2.1".parse().unwrap(), "overlay")).unwrap()
}

pub fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

pub fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

pub fn remote(of: u32, address: MacAddr, vtep: &str, sticky: bool) -> Change {
    let desired = Desired::RemoteMac { vtep: vtep.parse().unwrap(), sticky };
    Change { key: Key::Mac(vni(of), address), desired: Some(desired) }
}

pub fn tunnel(of: u32) -> Change {
    Change { key: Key::Tunnel(vni(of)), desired: Some(Desired::Tunnel) }
}

pub fn flood(of: u32, vtep: &str) -> Change {
    Change { key: Key::Flood(vni(of), vtep.parse().unwrap()), desired: Some(Desired::Flood) }
}

pub fn without(key: Key) -> Change {
    Change { key, desired: None }
}

/// Applies changes and insists on their success.
pub fn apply(dataplane: &mut impl Dataplane, changes: &[Change]) {
    for batch in changes.chunks(dataplane::MAX_BATCH) {
        for (change, result) in batch.iter().zip(dataplane.apply(batch)) {
            result.unwrap_or_else(|error| panic!("{change:?}: {error}"));
        }
    }
}

/// A request to connect the existing namespace `pod` to a LAN by its interface eth0.
pub fn request(pod: &str, of: u32) -> AttachRequest {
    let namespace = OwnedFd::from(File::open(format!("/run/netns/{pod}")).unwrap());
    let netlink = inside(pod, || Socket::new(NETLINK_ROUTE).unwrap().into_raw_fd());
    // SAFETY: the socket has just been given up to us.
    let netlink = unsafe { OwnedFd::from_raw_fd(netlink) };
    AttachRequest {
        port: PortId::attachment(pod, "eth0"),
        vni: vni(of),
        lan: format!("lan {of}"),
        pod: Pod::Descriptors { namespace, netlink },
        interface: "eth0".into(),
        mac: None,
        mtu: None,
        addresses: Vec::new(),
        routes: Vec::new(),
        existing: Existing::Keep,
    }
}

/// Makes a namespace whose interfaces say nothing by themselves.
pub fn quiet_namespace(name: &str) {
    sh(&format!("ip netns add {name}"));
    sh(&format!("ip netns exec {name} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'"));
}

/// Counts notifications of rows in a namespace. Those of links are left out: the kernel sends them late and on its own, when
/// it gets to a device's operational state.
pub struct Monitor(Socket);

impl Monitor {
    pub fn new(namespace: &str) -> Self {
        inside(namespace, || {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            socket.bind_auto().unwrap();
            socket.add_membership(libc::RTNLGRP_NEIGH).unwrap();
            socket.set_non_blocking(true).unwrap();
            Self(socket)
        })
    }

    pub fn count(&self) -> usize {
        let mut buffer = Vec::with_capacity(65_536);
        std::iter::from_fn(|| {
            buffer.clear();
            self.0.recv(&mut buffer, 0).ok()
        })
        .count()
    }
}

/// Makes a namespace `pod` and connects it, with an address if there is one.
pub fn pod(linux: &mut Linux, pod: &str, of: u32, address: Option<&str>) -> Attached {
    quiet_namespace(pod);
    let mut request = request(pod, of);
    request.addresses.extend(address.map(|address| address.parse::<ipnet::IpNet>().unwrap()));
    linux.attach(request).unwrap()
}

/// Makes a host behind a pod speak: a frame with this source address, to a group that nobody answers.
pub fn speak(pod: &str, source: MacAddr) {
    let hex: String = source.0.iter().map(|octet| format!("{octet:02x}")).collect();
    frame(pod, &format!("333300000001{hex}88b5"));
}

/// Sends a frame, given in hex, out of a pod's eth0.
pub fn frame(pod: &str, hex: &str) {
    let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(octet).collect();
    bytes.resize(bytes.len().max(60), 0);
    let sent = Wire::new(pod).0.send(&bytes).unwrap();
    assert_eq!(sent, bytes.len());
}

/// The raw frames of a pod's eth0.
pub struct Wire(socket2::Socket);

impl Wire {
    pub fn new(pod: &str) -> Self {
        let all = (libc::ETH_P_ALL as u16).to_be();
        inside(pod, || {
            let index = nix::net::if_::if_nametoindex("eth0").unwrap();
            let socket = socket2::Socket::new(
                socket2::Domain::PACKET,
                socket2::Type::RAW,
                Some(socket2::Protocol::from(i32::from(all))),
            )
            .unwrap();
            // SAFETY: all zero is a valid address, and the parts that matter are then filled in with their true length.
            let (_, address) = unsafe {
                socket2::SockAddr::try_init(|storage, len| {
                    let link = storage.cast::<libc::sockaddr_ll>();
                    (*link).sll_family = libc::AF_PACKET as u16;
                    (*link).sll_protocol = all;
                    (*link).sll_ifindex = index as i32;
                    *len = std::mem::size_of::<libc::sockaddr_ll>() as u32;
                    Ok(())
                })
            }
            .unwrap();
            socket.bind(&address).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self(socket)
        })
    }

    /// Whether a frame with this source address has arrived.
    pub fn heard(&mut self, source: MacAddr) -> bool {
        use std::io::Read;
        let mut frame = [0; 2048];
        while let Ok(len) = self.0.read(&mut frame) {
            if len >= 12 && frame[6..12] == source.0 {
                return true;
            }
        }
        false
    }
}
