//! `lab.conf`: lines become devices and LANs.
//!
//! In: the file's bytes. Out: metadata, devices and LANs; errors and warnings go to the report. An
//! erroneous line is skipped and reading goes on, so that all errors come out at once.

use std::collections::BTreeMap;

use bgp_core::types::MacAddr;

use super::error::{ErrorCode, Location, Report, WarningCode, quote};
use super::line::{Assignment, Line, MetadataKey, Quoting, parse_line};
use super::model::{Device, Interface, Lan, LanMember, Metadata};
use super::options::{DeviceOptions, Outcome, likely_option};
use super::text::{Integer, integer, is_word_text};
use super::values::{Stray, ULIMIT_NAMES, stray};

/// The file's name.
pub(super) const FILE: &str = "lab.conf";

/// Device names that the format keeps for itself.
pub(super) const RESERVED_NAMES: [&str; 2] = ["shared", "_test"];

/// What `lab.conf` says.
#[derive(Debug, Default)]
pub(super) struct Conf {
    pub metadata: Metadata,
    pub devices: Vec<Device>,
    pub lans: Vec<Lan>,
}

/// Reads `lab.conf`.
pub(super) fn parse(bytes: &[u8], report: &mut Report) -> Conf {
    let mut reader = Reader { report, metadata: Metadata::default(), devices: Vec::new(), index: BTreeMap::new() };
    for (line, text) in lines(bytes, FILE) {
        match text {
            Ok(text) => reader.line(line, text),
            Err(error) => error.note(reader.report),
        }
    }
    reader.finish()
}

/// A line that cannot be read as text.
#[derive(Debug)]
pub(super) struct EncodingError {
    location: Location,
    found: &'static str,
}

impl EncodingError {
    /// Puts it into the report.
    pub(super) fn note(self, report: &mut Report) {
        let expected = "plain text in UTF-8: save the file with that encoding";
        report.error(self.location, ErrorCode::Encoding, self.found, expected);
    }
}

/// The lines of a file of the lab with their numbers, a byte order mark skipped.
pub(super) fn lines<'a>(
    bytes: &'a [u8],
    file: &'static str,
) -> impl Iterator<Item = (usize, Result<&'a str, EncodingError>)> {
    let body = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let numbered = (1..).zip(body.split(|byte| *byte == b'\n'));
    numbered.map(move |(line, bytes)| (line, decode(bytes, file, line)))
}

fn decode<'a>(bytes: &'a [u8], file: &str, line: usize) -> Result<&'a str, EncodingError> {
    let error = |before: &[u8], found| EncodingError {
        location: Location::line(file, line).at(String::from_utf8_lossy(before).chars().count() + 1),
        found,
    };
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes.get(..e.valid_up_to()).unwrap_or_default();
        error(before, "bytes that are not UTF-8")
    })?;
    match text.split_once('\0') {
        None => Ok(text),
        Some((before, _)) => Err(error(before.as_bytes(), "a NUL byte")),
    }
}

/// A device while its lines come in.
#[derive(Debug)]
struct DeviceReader {
    name: String,
    /// Line that names it first.
    line: usize,
    /// By number; with the line.
    interfaces: BTreeMap<u32, (Interface, usize)>,
    /// Line by LAN.
    lans: BTreeMap<String, usize>,
    options: DeviceOptions,
    /// A line of its interfaces is in error, so a gap in the numbers says nothing.
    is_incomplete: bool,
}

struct Reader<'a> {
    report: &'a mut Report,
    metadata: Metadata,
    devices: Vec<DeviceReader>,
    /// Index into `devices` by name.
    index: BTreeMap<String, usize>,
}

impl Reader<'_> {
    fn line(&mut self, line: usize, text: &str) {
        match parse_line(text) {
            Ok(Line::Nothing) => {}
            Ok(Line::Metadata(key, value)) => self.metadata(line, key, value),
            Ok(Line::Assignment(assignment)) => self.assignment(line, &assignment),
            Err(e) => {
                let location = Location::line(FILE, line).at(e.column);
                self.report.error(location, ErrorCode::Syntax, e.found, e.expected);
            }
        }
    }

    fn metadata(&mut self, line: usize, key: MetadataKey, raw: &str) {
        let value = raw.replace(['"', '\''], "");
        let name = key.as_str();
        let location = || Location::line(FILE, line);
        if value.contains('=') {
            self.report.warn(
                location(),
                WarningCode::OddMetadata,
                format!("the value of {name} holds a `=`, which Kathará refuses"),
                "write the value without `=` if the lab is to run there too",
            );
        }
        if stray(&value) == Some(Stray::Comment) {
            self.report.warn(
                location(),
                WarningCode::CommentInValue,
                format!("the comment is part of the value of {name}"),
                "put the comment on a line of its own",
            );
        }
        let slot = metadata_slot(&mut self.metadata, key);
        let is_replaced = slot.is_some();
        *slot = (!value.is_empty()).then_some(value);
        if is_replaced {
            self.report.warn(
                location(),
                WarningCode::Overwritten,
                format!("{name} is given again and replaces the earlier value"),
                "remove one of the lines",
            );
        }
    }

    fn assignment(&mut self, line: usize, assignment: &Assignment<'_>) {
        if RESERVED_NAMES.contains(&assignment.device) {
            self.report.error(
                Location::line(FILE, line),
                ErrorCode::ReservedName,
                format!("a device called {}", quote(assignment.device)),
                "another name: `shared` and `_test` are kept by the format",
            );
            return;
        }
        let Some(device) = device(&mut self.devices, &mut self.index, assignment.device, line) else {
            return;
        };
        match integer(assignment.arg) {
            Some(number) => device.interface(line, assignment, number, self.report),
            None => device.option(line, assignment, self.report),
        }
    }

    fn finish(self) -> Conf {
        let mut devices = Vec::with_capacity(self.devices.len());
        let mut lans = LanCollector::default();
        for (index, reader) in self.devices.into_iter().enumerate() {
            reader.check_numbers(self.report);
            for (interface, line) in reader.interfaces.values() {
                lans.add(index, interface, *line);
            }
            let interfaces = reader.interfaces.into_values();
            devices.push(Device {
                name: reader.name,
                interfaces: interfaces.map(|(interface, _)| interface).collect(),
                options: reader.options,
                ..Device::default()
            });
        }
        Conf { metadata: self.metadata, devices, lans: lans.in_file_order() }
    }
}

/// Gathers the members of each LAN, and where it is first mentioned.
#[derive(Default)]
struct LanCollector {
    lans: Vec<(usize, Lan)>,
    index: BTreeMap<String, usize>,
}

impl LanCollector {
    fn add(&mut self, device: usize, interface: &Interface, line: usize) {
        let place = *self.index.entry(interface.lan.clone()).or_insert_with(|| {
            let lan = Lan { name: interface.lan.clone(), members: Vec::new() };
            self.lans.push((line, lan));
            self.lans.len() - 1
        });
        if let Some((first, lan)) = self.lans.get_mut(place) {
            *first = line.min(*first);
            lan.members.push(LanMember { device, interface: interface.number });
        }
    }

    fn in_file_order(mut self) -> Vec<Lan> {
        self.lans.sort_by_key(|(line, _)| *line);
        self.lans.into_iter().map(|(_, lan)| lan).collect()
    }
}

fn device<'a>(
    devices: &'a mut Vec<DeviceReader>,
    index: &mut BTreeMap<String, usize>,
    name: &str,
    line: usize,
) -> Option<&'a mut DeviceReader> {
    let place = match index.get(name) {
        Some(place) => *place,
        None => {
            devices.push(DeviceReader {
                name: name.to_owned(),
                line,
                interfaces: BTreeMap::new(),
                lans: BTreeMap::new(),
                options: DeviceOptions::default(),
                is_incomplete: false,
            });
            index.insert(name.to_owned(), devices.len() - 1);
            devices.len() - 1
        }
    };
    devices.get_mut(place)
}

fn metadata_slot(metadata: &mut Metadata, key: MetadataKey) -> &mut Option<String> {
    match key {
        MetadataKey::Name => &mut metadata.name,
        MetadataKey::Description => &mut metadata.description,
        MetadataKey::Version => &mut metadata.version,
        MetadataKey::Author => &mut metadata.author,
        MetadataKey::Email => &mut metadata.email,
        MetadataKey::Web => &mut metadata.web,
    }
}

impl DeviceReader {
    fn interface(&mut self, line: usize, at: &Assignment<'_>, number: Integer, report: &mut Report) {
        let number = match number {
            Integer::Value(value) => u32::try_from(value).ok(),
            Integer::TooLarge => None,
        };
        let Some(number) = number else {
            self.is_incomplete = true;
            report.error(
                Location::line(FILE, line).at(at.arg_column),
                ErrorCode::InterfaceGap,
                format!("interface number {}", quote(at.arg)),
                "interfaces numbered from 0 without a gap",
            );
            return;
        };
        let Some((lan, mac)) = parse_interface(line, at, report) else {
            self.is_incomplete = true;
            return;
        };
        if let Some((_, first)) = self.interfaces.get(&number) {
            report.error(
                Location::line(FILE, line).at(at.arg_column),
                ErrorCode::Duplicate,
                format!("interface {number} of {} again (first on line {first})", self.name),
                "each interface number once per device",
            );
            return;
        }
        if let Some(first) = self.lans.get(lan) {
            self.is_incomplete = true;
            report.error(
                Location::line(FILE, line).at(at.value_column),
                ErrorCode::Duplicate,
                format!("{} on collision domain {} again (first on line {first})", self.name, quote(lan)),
                "a device on a collision domain once at most",
            );
            return;
        }
        self.lans.insert(lan.to_owned(), line);
        let lan = lan.to_owned();
        self.interfaces.insert(number, (Interface { number, lan, mac }, line));
    }

    fn option(&mut self, line: usize, at: &Assignment<'_>, report: &mut Report) {
        let location = || Location::line(FILE, line);
        let outcome = match self.options.set(at.arg, at.value) {
            Ok(outcome) => outcome,
            Err(invalid) => {
                let found = format!("{} for option {}", invalid.found, at.arg);
                let location = location().at(at.value_column);
                report.error(location, ErrorCode::BadOption, found, invalid.expected);
                return;
            }
        };
        let device = &self.name;
        match outcome {
            Outcome::Set => {}
            Outcome::Replaced(what) => report.warn(
                location(),
                WarningCode::Overwritten,
                format!("{what} of {device} is given again and replaces the earlier value"),
                "remove one of the lines",
            ),
            Outcome::Unknown => {
                let cure = match likely_option(at.arg) {
                    Some(known) => format!("did you mean {}?", quote(known)),
                    None => "correct the name, or remove the line".to_owned(),
                };
                let text = format!("option {} of {device} is unknown and has no effect", quote(at.arg));
                report.warn(location(), WarningCode::UnknownOption, text, cure);
            }
        }
        if at.quoting == Quoting::Bare {
            warn_stray(line, at, report);
        }
        self.warn_ulimit(line, at, report);
    }

    fn warn_ulimit(&self, line: usize, at: &Assignment<'_>, report: &mut Report) {
        if at.arg != "ulimit" {
            return;
        }
        let name = at.value.split('=').next().unwrap_or_default();
        if !ULIMIT_NAMES.contains(&name.trim()) {
            report.warn(
                Location::line(FILE, line).at(at.value_column),
                WarningCode::OddValue,
                format!("the system knows no limit called {}", quote(name)),
                format!("use one of {}", ULIMIT_NAMES.join(", ")),
            );
        }
    }

    /// Numbers must run from 0 without a gap.
    fn check_numbers(&self, report: &mut Report) {
        let count = self.interfaces.len();
        let Some((last, (_, line))) = self.interfaces.last_key_value() else {
            return;
        };
        if self.is_incomplete || usize::try_from(*last).is_ok_and(|last| last + 1 == count) {
            return;
        }
        let missing = (0..*last).find(|number| !self.interfaces.contains_key(number));
        report.error(
            Location::line(FILE, *line),
            ErrorCode::InterfaceGap,
            format!(
                "interface {last} of {}, which has no interface {} (the device begins on line {})",
                self.name,
                missing.unwrap_or_default(),
                self.line
            ),
            "interfaces numbered from 0 without a gap",
        );
    }
}

fn warn_stray(line: usize, at: &Assignment<'_>, report: &mut Report) {
    let (code, what) = match stray(at.value) {
        None => return,
        Some(Stray::Comment) => (WarningCode::CommentInValue, "the comment is part of the value"),
        Some(Stray::Blank) => (WarningCode::BlankInValue, "the blank is part of the value"),
    };
    report.warn(
        Location::line(FILE, line).at(at.value_column),
        code,
        format!("{what} of option {}: {}", at.arg, quote(at.value)),
        "put the value in quotes",
    );
}

/// Reads `LAN` or `LAN/MAC`; repeated slashes count as one.
fn parse_interface<'a>(line: usize, at: &Assignment<'a>, report: &mut Report) -> Option<(&'a str, Option<MacAddr>)> {
    let location = Location::line(FILE, line).at(at.value_column);
    let (lan, mac) = match at.value.split_once('/') {
        Some((lan, rest)) => (lan, Some(rest.trim_start_matches('/'))),
        None => (at.value, None),
    };
    if !is_word_text(lan) {
        let expected = match stray(at.value) {
            Some(Stray::Comment) if at.quoting == Quoting::Bare => {
                "a collision domain in quotes: without them, the comment is part of its name"
            }
            _ => "a collision domain of letters, digits and `_`, or one and a MAC address, as in `A/02:00:00:00:00:01`",
        };
        report.error(location, ErrorCode::BadInterface, quote(at.value), expected);
        return None;
    }
    let Some(mac) = mac else {
        return Some((lan, None));
    };
    let Ok(mac) = mac.parse::<MacAddr>() else {
        let expected = "a MAC address after `/`: six pairs of hexadecimal digits with colons between";
        report.error(location, ErrorCode::BadMac, quote(at.value), expected);
        return None;
    };
    if !mac.is_unicast() {
        let expected = "an address that an interface can have: the first pair even, and not all zero";
        report.error(location, ErrorCode::BadMac, format!("MAC address {mac}"), expected);
        return None;
    }
    Some((lan, Some(mac)))
}
