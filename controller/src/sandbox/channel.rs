//! Messages between the caller and a device's process 1.
//!
//! A `SOCK_SEQPACKET` socket carries packets with descriptors. A packet's bytes
//! are short; what may be long (a command line) travels in a memory file whose
//! descriptor comes first, so the socket's buffer sets no limit.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sys;

/// The longest packet in bytes: replies with warnings and reasons.
const MAX_PACKET_BYTES: usize = 64 * 1024;
/// The longest document in a memory file, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// The most descriptors of one packet: document, reply socket, three of stdio.
const MAX_DESCRIPTORS: usize = 8;

/// A connected pair, close-on-exec.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one packet. A text longer than a packet is the caller's to shorten.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {} bytes is too long", bytes.len()),
        ));
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    loop {
        let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one packet; `None` when the other end has closed.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0_u8; MAX_PACKET_BYTES];
    let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let (length, descriptors) = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
        match received {
            Ok(message) => break (message.bytes, sys::take_descriptors(&message)?),
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    };
    if length == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    let text = bytes.get(..length).unwrap_or_default();
    Ok(Some((serde_json::from_slice(text)?, descriptors)))
}

/// Writes a document into a memory file, positioned at its start.
pub(super) fn document<T: Serialize>(value: &T) -> io::Result<OwnedFd> {
    let descriptor = memfd_create("megalos-device", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(&serde_json::to_vec(value)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads a document back.
pub(super) fn read_document<T: DeserializeOwned>(descriptor: impl AsFd) -> io::Result<T> {
    let mut file = File::from(descriptor.as_fd().try_clone_to_owned()?);
    file.rewind()?;
    let mut text = Vec::new();
    file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
