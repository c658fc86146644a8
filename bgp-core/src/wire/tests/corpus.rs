//! The seeds of the fuzz target `message_decode` are the fixtures, so that it starts from valid messages.

use std::fs;
use std::path::Path;

use super::fixtures::{self, Fixture};

/// Context octets of the target: 4-octet AS numbers with opaque routes, and the same over an attribute field.
const STREAM: u8 = 0x11;
const ATTRIBUTES: u8 = 0x91;
/// Octets in front of the attributes of an UPDATE that withdraws nothing by its IPv4 field.
const ATTRIBUTES_OFFSET: usize = 19 + 4;

fn seeds(fixture: &Fixture) -> Vec<(String, Vec<u8>)> {
    let octets = fixture.octets();
    let four_octet_as = u8::from(fixture.name != fixtures::TWO_OCTET_PEER.name);
    let context = |choice: u8| choice & !1 | four_octet_as;
    let mut seeds = vec![(fixture.name.to_owned(), [&[context(STREAM)], &octets[..]].concat())];
    if octets[18] == 2 {
        let attributes = [&[context(ATTRIBUTES)], &octets[ATTRIBUTES_OFFSET..]].concat();
        seeds.push((format!("{}-attributes", fixture.name), attributes));
    }
    seeds
}

/// With `UPDATE_CORPUS` set, writes the seeds instead of comparing them.
#[test]
fn the_fuzzing_corpus_holds_every_fixture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/message_decode");
    for (name, octets) in fixtures::ALL.iter().flat_map(seeds) {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::write(&path, octets).unwrap();
        } else {
            let found = fs::read(&path).unwrap_or_default();
            assert!(found == octets, "{} is outdated: run this test with UPDATE_CORPUS=1", path.display());
        }
    }
}
