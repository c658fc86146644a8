//! The worker's end: a listener and its connections, blocking, made for one
//! thread each.
//!
//! In: packets of plugins. Out: [`Received`] requests whose parts are valid and
//! whose descriptors are complete. [`Connection::serve`] is the whole loop for
//! who needs no more than a function from request to reply.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, socket};

use crate::client::set_timeouts;
use crate::protocol::{ErrorReply, Reply, Request};
use crate::transport::{self, MAX_DESCRIPTORS, Packet, PodDescriptors, ReceiveError};
use crate::types::ErrorCode;

/// How long a reply may wait for a plugin that does not read it.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket on which a worker is asked. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, readable and writable by the owner alone. The file
    /// that a dead worker left behind is replaced.
    ///
    /// # Errors
    /// `AddrInUse` while somebody listens there, else what the system says; the
    /// message names the path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let in_context =
            |error: io::Error| io::Error::new(error.kind(), format!("CNI socket {}: {error}", path.display()));
        let address = UnixAddr::new(path).map_err(|errno| in_context(errno.into()))?;
        let made = new_socket()?;
        remove_stale(path, &address).map_err(in_context)?;
        bind(made.as_raw_fd(), &address).map_err(|errno| in_context(errno.into()))?;
        // From here on dropping removes the file.
        let listener = Self { socket: made, path: path.to_owned() };
        // Until listen() nobody can connect, whatever the mode was.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(in_context)?;
        listen(&listener.socket, Backlog::new(128)?).map_err(|errno| in_context(errno.into()))?;
        Ok(listener)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// What the system says, such as a lack of descriptors; the listener stays
    /// usable.
    pub fn accept(&self) -> io::Result<Connection> {
        let socket = self.accept_socket()?;
        Ok(Connection { socket })
    }

    /// As [`Self::accept`], for another protocol than CNI. Writing to the
    /// socket fails when nobody reads for some seconds.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn accept_socket(&self) -> io::Result<OwnedFd> {
        loop {
            match accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Ok(raw) => {
                    // SAFETY: accept4 has just made this descriptor for us alone.
                    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
                    set_timeouts(&socket, None, SEND_TIMEOUT)?;
                    return Ok(socket);
                }
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Best effort: a file that stays is recognised as stale by the next bind.
        let _ = fs::remove_file(&self.path);
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Removes a socket file on which nobody listens; anything else is left alone
/// and makes `bind` fail.
fn remove_stale(path: &Path, address: &UnixAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        _ => return Ok(()),
    }
    let probe = new_socket()?;
    match connect(probe.as_raw_fd(), address) {
        Err(nix::errno::Errno::ECONNREFUSED) => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// A request as it came.
#[derive(Debug)]
pub enum Received {
    /// Make an interface; always with the pod's descriptors.
    Attach(crate::protocol::Attach, PodDescriptors),
    /// Remove one.
    Detach(crate::protocol::Attachment),
    /// Check one; with the pod's descriptors where they came.
    Check(crate::protocol::Expected, Option<PodDescriptors>),
    /// Name those of a network.
    List(crate::protocol::List),
    /// How are you?
    Status,
}

/// One plugin's connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<OwnedFd> for Connection {
    /// A connection that was accepted elsewhere, of type `SOCK_SEQPACKET`.
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl Connection {
    /// Waits for the next request; `None` when the plugin has closed. What makes
    /// no sense is answered here with an error, and the wait goes on.
    ///
    /// # Errors
    /// The connection failed and is of no more use.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        loop {
            let refusal = match transport::receive(self.socket.as_fd(), MAX_DESCRIPTORS) {
                Ok(None) => return Ok(None),
                Ok(Some(packet)) => match understand(packet) {
                    Ok(received) => return Ok(Some(received)),
                    Err(refusal) => refusal,
                },
                Err(ReceiveError::Io(error)) => return Err(error),
                Err(error) => ErrorReply::new(ErrorCode::DECODE_FAILURE, "the request was refused", error.to_string()),
            };
            self.send(&refusal.into())?;
        }
    }

    /// Sends the reply to the last request.
    ///
    /// # Errors
    /// The plugin is gone or does not read.
    pub fn send(&self, reply: &Reply) -> io::Result<()> {
        let text = serde_json::to_vec(reply).map_err(io::Error::other)?;
        transport::send(self.socket.as_fd(), &text, &[])
    }

    /// Answers every request by `handler` until the plugin closes.
    ///
    /// # Errors
    /// The connection failed; the last request may have been carried out
    /// without its reply being read.
    pub fn serve(&self, mut handler: impl FnMut(Received) -> Reply) -> io::Result<()> {
        while let Some(received) = self.receive()? {
            self.send(&handler(received))?;
        }
        Ok(())
    }
}

/// Parses a packet and sees that what must come with it is there. Descriptors
/// that nobody asked for are closed with the packet.
fn understand(packet: Packet) -> Result<Received, ErrorReply> {
    let request = Request::decode(&packet.bytes)
        .map_err(|error| ErrorReply::new(ErrorCode::DECODE_FAILURE, "the request was refused", error.to_string()))?;
    let count = packet.descriptors.len();
    let mut descriptors = packet.descriptors.into_iter();
    let pod = match (descriptors.next(), descriptors.next()) {
        (Some(netns), Some(netlink)) => Some(PodDescriptors { netns, netlink }),
        _ => None,
    };
    match (request, pod) {
        (Request::Attach(attach), Some(pod)) => Ok(Received::Attach(attach, pod)),
        (Request::Attach(_), None) => Err(ErrorReply::new(
            ErrorCode::INVALID_PARAMETERS,
            "descriptors are missing",
            format!("an attach carries the pod's network namespace and a netlink socket inside it; {count} came"),
        )),
        (Request::Detach(attachment), _) => Ok(Received::Detach(attachment)),
        (Request::Check(expected), pod) => Ok(Received::Check(expected, pod)),
        (Request::List(list), _) => Ok(Received::List(list)),
        (Request::Status, _) => Ok(Received::Status),
    }
}
