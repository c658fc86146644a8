//! Netlink sockets: requests in batches, dumps, notifications.
//!
//! A [`Batch`] of requests goes out with one system call, and only its last message asks for an acknowledgement; the
//! kernel reports failures unasked, each with the sequence number of its request, so nothing is lost by that and a row
//! costs a half to a fifth of one that is awaited singly.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::wire::{self, Message, NLMSG_DONE, NLMSG_ERROR};
use crate::KernelError;

/// The kernel's replies never exceed this: dumps use at most 32 KiB a datagram.
const RECEIVE_BYTES: usize = 64 * 1024;
/// How much is sent at once: within every default limit, and far more than pays.
const SEND_BYTES: usize = 64 * 1024;
/// Room for the replies to a whole batch that fails, and for the requests of one.
const REQUEST_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Room for some 60,000 notifications.
const EVENT_BUFFER_BYTES: usize = 64 * 1024 * 1024;
/// The kernel answers when it has the lock that all network changes share; on a node that removes thousands of devices
/// that has taken seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a dump that was disturbed is repeated.
const DUMP_TRIES: usize = 8;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Requests that go out together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    /// Adds a request with its `NLM_F_*` flags besides `NLM_F_REQUEST`.
    pub fn push(&mut self, request: RouteNetlinkMessage, flags: u16) {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let start = self.bytes.len();
        self.starts.push(start);
        // Lengths are multiples of four: every attribute is padded.
        self.bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        if let Some(room) = self.bytes.get_mut(start..) {
            message.serialize(room);
        }
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Numbers the messages from `first` on.
    fn number(&mut self, first: u32) {
        for (&start, sequence) in self.starts.iter().zip(0_u32..) {
            let sequence = first.wrapping_add(sequence).to_ne_bytes();
            if let Some(field) = self.bytes.get_mut(start + 8..start + 12) {
                field.copy_from_slice(&sequence);
            }
        }
    }

    /// Cuts the batch into pieces of at most [`SEND_BYTES`]: the messages and the bytes of each. The last message of each
    /// asks for an acknowledgement.
    fn pieces(&mut self) -> Vec<(Range<usize>, Range<usize>)> {
        let mut pieces = Vec::new();
        let (mut first, mut begin) = (0, 0);
        for at in 0..self.starts.len() {
            let end = self.starts.get(at + 1).copied().unwrap_or(self.bytes.len());
            let next_end = self.starts.get(at + 2).copied().unwrap_or(self.bytes.len());
            if end == self.bytes.len() || next_end - begin > SEND_BYTES {
                pieces.push((first..at + 1, begin..end));
                (first, begin) = (at + 1, end);
            }
        }
        for (messages, _) in &pieces {
            let last = self.starts.get(messages.end - 1).copied().unwrap_or_default();
            if let Some(&mut [ref mut low, ref mut high]) = self.bytes.get_mut(last + 6..last + 8) {
                [*low, *high] = (u16::from_ne_bytes([*low, *high]) | NLM_F_ACK).to_ne_bytes();
            }
        }
        pieces
    }
}

/// A socket for requests, in the network namespace of the thread that opened it.
pub(super) struct Socket {
    inner: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut inner = RawSocket::new(NETLINK_ROUTE)?;
        inner.bind_auto()?;
        // Larger than the administrator's limit where the right is there, else as large as allowed.
        if setsockopt(&inner, sockopt::RcvBufForce, &REQUEST_BUFFER_BYTES).is_err() {
            setsockopt(&inner, sockopt::RcvBuf, &REQUEST_BUFFER_BYTES)?;
        }
        if setsockopt(&inner, sockopt::SndBufForce, &REQUEST_BUFFER_BYTES).is_err() {
            setsockopt(&inner, sockopt::SndBuf, &REQUEST_BUFFER_BYTES)?;
        }
        Self::prepare(inner)
    }

    /// Takes over a socket that somebody opened inside a pod.
    pub fn from_pod(descriptor: OwnedFd) -> io::Result<Self> {
        let address: SockaddrStorage = getsockname(descriptor.as_raw_fd())?;
        // Another protocol's socket would never answer.
        let protocol = socket2::SockRef::from(&descriptor).protocol()?.map_or(0, i32::from);
        if address.family() != Some(AddressFamily::Netlink) || protocol != libc::NETLINK_ROUTE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the pod's descriptor is no route netlink socket"));
        }
        // SAFETY: the descriptor is owned, and given up to the socket that owns it from here on.
        Self::prepare(unsafe { RawSocket::from_raw_fd(descriptor.into_raw_fd()) })
    }

    fn prepare(inner: RawSocket) -> io::Result<Self> {
        inner.set_ext_ack(true)?;
        inner.set_cap_ack(true)?;
        inner.set_non_blocking(false)?;
        let seconds = i64::try_from(REPLY_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&inner, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))?;
        Ok(Self { inner, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn request(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), KernelError> {
        let mut batch = Batch::default();
        batch.push(request, flags);
        self.transact(&mut batch).pop().unwrap_or(Ok(()))
    }

    /// Sends a batch and waits until the kernel has carried out all of it; one result for each message.
    pub fn transact(&mut self, batch: &mut Batch) -> Vec<Result<(), KernelError>> {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        batch.number(first);
        let mut results = vec![Ok(()); batch.len()];
        for (messages, bytes) in batch.pieces() {
            let piece_first = first.wrapping_add(u32::try_from(messages.start).unwrap_or_default());
            let Some((bytes, results)) = batch.bytes.get(bytes).zip(results.get_mut(messages)) else { break };
            if let Err(error) = self.exchange(bytes, piece_first, results) {
                // What was reported until now stands; the rest is unknown, and applying it again is always right.
                results.iter_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(error.clone()));
            }
        }
        results
    }

    /// Sends messages, of which the last asks for an acknowledgement, and collects what is reported until it comes.
    fn exchange(
        &mut self,
        bytes: &[u8],
        first: u32,
        results: &mut [Result<(), KernelError>],
    ) -> Result<(), KernelError> {
        self.send(bytes)?;
        loop {
            self.receive()?;
            for message in wire::messages(&self.buffer).filter(|message| message.kind == NLMSG_ERROR) {
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(result) = results.get_mut(index) else { continue };
                *result = wire::acknowledgement(message);
                if index + 1 == results.len() {
                    return Ok(());
                }
            }
        }
    }

    /// Sends one request that is answered with one message, and hands that over.
    pub fn get<T>(
        &mut self,
        request: RouteNetlinkMessage,
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> Result<T, KernelError> {
        let mut batch = Batch::default();
        batch.push(request, 0);
        self.sequence = self.sequence.wrapping_add(1);
        batch.number(self.sequence);
        batch.pieces();
        self.send(&batch.bytes)?;
        let mut found = None;
        loop {
            self.receive()?;
            for message in wire::messages(&self.buffer).filter(|message| message.sequence == self.sequence) {
                if message.kind == NLMSG_ERROR {
                    wire::acknowledgement(message)?;
                    return found.ok_or_else(|| KernelError::new(libc::ENOMSG));
                }
                found = found.or_else(|| read(message));
            }
        }
    }

    /// Dumps a table: `read` sees every message, and `start` is called before each try, since a dump that changes
    /// under the reader is repeated. `Ok(false)` where it never stood still.
    pub fn dump<S>(
        &mut self,
        request: &RouteNetlinkMessage,
        mut start: impl FnMut() -> S,
        mut read: impl FnMut(&mut S, Message<'_>),
    ) -> Result<Option<S>, KernelError> {
        for _ in 0..DUMP_TRIES {
            let mut state = start();
            if self.dump_once(request, |message| read(&mut state, message))? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    fn dump_once(
        &mut self,
        request: &RouteNetlinkMessage,
        mut read: impl FnMut(Message<'_>),
    ) -> Result<bool, KernelError> {
        let mut message = NetlinkMessage::from(request.clone());
        self.sequence = self.sequence.wrapping_add(1);
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.send(&bytes)?;
        let mut consistent = true;
        loop {
            self.receive()?;
            for message in wire::messages(&self.buffer).filter(|message| message.sequence == self.sequence) {
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => return wire::acknowledgement(message).map(|()| consistent),
                    _ => read(message),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        retry_interrupted(|| self.inner.send_to(bytes, &kernel, 0)).map(drop)
    }

    /// Fills the buffer with one datagram of the kernel.
    fn receive(&mut self) -> Result<(), KernelError> {
        self.buffer.clear();
        match retry_interrupted(|| self.inner.recv(&mut self.buffer, 0)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(KernelError {
                errno: libc::EAGAIN,
                explanation: format!("no answer within {} s", REPLY_TIMEOUT.as_secs()),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What reading notifications gave.
pub(super) enum Received<'a> {
    /// A datagram.
    Datagram(&'a [u8]),
    /// Nothing waits.
    Empty,
    /// Notifications were lost.
    Overrun,
}

/// A socket that hears of links and rows in the namespace of the thread that opened it.
pub(super) struct EventSocket {
    inner: RawSocket,
    buffer: Vec<u8>,
    /// In bytes, as the kernel counts them.
    capacity: usize,
}

impl EventSocket {
    pub fn open() -> io::Result<Self> {
        Self::hearing(&[libc::RTNLGRP_LINK, libc::RTNLGRP_NEIGH])
    }

    /// The same for links alone.
    pub fn of_links() -> io::Result<Self> {
        Self::hearing(&[libc::RTNLGRP_LINK])
    }

    fn hearing(groups: &[u32]) -> io::Result<Self> {
        let mut inner = RawSocket::new(NETLINK_ROUTE)?;
        if setsockopt(&inner, sockopt::RcvBufForce, &EVENT_BUFFER_BYTES).is_err() {
            setsockopt(&inner, sockopt::RcvBuf, &EVENT_BUFFER_BYTES)?;
        }
        inner.bind_auto()?;
        groups.iter().try_for_each(|&group| inner.add_membership(group))?;
        inner.set_non_blocking(true)?;
        let capacity = inner.get_rx_buf_sz()?;
        Ok(Self { inner, buffer: Vec::with_capacity(RECEIVE_BYTES), capacity })
    }

    /// How many notifications can wait, with a margin; the kernel counts some 900 bytes for a small one.
    pub fn capacity(&self) -> usize {
        self.capacity / 1024
    }

    /// Reads the next datagram, without waiting.
    pub fn receive(&mut self) -> io::Result<Received<'_>> {
        self.buffer.clear();
        match retry_interrupted(|| self.inner.recv(&mut self.buffer, 0)) {
            Ok(_) => Ok(Received::Datagram(&self.buffer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Empty),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Received::Overrun),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
