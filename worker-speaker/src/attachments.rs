//! What a worker must know of an attachment beyond what stands on its device: one small file each, written atomically.
//!
//! The device's alias names the attachment; the file holds the MAC and addresses that its ADD claimed, so that a
//! restarted worker announces them again before the pod says a word.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bgp_core::types::Vni;
use dataplane::PortId;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::core::{Attachment, Origin, Record};

/// The file's content.
#[derive(Debug, Deserialize, Serialize)]
struct Content {
    port: String,
    vni: u32,
    mac: String,
    ips: Vec<IpAddr>,
    #[serde(default)]
    sequence: u32,
    #[serde(default)]
    sticky: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<OriginContent>,
    /// The machine's start in which it was written; absent in files of versions that did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct OriginContent {
    container_id: String,
    interface: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
}

/// A number that the kernel chooses at each start (`random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A directory of attachments, which one worker at a time has.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// The machine's present start, where the kernel tells it.
    boot: Option<String>,
    /// Two workers with one overlay namespace would undo each other's work.
    _lock: Flock<File>,
}

impl Store {
    /// Uses `directory`, made if needed.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or another worker has it.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let lock = Flock::lock(File::open(&directory)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                return io::Error::new(io::ErrorKind::AddrInUse, "another worker serves this overlay namespace");
            }
            errno.into()
        })?;
        let boot = fs::read_to_string(BOOT_ID).ok().map(|text| text.trim().to_owned());
        Ok(Self { directory, boot, _lock: lock })
    }

    fn path(&self, port: &PortId) -> PathBuf {
        self.directory.join(format!("{}.json", port.device_name()))
    }

    /// Writes one, whole or not at all.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put(&self, attachment: &Attachment) -> io::Result<()> {
        let origin = attachment.origin.as_ref().map(|origin| OriginContent {
            container_id: origin.container_id.clone(),
            interface: origin.interface.clone(),
            network: origin.network.clone(),
        });
        let content = Content {
            port: attachment.port.as_str().to_owned(),
            vni: attachment.vni.get(),
            mac: attachment.mac.to_string(),
            ips: attachment.ips.clone(),
            sequence: attachment.sequence,
            sticky: attachment.sticky,
            origin,
            boot: self.boot.clone(),
        };
        let path = self.path(&attachment.port);
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&content)?)?;
        fs::rename(&fresh, &path)
    }

    /// Removes one; done is done.
    pub fn remove(&self, port: &PortId) {
        if let Err(error) = fs::remove_file(self.path(port))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%port, %error, "the attachment's file stays");
        }
    }

    /// Reads all; what cannot be read is reported and left out.
    pub fn load(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let records = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        records
            .filter_map(|path| match read(&path) {
                Ok((attachment, _)) if self.path(&attachment.port) != path => {
                    tracing::warn!(path = %path.display(), port = %attachment.port, "attachment file of another name ignored");
                    None
                }
                Ok((attachment, boot)) => {
                    let this_boot = boot.is_none() || self.boot.is_none() || boot == self.boot;
                    Some(Record { attachment, this_boot })
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "attachment file ignored");
                    None
                }
            })
            .collect()
    }
}

/// What a file says, and in which start of the machine it was written.
fn read(path: &Path) -> io::Result<(Attachment, Option<String>)> {
    let content: Content = serde_json::from_slice(&fs::read(path)?)?;
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not valid"));
    let attachment = Attachment {
        port: PortId::new(&content.port),
        vni: Vni::new(content.vni).ok_or_else(|| invalid("vni"))?,
        mac: content.mac.parse().map_err(|_| invalid("mac"))?,
        ips: content.ips,
        sequence: content.sequence,
        sticky: content.sticky,
        origin: content.origin.map(|origin| Origin {
            container_id: origin.container_id,
            interface: origin.interface,
            network: origin.network,
        }),
    };
    Ok((attachment, content.boot))
}

#[cfg(test)]
mod tests {
    use bgp_core::types::MacAddr;

    use super::*;

    fn store(name: &str) -> Store {
        let directory = std::env::temp_dir().join(format!("megalos-attachments-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        Store::open(directory).unwrap()
    }

    fn attachment() -> Attachment {
        Attachment {
            port: PortId::attachment("pod", "eth0"),
            vni: Vni::new(7).unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ips: vec!["192.0.2.1".parse().unwrap()],
            sequence: 3,
            sticky: true,
            origin: Some(Origin { container_id: "pod".into(), interface: "eth0".into(), network: Some("blue".into()) }),
        }
    }

    fn record(this_boot: bool) -> Record {
        Record { attachment: attachment(), this_boot }
    }

    #[test]
    fn what_was_put_is_loaded_and_what_was_removed_is_not() {
        let store = store("round");
        store.put(&attachment()).unwrap();
        assert_eq!(store.load(), [record(true)]);
        store.remove(&attachment().port);
        store.remove(&attachment().port);
        assert!(store.load().is_empty());
    }

    #[test]
    fn a_second_worker_is_refused_while_the_first_lives() {
        let first = store("locked");
        let error = Store::open(first.directory.clone()).unwrap_err();
        assert!(error.to_string().contains("another worker"), "{error}");
        let directory = first.directory.clone();
        drop(first);
        assert!(Store::open(directory).is_ok());
    }

    #[test]
    fn a_file_from_before_the_machines_last_start_is_told_apart() {
        let mut store = store("boot");
        store.boot = Some("an earlier one".into());
        store.put(&attachment()).unwrap();
        store.boot = Some("this one".into());
        assert_eq!(store.load(), [record(false)]);
        // Where either is not known, the interface alone decides.
        store.boot = None;
        assert_eq!(store.load(), [record(true)]);
    }

    #[test]
    fn a_damaged_file_hides_only_itself() {
        let store = store("damaged");
        store.put(&attachment()).unwrap();
        fs::write(store.directory.join("x.json"), b"{\"vni\":0").unwrap();
        fs::write(
            store.directory.join("y.json"),
            b"{\"port\":\"a\",\"vni\":0,\"mac\":\"02:00:00:00:00:01\",\"ips\":[]}",
        )
        .unwrap();
        assert_eq!(store.load(), [record(true)]);
    }
}
