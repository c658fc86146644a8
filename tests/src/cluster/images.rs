//! The images that every cluster has: pause, and a small tool image for pods of tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::debian::Debian;
use super::node::Node;
use super::oci::{self, Entry, Image};
use super::settings::PAUSE;
use super::{Result, keeper};

/// The image of test pods and of the examples: BusyBox, which has ping, arping, ip, nc, httpd and a shell. Debian's, under the
/// name that the examples have.
pub const TOOLS: &str = "docker.io/library/busybox:1.37";

/// Waits for the end and does nothing else; process 1 of a pod reaps what others leave to it.
const PAUSE_SOURCE: &str = r#"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
"#;

/// Writes the tars of both images into `directory`.
pub fn make(directory: &Path, debian: &Debian) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(vec![pause(directory)?, tools(directory, debian)?])
}

fn pause(directory: &Path) -> Result<PathBuf> {
    crate::programs::require("cc", "gcc libc6-dev");
    let (source, program) = (directory.join("pause.c"), directory.join("pause"));
    std::fs::write(&source, PAUSE_SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let output = Command::new("cc").args(["-Os", "-s", "-static", "-o"]).arg(&program).arg(&source).output();
    keeper::text("cc pause.c", output)?;
    let image = Image {
        name: PAUSE.to_owned(),
        entries: vec![Entry::program("pause", program)],
        entrypoint: vec!["/pause".to_owned()],
        user: "65535:65535".to_owned(),
        ..Image::default()
    };
    save(directory, "pause.tar", &image)
}

fn tools(directory: &Path, debian: &Debian) -> Result<PathBuf> {
    let busybox = debian.program("busybox")?;
    let list = keeper::text("busybox --list", Command::new(&busybox).arg("--list").stdin(Stdio::null()).output())?;
    let mut entries = vec![
        Entry::program("bin/busybox", busybox),
        Entry::text("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
        Entry::text("etc/group", "root:x:0:\n"),
        Entry::directory("tmp", 0o1777),
    ];
    let names = list.lines().filter(|name| *name != "busybox");
    entries.extend(names.map(|name| Entry::link(&format!("bin/{name}"), "busybox")));
    let image = Image {
        name: TOOLS.to_owned(),
        entries,
        entrypoint: Vec::new(),
        env: vec!["PATH=/bin".to_owned()],
        ..Image::default()
    };
    save(directory, "tools.tar", &image)
}

/// Writes an image beside the others.
pub(super) fn save(directory: &Path, file: &str, image: &Image) -> Result<PathBuf> {
    let path = directory.join(file);
    oci::write(&path, image).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Gives a node the images of a tar. containerd must run there.
pub(super) fn import(node: &Node, tar: &Path) -> Result<()> {
    let file = std::fs::File::open(tar).map_err(|error| format!("{}: {error}", tar.display()))?;
    let mut command = node.command("ctr")?;
    command.args(["--namespace", "k8s.io", "images", "import", "-"]).stdin(file);
    keeper::text(&format!("{}: ctr images import {}", node.name(), tar.display()), command.output()).map(drop)
}
