//! Which TCP-MD5 keys the listeners hold. Pure, but for what the owner does with the differences.
//!
//! The kernel keeps the keys of a socket in memory that it limits (`net.core.optmem_max`): 150 keys on kernels before 6.7, 960
//! since. Peers that share a key, as all nodes of a cluster do, therefore share prefixes as well once there are many:
//!
//! ```text
//!   10.0.0.1, 10.0.0.2, 10.0.0.9, … with key A;  10.0.0.5 without
//!       └──► 10.0.0.0/30 A, 10.0.0.8/29 A          (of those that hold for an address, the longest counts)
//! ```
//!
//! A prefix is never wider than the peers under it, and holds nobody who has another key or none. Who is let in does not
//! depend on it: that is decided by address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes for one key and one family, as far as others' addresses in between allow. Twice as many must fit the smallest
/// limit, since new ones are set before old ones go.
const PREFIXES: usize = 64;

/// Keys by prefix.
pub(crate) type Table = BTreeMap<IpNet, String>;

/// What has to change in the kernel.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// To set, first.
    pub(crate) set: Table,
    /// To remove, afterwards.
    pub(crate) removed: Vec<IpNet>,
}

/// The keys that are wanted, and those that the kernel has.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    peers: BTreeMap<IpAddr, Option<String>>,
    accepted: BTreeMap<IpNet, Option<String>>,
    installed: Table,
    dirty: bool,
}

impl Keys {
    /// This peer has this key, or none.
    pub(crate) fn set_peer(&mut self, address: IpAddr, key: Option<String>) {
        self.dirty |= longest(&self.installed, address) != key.as_ref();
        self.peers.insert(address, key);
    }

    /// This peer is none any more. A prefix that others share stays.
    pub(crate) fn remove_peer(&mut self, address: IpAddr) {
        self.peers.remove(&address);
        self.dirty |= self.installed.contains_key(&IpNet::from(address));
    }

    /// Who may come from these prefixes has this key, or none.
    pub(crate) fn set_accepted(&mut self, accepted: BTreeMap<IpNet, Option<String>>) {
        self.dirty |= accepted != self.accepted;
        self.accepted = accepted;
    }

    /// Whether anybody has one.
    pub(crate) fn are_in_use(&self) -> bool {
        self.peers.values().chain(self.accepted.values()).any(Option::is_some)
    }

    /// What has to be done so that everybody's key holds; nothing as long as it does.
    pub(crate) fn difference(&self) -> Difference {
        if !self.dirty {
            return Difference::default();
        }
        let wanted = self.wanted();
        let is_new = |(prefix, key): &(&IpNet, &String)| self.installed.get(*prefix) != Some(*key);
        Difference {
            set: wanted.iter().filter(is_new).map(|(prefix, key)| (*prefix, key.clone())).collect(),
            removed: self.installed.keys().filter(|prefix| !wanted.contains_key(*prefix)).copied().collect(),
        }
    }

    /// The kernel has this key now, or none.
    pub(crate) fn note(&mut self, prefix: IpNet, key: Option<String>) {
        match key {
            Some(key) => _ = self.installed.insert(prefix, key),
            None => _ = self.installed.remove(&prefix),
        }
    }

    /// All of the last difference was done.
    pub(crate) fn settle(&mut self) {
        self.dirty = false;
    }

    fn wanted(&self) -> Table {
        let accepted = self.accepted.iter().filter_map(|(prefix, key)| Some((*prefix, key.clone()?)));
        let mut table: Table = accepted.collect();
        // Whose prefix has the key already needs no other.
        let own = self.peers.iter().filter(|(address, key)| longest(&table, **address) != key.as_ref());
        let mut shared: BTreeMap<(bool, &String), BTreeSet<u128>> = BTreeMap::new();
        for (address, key) in own {
            if let Some(key) = key {
                shared.entry((address.is_ipv4(), key)).or_default().insert(bits(*address));
            }
        }
        let mut all = Table::new();
        for ((is_ipv4, key), addresses) in &shared {
            let addresses: Vec<u128> = addresses.iter().copied().collect();
            let length = shared_length(&addresses, width(*is_ipv4));
            for group in addresses.chunk_by(|a, b| common(*a, *b, width(*is_ipv4)) >= length) {
                self.cover(*is_ipv4, key, group, &mut all);
            }
        }
        table.append(&mut all);
        table
    }

    /// The narrowest prefix around these addresses, or several where somebody else's is between them.
    fn cover(&self, is_ipv4: bool, key: &String, group: &[u128], table: &mut Table) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
        let length = common(*first, *last, width(is_ipv4));
        let Some(prefix) = network(is_ipv4, *first, length) else { return };
        if length == width(is_ipv4) || self.is_free(prefix, key) {
            table.insert(prefix, key.clone());
            return;
        }
        // Both halves have addresses, since the prefix is the narrowest.
        let middle = group.partition_point(|address| common(*first, *address, width(is_ipv4)) > length);
        let (low, high) = group.split_at(middle);
        self.cover(is_ipv4, key, low, table);
        self.cover(is_ipv4, key, high, table);
    }

    /// Whether nobody in a prefix has another key or none.
    fn is_free(&self, prefix: IpNet, key: &String) -> bool {
        let meets = |other: &IpNet| other.contains(&prefix) || prefix.contains(other);
        let mut peers = self.peers.range(prefix.network()..=prefix.broadcast());
        peers.all(|(_, other)| other.as_ref() == Some(key))
            && self.accepted.iter().all(|(other, theirs)| !meets(other) || theirs.as_ref() == Some(key))
    }
}

/// The key that holds for an address.
fn longest(table: &Table, address: IpAddr) -> Option<&String> {
    let holding = table.iter().filter(|(prefix, _)| prefix.contains(&address));
    holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, key)| key)
}

/// The longest prefix length by which sorted addresses fall into few enough groups.
fn shared_length(addresses: &[u128], width: u8) -> u8 {
    let neighbours = addresses.iter().zip(addresses.iter().skip(1));
    let mut steps: Vec<u8> = neighbours.map(|(a, b)| common(*a, *b, width)).collect();
    if steps.len() < PREFIXES {
        return width;
    }
    // A group ends where two neighbours share less: as many ends as there may be groups but one.
    steps.sort_unstable();
    steps.get(PREFIXES - 1).copied().unwrap_or(width)
}

/// How many leading bits two addresses of this width share.
fn common(a: u128, b: u128, width: u8) -> u8 {
    let differing = (a ^ b) << (128 - u32::from(width));
    u8::try_from(differing.leading_zeros()).unwrap_or(width).min(width)
}

const fn width(is_ipv4: bool) -> u8 {
    if is_ipv4 { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn network(is_ipv4: bool, bits: u128, length: u8) -> Option<IpNet> {
    let address = if is_ipv4 { IpAddr::V4(u32::try_from(bits).ok()?.into()) } else { IpAddr::V6(bits.into()) };
    Some(IpNet::new(address, length).ok()?.trunc())
}

#[cfg(test)]
#[path = "keys/tests.rs"]
mod tests;
