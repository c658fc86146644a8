//! `megalos-speaker init`: what must be done on a node before its worker starts, and takes more rights than the worker has.
//!
//! It installs the CNI plugin, pins the overlay namespace so that it outlives the worker's pod, and makes the namespace's
//! settings. All of it may be done again at any time, while a worker serves the namespace and plugins run.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::settings::OVERLAY_NAMESPACE;

/// Flags of `megalos-speaker init`.
#[derive(Args, Clone, Debug)]
pub struct InitOptions {
    /// The CNI plugin to install
    #[arg(long, value_name = "FILE", default_value = "/megalos-cni")]
    pub plugin_source: PathBuf,
    /// Where the container runtime looks for plugins
    #[arg(long, value_name = "DIRECTORY", default_value = "/opt/cni/bin")]
    pub plugin_directory: PathBuf,
    /// What the plugin is called there, which is the `type` of CNI configurations
    #[arg(long, value_name = "NAME", default_value = "megalos")]
    pub plugin_name: String,
    /// Network namespace to pin in /run/netns for the worker's devices
    #[arg(long, value_name = "NAME", default_value = OVERLAY_NAMESPACE)]
    pub overlay_namespace: String,
}

/// Does all of it; the error is for people.
pub(crate) fn run(options: &InitOptions) -> Result<(), String> {
    let InitOptions { plugin_source, plugin_directory, plugin_name, overlay_namespace } = options;
    let plugin = install(plugin_source, plugin_directory, plugin_name)?;
    tracing::info!(plugin = %plugin.display(), "the CNI plugin is installed");
    let made = dataplane::linux::pin_namespace(overlay_namespace).map_err(|error| error.to_string())?;
    tracing::info!(namespace = overlay_namespace, made, "the overlay namespace is pinned");
    Ok(())
}

/// Puts a copy of `source` into `directory` under `name`, whole or not at all: the file that is there may be executed at the
/// time, so it is replaced and never written to.
fn install(source: &Path, directory: &Path, name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(format!(
            "--plugin-name {name:?}: expected the name of a file without `/` that does not begin with `.`"
        ));
    }
    let target = directory.join(name);
    let fresh = directory.join(format!(".{name}.new"));
    let installed = copy(source, directory, &fresh).and_then(|()| {
        fs::rename(&fresh, &target).map_err(|error| explain("cannot put the plugin in place", &target, &error))
    });
    if installed.is_err() {
        // Nothing that is half there stays; if it was never made there is nothing to remove.
        let _ = fs::remove_file(&fresh);
    }
    installed?;
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| explain("cannot make the plugin last", directory, &error))?;
    Ok(target)
}

fn copy(source: &Path, directory: &Path, fresh: &Path) -> Result<(), String> {
    let from = File::open(source).map_err(|error| explain("cannot read --plugin-source", source, &error))?;
    let is_program = from.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    if !is_program {
        return Err(format!("--plugin-source {}: not a program; give the file of megalos-cni", source.display()));
    }
    fs::create_dir_all(directory).map_err(|error| explain("cannot make --plugin-directory", directory, &error))?;
    // What a run that was killed has left.
    match fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(explain("cannot write to --plugin-directory", directory, &error));
        }
        _ => {}
    }
    let write = || {
        let mut to = File::create_new(fresh)?;
        io::copy(&mut &from, &mut to)?;
        to.set_permissions(Permissions::from_mode(0o755))?;
        to.sync_all()
    };
    write().map_err(|error| explain("cannot write to --plugin-directory", directory, &error))
}

fn explain(what: &str, path: &Path, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::NotFound => "give the path of a file that is there",
        io::ErrorKind::PermissionDenied => "run this step as root",
        io::ErrorKind::ReadOnlyFilesystem => "mount the node's directory there, writable",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the node's disk",
        _ => "check the path",
    };
    format!("{what} {}: {error}; {cure}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("megalos-init-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.join("bin")).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_plugin_that_runs_is_replaced_by_an_executable_copy() {
        let directory = Directory::new("replace");
        let (source, bin) = (directory.0.join("source"), directory.0.join("bin"));
        fs::copy("/bin/sleep", &source).unwrap();
        let plugin = install(&source, &bin, "megalos").unwrap();
        let mut running = std::process::Command::new(&plugin).arg("60").spawn().unwrap();
        fs::write(&source, "newer").unwrap();
        // What a run that was killed half-way has left is in nobody's way.
        fs::write(bin.join(".megalos.new"), "half").unwrap();
        let replaced = install(&source, &bin, "megalos");
        running.kill().unwrap();
        running.wait().unwrap();
        assert_eq!(replaced.unwrap(), plugin);
        assert_eq!(fs::read(&plugin).unwrap(), b"newer");
        assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(directory.names(), ["megalos"]);
    }

    #[test]
    fn what_cannot_be_installed_leaves_the_old_plugin_and_names_the_cure() {
        let directory = Directory::new("refuse");
        let (source, bin) = (directory.0.join("source"), directory.0.join("bin"));
        fs::write(&source, "old").unwrap();
        install(&source, &bin, "megalos").unwrap();
        fs::write(directory.0.join("empty"), "").unwrap();
        fs::create_dir(bin.join("taken")).unwrap();
        for (source, name, part) in [
            ("missing", "megalos", "give the path of a file"),
            ("empty", "megalos", "not a program"),
            ("", "megalos", "not a program"),
            ("source", "a/b", "without `/`"),
            ("source", "..", "without `/`"),
            ("source", "taken", "cannot put the plugin in place"),
        ] {
            let error = install(&directory.0.join(source), &bin, name).unwrap_err();
            assert!(error.contains(part), "{source} as {name}: {error}");
        }
        assert_eq!(fs::read(bin.join("megalos")).unwrap(), b"old");
        let mut names = directory.names();
        names.sort();
        assert_eq!(names, ["megalos", "taken"]);
    }
}
