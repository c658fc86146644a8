//! Every state of a MAC against every event, as one table: what a change of the state machine changes is seen at once.
//!
//! The states are those of `evpn::show::MacStatus`. Read a row as: in this state, on this event, the MAC is then in that
//! state; and this was announced, written and reported. A `-` is nothing.

mod support;

use std::fmt::Write as _;

use support::Rig;

/// The MAC is m1 in VNI 100; 10.0.0.5 is this worker. Ports 1 and 2 are attached.
const STATES: &[(&str, &[&str])] = &[
    ("unknown", &[]),
    ("learned", &["learned 100 1 m1"]),
    ("learned sticky", &["learned 100 1 m1 sticky"]),
    ("claimed, fresh", &["claim 100 1 m1"]),
    ("claimed", &["claim 100 1 m1", "at 20"]),
    ("claimed sticky", &["claim 100 1 m1 sticky", "at 20"]),
    ("remote", &["mac 100 m1 via 10.0.0.2 seq 1"]),
    ("remote sticky", &["mac 100 m1 via 10.0.0.2 seq 1 sticky"]),
    ("lost", &["learned 100 1 m1", "mac 100 m1 via 10.0.0.2 seq 1"]),
    ("yielded", &["claim 100 1 m1", "at 20", "mac 100 m1 via 10.0.0.2 seq 1"]),
    ("frozen", &["config moves 1", "mac 100 m1 via 10.0.0.2 seq 1", "taken-over 100 1 m1"]),
    ("stale", &["adopted mac 100 m1 10.0.0.2"]),
    ("excluded", &["mac 100 m1 via 2001:db8::2 rd 10.0.0.2 seq 1"]),
];

const EVENTS: &[&str] = &[
    "learned 100 1 m1",
    "learned 100 2 m1",
    "taken-over 100 1 m1",
    "forgotten 100 1 m1",
    "written-remote 100 m1",
    "claim 100 1 m1",
    "claim 100 2 m1 sticky",
    "restore 100 1 m1",
    "release 100 1 m1",
    "detach 100 1",
    "mac 100 m1 via 10.0.0.2 seq 0",
    "mac 100 m1 via 10.0.0.2 seq 9",
    "mac 100 m1 via 10.0.0.9 seq 0",
    "mac 100 m1 via 10.0.0.9 seq 1",
    "mac 100 m1 via 10.0.0.9 sticky",
    "withdraw mac 100 m1 via 10.0.0.2",
    "sweep",
    "clear 100 m1",
    "at 500",
];

fn in_state(commands: &[&str]) -> Rig {
    let mut rig = Rig::new();
    let (config, rest): (Vec<&str>, Vec<&str>) = commands.iter().partition(|command| command.starts_with("config"));
    for command in config.into_iter().chain(["attach 100 1", "attach 100 2"]).chain(rest) {
        rig.run(command);
    }
    rig
}

fn status(rig: &Rig) -> String {
    rig.engine.macs().next().map_or_else(
        || "unknown".to_owned(),
        |view| {
            let state = view.state.to_string();
            let state = state.split(':').next().unwrap_or_default();
            format!("{state}{}", if view.sticky { ", sticky" } else { "" })
        },
    )
}

/// The effects of an event, short.
fn effects(output: &str) -> String {
    let mut effects = Vec::new();
    for line in output.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["announce", .., last] => {
                let mobility = last.strip_prefix("mac-mobility:").unwrap_or("0");
                effects.push(format!("announce {mobility}"));
            }
            ["withdraw", ..] => effects.push("withdraw".to_owned()),
            ["row", "mac", _, _, rest @ ..] => effects.push(format!("row {}", rest.join(" "))),
            ["row", "tunnel", ..] => {}
            ["report", name, ..] => effects.push(name.trim_end_matches(':').to_owned()),
            _ => effects.push(line.to_owned()),
        }
    }
    if effects.is_empty() { "-".to_owned() } else { effects.join("; ") }
}

#[test]
fn every_state_against_every_event() {
    let mut table = String::new();
    for (name, commands) in STATES {
        let _ = writeln!(table, "{name}");
        for event in EVENTS {
            let mut rig = in_state(commands);
            let output = rig.run(event);
            let event = event.replace(" 100", "").replace(" m1", "");
            let _ = writeln!(table, "  {event:<28} {:<22} {}", status(&rig), effects(&output));
        }
    }
    insta::assert_snapshot!(table);
}
