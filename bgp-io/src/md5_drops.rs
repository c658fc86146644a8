//! What the kernel drops for its TCP-MD5 signature (RFC 2385), made visible.
//!
//! The kernel drops without a word, on both sides, and does not say whose it was: it counts, for a whole network namespace.
//! The counters are read from time to time while keys are set, and their growth is noted in the ledger. So somebody who
//! pretends to be a peer and lacks its key (a pod whose connection is masqueraded as its node's) leaves a trace.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use bgp_core::rule::{Action, Rule};

use crate::ledger::{Evidence, Ledger, Who};
use crate::rules;

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(2);
/// Of the thread, since the namespace is one of the thread.
const PATH: &str = "/proc/thread-self/net/netstat";
/// The file has about 5,000 octets; what is longer is cut.
const MAX_OCTETS: u64 = 65_536;

/// The kernel's names and ours.
const COUNTERS: [(&str, Rule); 3] = [
    ("TCPMD5NotFound", rules::MD5_MISSING),
    ("TCPMD5Unexpected", rules::MD5_UNEXPECTED),
    ("TCPMD5Failure", rules::MD5_WRONG),
];

type Counts = [u64; COUNTERS.len()];

/// The counters as they were read last.
#[derive(Debug)]
pub(crate) struct Md5Drops {
    /// None: no key was set then, or the kernel does not count.
    last: Option<Counts>,
    due: Instant,
}

impl Md5Drops {
    /// To be read from `now` on.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { last: None, due: now }
    }

    /// When to read again.
    pub(crate) const fn next(&self) -> Instant {
        self.due
    }

    /// Reads the counters if that is due; `has_keys` says whether any key is set.
    pub(crate) fn poll(&mut self, has_keys: impl FnOnce() -> bool, now: Instant, ledger: &Ledger) {
        if self.due <= now {
            self.due = now + INTERVAL;
            self.compare(if has_keys() { read() } else { None }, ledger);
        }
    }

    fn compare(&mut self, counts: Option<Counts>, ledger: &Ledger) {
        let before = std::mem::replace(&mut self.last, counts);
        let Some((before, counts)) = before.zip(counts) else { return };
        for ((rule, before), count) in COUNTERS.iter().map(|(_, rule)| *rule).zip(before).zip(counts) {
            let evidence = || Evidence { detail: CURE.to_owned(), ..Evidence::default() };
            ledger.note(Who::Host, rule, Action::Note, count.saturating_sub(before), evidence);
        }
    }
}

const CURE: &str = "the kernel drops them and does not say whose they were; a peer without a session (`megalos show peers`) \
                    may need the key that is set here, else somebody pretends to be one. All programs of this network \
                    namespace count";

fn read() -> Option<Counts> {
    let mut text = String::new();
    File::open(PATH).ok()?.take(MAX_OCTETS).read_to_string(&mut text).ok()?;
    parse(&text)
}

/// Two lines for each protocol: names, then values.
fn parse(text: &str) -> Option<Counts> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
    let pairs: Vec<(&str, &str)> = names.zip(values).collect();
    let value = |name: &str| pairs.iter().find(|(other, _)| *other == name)?.1.parse().ok();
    let [first, second, third] = COUNTERS;
    Some([value(first.0)?, value(second.0)?, value(third.0)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "IpExt: InNoRoutes\nIpExt: 0\nTcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected \
                        TCPMD5Failure TCPSackShifted\nTcpExt: 0 5 6 7 12\n";

    #[test]
    fn the_counters_are_found_by_their_names() {
        assert_eq!(parse(TEXT), Some([5, 6, 7]));
        assert_eq!(parse("TcpExt: SyncookiesSent\nTcpExt: 0\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_kernel_has_them() {
        assert!(read().is_some());
    }

    #[test]
    fn only_what_came_while_keys_were_set_is_noted() {
        let ledger = Ledger::default();
        let mut drops = Md5Drops::new(Instant::now());
        let noted = || ledger.counts().iter().map(|count| (count.rule.code(), count.count)).collect::<Vec<_>>();
        drops.compare(Some([5, 6, 7]), &ledger);
        drops.compare(Some([5, 6, 7]), &ledger);
        assert_eq!(noted(), []);
        drops.compare(Some([7, 6, 8]), &ledger);
        assert_eq!(noted(), [("md5-missing", 2), ("md5-wrong", 1)]);
        drops.compare(None, &ledger);
        drops.compare(Some([9, 9, 9]), &ledger);
        assert_eq!(noted(), [("md5-missing", 2), ("md5-wrong", 1)]);
    }
}
