//! The lab parser against arbitrary input, and against its own printed form.

use std::path::PathBuf;

use controller::lab::{Lab, LabErrors, LabSource, normalise_text, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn conf_source(conf: &[u8]) -> LabSource {
    LabSource { path: PathBuf::from("/lab"), conf: Some(conf.to_vec()), ..LabSource::default() }
}

fn parse_conf(conf: &str) -> Result<Lab, LabErrors> {
    parse(conf_source(conf.as_bytes())).map(|(lab, _)| lab)
}

/// A lab as its text can tell it, LANs in the order of their names.
fn told(mut lab: Lab) -> Lab {
    lab.lans.sort_by(|a, b| a.name.cmp(&b.name));
    lab
}

/// Lines that are nearly right.
fn near_line() -> impl Strategy<Value = String> {
    let device = select(vec!["a", "b", "pc1", "shared", "A", "", " a"]);
    let arg = select(vec![
        "0", "1", "2", "1_0", "٣", "-1", "image", "mem", "cpus", "port", "ipv6", "exec", "sysctl", "env", "ulimit",
        "volume", "cpu", "",
    ]);
    let value = "[\"']?[A-Za-z0-9:/=|. #_\u{e9}-]{0,12}[\"']?( #.{0,4})?";
    prop_oneof![
        4 => (device, arg, value).prop_map(|(d, a, v)| format!("{d}[{a}]={v}")),
        1 => "LAB_(NAME|WEB)=.{0,9}",
        1 => "\\PC{0,20}",
    ]
}

/// An option line's right-hand sides that are right.
fn option() -> impl Strategy<Value = String> {
    let text = "[^\"'\\n\\r\0]{1,12}";
    let word = "[A-Za-z0-9_\u{e9}]{1,6}";
    let switch = select(vec!["y", "No", "TRUE", "f", "on", "0"]);
    let limit = select(vec!["-1:-1", "5", "7:3", "3:7", "9:-1"]);
    let (ports, path) = ((1u16.., 1u16..), "[a-z/.]{1,8}");
    prop_oneof![
        text.prop_map(|v| format!("[image]=\"{v}\"")),
        text.prop_map(|v| format!("[exec]='{v}'")),
        text.prop_map(|v| format!("[args]=\"{v}\" # c")),
        text.prop_map(|v| format!("[colour]=\"{v}\"")),
        (0u32..9999, "[bkmgBKMG]?").prop_map(|(n, u)| format!("[mem]={n}{u}")),
        (0.0f64..9999.0).prop_map(|n| format!("[cpus]={n}")),
        (ports, select(vec!["", "/tcp", "/Udp", "/sctp"])).prop_map(|((h, g), p)| format!("[port]={h}:{g}{p}")),
        switch.clone().prop_map(|v| format!("[ipv6]={v}")),
        switch.prop_map(|v| format!("[bridged]={v}")),
        (word, text).prop_map(|(n, v)| format!("[env]=\"{n}={v}\"")),
        (word, word).prop_map(|(k, v)| format!("[sysctl]=\"net.{k}={v}\"")),
        (word, limit).prop_map(|(n, l)| format!("[ulimit]=\"{n}={l}\"")),
        (path, path, select(vec!["", "|ro", "|rw", "|rx"])).prop_map(|(h, g, m)| format!("[volume]=\"{h}|/{g}{m}\"")),
        (0u32..99).prop_map(|n| format!("[num_terms]={n}")),
    ]
}

/// The lines of one device that is right: its interfaces on LANs of their own choice, its options.
fn device_lines(name: String) -> impl Strategy<Value = Vec<String>> {
    let lans = select(vec!["A", "b", "lan_1", "é", "C"]);
    let lans = vec(lans, 0..5).prop_map(|mut lans| {
        lans.sort_unstable();
        lans.dedup();
        lans
    });
    let mac = prop_oneof![Just(""), Just("/02:00:00:00:aB:01"), Just("//06:00:00:00:00:02")];
    (lans.prop_shuffle(), mac, vec(option(), 1..8)).prop_map(move |(lans, mac, options)| {
        let interfaces = lans.iter().enumerate();
        let mut lines: Vec<String> = interfaces.map(|(n, lan)| format!("{name}[{n}]=\"{lan}{mac}\"")).collect();
        lines.extend(options.iter().map(|option| format!("{name}{option}")));
        lines
    })
}

/// A lab that is right.
fn lab_text() -> impl Strategy<Value = String> {
    let names = ["a", "b1", "_c", "9"].map(|name| device_lines(name.to_owned()));
    let metadata = vec("LAB_(NAME|WEB|EMAIL)=[\"']?[^\"'\n\r\0]{1,9}", 0..3);
    (metadata, names).prop_map(|(metadata, devices)| {
        let lines = metadata.into_iter().chain(devices.into_iter().flatten());
        lines.collect::<Vec<_>>().join("\n")
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(files in proptest::array::uniform4(vec(any::<u8>(), 0..200))) {
        let [conf, dep, ext, settings] = files;
        let _ = normalise_text(&conf);
        let source = LabSource {
            dep: Some(dep),
            ext: Some(ext),
            settings: Some(settings),
            ..conf_source(&conf)
        };
        let _ = parse(source);
    }

    #[test]
    fn nearly_right_lines_are_read_without_panic_and_every_error_has_a_line(lines in vec(near_line(), 0..12)) {
        let text = lines.join("\n");
        if let Err(errors) = parse_conf(&text) {
            prop_assert!(!errors.errors.is_empty());
            let count = lines.len().max(1);
            for error in &errors.errors {
                prop_assert!(error.location.line.is_none_or(|line| (1..=count).contains(&line)), "{error}");
            }
        }
    }

    #[test]
    fn a_printed_lab_reads_back_as_the_same_lab(text in lab_text()) {
        let lab = parse_conf(&text).map_err(|e| TestCaseError::fail(format!("{text}\n{e}")))?;
        let again = parse_conf(&lab.to_conf()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(again.to_conf(), lab.to_conf());
        prop_assert_eq!(told(again), told(lab));
    }

    #[test]
    fn a_lab_survives_its_serde_form(text in lab_text()) {
        let lab = parse_conf(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let json = serde_json::to_string(&lab).unwrap();
        prop_assert_eq!(serde_json::from_str::<Lab>(&json).unwrap(), lab);
    }

    #[test]
    fn a_broken_line_is_one_error_and_hides_no_other(text in lab_text(), place in any::<Index>()) {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(place.index(lines.len()), "?");
        lines.push("?");
        let errors = parse_conf(&lines.join("\n")).unwrap_err();
        prop_assert_eq!(errors.errors.len(), 2, "{}", errors);
    }

    #[test]
    fn cleaning_is_what_replacing_in_text_is_and_leaves_binary_alone(
        parts in vec(select(vec!["a", "\r", "\n", "\r\n", "\u{feff}", "é", "\0"]), 0..12)
    ) {
        let text = parts.concat();
        let clean = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n");
        let expected = if text.contains('\0') { text.clone() } else { clean };
        prop_assert_eq!(&*normalise_text(text.as_bytes()), expected.as_bytes());
    }
}
