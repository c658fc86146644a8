//! Mutations of UPDATEs that know their structure.
//!
//! An input (a context octet, then the body of an UPDATE) is read as a tree of elements, as far as its lengths make
//! sense; elements are changed; and the tree is written again with lengths that fit, but for those that were made to
//! lie. In order of what such bugs have cost others: lengths without their data, data without their lengths, inner lengths
//! beyond the outer, elements repeated, moved, missing, families and types exchanged, flags flipped, two messages
//! spliced at element borders, and the same octets under another session's terms.

use crate::tree::{Element, parse, write};

/// A source of decisions: xorshift, good enough and the same for the same seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The decisions that belong to a seed.
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) as usize) % limit
    }

    fn one_of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// Changes one input; at most `limit` octets.
pub fn mutate(input: &[u8], limit: usize, seed: u32) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut tree = parse(input);
    for _ in 0..=dice.below(4) {
        change(&mut tree, &mut dice);
    }
    cut(write(&tree), limit)
}

/// Puts elements of `other` between those of `input`.
pub fn splice(input: &[u8], other: &[u8], limit: usize, seed: u32) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let (mut tree, mut donor) = (parse(input), parse(other));
    for _ in 0..=dice.below(3) {
        let Some(element) = pick(&mut donor, &mut dice).map(|(list, index)| list[index].clone()) else { break };
        if let Some((list, index)) = pick(&mut tree, &mut dice) {
            list.insert(index, element);
        }
    }
    cut(write(&tree), limit)
}

/// [`mutate`] as libFuzzer wants it: the first `size` octets of `data` are the input, all of it up to `limit` is room.
pub fn in_place(data: &mut [u8], size: usize, limit: usize, seed: u32) -> usize {
    fill(data, &mutate(data.get(..size).unwrap_or_default(), limit, seed))
}

/// Now and then changes octets by `octets`, for what no element holds, else elements.
pub fn any(
    data: &mut [u8],
    size: usize,
    limit: usize,
    seed: u32,
    octets: impl FnOnce(&mut [u8], usize, usize) -> usize,
) -> usize {
    if seed.is_multiple_of(4) { octets(data, size, limit) } else { in_place(data, size, limit, seed) }
}

/// [`splice`] as libFuzzer wants it: as much as `out` has room for.
pub fn cross(input: &[u8], other: &[u8], out: &mut [u8], seed: u32) -> usize {
    let spliced = splice(input, other, out.len(), seed);
    fill(out, &spliced)
}

/// Writes what fits; how much that is.
pub fn fill(out: &mut [u8], octets: &[u8]) -> usize {
    let length = octets.len().min(out.len());
    out[..length].copy_from_slice(&octets[..length]);
    length
}

fn cut(mut octets: Vec<u8>, limit: usize) -> Vec<u8> {
    octets.truncate(limit);
    octets
}

/// Any element of the tree: the list it is in and its place.
fn pick<'a>(tree: &'a mut Vec<Element>, dice: &mut Dice) -> Option<(&'a mut Vec<Element>, usize)> {
    let count = tree.iter().map(Element::count).sum::<usize>();
    if count == 0 {
        return None;
    }
    find(tree, dice.below(count))
}

fn find(list: &mut Vec<Element>, mut number: usize) -> Option<(&mut Vec<Element>, usize)> {
    for index in 0..list.len() {
        if number == 0 {
            return Some((list, index));
        }
        let within = list[index].count();
        if number < within {
            let Element::Sized { inner, .. } = &mut list[index] else { return None };
            return find(inner, number - 1);
        }
        number -= within;
    }
    None
}

/// One change of one element.
fn change(tree: &mut Vec<Element>, dice: &mut Dice) {
    let choice = dice.below(16);
    if choice == 0 {
        // Another session's terms.
        if let Some(Element::Octets(context)) = tree.first_mut() {
            context.iter_mut().for_each(|octet| *octet ^= 1 << dice.below(8));
        }
        return;
    }
    let Some((list, index)) = pick(tree, dice) else { return };
    match choice {
        1..=4 => resize(&mut list[index], dice),
        5 | 6 => {
            let copies = dice.one_of(&[1, 1, 1, 2, 40]);
            let copy = list[index].clone();
            let at = dice.below(list.len() + 1);
            list.splice(at..at, std::iter::repeat_n(copy, copies));
        }
        7 => drop(list.remove(index)),
        8 => {
            let other = dice.below(list.len());
            list.swap(index, other);
        }
        9 | 10 => rename(&mut list[index], dice),
        11 => flip(&mut list[index], dice),
        12 | 13 => overwrite(&mut list[index], dice),
        _ => {
            let element = dice.one_of(SPARE_ELEMENTS);
            let at = dice.below(list.len() + 1);
            list.insert(at, Element::Octets(element.to_vec()));
        }
    }
}

/// A length that its data do not have, or data that their length does not tell.
fn resize(element: &mut Element, dice: &mut Dice) {
    match element {
        Element::Sized { claimed, inner, .. } => {
            let actual = inner.iter().map(Element::length).sum::<usize>();
            match dice.below(4) {
                0 => *claimed = Some(dice.one_of(&[actual.wrapping_sub(1) & 0xffff, actual + 1, 0, 255, 65_535])),
                // Beyond whatever is around it.
                1 => *claimed = Some(actual + 1 + dice.below(64)),
                2 => {
                    *claimed = Some(actual);
                    drop(inner.pop());
                }
                _ => {
                    *claimed = Some(actual);
                    inner.push(Element::Octets(vec![dice.one_of(&[0, 1, 0xff]); dice.one_of(&[1, 3, 4, 16])]));
                }
            }
        }
        Element::Octets(octets) if dice.below(2) == 0 => drop(octets.pop()),
        Element::Octets(octets) => octets.push(dice.below(256) as u8),
    }
}

/// Another family, route type, attribute or segment type.
fn rename(element: &mut Element, dice: &mut Dice) {
    match element {
        Element::Sized { head, .. } => match &mut head[..] {
            [flags, code] => {
                *code = dice.one_of(ATTRIBUTE_CODES);
                if dice.below(2) == 0 {
                    *flags = dice.one_of(&[0x40, 0x80, 0xc0, 0xe0]);
                }
            }
            [route_type] => *route_type = dice.one_of(&[0, 1, 2, 3, 4, 5, 6, 11, 255]),
            _ => {}
        },
        Element::Octets(octets) if octets.len() == 3 => {
            octets.copy_from_slice(&dice.one_of(&[[0, 25, 70], [0, 1, 132], [0, 1, 1], [0, 2, 1], [64, 4, 71]]));
        }
        Element::Octets(_) => overwrite(element, dice),
    }
}

fn flip(element: &mut Element, dice: &mut Dice) {
    let octets = match element {
        Element::Sized { head, .. } => head,
        Element::Octets(octets) => octets,
    };
    if let Some(first) = octets.first_mut() {
        *first ^= dice.one_of(&[0x80, 0x40, 0x20, 0x10, 0x0f, 0x01]);
    }
}

/// Values at the edges.
fn overwrite(element: &mut Element, dice: &mut Dice) {
    let Element::Octets(octets) = element else { return flip(element, dice) };
    match dice.below(4) {
        0 => octets.fill(0),
        1 => octets.fill(0xff),
        _ => {
            let edges = [0, 1, 2, 3, 4, 5, 6, 23, 24, 31, 32, 33, 47, 48, 49, 64, 96, 97, 127, 128, 129, 254, 255];
            let at = dice.below(octets.len().max(1));
            if let Some(octet) = octets.get_mut(at) {
                *octet = dice.one_of(&edges);
            }
        }
    }
}

/// Attributes that are read, checked, carried or refused, each in its own way.
const ATTRIBUTE_CODES: &[u8] =
    &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 21, 22, 23, 25, 26, 28, 29, 32, 35, 39, 40, 128, 254];

/// Whole attributes, routes and fields that a message may lack.
const SPARE_ELEMENTS: &[&[u8]] = &[
    &[0x40, 1, 1, 0],
    &[0x40, 2, 0],
    &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8],
    &[0x40, 2, 4, 2, 1, 0x5b, 0xa0],
    &[0x40, 3, 4, 10, 0, 0, 1],
    &[0x80, 4, 4, 0, 0, 0, 1],
    &[0x40, 5, 4, 0, 0, 0, 100],
    &[0x40, 6, 0],
    &[0xc0, 7, 8, 0, 0, 0xfd, 0xe8, 10, 0, 0, 1],
    &[0xc0, 7, 6, 0x5b, 0xa0, 10, 0, 0, 1],
    &[0xc0, 8, 4, 0xff, 0xff, 0, 6],
    &[0x80, 9, 4, 10, 0, 0, 1],
    &[0x80, 10, 4, 10, 0, 0, 1],
    &[0x80, 15, 3, 0, 25, 70],
    &[0x80, 15, 3, 0, 1, 132],
    &[0xc0, 16, 8, 0, 2, 0xfd, 0xe8, 0, 0, 0, 100],
    &[0xc0, 16, 8, 6, 3, 2, 0, 0, 0, 0, 1],
    &[0xc0, 16, 8, 6, 0, 1, 0, 0xff, 0xff, 0xff, 0xff],
    &[0xc0, 17, 6, 2, 1, 0, 1, 0, 0],
    &[0xc0, 18, 8, 0, 1, 0, 0, 10, 0, 0, 1],
    &[0xc0, 22, 9, 0, 6, 0, 0, 100, 10, 0, 0, 1],
    &[0xc0, 23, 4, 0, 8, 0, 0],
    &[0xc0, 23, 8, 0, 8, 0, 4, 128, 0, 1, 0],
    &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
    &[0xc0, 35, 4, 0, 0, 0xfd, 0xe8],
    &[0xc0, 39, 8, 0, 25, 70, 4, 10, 0, 0, 1],
    &[0xc0, 40, 5, 1, 0, 2, 0, 0],
    &[0xc0, 254, 4, 1, 2, 3, 4],
    &[2, 33, 0, 1, 10, 0, 0, 1, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 2, 0, 0, 0, 0, 1, 0, 0, 0, 100],
    &[3, 17, 0, 1, 10, 0, 0, 1, 0, 100, 0, 0, 0, 0, 32, 10, 0, 0, 1],
    &[96, 0, 0, 0xfd, 0xe8, 0, 2, 0xfd, 0xe8, 0, 0, 0, 100],
    &[0],
    &[0xff],
    &[0, 0, 0, 1],
];
