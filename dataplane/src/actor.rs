//! The dataplane on an OS thread of its own, so that BGP never waits for netlink.
//!
//! In: commands over a bounded channel. Out: one reply each, and observations over a bounded channel. A consumer of
//! observations that lags stops the reading of notifications; the kernel then drops some and says so, and the consumer
//! gets [`Observation::Overrun`]. Nothing here grows without limit, and neither side can block the other for good.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{
    AttachError, AttachRequest, Attached, Change, ChangeError, Dataplane, Error, MAX_BATCH, Observation, PortId,
    Snapshot,
};

/// How many commands may wait.
const COMMANDS: usize = 256;
/// How many polls' worth of observations may wait.
const EVENT_BATCHES: usize = 64;

enum Command {
    Ping(oneshot::Sender<()>),
    Snapshot(oneshot::Sender<Result<Snapshot, Error>>),
    Apply(Vec<Change>, oneshot::Sender<Vec<Result<(), ChangeError>>>),
    Attach(Box<AttachRequest>, oneshot::Sender<Result<Attached, AttachError>>),
    Detach(Vec<PortId>, oneshot::Sender<Result<(), Error>>),
}

/// Ports to be removed, and who waits for that.
type Removal = (Vec<PortId>, oneshot::Sender<Result<(), Error>>);

/// Wakes the thread out of its wait. Many calls before it looks are one.
#[derive(Clone, Debug)]
struct Waker(Arc<UnixStream>);

impl Waker {
    fn wake(&self) {
        // A full pipe already wakes; a closed one has nobody to wake.
        let _ = (&*self.0).write(&[1]);
    }
}

/// Wakes when it goes.
#[derive(Clone, Debug)]
struct WakeOnDrop(Waker);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// State that both ends of the event channel look at.
#[derive(Debug, Default)]
struct Shared {
    /// The thread holds observations that did not fit.
    blocked: AtomicBool,
    /// Counts snapshots: older observations are void.
    generation: AtomicU64,
}

struct Batch {
    generation: u64,
    observations: Vec<Observation>,
}

/// Sends commands to the dataplane's thread; cheap to clone. The thread ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    // After `commands`, since fields go in this order: the thread wakes and sees that the last sender is gone.
    waker: WakeOnDrop,
}

impl Handle {
    /// See [`Dataplane::snapshot`]. Observations that are still in [`Events`] are dropped with it.
    ///
    /// # Errors
    /// The kernel cannot be read, or [`Error::Stopped`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Snapshot(reply)).await?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// See [`Dataplane::apply`]; any number of changes.
    ///
    /// # Errors
    /// [`Error::Stopped`]; failures of single keys are in the list.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Result<(), ChangeError>>, Error> {
        let mut results = Vec::with_capacity(changes.len());
        for batch in changes.chunks(MAX_BATCH) {
            let (reply, answer) = oneshot::channel();
            self.send(Command::Apply(batch.to_vec(), reply)).await?;
            results.extend(answer.await.map_err(|_| Error::Stopped)?);
        }
        Ok(results)
    }

    /// See [`Dataplane::attach`]. It stands in the queue when this returns, before everything that is asked later; the
    /// future only waits for the result.
    ///
    /// # Errors
    /// See [`AttachError`]; [`Error::Busy`] if the queue is full.
    pub fn attach(&self, request: AttachRequest) -> impl Future<Output = Result<Attached, AttachError>> + use<> {
        let (reply, answer) = oneshot::channel();
        let sent = self.send_now(Command::Attach(Box::new(request), reply));
        async move {
            sent?;
            answer.await.map_err(|_| Error::Stopped)?
        }
    }

    /// See [`Dataplane::detach`]. Calls that wait together become one removal. Stands in the queue when this returns, as
    /// [`Handle::attach`] does.
    ///
    /// # Errors
    /// The kernel refused, [`Error::Stopped`], or [`Error::Busy`] if the queue is full.
    pub fn detach(&self, ports: Vec<PortId>) -> impl Future<Output = Result<(), Error>> + use<> {
        let (reply, answer) = oneshot::channel();
        let sent = self.send_now(Command::Detach(ports, reply));
        async move {
            sent?;
            answer.await.map_err(|_| Error::Stopped)?
        }
    }

    fn send_now(&self, command: Command) -> Result<(), Error> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        self.waker.0.wake();
        Ok(())
    }

    /// Waits until the thread has done what was asked before.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn ping(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ping(reply)).await?;
        answer.await.map_err(|_| Error::Stopped)
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Stopped)?;
        self.waker.0.wake();
        Ok(())
    }
}

/// Receives observations.
#[derive(Debug)]
pub struct Events {
    batches: mpsc::Receiver<Batch>,
    shared: Arc<Shared>,
    waker: Waker,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.observations.fmt(f)
    }
}

impl Events {
    /// Waits for observations; `None` when the thread has ended. Can be cancelled without loss.
    pub async fn recv(&mut self) -> Option<Vec<Observation>> {
        loop {
            let batch = self.batches.recv().await?;
            if let Some(observations) = self.accept(batch) {
                return Some(observations);
            }
        }
    }

    /// The same for callers that are not async: blocks.
    pub fn blocking_recv(&mut self) -> Option<Vec<Observation>> {
        loop {
            let batch = self.batches.blocking_recv()?;
            if let Some(observations) = self.accept(batch) {
                return Some(observations);
            }
        }
    }

    fn accept(&self, batch: Batch) -> Option<Vec<Observation>> {
        if self.shared.blocked.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
        (batch.generation == self.shared.generation.load(Ordering::Acquire)).then_some(batch.observations)
    }
}

/// Runs a dataplane on a thread of its own.
///
/// The thread ends, and drops the dataplane, when the last [`Handle`] is dropped or its notifications break; both ends
/// then say so.
///
/// # Errors
/// No thread or descriptor can be had.
pub fn spawn(dataplane: impl Dataplane + Send + 'static) -> io::Result<(Handle, Events, JoinHandle<()>)> {
    let (woken, waker) = UnixStream::pair()?;
    woken.set_nonblocking(true)?;
    waker.set_nonblocking(true)?;
    let waker = Waker(Arc::new(waker));
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (events, batches) = mpsc::channel(EVENT_BATCHES);
    let shared = Arc::new(Shared::default());
    let actor = Actor { dataplane, commands: command_queue, events, shared: Arc::clone(&shared), woken, unsent: None };
    let thread = std::thread::Builder::new().name("dataplane".into()).spawn(move || actor.run())?;
    let handle = Handle { commands, waker: WakeOnDrop(waker.clone()) };
    Ok((handle, Events { batches, shared, waker }, thread))
}

struct Actor<D> {
    dataplane: D,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Batch>,
    shared: Arc<Shared>,
    woken: UnixStream,
    /// Observations that did not fit into the channel.
    unsent: Option<Batch>,
}

impl<D: Dataplane> Actor<D> {
    fn run(mut self) {
        loop {
            if !self.serve_commands() {
                return;
            }
            if let Err(error) = self.forward_events() {
                error!(%error, "the dataplane stops: its notifications are broken");
                return;
            }
            self.wait();
        }
    }

    /// Serves what waits; `false` when nobody can send any more.
    fn serve_commands(&mut self) -> bool {
        let mut detaches: Vec<Removal> = Vec::new();
        for _ in 0..COMMANDS {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.detach(detaches);
                    return false;
                }
            };
            if let Command::Detach(ports, reply) = command {
                detaches.push((ports, reply));
                continue;
            }
            // Order matters only between a removal and what follows it.
            self.detach(std::mem::take(&mut detaches));
            self.serve(command);
        }
        self.detach(detaches);
        true
    }

    fn serve(&mut self, command: Command) {
        // Whoever asked may have gone; the work is done all the same.
        match command {
            Command::Ping(reply) => _ = reply.send(()),
            Command::Snapshot(reply) => {
                let result = self.dataplane.snapshot();
                if result.is_ok() {
                    self.unsent = None;
                    self.shared.generation.fetch_add(1, Ordering::AcqRel);
                }
                let _ = reply.send(result);
            }
            Command::Apply(batch, reply) => {
                let _ = reply.send(self.dataplane.apply(&batch));
            }
            Command::Attach(request, reply) => {
                let _ = reply.send(self.dataplane.attach(*request));
            }
            Command::Detach(ports, reply) => self.detach(vec![(ports, reply)]),
        }
    }

    fn detach(&mut self, waiting: Vec<Removal>) {
        if waiting.is_empty() {
            return;
        }
        let ports: Vec<PortId> = waiting.iter().flat_map(|(ports, _)| ports).cloned().collect();
        let result = self.dataplane.detach(&ports);
        for (_, reply) in waiting {
            let _ = reply.send(result.clone());
        }
    }

    /// Moves observations into the channel while it has room.
    fn forward_events(&mut self) -> Result<(), Error> {
        loop {
            let batch = match self.unsent.take() {
                Some(batch) => batch,
                None => {
                    let observations = self.dataplane.poll_events(Duration::ZERO)?;
                    if observations.is_empty() {
                        return Ok(());
                    }
                    Batch { generation: self.shared.generation.load(Ordering::Acquire), observations }
                }
            };
            // Said before the attempt, so that a receiver that makes room in between wakes us.
            self.shared.blocked.store(true, Ordering::Release);
            match self.events.try_send(batch) {
                Ok(()) => self.shared.blocked.store(false, Ordering::Release),
                Err(mpsc::error::TrySendError::Full(batch)) => {
                    self.unsent = Some(batch);
                    return Ok(());
                }
                // Nobody listens: commands are still served.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }

    /// Sleeps until there is a command, or an event that can be taken.
    fn wait(&mut self) {
        let blocked = self.unsent.is_some();
        if !blocked && self.dataplane.has_pending_events() {
            return;
        }
        wait_readable(self.woken.as_fd(), if blocked { None } else { self.dataplane.event_fd() });
        let mut swallowed = [0; 64];
        while matches!((&self.woken).read(&mut swallowed), Ok(n) if n == swallowed.len()) {}
    }
}

fn wait_readable(woken: BorrowedFd<'_>, events: Option<BorrowedFd<'_>>) {
    let mut fds: Vec<PollFd<'_>> =
        std::iter::once(woken).chain(events).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, PollTimeout::NONE);
}
