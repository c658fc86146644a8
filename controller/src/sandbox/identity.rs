//! Who root is: the user and group ids that exist for this process.

use std::fs;
use std::io;

/// The ids mapped in the caller's user namespace.
#[derive(Debug, Clone)]
pub(super) struct IdMap {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    outside: u64,
    count: u64,
}

impl IdMap {
    /// Reads the maps of the running process.
    pub(super) fn of_this_process() -> io::Result<Self> {
        Ok(Self::from_text(&fs::read_to_string("/proc/self/uid_map")?, &fs::read_to_string("/proc/self/gid_map")?))
    }

    /// Reads the kernel's form: lines of first id here, first outside, count.
    pub(super) fn from_text(uids: &str, gids: &str) -> Self {
        Self { uids: parse(uids), gids: parse(gids) }
    }

    /// Whether ids here are the host's: no user namespace, the files' real
    /// owners exist.
    pub(super) fn is_host(&self) -> bool {
        let whole = |ranges: &[Range]| {
            ranges.iter().any(|range| range.first == 0 && range.outside == 0 && range.count >= u64::from(u32::MAX))
        };
        whole(&self.uids) && whole(&self.gids)
    }

    /// The user id itself where it exists here, else root's.
    pub(super) fn uid(&self, id: u32) -> u32 {
        mapped(&self.uids, id)
    }

    /// The group id itself where it exists here, else root's.
    pub(super) fn gid(&self, id: u32) -> u32 {
        mapped(&self.gids, id)
    }
}

fn mapped(ranges: &[Range], id: u32) -> u32 {
    let id_wide = u64::from(id);
    let exists = ranges.iter().any(|range| (range.first..range.first.saturating_add(range.count)).contains(&id_wide));
    if exists { id } else { 0 }
}

fn parse(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(first)), Some(Ok(outside)), Some(Ok(count))) => Some(Range { first, outside, count }),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> IdMap {
        IdMap::from_text(text, text)
    }

    #[test]
    fn the_whole_map_is_the_hosts() {
        let ids = map("         0          0 4294967295\n");
        assert!(ids.is_host());
        assert_eq!(ids.uid(103), 103);
    }

    #[test]
    fn a_single_id_map_makes_everybody_root() {
        let ids = map("         0       1000          1\n");
        assert!(!ids.is_host());
        assert_eq!(ids.uid(0), 0);
        assert_eq!(ids.uid(103), 0);
        assert_eq!(ids.gid(65534), 0);
    }

    #[test]
    fn a_subordinate_range_keeps_service_users() {
        let ids = map("0 1000 1\n1 100000 65536\n");
        assert!(!ids.is_host());
        assert_eq!(ids.uid(103), 103);
        assert_eq!(ids.uid(70000), 0);
    }
}
