//! Packets with descriptors on a `SOCK_SEQPACKET` Unix socket.
//!
//! In and out: bytes of one message and the descriptors that ride on it. A
//! descriptor that arrives is owned at once, so whatever goes wrong afterwards
//! closes it.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};

use crate::client::set_timeouts;

/// The longest message in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most descriptors a message between plugin and worker carries.
pub const MAX_DESCRIPTORS: usize = 2;

/// Room for every descriptor the kernel lets one packet carry (`SCM_MAX_FD`),
/// so that a sender of too many is told so instead of being cut short.
const KERNEL_MAX_DESCRIPTORS: usize = 253;

/// What a pod's side passes: its network namespace and a socket inside it.
#[derive(Debug)]
pub struct PodDescriptors {
    /// The pod's network namespace.
    pub netns: OwnedFd,
    /// A route netlink socket (`NETLINK_ROUTE`) opened inside that namespace.
    pub netlink: OwnedFd,
}

impl PodDescriptors {
    pub(crate) fn borrowed(&self) -> [BorrowedFd<'_>; MAX_DESCRIPTORS] {
        [self.netns.as_fd(), self.netlink.as_fd()]
    }
}

/// One packet as it arrived.
#[derive(Debug)]
pub struct Packet {
    /// The message.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a packet was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The socket failed: the connection is over.
    #[error("reading from the socket failed: {0}")]
    Io(#[from] io::Error),
    /// The packet is longer than [`MAX_MESSAGE_BYTES`]; the next may be fine.
    #[error("a message is longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    /// Descriptors were lost on the way, mostly for want of a free slot; the
    /// next packet may be fine.
    #[error("descriptors of a message were lost; raise the limit of open files (RLIMIT_NOFILE)")]
    DescriptorsLost,
    /// More came than the receiver accepts; the next packet may be fine.
    #[error("a message carries {0} descriptors; at most {1} are accepted")]
    TooManyDescriptors(usize, usize),
}

/// Connects to the socket at `path`.
///
/// # Errors
/// What the system says: `NotFound` or `ConnectionRefused` when nobody listens.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    nix::sys::socket::connect(made.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(made)
}

/// As [`connect`]; connecting, and afterwards each read and write, waits at most
/// `timeout`.
///
/// # Errors
/// As [`connect`], and `WouldBlock` when nobody accepts for so long.
pub fn connect_within(path: &Path, timeout: Duration) -> io::Result<OwnedFd> {
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    // The kernel takes the time to write for that to connect.
    set_timeouts(&made, Some(timeout), timeout)?;
    nix::sys::socket::connect(made.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(made)
}

/// Sends one packet.
///
/// # Errors
/// `InvalidInput` for a message longer than [`MAX_MESSAGE_BYTES`], else what
/// the socket says.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {} bytes; the limit is {MAX_MESSAGE_BYTES}", bytes.len()),
        ));
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one packet with at most `max_descriptors`; `None` when the peer has
/// closed.
///
/// # Errors
/// [`ReceiveError::Io`] ends the connection; after the others it goes on. Every
/// descriptor of a refused packet is closed.
pub fn receive(socket: BorrowedFd<'_>, max_descriptors: usize) -> Result<Option<Packet>, ReceiveError> {
    let mut bytes = vec![0_u8; MAX_MESSAGE_BYTES];
    let raw = loop {
        match receive_raw(socket, &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if raw.length == 0 && raw.descriptors.is_empty() {
        return Ok(None);
    }
    if raw.flags & libc::MSG_TRUNC != 0 {
        return Err(ReceiveError::TooLong);
    }
    if raw.flags & libc::MSG_CTRUNC != 0 {
        return Err(ReceiveError::DescriptorsLost);
    }
    let count = raw.descriptors.len();
    if count > max_descriptors {
        return Err(ReceiveError::TooManyDescriptors(count, max_descriptors));
    }
    bytes.truncate(raw.length);
    Ok(Some(Packet { bytes, descriptors: raw.descriptors }))
}

struct RawPacket {
    length: usize,
    flags: libc::c_int,
    descriptors: Vec<OwnedFd>,
}

/// One `recvmsg`. Written on the system call itself because the safe wrapper
/// leaks the descriptors of a truncated control message.
fn receive_raw(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<RawPacket> {
    // u64 cells give the buffer the alignment of a cmsghdr.
    const CONTROL_WORDS: usize = 4 + KERNEL_MAX_DESCRIPTORS.div_ceil(2);
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all-zero is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control);
    // SAFETY: header points at the live buffers above with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled header and the buffers it points at.
    let descriptors = unsafe { take_descriptors(&header) };
    Ok(RawPacket { length, flags: header.msg_flags, descriptors })
}

/// Takes ownership of every descriptor in a received control buffer.
///
/// # Safety
/// `header` must have just been filled by `recvmsg`, its control buffer alive,
/// and its descriptors not be owned by anyone yet.
unsafe fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: per the contract above, header's control buffer is valid.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header
        // within the buffer.
        let message = unsafe { &*next };
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: only computes the data's address inside the buffer.
            let data = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            // SAFETY: only computes a constant.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = message.cmsg_len.saturating_sub(head) / mem::size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: index is within cmsg_len; the kernel made this
                // descriptor for us alone.
                let descriptor = unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) };
                descriptors.push(descriptor);
            }
        }
        // SAFETY: both point into the buffer of header.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    descriptors
}
