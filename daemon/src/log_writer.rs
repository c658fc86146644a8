//! Log lines on their way to standard error, without anybody waiting for whoever reads it.
//!
//! A pipe that is not read, or a disk that is full, must not hold up a session: lines go to a thread of their own through a
//! queue of limited size. What does not fit is dropped and counted, and the count is written once there is room.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Octets that may wait.
const QUEUE_OCTETS: usize = 4 << 20;

/// How long a failure to write is left alone.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// Where lines wait.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// Something was added, or everything was written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    octets: usize,
    dropped: u64,
    /// A line is being written.
    busy: bool,
}

impl Queue {
    /// Nothing panics while the lock is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if state.octets.saturating_add(line.len()) > QUEUE_OCTETS {
            state.dropped = state.dropped.saturating_add(1);
        } else {
            state.octets = state.octets.saturating_add(line.len());
            state.lines.push_back(line);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The next line, and for how many it stands; how many were dropped comes before those that follow.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        loop {
            state.busy = true;
            if state.dropped > 0 {
                let dropped = std::mem::take(&mut state.dropped);
                let text =
                    format!("{dropped} log lines dropped: whoever reads the log is too slow, or its disk is full\n");
                return (text.into_bytes(), dropped);
            }
            if let Some(line) = state.lines.pop_front() {
                state.octets = state.octets.saturating_sub(line.len());
                return (line, 1);
            }
            state.busy = false;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was taken could not be written: it counts as dropped.
    fn lost(&self, lines: u64) {
        let mut state = self.state();
        state.dropped = state.dropped.saturating_add(lines);
    }

    /// Waits until everything is written, `limit` at most.
    fn drain(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.state();
        while state.busy || !state.lines.is_empty() || state.dropped > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Takes log lines and never waits; clones are the same queue.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<Queue>);

impl LogQueue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// If the system gives us no thread.
    pub fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let source = Arc::clone(&queue);
        std::thread::Builder::new().name("log".into()).spawn(move || {
            loop {
                let (line, lines) = source.take();
                // Where a line cannot be written, that can be told only once there is room again.
                if output.write_all(&line).and_then(|()| output.flush()).is_err() {
                    source.lost(lines);
                    std::thread::sleep(FAILURE_PAUSE);
                }
            }
        })?;
        Ok(Self(queue))
    }

    /// Waits until everything is written, `limit` at most: for the end of the process.
    pub fn drain(&self, limit: Duration) {
        self.0.drain(limit);
    }
}

/// Writes lines through a queue once there is one, and until then to standard error at once: a process that still has to
/// fork, or to give up capabilities, must have no other thread.
#[derive(Clone, Copy, Debug)]
pub struct LogOutput(pub &'static OnceLock<LogQueue>);

/// One event's text, passed on as a whole when it is complete.
#[derive(Debug)]
pub struct Line {
    queue: Option<LogQueue>,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        match &self.queue {
            _ if self.text.is_empty() => {}
            Some(LogQueue(queue)) => queue.push(std::mem::take(&mut self.text)),
            None => _ = io::stderr().write_all(&self.text),
        }
    }
}

impl MakeWriter<'_> for LogOutput {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { queue: self.0.get().cloned(), text: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Hands every line on, and waits as long as nobody takes it.
    struct Slow(SyncSender<String>);

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (LogQueue, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        (LogQueue::start(Slow(sender)).unwrap(), receiver)
    }

    fn line(writer: &LogQueue) -> Line {
        Line { queue: Some(writer.clone()), text: Vec::new() }
    }

    fn log(writer: &LogQueue, text: &str) {
        line(writer).write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_written_in_order_and_whole() {
        let (writer, receiver) = slow();
        let mut line = line(&writer);
        line.write_all(b"one ").unwrap();
        log(&writer, "zero\n");
        line.write_all(b"line\n").unwrap();
        drop(line);
        assert_eq!(receiver.recv().unwrap(), "zero\n");
        assert_eq!(receiver.recv().unwrap(), "one line\n");
        writer.drain(Duration::from_secs(60));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (writer, receiver) = slow();
        let long = "x".repeat(1 << 20);
        // Nobody reads: each of these would wait for ever.
        (0..100).for_each(|_| log(&writer, &long));
        assert!(writer.0.state().octets <= QUEUE_OCTETS);
        writer.drain(Duration::from_millis(1));
        let mut texts = Vec::new();
        while texts.iter().filter(|text: &&String| text.contains("dropped")).count() == 0 {
            texts.push(receiver.recv().unwrap());
        }
        // One line more: from here on there is room again.
        texts.push(receiver.recv().unwrap());
        log(&writer, "after\n");
        while texts.last().is_none_or(|text| text != "after\n") {
            texts.push(receiver.recv().unwrap());
        }
        let kept = texts.iter().filter(|text| text.len() == long.len()).count();
        let told = texts.iter().filter_map(|text| text.split(' ').next()?.parse::<usize>().ok()).sum::<usize>();
        assert_eq!(kept + told, 100, "every line is written or counted");
    }

    #[test]
    fn lines_that_a_full_disk_did_not_take_are_counted_once_there_is_room() {
        /// Fails so many times, then hands lines on.
        struct Full(u32, std::sync::mpsc::Sender<String>);

        impl Write for Full {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                if let Some(left) = self.0.checked_sub(1) {
                    self.0 = left;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.1.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)?;
                Ok(text.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (sender, receiver) = std::sync::mpsc::channel();
        let writer = LogQueue::start(Full(2, sender)).unwrap();
        log(&writer, "lost\n");
        // The line, then what tells of its loss, could not be written.
        let told = receiver.recv().unwrap();
        assert!(told.starts_with("1 log lines dropped"), "{told}");
        log(&writer, "after\n");
        assert_eq!(receiver.recv().unwrap(), "after\n");
    }
}
