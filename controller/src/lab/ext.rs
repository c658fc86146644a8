//! `lab.ext`: collision domains joined to interfaces of the host.
//!
//! In: the file's bytes and the lab's LANs. Out: the links.

use std::collections::BTreeSet;

use super::conf::lines;
use super::error::{ErrorCode, Location, Report, quote};
use super::model::{ExternalLink, Lan};
use super::text::{Integer, integer, is_blank, is_word_text, trim};

/// The file's name.
pub(super) const FILE: &str = "lab.ext";

/// Highest VLAN of IEEE 802.1Q that carries traffic.
const VLAN_MAX: u16 = 4094;

/// Reads `lab.ext`.
pub(super) fn parse(bytes: &[u8], lans: &[Lan], report: &mut Report) -> Vec<ExternalLink> {
    let known: BTreeSet<&str> = lans.iter().map(|lan| lan.name.as_str()).collect();
    let mut links = Vec::new();
    for (line, text) in lines(bytes, FILE) {
        let text = match text {
            Ok(text) => trim(text.split('#').next().unwrap_or_default()),
            Err(error) => {
                error.note(report);
                continue;
            }
        };
        if text.is_empty() {
            continue;
        }
        let Some(link) = parse_link(text) else {
            let expected = "`collision_domain interface` or `collision_domain interface.VLAN`, VLAN up to 4094";
            let location = Location::line(FILE, line);
            report.error(location, ErrorCode::Syntax, quote(text), expected);
            continue;
        };
        if !known.contains(link.lan.as_str()) {
            report.error(
                Location::line(FILE, line),
                ErrorCode::UnknownLan,
                format!("collision domain {}", quote(&link.lan)),
                "one that an interface in lab.conf is on",
            );
        }
        links.push(link);
    }
    links
}

fn parse_link(text: &str) -> Option<ExternalLink> {
    let mut words = text.split(is_blank).filter(|word| !word.is_empty());
    let (lan, target) = (words.next()?, words.next()?);
    let (interface, vlan) = match target.split_once('.') {
        Some((interface, vlan)) => (interface, parse_vlan(vlan)?),
        None => (target, None),
    };
    let is_link = words.next().is_none() && is_word_text(lan) && is_word_text(interface);
    is_link.then(|| ExternalLink { lan: lan.to_owned(), interface: interface.to_owned(), vlan })
}

/// `Some(None)` is VLAN 0: untagged.
fn parse_vlan(text: &str) -> Option<Option<u16>> {
    match integer(text)? {
        Integer::Value(0) => Some(None),
        Integer::Value(vlan) => {
            let vlan = u16::try_from(vlan).ok()?;
            (vlan <= VLAN_MAX).then_some(Some(vlan))
        }
        Integer::TooLarge => None,
    }
}
