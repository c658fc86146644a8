//! Multus as its users have it: its own manifest, with its programs in an image made here.

use std::path::{Path, PathBuf};

use super::binaries::MULTUS;
use super::oci::{Entry, Image};
use super::{Result, images};

/// Where the programs are in Multus' own image.
const DIRECTORY: &str = "usr/src/multus-cni/bin";
const MANIFEST: &str = "deployments/multus-daemonset-thick.yml";

/// Writes the image into `directory`, under the name that the manifest has.
pub fn image(directory: &Path) -> Result<PathBuf> {
    let programs = MULTUS.all()?;
    let name = manifest()?.lines().find_map(|line| line.trim().strip_prefix("image: ").map(str::to_owned));
    let name = name.ok_or_else(|| format!("{MANIFEST} of Multus names no image"))?;
    // The plugin passthru is built from a package of another name.
    let entries = MULTUS.programs.iter().map(|program| {
        let installed = if *program == "passthru-cni" { "passthru" } else { program };
        Entry::program(&format!("{DIRECTORY}/{installed}"), programs.join(program))
    });
    let mut entries: Vec<_> = entries.collect();
    // The daemon asks who it is, and ends if nobody knows.
    entries.push(Entry::text("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\n"));
    // Runtimes name namespaces by the old path.
    entries.push(Entry::link("var/run", "/run"));
    let image = Image { name, entries, ..Image::default() };
    images::save(directory, "multus.tar", &image)
}

/// Multus' own manifest of the thick plugin.
pub fn manifest() -> Result<String> {
    MULTUS.source_file(MANIFEST)
}
