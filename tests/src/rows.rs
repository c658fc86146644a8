//! Every change of the forwarding tables of a namespace, with the time at which the kernel told it.

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, sockopt,
};

use crate::{inside, wait};

/// RTMGRP_NEIGH: neighbours and bridge rows.
const NEIGHBOUR_GROUP: u32 = 4;
const RECEIVE_BUFFER_OCTETS: usize = 8 << 20;

/// A row of a VXLAN device that appeared, changed or went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowEvent {
    /// When this process heard of it.
    pub at: Instant,
    /// It went.
    pub gone: bool,
    /// Its MAC; all zero for a flood row.
    pub mac: String,
    /// Where frames go.
    pub vtep: IpAddr,
}

/// Collects the changes of the rows of VXLAN devices in one namespace, until it is dropped.
#[derive(Debug)]
pub struct RowWatch {
    events: Arc<Mutex<Vec<RowEvent>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RowWatch {
    /// Begins to collect; every change from now on is seen.
    ///
    /// # Panics
    ///
    /// If the kernel refuses the socket.
    pub fn start(namespace: &File) -> Self {
        let socket = inside::run(namespace, open).unwrap_or_else(|error| panic!("no netlink socket: {error}"));
        let events = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (collected, stopping) = (Arc::clone(&events), Arc::clone(&stop));
        let thread = std::thread::spawn(move || collect(&socket, &collected, &stopping));
        Self { events, stop, thread: Some(thread) }
    }

    /// All changes so far.
    pub fn events(&self) -> Vec<RowEvent> {
        self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Changes so far of the rows of one MAC.
    pub fn of(&self, mac: &str) -> Vec<RowEvent> {
        self.events().into_iter().filter(|event| event.mac == mac).collect()
    }

    /// Waits until a row for this MAC has been written.
    ///
    /// # Panics
    ///
    /// If none is.
    pub fn wait_for(&self, mac: &str) -> RowEvent {
        wait::until(&format!("a row for {mac}"), || {
            self.of(mac).into_iter().find(|event| !event.gone).ok_or("there is none")
        })
    }
}

impl Drop for RowWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Adds a MAC to a port of a bridge, as `bridge fdb add MAC dev PORT master static` does, and tells when the request left.
///
/// # Panics
///
/// If the kernel refuses.
pub fn add_static(namespace: &File, port: &str, mac: [u8; 6]) -> Instant {
    inside::run(namespace, || {
        let index = nix::net::if_::if_nametoindex(port).unwrap_or_else(|error| panic!("{port}: {error}"));
        let socket = open().unwrap_or_else(|error| panic!("no netlink socket: {error}"));
        let mut row = NeighbourMessage::default();
        row.header.family = AddressFamily::Bridge;
        row.header.ifindex = index;
        row.header.state = NeighbourState::Noarp;
        row.header.flags = NeighbourFlags::Controller;
        row.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(row)),
        );
        message.header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let left = Instant::now();
        let sent = send(socket.as_raw_fd(), &bytes, MsgFlags::empty());
        assert_eq!(sent, Ok(bytes.len()), "the kernel did not take a row for {port}");
        left
    })
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(socket::AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_OCTETS)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, NEIGHBOUR_GROUP))?;
    Ok(socket)
}

fn collect(socket: &OwnedFd, events: &Mutex<Vec<RowEvent>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(20_u8));
        let at = Instant::now();
        loop {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(count) => {
                    let found = messages(&buffer[..count]).into_iter().filter_map(|message| event(message, at));
                    events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(found);
                }
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(error) => panic!("notifications were lost: {error}"),
            }
        }
    }
}

fn messages(mut bytes: &[u8]) -> Vec<RouteNetlinkMessage> {
    let mut messages = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = NetlinkBuffer::new(bytes).length() as usize;
        if let NetlinkPayload::InnerMessage(message) = message.payload {
            messages.push(message);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

fn event(message: RouteNetlinkMessage, at: Instant) -> Option<RowEvent> {
    let (row, gone) = match message {
        RouteNetlinkMessage::NewNeighbour(row) => (row, false),
        RouteNetlinkMessage::DelNeighbour(row) => (row, true),
        _ => return None,
    };
    if row.header.family != AddressFamily::Bridge {
        return None;
    }
    // Only rows of VXLAN devices have a destination; bridge rows lead to a port.
    Some(RowEvent { at, gone, mac: mac_of(&row)?, vtep: vtep_of(&row)? })
}

fn mac_of(row: &NeighbourMessage) -> Option<String> {
    row.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) => {
            Some(octets.iter().map(|o| format!("{o:02x}")).collect::<Vec<_>>().join(":"))
        }
        _ => None,
    })
}

fn vtep_of(row: &NeighbourMessage) -> Option<IpAddr> {
    row.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        // In the bridge's family the parser does not look at the address's own.
        NeighbourAttribute::Destination(NeighbourAddress::Other(octets)) => address(octets),
        _ => None,
    })
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

impl fmt::Display for RowEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.gone { '-' } else { '+' };
        write!(f, "{sign} {} dst {}", self.mac, self.vtep)
    }
}
