//! What an update group has encoded and some member has not read yet.
//!
//! A log is a queue of chunks of whole messages; a chunk is cut into segments, each with the audience it is for. Members
//! hold a [`Cursor`]. A chunk goes when its last reader has passed it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::table::DestinationId;
use super::target_sets::RtSetId;
use crate::types::PeerId;

/// Octets after which a chunk is closed.
pub const CHUNK_OCTETS: usize = 64 << 10;

/// What a chunk is taken to cost beside its octets.
const CHUNK_OVERHEAD: usize = 256;

/// Who holds a route of a group: every member that wants these targets and is not the route's source.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Audience {
    /// Whose route it is.
    pub source: PeerId,
    /// Its targets.
    pub targets: RtSetId,
}

/// Whom a segment is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recipients {
    /// Announcements: the audience.
    Announce(Audience),
    /// Withdrawals: those of the old audience who are not in the new one, whose announcement replaces the route.
    Withdraw {
        /// Who holds the routes.
        old: Audience,
        /// Who is told of their replacement.
        new: Option<Audience>,
    },
}

/// Consecutive messages for the same recipients.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// For whom.
    pub recipients: Recipients,
    /// Where its octets end in the chunk.
    end: u32,
    /// Where its destinations end in the chunk.
    destinations_end: u32,
}

/// Encoded messages with their segments.
#[derive(Debug)]
struct Chunk {
    octets: Bytes,
    segments: Vec<Segment>,
    destinations: Vec<DestinationId>,
    epoch: u64,
    readers: usize,
}

/// A chunk in the making.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    /// Encoders append here.
    pub octets: BytesMut,
    segments: Vec<Segment>,
    destinations: Vec<DestinationId>,
}

impl ChunkBuilder {
    /// What has been appended to `octets` since the last call is for `recipients` and about `destinations`.
    pub fn seal(&mut self, recipients: Recipients, destinations: impl IntoIterator<Item = DestinationId>) {
        self.destinations.extend(destinations);
        let end = u32::try_from(self.octets.len()).unwrap_or(u32::MAX);
        let destinations_end = u32::try_from(self.destinations.len()).unwrap_or(u32::MAX);
        match self.segments.last_mut() {
            Some(last) if last.recipients == recipients => {
                (last.end, last.destinations_end) = (end, destinations_end);
            }
            _ => self.segments.push(Segment { recipients, end, destinations_end }),
        }
    }

    /// Whether the chunk should be appended to the log.
    pub fn is_full(&self) -> bool {
        self.octets.len() >= CHUNK_OCTETS
    }
}

/// Where a member reads next.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Cursor {
    /// Number of the chunk.
    chunk: u64,
    /// Segment within.
    segment: usize,
}

impl Cursor {
    /// Number of the chunk.
    pub const fn chunk(self) -> u64 {
        self.chunk
    }
}

/// The log of one group.
#[derive(Debug, Default)]
pub struct Log {
    chunks: VecDeque<Chunk>,
    /// Number of the first chunk.
    first: u64,
    octets: usize,
}

impl Log {
    /// Behind the last chunk.
    pub fn end(&self) -> Cursor {
        Cursor { chunk: self.first + self.chunks.len() as u64, segment: 0 }
    }

    /// Appends a chunk that `readers` members will pass.
    pub fn append(&mut self, builder: &mut ChunkBuilder, epoch: u64, readers: usize) {
        let segments = core::mem::take(&mut builder.segments);
        let destinations = core::mem::take(&mut builder.destinations);
        let octets = builder.octets.split().freeze();
        if segments.is_empty() || readers == 0 {
            return;
        }
        let chunk = Chunk { octets, segments, destinations, epoch, readers };
        self.octets += chunk.cost();
        self.chunks.push_back(chunk);
    }

    /// Octets kept.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// The number of the oldest chunk.
    pub fn oldest(&self) -> u64 {
        self.first
    }

    /// The last epoch of which a reader at `cursor` has read everything, `now` if it is at the end.
    pub fn epoch_before(&self, cursor: Cursor, now: u64) -> u64 {
        self.chunk(cursor).map_or(now, |chunk| chunk.epoch.saturating_sub(1))
    }

    fn chunk(&self, cursor: Cursor) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(cursor.chunk.checked_sub(self.first)?).ok()?)
    }

    /// Takes messages that `accepts` from `cursor` on until about `max_octets` are in `out`; `accepts` is told the
    /// number of routes. Neighbours in one chunk become one slice. Returns the octets taken.
    pub fn read(
        &mut self,
        cursor: &mut Cursor,
        max_octets: usize,
        out: &mut Vec<Bytes>,
        mut accepts: impl FnMut(&Recipients, usize) -> bool,
    ) -> usize {
        let mut taken = 0;
        while taken < max_octets
            && let Some(chunk) = self.chunk(*cursor)
        {
            taken += chunk.read(&mut cursor.segment, max_octets - taken, out, &mut accepts);
            if cursor.segment >= chunk.segments.len() {
                self.pass(cursor);
            }
        }
        taken
    }

    /// Whether something for a reader at `cursor` is there; the cursor is moved to it, or to the end.
    pub fn seek(&mut self, cursor: &mut Cursor, mut accepts: impl FnMut(&Recipients) -> bool) -> bool {
        while let Some(chunk) = self.chunk(*cursor) {
            let rest = chunk.segments.iter().skip(cursor.segment);
            let skipped = rest.take_while(|segment| !accepts(&segment.recipients)).count();
            cursor.segment += skipped;
            if cursor.segment < chunk.segments.len() {
                return true;
            }
            self.pass(cursor);
        }
        false
    }

    /// A reader leaves; the destinations of what it would have taken are given to `missed`.
    pub fn leave(
        &mut self,
        mut cursor: Cursor,
        mut accepts: impl FnMut(&Recipients) -> bool,
        mut missed: impl FnMut(DestinationId),
    ) {
        while let Some(chunk) = self.chunk(cursor) {
            for (segment, destinations) in chunk.segments_from(cursor.segment) {
                if accepts(&segment.recipients) {
                    destinations.iter().copied().for_each(&mut missed);
                }
            }
            self.pass(&mut cursor);
        }
    }

    /// Moves a reader to the next chunk.
    fn pass(&mut self, cursor: &mut Cursor) {
        let index = cursor.chunk.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)) {
            chunk.readers = chunk.readers.saturating_sub(1);
        }
        *cursor = Cursor { chunk: cursor.chunk + 1, segment: 0 };
        while self.chunks.front().is_some_and(|chunk| chunk.readers == 0)
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            self.octets -= chunk.cost();
        }
    }
}

impl Chunk {
    fn cost(&self) -> usize {
        CHUNK_OVERHEAD
            + self.octets.len()
            + self.segments.len() * size_of::<Segment>()
            + self.destinations.len() * size_of::<DestinationId>()
    }

    fn read(
        &self,
        segment: &mut usize,
        max_octets: usize,
        out: &mut Vec<Bytes>,
        accepts: &mut impl FnMut(&Recipients, usize) -> bool,
    ) -> usize {
        let mut taken = 0;
        let (mut start, mut counted) = segment
            .checked_sub(1)
            .and_then(|last| self.segments.get(last))
            .map_or((0, 0), |last| (last.end, last.destinations_end));
        // The octets accepted and not yet in `out`.
        let mut run = start..start;
        for next in self.segments.iter().skip(*segment) {
            if taken >= max_octets {
                break;
            }
            if accepts(&next.recipients, (next.destinations_end - counted) as usize) {
                taken += (next.end - start) as usize;
                run.end = next.end;
            } else {
                self.push(run, out);
                run = next.end..next.end;
            }
            (start, counted) = (next.end, next.destinations_end);
            *segment += 1;
        }
        self.push(run, out);
        taken
    }

    fn push(&self, run: core::ops::Range<u32>, out: &mut Vec<Bytes>) {
        if !run.is_empty() {
            out.push(self.octets.slice(run.start as usize..run.end as usize));
        }
    }

    /// Segments from one on, with their destinations.
    fn segments_from(&self, first: usize) -> impl Iterator<Item = (&Segment, &[DestinationId])> {
        let mut start =
            first.checked_sub(1).and_then(|last| self.segments.get(last)).map_or(0, |last| last.destinations_end);
        self.segments.iter().skip(first).map(move |segment| {
            let range = start as usize..segment.destinations_end as usize;
            start = segment.destinations_end;
            (segment, self.destinations.get(range).unwrap_or_default())
        })
    }
}
