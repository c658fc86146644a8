//! A flow of echo requests that reports exactly which of them were lost.
//!
//! `ping` counts what is still under way at its end as lost; here sending stops first and the last replies are waited
//! for, so that a report of no loss and a report of one lost packet are both the truth.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto, setsockopt, socket,
    sockopt,
};

use crate::host::Host;
use crate::{inside, wait};

/// The interval that the suites use: ten requests in the time that a person notices.
pub const INTERVAL: Duration = Duration::from_millis(10);
/// How long the last replies are waited for.
const LAST_REPLIES: Duration = Duration::from_secs(2);
/// How long the reply to a single request may take.
const ONE_REPLY: Duration = Duration::from_secs(1);
const HEADER_OCTETS: usize = 8;
/// Room for what comes in many seconds, of all flows of a host: each sees every reply.
const RECEIVE_BUFFER_OCTETS: usize = 16 << 20;

/// What became of a flow.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Numbers of the requests that were never answered, from 0.
    pub lost: Vec<u64>,
    /// The longest time between two replies.
    pub longest_silence: Duration,
}

/// Echo requests under way from one host to an address.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<Report>>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Flow {
    /// Starts a flow and returns once it is established: several replies in a row have come.
    ///
    /// # Panics
    ///
    /// If no reply comes, or the host cannot open a raw socket.
    pub fn start(from: &Host, to: &str) -> Self {
        Self::within(from.open(), to)
    }

    /// The same from a network namespace.
    ///
    /// # Panics
    ///
    /// If no reply comes, or the namespace gives no raw socket.
    pub fn within(namespace: File, to: &str) -> Self {
        wait::until_true(&format!("{to} to answer"), || answers(&namespace, to));
        let to = address(to);
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&counts));
        let thread = std::thread::spawn(move || {
            inside::enter(&namespace);
            Pinger::new(to).run(&stopping, &counting)
        });
        let flow = Self { stop, counts, thread: Some(thread) };
        flow.wait_for_replies(10);
        flow
    }

    /// Waits until this many more requests have been answered: so long did the flow run under what the test did.
    pub fn wait_for_replies(&self, count: u64) {
        wait_for(&self.counts.answered, count, "the flow's replies");
    }

    /// Waits until this many more requests have been sent, answered or not.
    pub fn wait_for_requests(&self, count: u64) {
        wait_for(&self.counts.sent, count, "the flow's requests");
    }

    /// Stops sending, waits for the last replies and reports.
    ///
    /// # Panics
    ///
    /// If the flow's thread did.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().unwrap_or_else(|| unreachable!("only this takes it"));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Whether an echo request from a network namespace is answered within a second.
///
/// # Panics
///
/// If the namespace gives no raw socket.
pub fn answers(namespace: &File, to: &str) -> bool {
    let to = address(to);
    inside::run(namespace, || {
        let mut pinger = Pinger::new(to);
        pinger.send();
        pinger.receive_until(Instant::now() + ONE_REPLY, &Counts::default(), true);
        pinger.answers.iter().all(Option::is_some)
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn wait_for(counter: &AtomicU64, more: u64, what: &str) {
    let target = counter.load(Ordering::Relaxed) + more;
    wait::until_true(what, || counter.load(Ordering::Relaxed) >= target);
}

struct Pinger {
    socket: OwnedFd,
    to: SockaddrStorage,
    is_v6: bool,
    identifier: u16,
    /// When each request was answered.
    answers: Vec<Option<Instant>>,
}

impl Pinger {
    fn new(to: IpAddr) -> Self {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)
            .unwrap_or_else(|error| panic!("no raw socket: {error}; run as root"));
        // A busy machine may leave this thread without a turn for seconds; replies that came are not to count as lost.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_OCTETS);
        // Every flow of a host must know its own replies.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let identifier = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        Self {
            socket,
            to: SockaddrStorage::from(std::net::SocketAddr::new(to, 0)),
            is_v6: to.is_ipv6(),
            identifier: u16::from_be_bytes([0x80 | identifier[1], identifier[0]]),
            answers: Vec::new(),
        }
    }

    fn run(mut self, stop: &AtomicBool, counts: &Counts) -> Report {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.send();
            counts.sent.fetch_add(1, Ordering::Relaxed);
            next += INTERVAL;
            self.receive_until(next, counts, false);
        }
        self.receive_until(Instant::now() + LAST_REPLIES, counts, true);
        self.report()
    }

    fn send(&mut self) {
        let sequence = u64::try_from(self.answers.len()).unwrap_or(u64::MAX);
        self.answers.push(None);
        // The wire has room for 16 bits of it; the payload carries all.
        let [.., high, low] = sequence.to_be_bytes();
        let [id_high, id_low] = self.identifier.to_be_bytes();
        let kind = if self.is_v6 { 128 } else { 8 };
        let mut packet = vec![kind, 0, 0, 0, id_high, id_low, high, low];
        packet.extend(sequence.to_be_bytes());
        if !self.is_v6 {
            let sum = checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        // A request that cannot even leave gets no reply and so counts as lost.
        let _ = sendto(self.socket.as_raw_fd(), &packet, &self.to, MsgFlags::empty());
    }

    fn receive_until(&mut self, deadline: Instant, counts: &Counts, until_complete: bool) {
        while !(until_complete && self.answers.iter().all(Option::is_some)) {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis().min(1_000)).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut waiting, timeout);
            let mut buffer = [0; 2_048];
            while let Ok(count) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                self.reply(&buffer[..count], counts);
            }
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    fn reply(&mut self, packet: &[u8], counts: &Counts) {
        // A raw IPv4 socket shows the IP header, an IPv6 one does not.
        let header = if self.is_v6 { 0 } else { packet.first().map_or(0, |first| usize::from(first & 15) * 4) };
        let Some(&[kind, _, _, _, id_high, id_low, ..]) = packet.get(header..) else { return };
        let ours = u16::from_be_bytes([id_high, id_low]) == self.identifier;
        let sequence = packet.get(header + HEADER_OCTETS..header + HEADER_OCTETS + 8);
        let Some(sequence) = sequence.and_then(|octets| octets.try_into().ok()).map(u64::from_be_bytes) else { return };
        if !ours || kind != if self.is_v6 { 129 } else { 0 } {
            return;
        }
        let slot = usize::try_from(sequence).ok().and_then(|index| self.answers.get_mut(index));
        if let Some(slot @ None) = slot {
            *slot = Some(Instant::now());
            counts.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&self) -> Report {
        let numbered = || (0_u64..).zip(&self.answers);
        let mut times: Vec<Instant> = self.answers.iter().copied().flatten().collect();
        times.sort_unstable();
        Report {
            sent: u64::try_from(self.answers.len()).unwrap_or(u64::MAX),
            lost: numbered().filter(|(_, answer)| answer.is_none()).map(|(sequence, _)| sequence).collect(),
            longest_silence: times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
        }
    }
}

/// The Internet checksum (RFC 1071) of an even number of octets.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or_default()
}
