//! Socket options that no safe wrapper offers: TCP-MD5 (RFC 2385) and the smallest acceptable TTL (RFC 5082).
#![expect(unsafe_code, reason = "setsockopt with options that neither socket2 nor nix knows")]

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use socket2::{SockAddr, SockRef};

/// Longest key that the kernel takes, in bytes.
pub(crate) const MAX_KEY: usize = libc::TCP_MD5SIG_MAXKEYLEN;
/// Smallest TTL that GTSM accepts, and the one it sends: the peer is on the same link (RFC 5082 section 3).
const GTSM_TTL: u8 = 255;
/// The key holds for a prefix, not for one address.
const FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; MAX_KEY],
}

const _: () = assert!(size_of::<TcpMd5Sig>() == 216, "struct tcp_md5sig has 216 octets in the kernel");

/// Sets the key for segments from and to `peers`, or removes it. Of several that hold for an address the longest prefix
/// counts. Connections accepted from a listener inherit its keys.
///
/// # Errors
///
/// Where the kernel has no TCP-MD5, or the key is longer than [`MAX_KEY`]. Removing a key that is not there is none.
pub(crate) fn set_md5_key(socket: &impl AsFd, peers: IpNet, key: Option<&str>) -> io::Result<()> {
    let bytes = key.unwrap_or_default().as_bytes();
    let mut padded = [0; MAX_KEY];
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the key is longer than 80 bytes");
    padded.get_mut(..bytes.len()).ok_or_else(too_long)?.copy_from_slice(bytes);
    let address = SockAddr::from(SocketAddr::new(peers.network(), 0));
    // SAFETY: zeroes are a valid sockaddr_storage, a plain structure of integers.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // SAFETY: `address` is initialised for `len` octets, of which a sockaddr_storage holds at least as many; the two
    // do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            std::ptr::from_mut(&mut storage).cast::<u8>(),
            (address.len() as usize).min(size_of::<libc::sockaddr_storage>()),
        );
    }
    let whole = peers.prefix_len() == peers.max_prefix_len();
    let option = TcpMd5Sig {
        address: storage,
        flags: if whole { 0 } else { FLAG_PREFIX },
        prefix_length: peers.prefix_len(),
        key_length: u16::try_from(bytes.len()).unwrap_or(0),
        interface: 0,
        key: padded,
    };
    let name = if whole { libc::TCP_MD5SIG } else { libc::TCP_MD5SIG_EXT };
    match set_option(socket, libc::IPPROTO_TCP, name, &option) {
        Err(error) if key.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Sends with TTL 255. On a listener it makes the handshake acceptable to peers that use GTSM.
pub(crate) fn send_with_full_ttl(socket: &impl AsFd, address: &SocketAddr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match address {
        SocketAddr::V4(_) => socket.set_ttl_v4(GTSM_TTL.into()),
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(GTSM_TTL.into()),
    }
}

/// Has the kernel drop what did not come with TTL 255 (RFC 5082).
pub(crate) fn require_full_ttl(socket: &impl AsFd, address: &SocketAddr) -> io::Result<()> {
    let smallest = libc::c_int::from(GTSM_TTL);
    match address {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &smallest),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &smallest),
    }
}

/// Has a listener keep the header of each connection's first packet for [`came_with_full_ttl`].
pub(crate) fn save_first_packets(listener: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    set_option(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, &on)
}

/// Whether an accepted connection was opened with TTL 255. What came in before [`require_full_ttl`] could take effect
/// was not checked by the kernel, but whoever is further away cannot have opened the connection with that TTL.
pub(crate) fn came_with_full_ttl(socket: &impl AsFd) -> io::Result<bool> {
    // An IPv6 header has 40 octets, an IPv4 header at most 60; TCP's own follows.
    let mut packet = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(packet.len()).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel writes at most `length` octets, which is
    // what `packet` has, and the length it wrote.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            packet.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let ttl = match packet {
        _ if length < 40 => None,
        [first, _, _, _, _, _, _, _, ttl, ..] if first >> 4 == 4 => Some(ttl),
        [first, _, _, _, _, _, _, hop_limit, ..] if first >> 4 == 6 => Some(hop_limit),
        _ => None,
    };
    Ok(ttl == Some(GTSM_TTL))
}

fn set_option<T>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads `length` octets of `value`, which is
    // initialised and as long as that.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
