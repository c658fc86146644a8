//! `lab.dep`: which device starts after which.
//!
//! In: the file's bytes and the devices' names. Out: groups of devices to be started one group after
//! the other. Devices that wait for nobody are in the first group.

use std::collections::BTreeMap;

use super::conf::lines;
use super::error::{ErrorCode, Location, Report, WarningCode, quote};
use super::model::Device;
use super::text::{is_blank, is_word_text, trim};

/// The file's name.
pub(super) const FILE: &str = "lab.dep";

/// Reads `lab.dep` and computes the order of starting.
pub(super) fn start_groups(bytes: Option<&[u8]>, devices: &[Device], report: &mut Report) -> Vec<Vec<usize>> {
    let mut graph = Graph { after: vec![BTreeMap::new(); devices.len()] };
    let index: BTreeMap<&str, usize> = devices.iter().map(|d| d.name.as_str()).zip(0..).collect();
    for (line, text) in lines(bytes.unwrap_or_default(), FILE) {
        match text {
            Ok(text) => parse_line(line, text, &index, &mut graph, report),
            Err(error) => error.note(report),
        }
    }
    graph.groups(devices, report)
}

/// Who waits for whom.
struct Graph {
    /// For each device the devices that start before it, with the line that says so.
    after: Vec<BTreeMap<usize, usize>>,
}

/// Reads `device: before before …`.
fn parse_line(line: usize, text: &str, index: &BTreeMap<&str, usize>, graph: &mut Graph, report: &mut Report) {
    let uncommented = text.split('#').next().unwrap_or_default();
    let text = trim(uncommented);
    if text.is_empty() {
        return;
    }
    let location = || Location::line(FILE, line);
    let parts = text.split_once(':').map(|(device, names)| {
        let names: Vec<&str> = names.split(is_blank).filter(|n| !n.is_empty()).collect();
        (trim(device), names)
    });
    let is_name = |name: &&str| is_word_text(name);
    let Some((device, names)) = parts.filter(|(d, n)| is_word_text(d) && n.iter().all(is_name)) else {
        report.error(
            location(),
            ErrorCode::Syntax,
            quote(text),
            "`device: other another`, the devices after the colon being those that start first",
        );
        return;
    };
    if names.is_empty() {
        report.warn(
            location(),
            WarningCode::OddValue,
            format!("{} waits for nobody", quote(device)),
            "name devices after the colon, or remove the line",
        );
    }
    let mut known = |name: &str| {
        let place = index.get(name).copied();
        if place.is_none() {
            report.warn(
                location(),
                WarningCode::UnknownDevice,
                format!("{} is no device of this lab and is ignored", quote(name)),
                "correct the name, or remove it",
            );
        }
        place
    };
    let device = known(device);
    for name in names {
        if let (Some(before), Some(device)) = (known(name), device) {
            graph.add(device, before, line);
        }
    }
}

impl Graph {
    fn add(&mut self, device: usize, before: usize, line: usize) {
        if let Some(after) = self.after.get_mut(device) {
            after.entry(before).or_insert(line);
        }
    }

    /// Takes away, again and again, the devices that wait for nobody who is left.
    fn groups(self, devices: &[Device], report: &mut Report) -> Vec<Vec<usize>> {
        let mut waiting: Vec<usize> = self.after.iter().map(BTreeMap::len).collect();
        let mut followers = vec![Vec::new(); devices.len()];
        for (device, after) in self.after.iter().enumerate() {
            for before in after.keys() {
                if let Some(followers) = followers.get_mut(*before) {
                    followers.push(device);
                }
            }
        }
        let free = |(device, count): (usize, &usize)| (*count == 0).then_some(device);
        let mut group: Vec<usize> = waiting.iter().enumerate().filter_map(free).collect();
        let mut groups = Vec::new();
        while !group.is_empty() {
            let mut next = Vec::new();
            for follower in group.iter().filter_map(|d| followers.get(*d)).flatten() {
                if let Some(count) = waiting.get_mut(*follower) {
                    *count -= 1;
                    if *count == 0 {
                        next.push(*follower);
                    }
                }
            }
            next.sort_unstable();
            groups.push(std::mem::replace(&mut group, next));
        }
        self.report_loops(&waiting, devices, report);
        groups
    }

    /// Walks back from the devices that still wait; whoever meets a device of his own path has found a loop.
    fn report_loops(&self, waiting: &[usize], devices: &[Device], report: &mut Report) {
        let mut is_seen = vec![false; devices.len()];
        let is_stuck = |d: usize| waiting.get(d).is_some_and(|count| *count > 0);
        let before = |d: usize| {
            let before = self.after.get(d).into_iter().flat_map(BTreeMap::keys);
            before.copied().filter(|d| is_stuck(*d))
        };
        for start in (0..devices.len()).filter(|d| is_stuck(*d)) {
            // The devices from `start` to here, and for each the ones before it that are still to be visited.
            let mut path = Vec::new();
            let mut walks = vec![vec![start].into_iter()];
            while let Some(walk) = walks.last_mut() {
                let Some(here) = walk.next() else {
                    walks.pop();
                    path.pop();
                    continue;
                };
                if let Some(from) = path.iter().position(|d| *d == here) {
                    self.report_loop(path.get(from..).unwrap_or_default(), devices, report);
                } else if let Some(seen) = is_seen.get_mut(here).filter(|seen| !**seen) {
                    *seen = true;
                    path.push(here);
                    let next: Vec<usize> = before(here).collect();
                    walks.push(next.into_iter());
                }
            }
        }
    }

    fn report_loop(&self, path: &[usize], devices: &[Device], report: &mut Report) {
        let (Some(first), Some(last)) = (path.first(), path.last()) else {
            return;
        };
        let line = self.after.get(*last).and_then(|after| after.get(first));
        let names: Vec<&str> =
            path.iter().chain([first]).filter_map(|d| Some(devices.get(*d)?.name.as_str())).collect();
        report.error(
            Location::line(FILE, line.copied().unwrap_or(1)),
            ErrorCode::DependencyLoop,
            format!("a loop of waiting: {}", names.join(" after ")),
            "an order of starting: remove one of these dependencies",
        );
    }
}
