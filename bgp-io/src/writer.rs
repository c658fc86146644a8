//! What waits to be written to one connection.
//!
//! The session's own messages go before what is left of the owner's batch, but never into the middle of a message. The
//! batch is shared with other peers: it is written from where it lies, many messages per system call.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Most slices per system call; at four kilobytes a message that is half a megabyte.
const MAX_SLICES: usize = 128;
/// Type octet of a NOTIFICATION, and where it stands.
const TYPE_POSITION: usize = 18;
const TYPE_NOTIFICATION: u8 = 3;
/// Most messages of the session's own that wait. The session sends none but the first few while something waits.
const MAX_CONTROL: usize = 16;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// The rest of an element that was written in part.
    partial: Bytes,
    control: VecDeque<Bytes>,
    batch: Vec<Bytes>,
    /// First element of the batch that is not written.
    next: usize,
    /// A batch is under way, if only its last octets in `partial`.
    in_batch: bool,
}

impl Writer {
    /// Queues a message of the session. After a NOTIFICATION nothing follows.
    pub(crate) fn push_control(&mut self, message: Bytes) {
        if message.get(TYPE_POSITION) == Some(&TYPE_NOTIFICATION) {
            self.drop_batch();
        }
        if self.control.len() < MAX_CONTROL {
            self.control.push_back(message);
        }
    }

    /// Queues the owner's batch; the one before must have been written.
    pub(crate) fn set_batch(&mut self, batch: Vec<Bytes>) {
        self.batch = batch;
        self.next = 0;
        self.in_batch = true;
    }

    /// Forgets what was not begun of the batch.
    fn drop_batch(&mut self) {
        self.batch = Vec::new();
        self.next = 0;
        self.in_batch = false;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.control.is_empty() && self.next >= self.batch.len()
    }

    /// Whether a batch has been written whole since the last call.
    pub(crate) fn take_finished(&mut self) -> bool {
        let finished = self.in_batch && self.is_empty();
        if finished {
            self.drop_batch();
        }
        finished
    }

    /// Hands the front of the queue to `write`, as slices.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let partial = Some(&self.partial).filter(|partial| !partial.is_empty());
        let rest = self.batch.get(self.next..).unwrap_or_default();
        let queued = partial.into_iter().chain(&self.control).chain(rest);
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(queued) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        write(slices.get(..count).unwrap_or_default())
    }

    /// Takes `written` octets off the front.
    pub(crate) fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let Some(front) = self.pop_front() else { return };
            if front.len() > written {
                self.partial = front.slice(written..);
                return;
            }
            written -= front.len();
        }
    }

    fn pop_front(&mut self) -> Option<Bytes> {
        if !self.partial.is_empty() {
            return Some(std::mem::take(&mut self.partial));
        }
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        let element = std::mem::take(self.batch.get_mut(self.next)?);
        self.next += 1;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, length: usize) -> Bytes {
        let mut bytes = vec![0xff; length.max(19)];
        bytes[18] = kind;
        bytes.into()
    }

    /// Everything that the writer yields when each call takes `step` octets.
    fn drain(writer: &mut Writer, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !writer.is_empty() {
            let front: Vec<u8> =
                writer.with_slices(|slices| slices.iter().flat_map(|slice| slice.iter().copied()).take(step).collect());
            writer.advance(front.len());
            out.extend(front);
        }
        out
    }

    proptest! {
        #[test]
        fn every_octet_is_written_once_and_in_order(
            lengths in proptest::collection::vec(19..500_usize, 0..300),
            step in 1..10_000_usize,
        ) {
            let batch: Vec<_> = lengths.iter().map(|length| message(2, *length)).collect();
            let mut writer = Writer::default();
            writer.set_batch(batch.clone());
            prop_assert_eq!(drain(&mut writer, step), batch.concat());
            prop_assert!(writer.take_finished());
            prop_assert!(!writer.take_finished());
        }
    }

    #[test]
    fn a_keepalive_overtakes_the_batch_between_two_messages() {
        let mut writer = Writer::default();
        writer.set_batch(vec![message(2, 30), message(2, 40)]);
        writer.advance(10);
        writer.push_control(message(4, 19));
        let expected = [&message(2, 30)[10..], &message(4, 19), &message(2, 40)].concat();
        assert_eq!(drain(&mut writer, 7), expected);
        assert!(writer.take_finished());
    }

    #[test]
    fn after_a_notification_nothing_of_the_batch_follows() {
        let mut writer = Writer::default();
        writer.set_batch(vec![message(2, 30), message(2, 40)]);
        writer.advance(10);
        writer.push_control(message(3, 21));
        let expected = [&message(2, 30)[10..], &message(3, 21)[..]].concat();
        assert_eq!(drain(&mut writer, 100), expected);
        assert!(!writer.take_finished(), "the session is over, no further batch is wanted");
    }

    #[test]
    fn an_empty_batch_is_finished_at_once() {
        let mut writer = Writer::default();
        writer.set_batch(Vec::new());
        assert!(writer.take_finished());
    }
}
