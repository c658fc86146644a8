//! UPDATEs as trees of elements, to be changed and written again.
//!
//! Reading is lenient: where a length makes no sense the rest is an element of plain octets. Written without a change, a
//! tree gives the octets it was read from.

/// A piece of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Element {
    /// Octets without structure.
    Octets(Vec<u8>),
    /// A length, what stands before it, and what it covers.
    Sized {
        /// Flags and type of an attribute, the type of a route, or nothing.
        head: Vec<u8>,
        /// Octets of the length.
        width: usize,
        /// What is written as the length, if not the truth.
        claimed: Option<usize>,
        /// What it covers.
        inner: Vec<Element>,
    },
}

impl Element {
    /// Itself and everything in it.
    pub fn count(&self) -> usize {
        match self {
            Self::Octets(_) => 1,
            Self::Sized { inner, .. } => 1 + inner.iter().map(Self::count).sum::<usize>(),
        }
    }

    /// Octets that it takes when written.
    pub fn length(&self) -> usize {
        match self {
            Self::Octets(octets) => octets.len(),
            Self::Sized { head, width, inner, .. } => {
                head.len() + width + inner.iter().map(Self::length).sum::<usize>()
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let Self::Sized { head, width, claimed, inner } = self else {
            return out.extend(if let Self::Octets(octets) = self { &octets[..] } else { &[] });
        };
        let actual = inner.iter().map(Self::length).sum::<usize>();
        let start = out.len();
        out.extend(head);
        let mut width = *width;
        if head.len() == 2 && width == 1 && actual > 255 && claimed.is_none() {
            // An attribute that has grown gets a length that holds it.
            out[start] |= EXTENDED_LENGTH;
            width = 2;
        }
        let told = claimed.unwrap_or(actual).to_be_bytes();
        out.extend(&told[told.len() - width..]);
        inner.iter().for_each(|element| element.write(out));
    }
}

const EXTENDED_LENGTH: u8 = 0x10;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;

/// Writes a tree.
pub fn write(tree: &[Element]) -> Vec<u8> {
    let mut out = Vec::new();
    tree.iter().for_each(|element| element.write(&mut out));
    out
}

/// The body of an UPDATE as [`parse`] takes it.
pub fn with_context(body: &[u8]) -> Vec<u8> {
    [&[0], body].concat()
}

/// Reads a context octet and the body of an UPDATE.
pub fn parse(input: &[u8]) -> Vec<Element> {
    let mut tree = Vec::new();
    let Some((context, body)) = input.split_first() else { return tree };
    tree.push(Element::Octets(vec![*context]));
    let rest = sized(body, 0, 2, &mut tree, |_, field| plain(field));
    let rest = sized(rest, 0, 2, &mut tree, |_, field| attributes(field));
    tree.extend(plain(rest));
    tree
}

/// Reads one sized element behind `head` octets into `list`; what is left. Where it does not fit, all becomes plain.
fn sized<'a>(
    octets: &'a [u8],
    head: usize,
    width: usize,
    list: &mut Vec<Element>,
    within: impl FnOnce(&[u8], &[u8]) -> Vec<Element>,
) -> &'a [u8] {
    let length =
        octets.get(head..head + width).map(|field| field.iter().fold(0, |sum, octet| sum * 256 + usize::from(*octet)));
    let fits = length.and_then(|length| octets.get(head + width..)?.split_at_checked(length));
    let Some((covered, rest)) = fits else {
        list.extend(plain(octets));
        return &[];
    };
    let head = octets[..head].to_vec();
    let inner = within(&head, covered);
    list.push(Element::Sized { head, width, claimed: None, inner });
    rest
}

fn plain(octets: &[u8]) -> Vec<Element> {
    if octets.is_empty() { Vec::new() } else { vec![Element::Octets(octets.to_vec())] }
}

fn chunks(octets: &[u8], size: usize) -> Vec<Element> {
    octets.chunks(size).map(|chunk| Element::Octets(chunk.to_vec())).collect()
}

fn attributes(mut field: &[u8]) -> Vec<Element> {
    let mut list = Vec::new();
    while let Some(flags) = field.first() {
        let width = if flags & EXTENDED_LENGTH != 0 { 2 } else { 1 };
        field = sized(field, 2, width, &mut list, |head, value| attribute(head[1], value));
    }
    list
}

fn attribute(code: u8, value: &[u8]) -> Vec<Element> {
    match code {
        2 | 17 => segments(value),
        4 | 5 | 8 | 9 | 10 => chunks(value, 4),
        16 => chunks(value, 8),
        25 => chunks(value, 20),
        32 => chunks(value, 12),
        22 => fields(value, &[1, 1, 3]),
        23 => {
            let (mut list, mut rest) = (Vec::new(), value);
            while !rest.is_empty() {
                rest = sized(rest, 2, 2, &mut list, |_, tlvs| sub_tlvs(tlvs));
            }
            list
        }
        MP_REACH_NLRI if value.len() > 3 => {
            let mut list = chunks(&value[..3], 3);
            let rest = sized(&value[3..], 0, 1, &mut list, |_, next_hop| plain(next_hop));
            let (reserved, routes) = rest.split_at(rest.len().min(1));
            list.extend(plain(reserved));
            list.extend(nlri(&value[..3], routes));
            list
        }
        MP_UNREACH_NLRI if value.len() > 3 => {
            let mut list = chunks(&value[..3], 3);
            list.extend(nlri(&value[..3], &value[3..]));
            list
        }
        _ => plain(value),
    }
}

/// AS path segments as type and count, then the numbers.
fn segments(mut value: &[u8]) -> Vec<Element> {
    let mut list = Vec::new();
    while let [_, count, ..] = value {
        let length = (2 + usize::from(*count) * 4).min(value.len());
        let (segment, rest) = value.split_at(length);
        list.extend(fields(segment, &[1, 1]));
        value = rest;
    }
    list.extend(plain(value));
    list
}

fn sub_tlvs(mut octets: &[u8]) -> Vec<Element> {
    let mut list = Vec::new();
    while let Some(kind) = octets.first() {
        let width = if *kind < 128 { 1 } else { 2 };
        octets = sized(octets, 1, width, &mut list, |_, value| plain(value));
    }
    list
}

fn nlri(family: &[u8], mut routes: &[u8]) -> Vec<Element> {
    let mut list = Vec::new();
    match family {
        [0, 25, 70] => {
            while !routes.is_empty() {
                routes = sized(routes, 1, 1, &mut list, |head, body| route(head[0], body));
            }
        }
        [0, 1, 132] => {
            while let Some(bits) = routes.first() {
                let (route, rest) = routes.split_at(routes.len().min(1 + usize::from(*bits).div_ceil(8)));
                list.push(Element::Octets(route.to_vec()));
                routes = rest;
            }
        }
        _ => list.extend(plain(routes)),
    }
    list
}

/// The fields of an EVPN route; addresses and labels are what is left.
fn route(route_type: u8, body: &[u8]) -> Vec<Element> {
    match route_type {
        1 => fields(body, &[8, 10, 4, 3]),
        2 => {
            let address = match body.get(29) {
                Some(32) => 4,
                Some(128) => 16,
                _ => 0,
            };
            fields(body, &[8, 10, 4, 1, 6, 1, address, 3, 3])
        }
        3 => fields(body, &[8, 4, 1]),
        4 => fields(body, &[8, 10, 1]),
        5 if body.len() > 40 => fields(body, &[8, 10, 4, 1, 16, 16, 3]),
        5 => fields(body, &[8, 10, 4, 1, 4, 4, 3]),
        _ => plain(body),
    }
}

fn fields(mut octets: &[u8], lengths: &[usize]) -> Vec<Element> {
    let mut list = Vec::new();
    for length in lengths {
        let (field, rest) = octets.split_at(octets.len().min(*length));
        list.extend(plain(field));
        octets = rest;
    }
    list.extend(plain(octets));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_a_change_is_written_as_it_was_read() {
        let update =
            b"\x01\0\0\0\x37\x40\x01\x01\0\x40\x02\x06\x02\x01\0\0\xfd\xe8\xc0\x17\x08\0\x08\0\x04\x80\0\x01\0\
            \x80\x0e\x1c\0\x19\x46\x04\x0a\0\0\x01\0\x03\x11\0\x01\x0a\0\0\x01\0\x64\0\0\0\0\x20\x0a\0\0\x01rest";
        for end in 0..update.len() {
            assert_eq!(write(&parse(&update[..end])), update[..end]);
        }
        assert!(parse(update).iter().map(Element::count).sum::<usize>() > 20, "the structure was found");
    }
}
