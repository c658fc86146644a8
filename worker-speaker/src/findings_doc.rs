//! `docs/findings.md` is written from the rules themselves. `MEGALOS_WRITE_DOCS=1 cargo test -p worker-speaker findings` writes it
//! anew; without that, the test fails where document and rules differ.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use bgp_core::rule::{Action, Rule};

const INTRODUCTION: &str = "\
# Findings: what is refused, and how it shows

Whatever a peer, a stranger or the kernel sends or does against a rule is counted and logged, and costs nobody but its sender
anything.

* **Counter**: `megalos_bgp_findings_total{peer,rule,action}` at `/metrics` of reflector and worker. `peer` is the peer's address;
  `stranger` for connections that are nobody's, `host` for this node's kernel and stations, and `other` for peers beyond the
  first 1,024 and those that are gone when room is needed. The sum over all peers never shrinks.
* **Log**: one line with peer, rule, action, how many times, the rule's text and RFC section, the routes concerned (`+` announced,
  `-` withdrawn) and the message in hexadecimal, header included (RFC 7606 section 6). What the table or the worker refuses is shown
  as it would be written again: the whole UPDATE, or the one route.
* **Limits on the log**: 5 lines for one rule of one peer, 200 lines and 1 MiB of messages in all, in 10 seconds. What was
  left out is summed up (`N more suppressed`) and counted in `megalos_bgp_findings_suppressed`. Writing the log never holds up a
  session: where standard error is not read, lines are dropped and their number is logged later.

Codes of rules and actions do not change between versions. This page is generated from the source; a test compares them.
";

/// Titles and rules, in the order of the document.
const SECTIONS: &[(&str, &[Rule])] = &[
    ("Messages, attributes and routes (codec)", bgp_core::wire::rules::ALL),
    ("Sessions", bgp_core::session::refusal::ALL),
    ("Connections and peers", bgp_io::rules::ALL),
    ("Tables", bgp_core::rib::rules::ALL),
    ("EVPN", evpn::rules::ALL),
    ("Kernel", dataplane::rules::ALL),
];

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Actions\n\n| action | meaning |\n| --- | --- |\n");
    for action in Action::ALL {
        let _ = writeln!(text, "| `{action}` | {} |", action.meaning());
    }
    for (title, rules) in SECTIONS {
        let _ = write!(text, "\n## {title}\n\n| rule | what was met | where it is laid down |\n| --- | --- | --- |\n");
        for rule in *rules {
            let _ = writeln!(text, "| `{rule}` | {} | {} |", rule.meaning(), rule.reference());
        }
    }
    text
}

#[test]
fn the_document_says_what_the_rules_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/findings.md");
    let expected = document();
    if std::env::var_os("MEGALOS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == expected, "{} is stale: run this test with MEGALOS_WRITE_DOCS=1", path.display());
}

#[test]
fn codes_are_unique_and_fit_for_labels() {
    let mut codes = BTreeSet::new();
    for rule in SECTIONS.iter().flat_map(|(_, rules)| rules.iter()) {
        let code = rule.code();
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{code}");
        assert!(codes.insert(code), "{code} stands for two rules");
        assert!(!rule.meaning().is_empty() && !rule.meaning().ends_with('.'), "{code}");
        let reference = rule.reference();
        let is_known = ["RFC ", "limit: ", "policy: ", "kernel: "].iter().any(|kind| reference.starts_with(kind));
        assert!(is_known, "{code}: {reference}");
    }
}
