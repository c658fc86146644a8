//! Sets of dense numbers.

/// A set of small numbers, one bit each.
#[derive(Clone, Debug, Default)]
pub struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// Whether `index` is in the set.
    pub fn contains(&self, index: usize) -> bool {
        self.words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Puts `index` in or takes it out.
    pub fn set(&mut self, index: usize, present: bool) {
        let word = index / 64;
        if word >= self.words.len() {
            if !present {
                return;
            }
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            let bit = 1 << (index % 64);
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

const BLOCK_WORDS: usize = 16;
const BLOCK_BITS: u32 = 64 * BLOCK_WORDS as u32;

/// What a member in replay must still be told: a set of destinations, each with a note whether the member is known not
/// to hold it. Memory is two bits per destination where destinations are pending, and none elsewhere.
#[derive(Debug, Default)]
pub struct PendingSet {
    blocks: Vec<Option<Box<Block>>>,
    len: usize,
}

#[derive(Debug, Default)]
struct Block {
    pending: [u64; BLOCK_WORDS],
    fresh: [u64; BLOCK_WORDS],
    len: u32,
}

impl PendingSet {
    /// Number of destinations pending.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes `index` pending. `fresh`: the member does not hold the route; remembered from the first time only, since
    /// nothing was sent in between.
    pub fn mark(&mut self, index: u32, fresh: bool) {
        let (block, word, bit) = locate(index);
        if block >= self.blocks.len() {
            self.blocks.resize_with(block + 1, || None);
        }
        let Some(slot) = self.blocks.get_mut(block) else { return };
        let block = slot.get_or_insert_default();
        let (Some(pending), Some(note)) = (block.pending.get_mut(word), block.fresh.get_mut(word)) else { return };
        if *pending & bit == 0 {
            *pending |= bit;
            *note = if fresh { *note | bit } else { *note & !bit };
            block.len += 1;
            self.len += 1;
        }
    }

    /// Whether `index` is pending.
    pub fn contains(&self, index: u32) -> bool {
        let (block, word, bit) = locate(index);
        let block = self.blocks.get(block).and_then(Option::as_ref);
        block.and_then(|block| block.pending.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Whether the member is known not to hold the pending `index`.
    pub fn is_fresh(&self, index: u32) -> bool {
        let (block, word, bit) = locate(index);
        let block = self.blocks.get(block).and_then(Option::as_ref);
        block.and_then(|block| block.fresh.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Nothing more is pending for `index`.
    pub fn clear(&mut self, index: u32) {
        let (block, word, bit) = locate(index);
        let Some(slot) = self.blocks.get_mut(block) else { return };
        let Some(block) = slot.as_mut() else { return };
        let Some(pending) = block.pending.get_mut(word) else { return };
        if *pending & bit != 0 {
            *pending &= !bit;
            block.len -= 1;
            self.len -= 1;
            if block.len == 0 {
                *slot = None;
            }
        }
    }

    /// Pending destinations from `index` on, in order.
    pub fn iter_from(&self, index: u32) -> impl Iterator<Item = u32> + '_ {
        let first = (index / BLOCK_BITS) as usize;
        let blocks = self.blocks.iter().enumerate().skip(first);
        let words = blocks.filter_map(|(number, block)| Some((number, block.as_ref()?))).flat_map(|(number, block)| {
            let base = u32::try_from(number).unwrap_or(u32::MAX).saturating_mul(BLOCK_BITS);
            (0u32..).step_by(64).zip(block.pending).map(move |(offset, word)| (base + offset, word))
        });
        words.flat_map(|(base, word)| Ones(word).map(move |bit| base + bit)).skip_while(move |found| *found < index)
    }
}

/// The positions of the bits set in a word.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

fn locate(index: u32) -> (usize, usize, u64) {
    let within = index % BLOCK_BITS;
    ((index / BLOCK_BITS) as usize, (within / 64) as usize, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_destinations_come_in_order_and_keep_their_first_note() {
        let mut set = PendingSet::default();
        for index in [5000, 3, 1024, 64, 3] {
            set.mark(index, index == 3);
        }
        set.mark(3, false);
        assert_eq!(set.iter_from(0).collect::<Vec<_>>(), [3, 64, 1024, 5000]);
        assert_eq!(set.iter_from(65).collect::<Vec<_>>(), [1024, 5000]);
        assert!(set.is_fresh(3) && !set.is_fresh(64));
        set.clear(1024);
        set.clear(1024);
        assert_eq!((set.len(), set.iter_from(64).collect::<Vec<_>>()), (3, vec![64, 5000]));
        set.clear(3);
        set.mark(3, false);
        assert!(!set.is_fresh(3));
    }

    #[test]
    fn a_bit_set_grows_on_demand() {
        let mut set = BitSet::default();
        set.set(200, false);
        set.set(100, true);
        assert!(set.contains(100) && !set.contains(101) && !set.contains(5000));
        set.set(100, false);
        assert!(!set.contains(100));
    }
}
