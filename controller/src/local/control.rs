//! What commands and the supervisor of a lab say to one another.
//!
//! Transport: a `SOCK_SEQPACKET` Unix socket in the lab's state directory; one
//! packet is one JSON message, standard streams and terminals ride on it as
//! descriptors. A message that a packet cannot hold travels in a memory file
//! whose descriptor comes first.
//!
//! ```text
//!   status              ► Status
//!   exec [0, 1, 2]      ► Started [terminal]   (◄ Signal)*   ► Exited
//!   check               ► Checked
//!   shutdown            ► Event*  ► Done
//!   anything            ► Error
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cni::transport::{self, ReceiveError};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::check::CheckReport;
use super::progress::Event;
use super::status::LabStatus;

/// The most descriptors a message carries: three streams and a memory file.
const DESCRIPTORS_MAX: usize = 4;
/// Above this length a message travels in a memory file.
const PACKET_MAX_BYTES: usize = 32 * 1024;
/// The longest message in a memory file.
const DOCUMENT_MAX_BYTES: u64 = 64 << 20;
/// The packet that announces a memory file; no JSON message is one `@`.
const DOCUMENT_MARK: &[u8] = b"@";

/// What a command asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// How is the lab?
    Status,
    /// Run a command in a device.
    Exec(Exec),
    /// Send a signal to what [`Request::Exec`] runs.
    Signal {
        /// The signal's number.
        number: i32,
    },
    /// Can devices that share a LAN reach one another?
    Check {
        /// How long to wait for each to answer.
        timeout_millis: u64,
    },
    /// Run the shutdown scripts. The supervisor is ended from outside.
    Shutdown,
}

/// A command to be run in a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The device.
    pub device: String,
    /// The program and its arguments; empty for the device's shell.
    pub argv: Vec<String>,
    /// Environment beside the device's own.
    pub env: Vec<(String, String)>,
    /// Lines and columns of the terminal to make; without one, the three
    /// standard streams come with the request.
    pub terminal: Option<(u16, u16)>,
}

/// What the supervisor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(LabStatus),
    /// To [`Request::Exec`]: it runs; with the terminal, when one was asked for.
    Started,
    /// It has ended.
    Exited {
        /// Its exit code, or 128 and the signal's number.
        code: i32,
    },
    /// To [`Request::Check`].
    Checked(CheckReport),
    /// How far a [`Request::Shutdown`] is.
    Event {
        /// The news.
        event: Event,
    },
    /// To [`Request::Shutdown`].
    Done,
    /// To any request.
    Error {
        /// Cause and cure.
        text: String,
        /// The exit code that fits.
        exit_code: u8,
    },
}

/// Sends one message.
///
/// # Errors
/// What the system says, most of all that the other end is gone.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() <= PACKET_MAX_BYTES {
        return transport::send(socket, &bytes, descriptors);
    }
    let document = document(&bytes)?;
    let mut all = vec![document.as_fd()];
    all.extend_from_slice(descriptors);
    transport::send(socket, DOCUMENT_MARK, &all)
}

/// Receives one message with its descriptors; `None` when the other end has
/// closed.
///
/// # Errors
/// The socket failed, or the message is not understood.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let packet = match transport::receive(socket, DESCRIPTORS_MAX) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Ok(None),
        Err(ReceiveError::Io(error)) if error.raw_os_error() == Some(libc::ECONNRESET) => {
            return Ok(None);
        }
        Err(ReceiveError::Io(error)) => return Err(error),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let mut descriptors = packet.descriptors;
    if packet.bytes != DOCUMENT_MARK {
        return Ok(Some((serde_json::from_slice(&packet.bytes)?, descriptors)));
    }
    if descriptors.is_empty() {
        let missing = "a memory file was announced and did not come";
        return Err(io::Error::new(io::ErrorKind::InvalidData, missing));
    }
    let bytes = read_document(descriptors.remove(0))?;
    Ok(Some((serde_json::from_slice(&bytes)?, descriptors)))
}

/// A memory file with these bytes, read from its beginning.
///
/// # Errors
/// What the system says.
pub fn document(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("megalos", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// The bytes of a memory file.
///
/// # Errors
/// What the system says.
pub fn read_document(descriptor: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(DOCUMENT_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn messages_of_any_length_arrive_with_their_descriptors() {
        let (near, far) = pair();
        for length in [0, 1, 100_000, 3_000_000] {
            let request = Request::Exec(Exec {
                device: "pc1".into(),
                argv: vec!["x".repeat(length)],
                env: Vec::new(),
                terminal: None,
            });
            send(near.as_fd(), &request, &[near.as_fd()]).unwrap();
            let (received, descriptors) = receive::<Request>(far.as_fd()).unwrap().unwrap();
            assert_eq!(received, request);
            assert_eq!(descriptors.len(), 1);
        }
        drop(near);
        assert!(receive::<Request>(far.as_fd()).unwrap().is_none());
    }

    #[test]
    fn garbage_and_a_missing_memory_file_are_errors() {
        let (near, far) = pair();
        for bytes in [&b"{"[..], b"@", b"\xff"] {
            transport::send(near.as_fd(), bytes, &[]).unwrap();
            assert!(receive::<Request>(far.as_fd()).is_err());
        }
    }
}
