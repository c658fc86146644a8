//! Reading a lab's directory.
//!
//! The one place of this module tree that does I/O. In: a path. Out: a [`LabSource`], handed to the
//! parser. Trees of devices are not read, only found.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::error::{ErrorCode, LabErrors, Location, Report, Warning};
use super::model::{Lab, Script};
use super::source::{LabSource, parse_into};
use super::text::normalise_text;
use super::{conf, dep, ext, settings};

/// Largest file of a lab that is read into memory, in bytes; a `lab.conf` of a million interfaces fits.
const FILE_MAX_BYTES: u64 = 64 << 20;

/// Most entries of a lab's directory.
const ENTRIES_MAX: usize = 200_000;

/// Reads and parses the lab in `directory`.
///
/// # Errors
///
/// Everything that is wrong with the lab, at once, files that cannot be read included.
pub fn load(directory: &Path) -> Result<(Lab, Vec<Warning>), LabErrors> {
    let mut report = Report::default();
    let lab = match read_source(directory, &mut report) {
        Some(source) => parse_into(source, &mut report),
        None => Lab::default(),
    };
    report.finish(lab)
}

fn read_source(directory: &Path, report: &mut Report) -> Option<LabSource> {
    let opened = fs::canonicalize(directory).and_then(|path| Ok((fs::read_dir(&path)?, path)));
    let (entries, path) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::NotFound => ErrorCode::Missing,
                _ => ErrorCode::Unreadable,
            };
            let location = Location::file(directory.display().to_string());
            let expected = "a directory with a lab.conf that can be read";
            report.error(location, code, error.to_string(), expected);
            return None;
        }
    };
    let names = read_names(directory, entries, report);
    let mut source = LabSource { path, ..LabSource::default() };
    for name in names {
        read_entry(&mut source, name, report);
    }
    Some(source)
}

/// The names in the directory in order; those that are not UTF-8 belong to no lab.
fn read_names(directory: &Path, entries: fs::ReadDir, report: &mut Report) -> Vec<String> {
    let mut names = Vec::new();
    let mut unreadable = |found: String, expected: &str| {
        let location = Location::file(directory.display().to_string());
        report.error(location, ErrorCode::Unreadable, found, expected);
    };
    for (count, entry) in entries.enumerate() {
        if count == ENTRIES_MAX {
            let found = format!("more than {ENTRIES_MAX} files");
            unreadable(found, "the directory of a lab, with fewer");
            break;
        }
        match entry {
            Ok(entry) => names.extend(entry.file_name().into_string()),
            Err(error) => {
                unreadable(error.to_string(), "a directory that can be listed");
                break;
            }
        }
    }
    names.sort_unstable();
    names
}

fn read_entry(source: &mut LabSource, name: String, report: &mut Report) {
    let path = source.path.join(&name);
    // Follows links: a device's tree may be a link to another's.
    if path.is_dir() {
        if !name.starts_with('.') {
            source.directories.insert(name, path);
        }
        return;
    }
    match name.as_str() {
        conf::FILE => source.conf = read_file(&path, &name, report),
        dep::FILE => source.dep = read_file(&path, &name, report),
        ext::FILE => source.ext = read_file(&path, &name, report),
        settings::FILE => source.settings = read_file(&path, &name, report),
        _ => read_script(source, &name, path, report),
    }
}

fn read_script(source: &mut LabSource, name: &str, path: PathBuf, report: &mut Report) {
    let (scripts, owner) = if let Some(owner) = name.strip_suffix(".startup") {
        (&mut source.startups, owner)
    } else if let Some(owner) = name.strip_suffix(".shutdown") {
        (&mut source.shutdowns, owner)
    } else {
        return;
    };
    if let Some(bytes) = read_file(&path, name, report) {
        let text = normalise_text(&bytes).into_owned();
        scripts.insert(owner.to_owned(), Script { path, text });
    }
}

/// The file's bytes, or `None` when an error was noted.
fn read_file(path: &Path, name: &str, report: &mut Report) -> Option<Vec<u8>> {
    let (found, expected) = match read_limited(path) {
        Ok(Some(bytes)) => return Some(bytes),
        Ok(None) => (format!("more than {} MiB", FILE_MAX_BYTES >> 20), "a smaller file"),
        Err(error) => (error.to_string(), "a regular file that can be read"),
    };
    report.error(Location::file(name), ErrorCode::Unreadable, found, expected);
    None
}

/// `None` if the file is too large.
fn read_limited(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= FILE_MAX_BYTES);
    Ok(fits.then_some(bytes))
}
