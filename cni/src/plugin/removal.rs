//! Removing an attachment while no worker answers.
//!
//! The worker's end of the pair has a name that follows from the attachment alone, and lives in the overlay namespace, so
//! whoever may enter that can remove it, and removes nothing else: not an `eth0` that another plugin made. A worker that
//! comes back finds its record without a device and withdraws what it had announced.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::plugin::pod::inside;
use crate::protocol::Attachment;

/// How long the kernel may take, in milliseconds.
const REPLY_TIMEOUT_MILLIS: i64 = 10_000;

/// The name of the worker's end: `ve` and 13 digits of base 32, a hash (FNV-1a) of `interface@container`.
pub fn device_name(attachment: &Attachment) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let identity = format!("{}@{}", attachment.interface, attachment.container_id);
    let hash = fnv1a(long_identity(identity).as_bytes());
    let digit = |at: u32| DIGITS.get((hash >> (5 * at) & 31) as usize).copied().map_or('0', char::from);
    ['v', 'e'].into_iter().chain((0..13).map(digit)).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An identity that is too long for a device's alias ends in a hash of the whole; it is ASCII.
fn long_identity(identity: String) -> String {
    const ALIAS_MAX_BYTES: usize = 255;
    if identity.len() <= ALIAS_MAX_BYTES {
        return identity;
    }
    let suffix = format!("~{:016x}", fnv1a(identity.as_bytes()));
    let start = identity.get(..ALIAS_MAX_BYTES - suffix.len()).unwrap_or_default();
    format!("{start}{suffix}")
}

/// Removes the pair of an attachment from the overlay namespace at `overlay`. Done is done: false where there was none.
///
/// # Errors
/// The namespace is not there, may not be entered, or the kernel refused.
pub fn remove(overlay: &Path, attachment: &Attachment) -> io::Result<bool> {
    let namespace = File::open(overlay)?;
    let name = device_name(attachment);
    match inside(&namespace, || delete_link(&name)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a device of the calling thread's namespace by its name: one `RTM_DELLINK` (rtnetlink(7)).
fn delete_link(name: &str) -> io::Result<()> {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::milliseconds(REPLY_TIMEOUT_MILLIS))?;
    sendto(netlink.as_raw_fd(), &delete_request(name), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut reply = [0; 4_096];
    let length = recv(netlink.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // After the header of 16 octets an error message holds the negative error number, zero for success.
    let number = reply.get(..length).and_then(|reply| reply.get(16..20)).and_then(|field| field.try_into().ok());
    match number.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(negative) => Err(Errno::from_raw(negative.wrapping_neg()).into()),
        None => Err(io::Error::other("the kernel's reply is too short")),
    }
}

fn delete_request(name: &str) -> Vec<u8> {
    const INTERFACE_HEADER: [u8; 16] = [0; 16];
    let mut attribute = Vec::from(name);
    attribute.push(0);
    let attribute_length = 4 + attribute.len();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let length = 16 + INTERFACE_HEADER.len() + 4 + attribute.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    message.extend(libc::RTM_DELLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number, and the kernel as the receiver.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(INTERFACE_HEADER);
    message.extend(u16::try_from(attribute_length).unwrap_or_default().to_ne_bytes());
    message.extend(libc::IFLA_IFNAME.to_ne_bytes());
    message.extend(attribute);
    message
}
