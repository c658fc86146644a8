//! The plugin's end: asks, waits, and turns an error reply into an error.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::protocol::{Attach, Attached, Attachment, ErrorReply, Expected, List, Page, Reply, Request, Status};
use crate::transport::{self, PodDescriptors, ReceiveError};

/// How long a client waits for a reply unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No worker listens there.
    #[error("no worker answers at {}: {source}; is the worker of this node running?", path.display())]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request could not be sent.
    #[error("sending to the worker failed: {0}")]
    Send(io::Error),
    /// The reply could not be received.
    #[error("the worker's reply was not received: {0}")]
    Receive(#[from] ReceiveError),
    /// The worker did not answer in time.
    #[error("the worker did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The worker closed the connection without a reply.
    #[error("the worker closed the connection without a reply; its log tells why")]
    Closed,
    /// The reply makes no sense: plugin and worker do not fit together.
    #[error("the worker's reply is not understood ({0}); are plugin and worker of one version?")]
    Protocol(String),
    /// The worker refused or failed.
    #[error("{0}")]
    Worker(#[from] ErrorReply),
}

/// A connection to a worker. One request at a time; after any error but
/// [`ClientError::Worker`] it is of no more use.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    timeout: Duration,
}

impl Client {
    /// Connects to the worker that listens at `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::connect_within(path, DEFAULT_TIMEOUT)
    }

    /// As [`Self::connect`]; waits at most `timeout` for a worker with many
    /// callers, and for each reply.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody listens there, or nobody accepts.
    pub fn connect_within(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        let socket = transport::connect_within(path, timeout).map_err(failed)?;
        Ok(Self { socket, timeout })
    }

    /// Waits at most this long for each reply.
    ///
    /// # Errors
    /// What the system says; in practice never.
    pub fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        set_timeouts(&self.socket, Some(timeout), timeout)?;
        self.timeout = timeout;
        Ok(())
    }

    /// Makes an interface in the pod whose descriptors are given.
    ///
    /// # Errors
    /// See [`ClientError`]; after one the interface does not exist, unless the
    /// reply was lost: then a [`Client::detach`] cleans up.
    pub fn attach(&mut self, attach: Attach, pod: &PodDescriptors) -> Result<Attached, ClientError> {
        match self.ask(&Request::Attach(attach), Some(pod))? {
            Reply::Attached(attached) => Ok(attached),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes an interface; succeeds also where there is none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn detach(&mut self, attachment: Attachment) -> Result<(), ClientError> {
        match self.ask(&Request::Detach(attachment), None)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks whether an interface is as it was made.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Worker`] says what differs.
    pub fn check(&mut self, expected: Expected) -> Result<(), ClientError> {
        match self.ask(&Request::Check(expected), None)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a page of a network's attachments.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn list(&mut self, list: List) -> Result<Page, ClientError> {
        match self.ask(&Request::List(list), None)? {
            Reply::Attachments(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks how the worker is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status, None)? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends one request and waits for its reply; an error reply is an error.
    fn ask(&mut self, request: &Request, pod: Option<&PodDescriptors>) -> Result<Reply, ClientError> {
        let reply = self.exchange(request, pod);
        if !matches!(reply, Ok(_) | Err(ClientError::Worker(_))) {
            // A reply that comes late must not be taken for the next one's.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        }
        reply
    }

    fn exchange(&mut self, request: &Request, pod: Option<&PodDescriptors>) -> Result<Reply, ClientError> {
        let text = serde_json::to_vec(request).map_err(|error| ClientError::Send(io::Error::other(error)))?;
        let descriptors = pod.map(PodDescriptors::borrowed);
        let descriptors = descriptors.as_ref().map_or(&[][..], |both| &both[..]);
        transport::send(self.socket.as_fd(), &text, descriptors)
            .map_err(|error| self.timed_out(&error).unwrap_or(ClientError::Send(error)))?;
        let packet = match transport::receive(self.socket.as_fd(), 0) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Err(ClientError::Closed),
            Err(ReceiveError::Io(error)) => {
                let timeout = self.timed_out(&error);
                return Err(timeout.unwrap_or(ReceiveError::Io(error).into()));
            }
            Err(error) => return Err(error.into()),
        };
        match serde_json::from_slice(&packet.bytes) {
            Ok(Reply::Error(error)) => Err(error.into()),
            Ok(reply) => Ok(reply),
            Err(error) => Err(ClientError::Protocol(error.to_string())),
        }
    }

    fn timed_out(&self, error: &io::Error) -> Option<ClientError> {
        (error.kind() == io::ErrorKind::WouldBlock).then_some(ClientError::Timeout(self.timeout))
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Protocol(format!("unexpected {reply:?}"))
}

/// Bounds how long reading (where given) and writing may block.
pub(crate) fn set_timeouts(socket: &OwnedFd, receive: Option<Duration>, send: Duration) -> io::Result<()> {
    let value = |duration: Duration| {
        // A zero value would mean "for ever".
        let millis = duration.as_millis().clamp(1, 86_400_000);
        TimeVal::milliseconds(i64::try_from(millis).unwrap_or(i64::MAX))
    };
    if let Some(receive) = receive {
        setsockopt(socket, sockopt::ReceiveTimeout, &value(receive))?;
    }
    setsockopt(socket, sockopt::SendTimeout, &value(send))?;
    Ok(())
}
