//! The ledger of refusals: who broke which rule how often, and what of it is logged.
//!
//! Everybody who refuses something (listener, session tasks, the owner) notes it here. Each refusal counts; log lines are
//! limited per peer and rule and in total, so that no peer can fill a disk, and what was left out is summed up later.
//! The number of peers that are told apart is limited too: further ones, and those that are gone when room is needed, are
//! counted together as `other`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bgp_core::rule::{Action, Rule};
use bytes::Bytes;

/// How long the limits on log lines count.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines for one rule of one peer in a window.
const LINES: u32 = 5;
/// Lines for all in a window.
const TOTAL_LINES: u32 = 200;
/// Octets of messages that all lines of a window show; the line that reaches it is still whole.
const TOTAL_OCTETS: usize = 1 << 20;
/// Peers whose counts are kept apart.
const MAX_PEERS: usize = 1_024;

/// Who broke a rule.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Who {
    /// A peer.
    Peer(IpAddr),
    /// Somebody who is nobody's peer. All strangers count as one, since they choose their addresses.
    Stranger(SocketAddr),
    /// This host: its kernel, its devices, its stations.
    Host,
}

/// What the log shows beside peer and rule.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The message whole, with its header; empty where there is none.
    pub message: Bytes,
    /// The routes concerned, in words.
    pub routes: String,
    /// Type code of the attribute concerned.
    pub attribute: Option<u8>,
    /// More in words. Text of a peer must have been made fit for a log.
    pub detail: String,
}

/// A count, for metrics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Count {
    /// The peer's address, or `stranger`, `host`, `other`.
    pub peer: String,
    /// The rule.
    pub rule: Rule,
    /// What was done.
    pub action: Action,
    /// How often.
    pub count: u64,
}

/// The ledger; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

/// Under which name counts are kept.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Name {
    Peer(IpAddr),
    Stranger,
    Host,
    Other,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) => address.fmt(f),
            Self::Stranger => f.write_str("stranger"),
            Self::Host => f.write_str("host"),
            Self::Other => f.write_str("other"),
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    names: HashMap<Name, Account>,
    /// The window that all lines count in.
    began: Option<Instant>,
    lines: u32,
    octets: usize,
    /// Occurrences that no line of this window tells of, over all names.
    untold: u64,
    /// The same since the process began.
    suppressed: u64,
}

/// The refusals under one name.
#[derive(Debug, Default)]
struct Account {
    entries: BTreeMap<(Rule, Action), Entry>,
    /// The peer was removed: its counts may become those of `other`.
    gone: bool,
}

#[derive(Debug, Default)]
struct Entry {
    count: u64,
    /// Lines in the current window.
    lines: u32,
    /// Occurrences that no line has told of yet.
    untold: u64,
}

impl Ledger {
    /// Nothing in here panics while it holds the lock, and a count that is late does no harm.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `times` refusals and logs them where the limits allow; `evidence` is only asked for then.
    pub fn note(&self, who: Who, rule: Rule, action: Action, times: u64, evidence: impl FnOnce() -> Evidence) {
        if times == 0 {
            return;
        }
        self.sum_up(Instant::now());
        if !self.book().count(who, rule, action, times) {
            return;
        }
        // Neither the caller's work nor the log's under the lock.
        let evidence = evidence();
        self.book().octets += evidence.message.len().saturating_add(evidence.routes.len());
        log(who, rule, action, times, &evidence);
    }

    /// All counts. None shrinks while its peer is configured or connected; their sum never does.
    pub fn counts(&self) -> Vec<Count> {
        let book = self.book();
        let of_name = |(name, account): (&Name, &Account)| {
            let peer = name.to_string();
            let count = |(&(rule, action), entry): (&(Rule, Action), &Entry)| Count {
                peer: peer.clone(),
                rule,
                action,
                count: entry.count,
            };
            account.entries.iter().map(count).collect::<Vec<_>>()
        };
        book.names.iter().flat_map(of_name).collect()
    }

    /// Occurrences that were counted and not logged.
    pub fn suppressed(&self) -> u64 {
        self.book().suppressed
    }

    /// A peer came: its counts are its own as long as it stays.
    pub(crate) fn remember(&self, peer: IpAddr) {
        if let Some(account) = self.book().names.get_mut(&Name::Peer(peer)) {
            account.gone = false;
        }
    }

    /// A peer was removed: once room is needed its counts go on as those of `other`.
    pub(crate) fn forget(&self, peer: IpAddr) {
        if let Some(account) = self.book().names.get_mut(&Name::Peer(peer)) {
            account.gone = true;
        }
    }

    /// When [`Ledger::sum_up`] has something to say, if nothing else happens.
    pub fn next_summary(&self) -> Option<Instant> {
        let book = self.book();
        book.began.filter(|_| book.untold > 0).map(|began| began + WINDOW)
    }

    /// Once the window is over: says what was left out, and begins a new one.
    pub fn sum_up(&self, now: Instant) {
        let untold = {
            let mut book = self.book();
            match book.began {
                Some(began) if now.saturating_duration_since(began) < WINDOW => return,
                _ => book.turn(now),
            }
        };
        let told = untold.len().min(TOTAL_LINES as usize);
        for (name, rule, action, times) in untold.iter().take(told) {
            tracing::warn!(
                peer = %name, rule = rule.code(), action = action.name(), times,
                "{times} more suppressed in the last {} s: {}", WINDOW.as_secs(), rule.meaning()
            );
        }
        let rest: u64 = untold.iter().skip(told).map(|(.., times)| times).sum();
        if rest > 0 {
            tracing::warn!(times = rest, "{rest} more suppressed in the last {} s, of many peers", WINDOW.as_secs());
        }
    }
}

impl Book {
    /// Counts; whether a line may tell of it.
    fn count(&mut self, who: Who, rule: Rule, action: Action, times: u64) -> bool {
        let mut name = match who {
            Who::Peer(address) => Name::Peer(address),
            Who::Stranger(_) => Name::Stranger,
            Who::Host => Name::Host,
        };
        if self.names.len() >= MAX_PEERS && !self.names.contains_key(&name) && !self.make_room() {
            name = Name::Other;
        }
        let room = self.lines < TOTAL_LINES && self.octets < TOTAL_OCTETS;
        let entry = self.names.entry(name).or_default().entries.entry((rule, action)).or_default();
        entry.count = entry.count.saturating_add(times);
        if room && entry.lines < LINES {
            entry.lines += 1;
            self.lines += 1;
            return true;
        }
        entry.untold = entry.untold.saturating_add(times);
        self.untold = self.untold.saturating_add(times);
        self.suppressed = self.suppressed.saturating_add(times);
        false
    }

    /// Turns the counts of a peer that is gone into those of `other`; false if there is none.
    fn make_room(&mut self) -> bool {
        let gone = self.names.iter().find(|(_, account)| account.gone).map(|(name, _)| *name);
        let Some(account) = gone.and_then(|name| self.names.remove(&name)) else { return false };
        let other = &mut self.names.entry(Name::Other).or_default().entries;
        for (key, entry) in account.entries {
            let kept = other.entry(key).or_default();
            kept.count = kept.count.saturating_add(entry.count);
            kept.untold = kept.untold.saturating_add(entry.untold);
        }
        true
    }

    /// Begins a new window; yields what no line of the last one told.
    fn turn(&mut self, now: Instant) -> Vec<(Name, Rule, Action, u64)> {
        (self.began, self.lines, self.octets, self.untold) = (Some(now), 0, 0, 0);
        let mut untold = Vec::new();
        for (name, account) in &mut self.names {
            for ((rule, action), entry) in &mut account.entries {
                entry.lines = 0;
                if entry.untold > 0 {
                    untold.push((*name, *rule, *action, std::mem::take(&mut entry.untold)));
                }
            }
        }
        untold
    }
}

/// What has no effect is told at a lower level: it is noise, and rarely a fault.
fn log(who: Who, rule: Rule, action: Action, times: u64, evidence: &Evidence) {
    let peer = match who {
        Who::Peer(address) => address.to_string(),
        Who::Stranger(address) => address.to_string(),
        Who::Host => "host".to_owned(),
    };
    let text = Text { rule, evidence };
    match action {
        Action::Ignore => tracing::info!(%peer, rule = rule.code(), action = action.name(), times, "{text}"),
        _ => tracing::warn!(%peer, rule = rule.code(), action = action.name(), times, "{text}"),
    }
}

/// `An attribute came twice (RFC 7606 section 3 g): detail; attribute 5; routes [2]…; message ffff…`.
struct Text<'a> {
    rule: Rule,
    evidence: &'a Evidence,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { message, routes, attribute, detail } = self.evidence;
        write!(f, "{} ({})", self.rule.meaning(), self.rule.reference())?;
        if !detail.is_empty() {
            write!(f, ": {detail}")?;
        }
        if let Some(code) = attribute {
            write!(f, "; attribute {code}")?;
        }
        if !routes.is_empty() {
            write!(f, "; routes {routes}")?;
        }
        if !message.is_empty() {
            f.write_str("; message ")?;
            message.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        }
        Ok(())
    }
}

/// Keys of routes that were announced, as a list for a log line.
pub(crate) fn list_keys(keys: &[bgp_core::wire::EvpnKey]) -> String {
    keys.iter().map(|key| format!("+{key}")).collect::<Vec<_>>().join(" ")
}

/// Keys of routes, announced and withdrawn, as a list for a log line.
pub(crate) fn list_routes(update: &bgp_core::wire::Update) -> String {
    use bgp_core::wire::message::{Routes, Unreach};
    let mut list = String::new();
    let mut add = |key: &dyn fmt::Display, sign: char| {
        let space = if list.is_empty() { "" } else { " " };
        let _ = write!(list, "{space}{sign}{key}");
    };
    match update.reach.as_ref().map(|reach| &reach.routes) {
        Some(Routes::Evpn(routes)) => routes.iter().for_each(|route| add(&route.key, '+')),
        Some(Routes::RtConstrain(routes)) => routes.iter().for_each(|route| add(&route.key, '+')),
        None => {}
    }
    for unreach in &update.unreach {
        match unreach {
            Unreach::Evpn(keys) => keys.iter().for_each(|key| add(key, '-')),
            Unreach::RtConstrain(keys) => keys.iter().for_each(|key| add(key, '-')),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use bgp_core::wire::rules;

    use super::*;

    const RULE: Rule = rules::ORIGIN_LENGTH;

    fn peer(number: u32) -> Who {
        Who::Peer(IpAddr::V4((0x0a00_0000 + number).into()))
    }

    /// Notes once; whether the evidence was asked for.
    fn noted(ledger: &Ledger, who: Who, octets: usize) -> bool {
        let mut asked = false;
        ledger.note(who, RULE, Action::Withdraw, 1, || {
            asked = true;
            Evidence { message: Bytes::from(vec![0; octets]), ..Evidence::default() }
        });
        asked
    }

    fn total(ledger: &Ledger) -> u64 {
        ledger.counts().iter().map(|count| count.count).sum()
    }

    #[test]
    fn every_refusal_counts_and_only_the_first_of_a_window_are_logged() {
        let ledger = Ledger::default();
        let logged = (0..100).filter(|_| noted(&ledger, peer(1), 0)).count();
        assert_eq!((logged, total(&ledger), ledger.suppressed()), (LINES as usize, 100, 95));
        assert!(noted(&ledger, peer(2), 0), "one peer's flood hides another's fault");
    }

    #[test]
    fn what_was_left_out_is_summed_up_and_a_new_window_begins() {
        let ledger = Ledger::default();
        assert_eq!(ledger.next_summary(), None);
        (0..100).for_each(|_| _ = noted(&ledger, peer(1), 0));
        let due = ledger.next_summary().expect("something was left out");
        ledger.sum_up(due - Duration::from_millis(1));
        assert_eq!(ledger.next_summary(), Some(due), "the window is not over");
        ledger.sum_up(due);
        assert_eq!(ledger.next_summary(), None);
        assert!(noted(&ledger, peer(1), 0));
    }

    #[test]
    fn large_messages_use_up_the_window_of_all() {
        let ledger = Ledger::default();
        let logged = (0..200).filter(|number| noted(&ledger, peer(*number), 65_535)).count();
        assert_eq!(logged, TOTAL_OCTETS.div_ceil(65_535));
    }

    #[test]
    fn names_are_bounded_and_no_count_is_lost() {
        let ledger = Ledger::default();
        let peers = u32::try_from(MAX_PEERS).unwrap() + 500;
        (0..peers).for_each(|number| _ = noted(&ledger, peer(number), 0));
        let counts = ledger.counts();
        assert_eq!(counts.len(), MAX_PEERS + 1);
        assert_eq!(counts.iter().find(|count| count.peer == "other").unwrap().count, 500);
        assert_eq!(total(&ledger), u64::from(peers));
    }

    #[test]
    fn a_peer_that_is_gone_keeps_its_name_until_room_is_needed() {
        let ledger = Ledger::default();
        let address = |number: u32| IpAddr::V4((0x0a00_0000 + number).into());
        let is_named = |number: u32| ledger.counts().iter().any(|count| count.peer == address(number).to_string());
        let peers = u32::try_from(MAX_PEERS).unwrap();
        (0..peers).for_each(|number| _ = noted(&ledger, peer(number), 0));
        ledger.forget(address(7));
        ledger.forget(address(8));
        ledger.remember(address(8));
        assert!(is_named(7));
        assert!(!noted(&ledger, peer(peers), 0) && is_named(peers), "a newcomer takes the place of who is gone");
        assert!(!is_named(7) && is_named(8));
        assert_eq!(total(&ledger), u64::from(peers) + 1);
    }

    #[test]
    fn strangers_are_counted_as_one() {
        let ledger = Ledger::default();
        for port in 0..1_000 {
            ledger.note(Who::Stranger(([192, 0, 2, 1], port).into()), RULE, Action::Close, 1, Evidence::default);
        }
        let expected = Count { peer: "stranger".into(), rule: RULE, action: Action::Close, count: 1_000 };
        assert_eq!(ledger.counts(), [expected]);
    }

    #[test]
    fn a_line_names_rule_reference_routes_and_the_message_in_hex() {
        let evidence = Evidence {
            message: Bytes::from_static(&[0xff, 0x00, 0x1b]),
            routes: "-[2][1:1]".into(),
            attribute: Some(1),
            detail: "why".into(),
        };
        assert_eq!(
            Text { rule: RULE, evidence: &evidence }.to_string(),
            "ORIGIN is not one octet (RFC 7606 section 7.1): why; attribute 1; routes -[2][1:1]; message ff001b"
        );
    }
}
