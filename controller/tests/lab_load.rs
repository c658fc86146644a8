//! Loading labs from directories: our own examples, and directories made here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use controller::lab::{ErrorCode, LabError, WarningCode, load};

/// A directory of its own for one test, empty.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn examples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn only_error(path: &Path) -> LabError {
    let errors = load(path).unwrap_err().errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.into_iter().next().unwrap()
}

#[test]
fn every_example_loads_without_warnings_and_explains_itself() {
    let examples = examples();
    assert!(examples.len() >= 4);
    for path in examples {
        let (lab, warnings) = load(&path).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        assert_eq!(warnings, [], "{}", path.display());
        assert!(lab.metadata.description.is_some(), "{}", path.display());
        assert!(lab.devices.iter().all(|device| device.startup.is_some()), "{}", path.display());
        assert!(path.join("README.md").is_file(), "{}", path.display());
    }
}

#[test]
fn a_lab_is_identified_by_its_canonical_directory_unless_it_has_a_name() {
    let path = scratch("identity");
    fs::write(path.join("lab.conf"), "pc1[0]=A\n").unwrap();
    let link = path.with_extension("link");
    let _ = fs::remove_file(&link);
    symlink(&path, &link).unwrap();
    let (lab, _) = load(&link).unwrap();
    assert_eq!(lab.identity(), path.canonicalize().unwrap().to_string_lossy());
    assert_eq!(lab.display_name(), "identity");
    fs::write(path.join("lab.conf"), "LAB_NAME=named\npc1[0]=A\n").unwrap();
    assert_eq!(load(&link).unwrap().0.identity(), "named");
}

#[test]
fn scripts_are_cleaned_and_trees_are_found_through_links() {
    let path = scratch("scripts");
    fs::write(path.join("lab.conf"), "pc1[0]=A\npc2[0]=A\n").unwrap();
    fs::write(path.join("pc1.startup"), b"\xEF\xBB\xBFip a\r\nip r\r\n").unwrap();
    fs::create_dir_all(path.join("pc1/etc")).unwrap();
    fs::create_dir_all(path.join(".git")).unwrap();
    symlink("pc1", path.join("pc2")).unwrap();
    let (lab, warnings) = load(&path).unwrap();
    assert_eq!(warnings, []);
    let pc1 = lab.device("pc1").unwrap();
    assert_eq!(pc1.startup.as_ref().unwrap().text, b"ip a\nip r\n");
    assert_eq!(pc1.directory.as_deref(), Some(lab.path.join("pc1").as_path()));
    assert!(lab.device("pc2").unwrap().directory.is_some());
}

#[test]
fn a_missing_directory_and_a_directory_without_lab_conf_are_one_error_each() {
    let path = scratch("missing");
    assert_eq!(only_error(&path).code, ErrorCode::Missing);
    assert_eq!(only_error(&path.join("nowhere")).code, ErrorCode::Missing);
    fs::write(path.join("lab.conf"), "").unwrap();
    assert_eq!(only_error(&path).code, ErrorCode::Missing);
    assert_eq!(only_error(&path.join("lab.conf")).code, ErrorCode::Unreadable);
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_an_error_and_does_not_hang() {
    let path = scratch("pipe");
    fs::write(path.join("lab.conf"), "pc1[0]=A\n").unwrap();
    nix::unistd::mkfifo(&path.join("pc1.startup"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = only_error(&path);
    assert_eq!((error.code, error.location.file.as_str()), (ErrorCode::Unreadable, "pc1.startup"));
}

#[test]
fn what_belongs_to_no_device_is_warned_of() {
    let path = scratch("orphans");
    fs::write(path.join("lab.conf"), "pc1[0]=A\n").unwrap();
    fs::write(path.join("pc2.startup"), "").unwrap();
    fs::create_dir(path.join("PC1")).unwrap();
    fs::write(path.join("LICENSE"), "").unwrap();
    let (_, warnings) = load(&path).unwrap();
    let files: Vec<&str> = warnings.iter().map(|w| w.location.file.as_str()).collect();
    assert_eq!(files, ["pc2.startup", "PC1/"]);
    assert!(warnings.iter().all(|w| w.code == WarningCode::Orphan));
}
