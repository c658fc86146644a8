//! MAC mobility sequence numbers: which of several is the newest.
//!
//! One rule for every place that compares sequences, the RIB's decision as well as the owner of a MAC in a LAN, so that
//! all speakers with the same routes agree.
//!
//! Sequences live on a circle of 2³². RFC 7432 section 15 wants 0 to follow 4,294,967,295 and says no more, so this is
//! serial arithmetic (RFC 1982), with the two cases decided that it leaves undefined:
//!
//! * two sequences exactly 2³¹ apart: the larger number is the newer one;
//! * three and more that do not lie within half of the circle precede each other in a cycle: the newest is the one before
//!   the largest gap, and of two such the larger number.
//!
//! For two sequences the second rule includes the first and plain serial arithmetic.

use core::cmp::Ordering;

use smallvec::SmallVec;

/// The newest of several sequences; none of none. The order in which they are given does not matter.
pub fn newest_sequence(sequences: impl IntoIterator<Item = u32>) -> Option<u32> {
    let mut sorted: SmallVec<[u32; 8]> = sequences.into_iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let first = *sorted.first()?;
    let followers = sorted.iter().skip(1).copied().chain([first]);
    let gaps = sorted.iter().zip(followers).map(|(sequence, next)| (next.wrapping_sub(*sequence), *sequence));
    gaps.max().map(|(_, sequence)| sequence)
}

/// Whether `a` is older than, equal to, or newer than `b`. Equal only where they are the same number.
pub fn compare_sequences(a: u32, b: u32) -> Ordering {
    if a == b {
        Ordering::Equal
    } else if newest_sequence([a, b]) == Some(a) {
        Ordering::Greater
    } else {
        Ordering::Less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u32 = 1 << 31;

    #[test]
    fn sequences_wrap_around_and_compare_alike_from_both_sides() {
        for (older, newer) in [
            (0, 1),
            (u32::MAX, 0),
            (u32::MAX - 1, 3),
            (1, HALF),
            (HALF + 1, 0),
            // Exactly half the circle apart: the larger number.
            (0, HALF),
            (5, 5 + HALF),
            (HALF - 1, u32::MAX),
        ] {
            assert_eq!(compare_sequences(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare_sequences(newer, older), Ordering::Greater, "{older} {newer}");
        }
        assert_eq!(compare_sequences(7, 7), Ordering::Equal);
    }

    #[test]
    fn the_newest_of_a_cycle_does_not_depend_on_the_order() {
        let third = u32::MAX / 3;
        for (sequences, newest) in [
            ([0, third, 2 * third], 2 * third),
            ([10, 10 + HALF, 20], 10 + HALF),
            ([0, HALF, HALF + 1], 0),
            ([u32::MAX, 0, 1], 1),
        ] {
            let [a, b, c] = sequences;
            for order in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
                assert_eq!(newest_sequence(order), Some(newest), "{order:?}");
            }
        }
        assert_eq!(newest_sequence([]), None);
    }
}
