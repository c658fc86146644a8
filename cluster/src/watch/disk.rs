//! The last known state on disk: what a daemon starts with while the API server is away.
//!
//! A file is whole or absent: it is written beside its place, synchronised, and renamed. What is read back is believed no more
//! than what a stranger sends: it is bounded, has a version and its own kind, and anything odd about it means that there is
//! no file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::store::MAX_OBJECTS;

/// The form of the file; another one is not read.
const VERSION: u32 = 1;
/// The largest file that is read or written, in octets.
const MAX_OCTETS: u64 = 64 << 20;

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    kind: &'a str,
    objects: &'a BTreeMap<String, T>,
}

#[derive(Deserialize)]
struct Header {
    version: u32,
    kind: String,
}

#[derive(Deserialize)]
struct Objects<T> {
    objects: BTreeMap<String, T>,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads objects of this kind; none if there is no file.
///
/// # Errors
///
/// If the file can't be read, or is not what was written.
pub fn load<T: DeserializeOwned>(path: &Path, kind: &str) -> io::Result<Option<BTreeMap<String, T>>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if !file.metadata()?.is_file() {
        return Err(invalid("it is no file"));
    }
    let mut text = Vec::new();
    file.take(MAX_OCTETS + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_OCTETS {
        return Err(invalid(format!("it is larger than {MAX_OCTETS} octets")));
    }
    let header: Header = serde_json::from_slice(&text)?;
    if header.version != VERSION {
        return Err(invalid(format!("it has version {}, we read {VERSION}", header.version)));
    }
    if header.kind != kind {
        return Err(invalid(format!("it holds {:?}, not {kind:?}", header.kind)));
    }
    let Objects { objects } = serde_json::from_slice(&text)?;
    if objects.len() > MAX_OBJECTS {
        return Err(invalid(format!("it holds more than {MAX_OBJECTS} objects")));
    }
    Ok(Some(objects))
}

/// Writes objects of this kind, readable by the owner alone.
///
/// # Errors
///
/// What the file system says; the file that was there stays then.
pub fn save<T: Serialize>(path: &Path, kind: &str, objects: &BTreeMap<String, T>) -> io::Result<()> {
    let text = serde_json::to_vec(&Written { version: VERSION, kind, objects })?;
    if text.len() as u64 > MAX_OCTETS {
        return Err(invalid(format!("it would be larger than {MAX_OCTETS} octets")));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New, so that nobody else has it open and its mode is ours.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("megalos-disk-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("nodes.json")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_is_for_the_owner_alone() {
        let scratch = Scratch::new("round");
        let path = scratch.0.join("deeper/nodes.json");
        assert!(load::<u32>(&path, "nodes").unwrap().is_none());
        for objects in [BTreeMap::from([("a".to_owned(), 1)]), BTreeMap::from([("b".to_owned(), 2)]), BTreeMap::new()] {
            save(&path, "nodes", &objects).unwrap();
            assert_eq!(load::<u32>(&path, "nodes").unwrap(), Some(objects));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else stays");
    }

    #[test]
    fn what_a_crash_left_beside_the_file_does_not_matter() {
        let scratch = Scratch::new("crash");
        save(&scratch.file(), "nodes", &BTreeMap::from([("a".to_owned(), 1)])).unwrap();
        fs::write(scratch.file().with_extension("new"), "{\"half").unwrap();
        assert_eq!(load::<u32>(&scratch.file(), "nodes").unwrap().unwrap().len(), 1);
        save(&scratch.file(), "nodes", &BTreeMap::from([("b".to_owned(), 2)])).unwrap();
        assert!(load::<u32>(&scratch.file(), "nodes").unwrap().unwrap().contains_key("b"));
    }

    #[test]
    fn what_is_not_ours_is_refused_by_name() {
        let scratch = Scratch::new("hostile");
        for (text, part) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            (r#"{"version":2,"kind":"nodes","objects":{}}"#, "version 2"),
            (r#"{"version":1,"kind":"secret","objects":{}}"#, "\"secret\""),
            (r#"{"version":1,"kind":"nodes","objects":{"a":"x"}}"#, "invalid type"),
            (r#"{"version":1,"kind":"nodes"}"#, "objects"),
            ("\u{0}\u{1}", "expected"),
        ] {
            fs::write(scratch.file(), text).unwrap();
            let error = load::<u32>(&scratch.file(), "nodes").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        fs::remove_file(scratch.file()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", scratch.file()).unwrap();
        assert!(load::<u32>(&scratch.file(), "nodes").is_err());
        assert!(load::<u32>(Path::new("/dev/zero"), "nodes").unwrap_err().to_string().contains("no file"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let scratch = Scratch::new("large");
        File::create(scratch.file()).unwrap().set_len(MAX_OCTETS + 1).unwrap();
        assert!(load::<u32>(&scratch.file(), "nodes").unwrap_err().to_string().contains("larger"));
    }
}
