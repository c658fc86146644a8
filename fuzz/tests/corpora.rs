//! Every input in the corpora, under every oracle, without a fuzzing engine: what was once found stays mended.
//!
//! `FUZZ_INPUTS` names another folder with a folder of inputs per target, or for some.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_input_that_was_ever_kept_passes() {
    let other = std::env::var_os("FUZZ_INPUTS").map(PathBuf::from);
    let folder = other.clone().unwrap_or_else(|| PathBuf::from("corpus"));
    for (target, run) in fuzz::TARGETS {
        let inputs = inputs(&folder.join(target));
        assert!(!inputs.is_empty() || other.is_some(), "{target} has no inputs in {}", folder.display());
        for path in inputs {
            // The name stays in the output of a failure.
            println!("{}", path.display());
            run(&fs::read(&path).expect("an input"));
        }
    }
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut inputs: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    inputs.sort();
    inputs
}
