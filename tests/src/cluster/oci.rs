//! Container images without a builder or a registry: a tar in the OCI image layout, of files that exist already.
//!
//! One layer, not compressed. containerd imports it under its name (`ctr images import`), and `docker load` reads it too.
//! The same files give the same bytes: owners are root and times are zero.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The block of the tar format in bytes.
const BLOCK: usize = 512;
/// What a tar's name field holds, in bytes.
const NAME_MAX: usize = 100;

/// An image: what is in it and what it runs.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its full name with a tag, as in a pod: `docker.io/library/pause:dev`.
    pub name: String,
    /// What is in its file system; directories above a file come by themselves.
    pub entries: Vec<Entry>,
    /// The program that it runs, with its first arguments.
    pub entrypoint: Vec<String>,
    /// `NAME=value` of the environment.
    pub env: Vec<String>,
    /// `user:group` by number, empty for root.
    pub user: String,
    /// Labels, such as `org.opencontainers.image.source`.
    pub labels: Vec<(String, String)>,
}

/// One name in an image, without a slash in front.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where in the image: `usr/bin/tool`.
    pub path: String,
    /// Access mode, as 0o755.
    pub mode: u32,
    /// What is there.
    pub content: Content,
}

/// What an [`Entry`] holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// The bytes of a file of this machine.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// A directory.
    Directory,
}

impl Entry {
    /// A program: a copy of the file `source`.
    pub fn program(path: &str, source: impl Into<PathBuf>) -> Self {
        Self { path: path.to_owned(), mode: 0o755, content: Content::File(source.into()) }
    }

    /// A file with these bytes.
    pub fn text(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), mode: 0o644, content: Content::Bytes(text.as_bytes().to_vec()) }
    }

    /// A symbolic link.
    pub fn link(path: &str, target: &str) -> Self {
        Self { path: path.to_owned(), mode: 0o777, content: Content::Link(target.to_owned()) }
    }

    /// An empty directory.
    pub fn directory(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), mode, content: Content::Directory }
    }
}

/// Writes `image` to the file `tar`, which appears complete or not at all.
///
/// # Errors
///
/// If a file cannot be read or written, or a name does not fit into a tar.
pub fn write(tar: &Path, image: &Image) -> io::Result<()> {
    let layer = layer(&image.entries)?;
    let layer_digest = digest(&layer);
    let config = serde_json::to_vec(&config(image, &layer_digest))?;
    let config_digest = digest(&config);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer.len())],
    }))?;
    let manifest_digest = digest(&manifest);
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len());
    let tag = image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({ "io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": tag });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    let docker = json!([{
        "Config": blob(&config_digest), "RepoTags": [image.name], "Layers": [blob(&layer_digest)],
    }]);

    let mut archive = Archive::default();
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
    archive.file("manifest.json", 0o644, &serde_json::to_vec(&docker)?)?;
    for (digest, bytes) in [(config_digest, &config), (manifest_digest, &manifest), (layer_digest, &layer)] {
        archive.file(&blob(&digest), 0o644, bytes)?;
    }
    let partial = tar.with_extension("partial");
    File::create(&partial)?.write_all(&archive.finish())?;
    std::fs::rename(&partial, tar)
}

fn config(image: &Image, layer_digest: &str) -> Value {
    let labels: serde_json::Map<String, Value> =
        image.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": image.entrypoint, "Env": image.env, "User": image.user, "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
    })
}

/// This machine's architecture, by the name that OCI gives it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn layer(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for entry in entries {
        archive.parents(&entry.path)?;
        match &entry.content {
            Content::File(source) => {
                let bytes = std::fs::read(source)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
                archive.file(&entry.path, entry.mode, &bytes)?;
            }
            Content::Bytes(bytes) => archive.file(&entry.path, entry.mode, bytes)?,
            Content::Link(target) => archive.header(&entry.path, entry.mode, Kind::Link(target), 0)?,
            Content::Directory => archive.directory(&entry.path, entry.mode)?,
        }
    }
    Ok(archive.finish())
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    File,
    Link(&'a str),
    Directory,
}

/// A tar in POSIX' ustar format.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directories: std::collections::HashSet<String>,
}

impl Archive {
    fn parents(&mut self, path: &str) -> io::Result<()> {
        for (end, _) in path.match_indices('/') {
            self.directory(&path[..end], 0o755)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        if self.directories.insert(path.to_owned()) {
            self.header(&format!("{path}/"), mode, Kind::Directory, 0)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.header(path, mode, Kind::File, bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    fn header(&mut self, path: &str, mode: u32, kind: Kind<'_>, size: usize) -> io::Result<()> {
        let (flag, target) = match kind {
            Kind::File => (b'0', ""),
            Kind::Link(target) => (b'2', target),
            Kind::Directory => (b'5', ""),
        };
        if path.len() > NAME_MAX || target.len() > NAME_MAX {
            let reason = format!("{path}: a name in an image may have {NAME_MAX} bytes at most");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}\0{:07o}\0{:07o}\0{size:011o}\0{:011o}\0", 0, 0, 0).as_bytes());
        put(148, b"        ");
        put(156, &[flag]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000root");
        put(297, b"root");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn tar(arguments: &[&str], file: &Path) -> String {
        let output = Command::new("tar").args(arguments).arg(file).output().unwrap_or_else(|error| panic!("{error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn an_image_is_a_layout_whose_digests_hold() {
        let directory = std::env::temp_dir().join(format!("oci-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{error}"));
        let path = directory.join("image.tar");
        let image = Image {
            name: "registry.example/tool:1".to_owned(),
            entries: vec![
                Entry::text("etc/motd", "hello\n"),
                Entry::program("usr/bin/tool", "/proc/self/exe"),
                Entry::link("bin", "usr/bin"),
                Entry::directory("tmp", 0o1777),
            ],
            entrypoint: vec!["/usr/bin/tool".to_owned()],
            ..Image::default()
        };
        write(&path, &image).unwrap_or_else(|error| panic!("{error}"));
        tar(&["-C", &directory.display().to_string(), "-xf"], &path);
        let blobs = directory.join("blobs/sha256");
        for blob in std::fs::read_dir(&blobs).unwrap_or_else(|error| panic!("{error}")).flatten() {
            let bytes = std::fs::read(blob.path()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(digest(&bytes), blob.file_name().to_string_lossy());
        }
        let read = |path: &Path| -> Value {
            let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}"))
        };
        let of =
            |descriptor: &Value| blobs.join(descriptor["digest"].as_str().unwrap_or_default().replace("sha256:", ""));
        let index = read(&directory.join("index.json"));
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], image.name.as_str());
        let manifest = read(&of(&index["manifests"][0]));
        assert_eq!(read(&of(&manifest["config"]))["config"]["Entrypoint"][0], "/usr/bin/tool");
        let names = tar(&["-tf"], &of(&manifest["layers"][0]));
        assert_eq!(
            names.lines().collect::<Vec<_>>(),
            ["etc/", "etc/motd", "usr/", "usr/bin/", "usr/bin/tool", "bin", "tmp/"]
        );
        let _ = std::fs::remove_dir_all(directory);
    }
}
