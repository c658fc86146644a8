//! One TCP connection: reading, writing, leaving.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bgp_core::session::ConnectionId;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::writer::Writer;

/// Octets per read.
const READ_OCTETS: usize = 64 << 10;
/// Octets written before others get their turn.
const WRITE_TURN_OCTETS: usize = 1 << 20;
/// How long a connection that is closed may take to send what is queued.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    /// Shared by the tasks of a thread: nothing stays in it between two polls.
    static READ_BUFFER: RefCell<Box<[MaybeUninit<u8>]>> = RefCell::new(Box::new_uninit_slice(READ_OCTETS));
}

/// A connection of a peer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) writer: Writer,
    stream: TcpStream,
    /// The end of input has been reported.
    ended: bool,
    /// Writing failed; reading will tell why, or nothing more will come.
    broken: bool,
}

/// What a read gave.
#[derive(Debug)]
pub(crate) enum Read<R> {
    /// Octets, and what became of them.
    Octets(R),
    /// The peer closed, or the connection broke.
    End,
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, stream: TcpStream) -> Self {
        Self { id, writer: Writer::default(), stream, ended: false, broken: false }
    }

    /// Reads once and hands the octets to `take`.
    pub(crate) fn poll_read<R>(&mut self, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> R) -> Poll<Read<R>> {
        if self.ended {
            return Poll::Pending;
        }
        READ_BUFFER.with_borrow_mut(|memory| {
            let mut buffer = ReadBuf::uninit(memory);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Poll::Ready(Read::Octets(take(buffer.filled()))),
                Poll::Pending if !self.broken => Poll::Pending,
                _ => {
                    self.ended = true;
                    Poll::Ready(Read::End)
                }
            }
        })
    }

    /// Writes until the queue is empty, the socket is full, or others should have their turn; ready with the number of
    /// octets if it wrote any.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut written = 0;
        while !self.writer.is_empty() && !self.broken && written < WRITE_TURN_OCTETS {
            let stream = Pin::new(&mut self.stream);
            match self.writer.with_slices(|slices| stream.poll_write_vectored(cx, slices)) {
                Poll::Ready(Ok(octets)) if octets > 0 => {
                    self.writer.advance(octets);
                    written += octets;
                }
                Poll::Ready(_) => {
                    self.broken = true;
                    // Reading may have nothing to wake it.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending => break,
            }
        }
        if written > 0 { Poll::Ready(written) } else { Poll::Pending }
    }

    /// Whether the peer has sent something that was not read.
    pub(crate) fn has_unread_input(&self) -> bool {
        let mut octet = [MaybeUninit::uninit()];
        SockRef::from(&self.stream).peek(&mut octet).is_ok_and(|octets| octets > 0)
    }

    /// Whether closing needs time: something is queued, or the peer has not closed and could lose what was written.
    pub(crate) fn needs_linger(&self) -> bool {
        !self.ended && !self.broken
    }

    /// Sends what is queued, says that nothing follows, and reads on until the peer closes too: closing with unread
    /// input would make the kernel reset the connection and the peer lose our last words.
    pub(crate) async fn linger(mut self) {
        let _ = tokio::time::timeout(LINGER, async {
            self.write_all().await?;
            self.stream.shutdown().await?;
            let mut scrap = [0; 4096];
            while self.stream.read(&mut scrap).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }

    async fn write_all(&mut self) -> io::Result<()> {
        while !self.writer.is_empty() {
            let stream = &mut self.stream;
            let writer = &self.writer;
            let octets = std::future::poll_fn(|cx| {
                writer.with_slices(|slices| Pin::new(&mut *stream).poll_write_vectored(cx, slices))
            })
            .await?;
            if octets == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.writer.advance(octets);
        }
        Ok(())
    }
}
