//! Labs: any octets as a lab's files are a lab or a list of errors, and a lab's printed form is the same lab.

use std::path::PathBuf;

use controller::lab::{LabSource, parse};

/// Runs one input: `lab.conf`, `lab.dep`, `lab.ext` and `kathara.conf`, each ended by an octet 0.
pub fn run(input: &[u8]) {
    let mut files = input.split(|octet| *octet == 0).map(<[u8]>::to_vec);
    let source = LabSource {
        path: PathBuf::from("/lab"),
        conf: files.next(),
        dep: files.next(),
        ext: files.next(),
        settings: files.next(),
        ..LabSource::default()
    };
    match parse(source) {
        Ok((lab, warnings)) => {
            let in_order: usize = lab.start_groups.iter().map(Vec::len).sum();
            assert_eq!(in_order, lab.devices.len(), "every device starts once");
            let printed = lab.to_conf();
            let again =
                LabSource { path: PathBuf::from("/lab"), conf: Some(printed.clone().into()), ..LabSource::default() };
            let again = parse(again).map(|(lab, _)| lab.to_conf());
            assert_eq!(again.expect("a printed lab is a lab"), printed);
            assert!(warnings.iter().all(|warning| !warning.text.is_empty()));
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty(), "a refusal has a reason");
            assert!(!errors.to_string().is_empty());
        }
    }
}
