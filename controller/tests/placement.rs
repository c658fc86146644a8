//! Placement by text cases, by properties, and by labs whose best placement is known.
//!
//! A case in `tests/cases/placement/` reads: the nodes, the LANs with their devices, pins; then what comes out.
//! `UPDATE_CASES=1 cargo test -p controller` writes what comes out into the files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use controller::lab::{Lab, LabSource, parse};
use controller::placement::{Pin, Placement, place};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A lab with these devices, and LANs with these members.
fn lab(devices: &[String], lans: &[Vec<String>]) -> Lab {
    let mut text = String::new();
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for device in devices {
        let _ = writeln!(text, "{device}[num_terms]=0");
    }
    for (number, members) in lans.iter().enumerate() {
        for device in members {
            let interface = next.entry(device).or_default();
            let _ = writeln!(text, "{device}[{interface}]=lan{number}");
            *interface += 1;
        }
    }
    let source = LabSource { conf: Some(text.into_bytes()), ..LabSource::default() };
    parse(source).unwrap().0
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

fn link(left: &str, right: &str) -> Vec<String> {
    vec![left.to_owned(), right.to_owned()]
}

fn sizes(placement: &Placement) -> Vec<usize> {
    placement.devices_by_node().iter().map(Vec::len).collect()
}

fn run_case(text: &str) -> String {
    let mut nodes = 0;
    let (mut devices, mut lans, mut pins) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match words.first().map(String::as_str) {
            Some("nodes") => nodes = words[1].parse().unwrap(),
            Some("devices") => devices.extend_from_slice(&words[1..]),
            Some("lan") => lans.push(words[1..].to_vec()),
            Some("pin") => pins.push(Pin { device: words[1].clone(), node: words[2].parse().unwrap() }),
            other => panic!("not a line of a placement case: {other:?}"),
        }
    }
    let lab = lab(&devices, &lans);
    match place(&lab, nodes, &pins) {
        Err(error) => error.problems.iter().map(|problem| format!("error {problem}\n")).collect(),
        Ok(placement) => {
            let mut shown = format!("{placement}\n");
            for (node, on) in placement.devices_by_node().iter().enumerate() {
                let names = on.iter().map(|device| format!(" {}", lab.devices[*device].name));
                let _ = writeln!(shown, "{node}:{}", names.collect::<String>());
            }
            shown
        }
    }
}

#[test]
fn small_labs_are_placed_as_the_cases_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/placement/small.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, cases) = text.split_once("case: ").unwrap();
    let mut actual = head.trim_end().to_owned();
    for case in cases.split("case: ") {
        let (name, body) = case.split_once('\n').unwrap();
        let (input, _) = body.split_once("---\n").unwrap();
        let _ = write!(actual, "\n\ncase: {name}\n{input}---\n{}", run_case(input).trim_end());
    }
    actual.push('\n');
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(&path, actual).unwrap();
    } else {
        assert_eq!(actual, text);
    }
}

#[test]
fn shuffled_cliques_on_as_many_nodes_are_found_again() {
    // Device n belongs to clique n % 5: file order is the worst order.
    let devices = numbered("d", 40);
    let mut lans = Vec::new();
    for left in 0..40 {
        for right in (left + 5..40).step_by(5) {
            lans.push(link(&devices[left], &devices[right]));
        }
    }
    let placement = place(&lab(&devices, &lans), 5, &[]).unwrap();
    assert_eq!((placement.cut, sizes(&placement)), (0, vec![8; 5]));
}

#[test]
fn a_ring_is_cut_once_per_node() {
    let devices = numbered("d", 96);
    // Neighbours on the ring are 35 apart in the file.
    let lans: Vec<_> = (0..96).map(|n| link(&devices[n], &devices[(n + 35) % 96])).collect();
    let placement = place(&lab(&devices, &lans), 4, &[]).unwrap();
    assert_eq!(placement.cut, 4, "{placement}");
}

/// Racks of servers on a LAN with their switch; pods of racks; spines above.
fn data_centre(pods: usize, racks: usize, servers: usize, spines: usize) -> Lab {
    let mut devices = numbered("spine", spines);
    let mut lans = Vec::new();
    for rack in 0..pods * racks {
        let tor = format!("tor{rack}");
        let mut rack_lan = numbered(&format!("s{rack}_"), servers);
        devices.extend_from_slice(&rack_lan);
        for plane in 0..racks {
            let leaf = format!("leaf{}_{plane}", rack / racks);
            lans.push(link(&tor, &leaf));
        }
        devices.push(tor.clone());
        rack_lan.push(tor);
        lans.push(rack_lan);
    }
    for leaf in 0..pods * racks {
        let leaf_name = format!("leaf{}_{}", leaf / racks, leaf % racks);
        for spine in (leaf % racks..spines).step_by(racks) {
            lans.push(link(&leaf_name, &format!("spine{spine}")));
        }
        devices.push(leaf_name);
    }
    lab(&devices, &lans)
}

#[test]
fn a_data_centre_of_2_368_devices_is_placed_on_50_nodes_in_time() {
    let lab = data_centre(16, 8, 16, 64);
    assert_eq!(lab.devices.len(), 64 + 128 * 17 + 128);
    let start = std::time::Instant::now();
    let placement = place(&lab, 50, &[]).unwrap();
    let took = start.elapsed();
    println!("{placement}: {took:?}");
    let sizes = sizes(&placement);
    assert!(sizes.iter().all(|size| (47..=48).contains(size)), "{sizes:?}");
    // Each of the 1,024 links between leaves and spines joins a pod with what is common to all pods.
    assert!(placement.cut <= 1_100, "{placement}");
    // A build without optimisation takes some ten times as long.
    assert!(took.as_secs() < 10, "{took:?}");
}

#[test]
fn large_lans_that_everybody_is_on_are_placed_in_time() {
    let devices = numbered("d", 2_400);
    let mut lans = vec![devices.clone(); 20];
    lans.extend((0..2_400).map(|n| link(&devices[n], &devices[(n * 7 + 1) % 2_400])));
    lans.retain(|lan| lan[0] != lan[1]);
    let start = std::time::Instant::now();
    let placement = place(&lab(&devices, &lans), 50, &[]).unwrap();
    println!("{placement}: {:?}", start.elapsed());
    assert!(sizes(&placement).iter().all(|size| *size == 48));
    // A build without optimisation takes some ten times as long.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

fn graph() -> impl Strategy<Value = (usize, Vec<Vec<usize>>)> {
    (1usize..24).prop_flat_map(|devices| (Just(devices), vec(vec(0..devices, 1..6), 0..30)))
}

fn graph_lab(devices: usize, lans: &[Vec<usize>]) -> Lab {
    let names = numbered("d", devices);
    let lans: Vec<Vec<String>> = lans
        .iter()
        .map(|members| {
            let mut members = members.clone();
            members.sort_unstable();
            members.dedup();
            members.iter().map(|m| names[*m].clone()).collect()
        })
        .collect();
    lab(&names, &lans)
}

/// The cut, counted anew.
fn cut(lab: &Lab, node_of: &[usize]) -> usize {
    let spread = lab.lans.iter().map(|lan| {
        let nodes: std::collections::BTreeSet<usize> = lan.members.iter().map(|m| node_of[m.device]).collect();
        nodes.len() - 1
    });
    spread.sum()
}

proptest! {
    #[test]
    fn without_pins_sizes_differ_by_one_at_most_and_the_cut_is_what_it_says(
        (devices, lans) in graph(),
        nodes in 1usize..9,
    ) {
        let lab = graph_lab(devices, &lans);
        let placement = place(&lab, nodes, &[]).unwrap();
        let sizes = sizes(&placement);
        prop_assert_eq!(sizes.iter().sum::<usize>(), devices);
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        prop_assert_eq!(placement.cut, cut(&lab, &placement.node_of));
    }

    #[test]
    fn the_cut_is_never_larger_than_that_of_the_file_order(
        (devices, lans) in graph(),
        nodes in 1usize..9,
    ) {
        let lab = graph_lab(devices, &lans);
        let in_order: Vec<usize> = (0..nodes)
            .flat_map(|node| std::iter::repeat_n(node, devices / nodes + usize::from(node < devices % nodes)))
            .collect();
        prop_assert!(place(&lab, nodes, &[]).unwrap().cut <= cut(&lab, &in_order));
    }

    #[test]
    fn pins_are_kept_and_the_rest_balanced_around_them(
        (devices, lans) in graph(),
        nodes in 1usize..6,
        pins in vec((any::<Index>(), any::<Index>()), 0..8),
    ) {
        let lab = graph_lab(devices, &lans);
        let pins: BTreeMap<usize, usize> =
            pins.iter().map(|(device, node)| (device.index(devices), node.index(nodes))).collect();
        let wishes: Vec<Pin> = pins.iter().map(|(d, node)| Pin { device: format!("d{d}"), node: *node }).collect();
        let placement = place(&lab, nodes, &wishes).unwrap();
        for (device, node) in &pins {
            prop_assert_eq!(placement.node_of[*device], *node);
        }
        // A node that has more than another by two has pinned devices only.
        let sizes = sizes(&placement);
        let least = *sizes.iter().min().unwrap();
        for (node, size) in sizes.iter().enumerate() {
            let pinned = pins.values().filter(|n| **n == node).count();
            prop_assert!(*size <= least + 1 || *size == pinned, "{:?}", sizes);
        }
        prop_assert_eq!(place(&lab, nodes, &wishes).unwrap(), placement);
    }

    #[test]
    fn on_two_nodes_the_cut_is_close_to_the_least_possible(
        (devices, lans) in (2usize..11).prop_flat_map(|n| (Just(n), vec(vec(0..n, 2..4), 0..14)))
    ) {
        let lab = graph_lab(devices, &lans);
        let half = u32::try_from(devices / 2).unwrap();
        let least = (0u32..1 << devices)
            .filter(|set| set.count_ones() == half)
            .map(|set| {
                let node_of: Vec<usize> = (0..devices).map(|d| (set >> d & 1) as usize).collect();
                cut(&lab, &node_of)
            })
            .min()
            .unwrap();
        let found = place(&lab, 2, &[]).unwrap().cut;
        prop_assert!(found <= least + 1, "found {}, least {}", found, least);
    }
}
