//! The files of a lab in memory, and the parsing of them all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::conf::{self, RESERVED_NAMES};
use super::error::{ErrorCode, LabErrors, Location, Report, Warning, WarningCode, quote};
use super::model::{Device, Lab, Script};
use super::{dep, ext, settings};

/// What a lab's directory holds. A file that is not there is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabSource {
    /// The directory.
    pub path: PathBuf,
    /// `lab.conf`.
    pub conf: Option<Vec<u8>>,
    /// `lab.dep`.
    pub dep: Option<Vec<u8>>,
    /// `lab.ext`.
    pub ext: Option<Vec<u8>>,
    /// `kathara.conf`.
    pub settings: Option<Vec<u8>>,
    /// `NAME.startup`, by NAME.
    pub startups: BTreeMap<String, Script>,
    /// `NAME.shutdown`, by NAME.
    pub shutdowns: BTreeMap<String, Script>,
    /// Sub-directories, by name, hidden ones left out.
    pub directories: BTreeMap<String, PathBuf>,
}

/// Makes a lab of its files.
///
/// # Errors
///
/// Everything that is wrong with the lab, at once.
pub fn parse(source: LabSource) -> Result<(Lab, Vec<Warning>), LabErrors> {
    let mut report = Report::default();
    let lab = parse_into(source, &mut report);
    report.finish(lab)
}

/// The same, into a report that may hold findings already.
pub(super) fn parse_into(source: LabSource, report: &mut Report) -> Lab {
    let conf = match source.conf.as_deref() {
        Some(bytes) => conf::parse(bytes, report),
        None => conf::Conf::default(),
    };
    check_presence(&source, &conf, report);
    let start_groups = dep::start_groups(source.dep.as_deref(), &conf.devices, report);
    let external = source.ext.as_deref().map(|b| ext::parse(b, &conf.lans, report));
    let settings = source.settings.as_deref().map(|b| settings::parse(b, report));
    let mut lab = Lab {
        path: source.path,
        metadata: conf.metadata,
        devices: conf.devices,
        lans: conf.lans,
        start_groups,
        external: external.unwrap_or_default(),
        settings: settings.unwrap_or_default(),
        ..Lab::default()
    };
    let (mut startups, mut shutdowns) = (source.startups, source.shutdowns);
    let mut directories = source.directories;
    lab.shared_startup = startups.remove("shared");
    lab.shared_shutdown = shutdowns.remove("shared");
    lab.shared_directory = directories.remove("shared");
    for device in &mut lab.devices {
        device.startup = startups.remove(&device.name);
        device.shutdown = shutdowns.remove(&device.name);
        device.directory = directories.remove(&device.name);
    }
    // Where lab.conf is in error, its devices are not all known.
    if !report.has_errors() {
        warn_orphans(&lab.devices, startups.keys(), ".startup", report);
        warn_orphans(&lab.devices, shutdowns.keys(), ".shutdown", report);
        warn_orphans(&lab.devices, directories.keys(), "/", report);
    }
    lab
}

fn check_presence(source: &LabSource, conf: &conf::Conf, report: &mut Report) {
    let found = match source.conf.as_deref() {
        // It may be there and unreadable, which is noted already.
        None if report.has_errors() => return,
        None => "no such file",
        Some([]) => "an empty file",
        Some(_) if conf.devices.is_empty() && !report.has_errors() => "no device",
        Some(_) => return,
    };
    report.error(
        Location::file(conf::FILE),
        ErrorCode::Missing,
        found,
        "at least one device, as in `pc1[0]=\"A\"`: write one such line per interface, and check that this \
         directory is the lab's",
    );
}

/// Warns of files that belong to no device.
fn warn_orphans<'a>(devices: &[Device], names: impl Iterator<Item = &'a String>, suffix: &str, report: &mut Report) {
    for name in names {
        let lower = name.to_lowercase();
        let cure = if RESERVED_NAMES.contains(&name.as_str()) {
            "rename it: the name is kept by the format".to_owned()
        } else if devices.iter().any(|device| device.name == lower) {
            format!("rename it to {}", quote(&format!("{lower}{suffix}")))
        } else {
            format!("add the device {} to lab.conf, or ignore this", quote(name))
        };
        report.warn(
            Location::file(format!("{name}{suffix}")),
            WarningCode::Orphan,
            "lab.conf names no such device, so this is not used",
            cure,
        );
    }
}
