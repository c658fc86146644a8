//! The image that is installed: the same programs, made by the same script, as the Dockerfile's. An archive is what
//! `ctr -n k8s.io images import` takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::oci::{self, Entry, Image};
use crate::programs;

/// The image that the manifests in `deploy` name.
pub const NAME: &str = concat!("ghcr.io/megalos/megalos:", env!("CARGO_PKG_VERSION"));

/// What the image holds, as the Dockerfile says it.
const PROGRAMS: [&str; 2] = ["megalos", "megalos-cni"];
/// Names by which the first of them is a daemon.
const DAEMONS: [&str; 2] = ["megalos-rr", "megalos-speaker"];

/// Whoever runs in the image without asking for another user.
const USER: &str = "65532:65532";

/// Builds the programs of the image, statically linked, and returns the directory that holds them. What has not changed is not
/// built again.
///
/// # Errors
///
/// If they do not build; the compiler's messages have been printed.
pub fn programs() -> io::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build).clone().map_err(io::Error::other)
}

fn build() -> Result<PathBuf, String> {
    let root = repository();
    let mut command = Command::new(root.join("scripts/image-binaries"));
    programs::forget_this_package(&mut command);
    eprintln!("building the programs of the image (some minutes the first time)");
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("scripts/image-binaries: {error}"))?;
    if !output.status.success() {
        return Err(format!("scripts/image-binaries: {}; its messages are above", output.status));
    }
    Ok(root.join(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The archive of our own image under the name `name`, mostly [`NAME`]; another tag is another version to Kubernetes.
///
/// # Errors
///
/// If the programs do not build or the archive cannot be written.
pub fn archive(name: &str) -> io::Result<PathBuf> {
    let directory = programs()?;
    let programs = PROGRAMS.iter().map(|program| Entry::program(program, directory.join(program)));
    let daemons = DAEMONS.iter().map(|daemon| Entry::link(daemon, PROGRAMS[0]));
    let image = Image {
        name: name.to_owned(),
        entries: programs.chain(daemons).collect(),
        entrypoint: vec!["/megalos".to_owned()],
        user: USER.to_owned(),
        ..Image::default()
    };
    write(&directory, &image)
}

/// Writes an image beside the programs; two processes at once do not disturb each other.
fn write(directory: &Path, image: &Image) -> io::Result<PathBuf> {
    let file = image.name.replace(['/', ':'], "_");
    let path = directory.join(format!("{file}.tar"));
    let mine = directory.join(format!("{file}-{}.tar", std::process::id()));
    oci::write(&mine, image)?;
    fs::rename(&mine, &path)?;
    Ok(path)
}

/// The root of the repository, where `deploy` and `scripts` are.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::images::TOOLS;

    fn read(path: &str) -> String {
        fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn the_manifests_name_the_version_that_is_built() {
        for (path, name) in [("deploy/install.yaml", NAME), ("deploy/examples/two-pods.yaml", TOOLS)] {
            let text = read(path);
            let named: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
            assert!(!named.is_empty() && named.iter().all(|image| *image == name), "{path}: {named:?}, not {name}");
        }
        let tag = read("deploy/kustomization.yaml");
        assert!(tag.contains(&format!("newTag: {}\n", env!("CARGO_PKG_VERSION"))), "{tag}");
    }

    #[test]
    fn the_dockerfile_holds_the_same_programs_for_the_same_user() {
        let text = read("Dockerfile");
        let copied = text.lines().find(|line| line.contains("cp \"$directory/")).unwrap_or_default();
        let programs: Vec<&str> = copied.split('"').filter_map(|word| word.strip_prefix("$directory/")).collect();
        assert_eq!(programs, PROGRAMS);
        for daemon in DAEMONS {
            assert!(text.contains(&format!("ln -s {} /image/{daemon}", PROGRAMS[0])), "{daemon}");
        }
        assert!(text.contains(&format!("USER {USER}\n")));
        assert!(text.contains("ENTRYPOINT [\"/megalos\"]"));
    }
}
