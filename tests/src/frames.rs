//! Frames on an interface, as they are: sent, and seen.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, sendto, socket,
};

use crate::host::Host;
use crate::{inside, wait};

/// Frames kept; what comes later is dropped.
const MAX_FRAMES: usize = 10_000;
/// UDP port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4_789;

/// Sends one Ethernet frame, given with its header, out of an interface of the host.
///
/// # Panics
///
/// If the interface does not take it.
pub fn send(host: &Host, interface: &str, frame: &[u8]) {
    send_within(&host.open(), interface, frame);
}

/// The same in a network namespace.
///
/// # Panics
///
/// If the interface does not take it.
pub fn send_within(namespace: &File, interface: &str, frame: &[u8]) {
    let sent = try_send_within(namespace, interface, frame);
    assert_eq!(sent, Ok(frame.len()), "{interface} did not take a frame");
}

/// As [`send`], with what the kernel says.
///
/// # Errors
///
/// The interface does not take it.
pub fn try_send(host: &Host, interface: &str, frame: &[u8]) -> nix::Result<usize> {
    try_send_within(&host.open(), interface, frame)
}

fn try_send_within(namespace: &File, interface: &str, frame: &[u8]) -> nix::Result<usize> {
    inside::run(namespace, || {
        let address = link_address(interface);
        let socket = packet_socket();
        sendto(socket.as_raw_fd(), frame, &address, MsgFlags::empty())
    })
}

/// Collects the frames that an interface receives and sends, until it is dropped.
#[derive(Debug)]
pub struct Sniffer {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Begins to collect; every frame from now on is seen.
    ///
    /// # Panics
    ///
    /// If the host has no such interface.
    pub fn start(host: &Host, interface: &str) -> Self {
        Self::within(&host.open(), interface)
    }

    /// The same in a network namespace.
    ///
    /// # Panics
    ///
    /// If it has no such interface.
    pub fn within(namespace: &File, interface: &str) -> Self {
        let socket = inside::run(namespace, || {
            let socket = packet_socket();
            bind(socket.as_raw_fd(), &link_address(interface)).unwrap_or_else(|error| panic!("{interface}: {error}"));
            socket
        });
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (collected, stopping) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = std::thread::spawn(move || collect(&socket, &collected, &stopping));
        Self { frames, stop, thread: Some(thread) }
    }

    /// All frames so far that `wanted` accepts.
    pub fn frames(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let frames = self.frames.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        frames.iter().filter(|frame| wanted(frame)).cloned().collect()
    }

    /// Waits for a frame that `wanted` accepts.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        wait::until(what, || self.frames(&wanted).into_iter().next().ok_or("no such frame"))
    }

    /// The VNIs of the VXLAN packets so far.
    pub fn vnis(&self) -> Vec<u32> {
        self.frames(|_| true).iter().filter_map(|frame| vni_of(frame)).collect()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn collect(socket: &OwnedFd, frames: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(20_u8));
        while let Ok(count) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let mut frames = frames.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if frames.len() < MAX_FRAMES {
                frames.push(buffer[..count].to_vec());
            }
        }
    }
}

/// The VNI of a frame that carries VXLAN over IPv4 without options, or over IPv6 without extension headers.
pub fn vni_of(frame: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let udp = match word(12)? {
        0x0800 if frame.get(23) == Some(&17) => 34,
        0x86dd if frame.get(20) == Some(&17) => 54,
        _ => return None,
    };
    let [high, middle, low] = frame.get(udp + 12..udp + 15)?.try_into().ok()?;
    (word(udp + 2)? == VXLAN_PORT).then_some(u32::from_be_bytes([0, high, middle, low]))
}

fn packet_socket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        .unwrap_or_else(|error| panic!("no packet socket: {error}; run as root"))
}

/// The address of an interface of the calling thread's namespace, for all protocols.
fn link_address(interface: &str) -> LinkAddr {
    let index = nix::net::if_::if_nametoindex(interface).unwrap_or_else(|error| panic!("{interface}: {error}"));
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer leads to a whole sockaddr_ll of the given length, which from_raw copies.
    let address = unsafe {
        LinkAddr::from_raw((&raw const address).cast(), Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t))
    };
    address.unwrap_or_else(|| panic!("{interface} has no link address"))
}
