use proptest::prelude::*;

use super::*;

fn node(name: &str, created_secs: i64, internal_ips: &[&str], vtep: Option<&str>) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        uid: format!("uid-{name}"),
        created_secs,
        internal_ips: internal_ips.iter().map(|&ip| ip.into()).collect(),
        vtep: vtep.map(str::to_owned),
        is_linux: true,
    }
}

fn by_name(records: impl IntoIterator<Item = NodeRecord>) -> BTreeMap<String, NodeRecord> {
    records.into_iter().map(|record| (record.name.clone(), record)).collect()
}

/// `addresses > next hops > endpoint > problems`, in short.
fn described(peer: &NodePeer) -> String {
    let list = |addresses: &BTreeSet<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let reasons: Vec<_> = peer.problems.iter().map(Problem::reason).collect();
    let vtep = peer.vtep.map_or_else(|| "-".into(), |vtep| vtep.to_string());
    format!("{} > {} > {vtep} > {}", list(&peer.addresses), list(&peer.next_hops()), reasons.join(" "))
}

#[test]
fn an_address_has_one_owner_and_what_is_wrong_has_a_name() {
    type Given = (i64, &'static [&'static str], Option<&'static str>);
    // For each case two Nodes, `a` and `b`, and what becomes of each.
    let cases: &[(&str, Given, Given, &str, &str)] = &[
        (
            "both families",
            (1, &["10.0.0.1", "2001:db8::1"], None),
            (2, &["2001:db8::2"], None),
            "10.0.0.1 2001:db8::1 > 10.0.0.1 2001:db8::1 > 10.0.0.1 > ",
            "2001:db8::2 > 2001:db8::2 > 2001:db8::2 > ",
        ),
        (
            "IPv4 comes first in whatever order they are listed",
            (1, &["2001:db8::1", "10.0.0.1"], None),
            (2, &["10.0.0.2"], None),
            "10.0.0.1 2001:db8::1 > 10.0.0.1 2001:db8::1 > 10.0.0.1 > ",
            "10.0.0.2 > 10.0.0.2 > 10.0.0.2 > ",
        ),
        (
            "an annotation takes the place of the InternalIP",
            (1, &["10.0.0.1"], Some("192.0.2.1")),
            (2, &["10.0.0.2"], Some("10.0.0.2")),
            "10.0.0.1 > 192.0.2.1 > 192.0.2.1 > ",
            "10.0.0.2 > 10.0.0.2 > 10.0.0.2 > ",
        ),
        (
            "the older Node keeps the address",
            (2, &["10.0.0.1"], None),
            (1, &["10.0.0.1", "10.0.0.2"], None),
            " >  > - > DuplicateInternalIP",
            "10.0.0.1 10.0.0.2 > 10.0.0.1 10.0.0.2 > 10.0.0.1 > ",
        ),
        (
            "of the same age, the uid decides",
            (1, &["10.0.0.1"], None),
            (1, &["10.0.0.1"], None),
            "10.0.0.1 > 10.0.0.1 > 10.0.0.1 > ",
            " >  > - > DuplicateInternalIP",
        ),
        (
            "an annotation never takes another Node's InternalIP, even an older Node's annotation",
            (1, &["10.0.0.1"], Some("10.0.0.2")),
            (2, &["10.0.0.2"], None),
            "10.0.0.1 > 10.0.0.1 > 10.0.0.1 > DuplicateVtep",
            "10.0.0.2 > 10.0.0.2 > 10.0.0.2 > ",
        ),
        (
            "nor another Node's annotation",
            (1, &["10.0.0.1"], Some("192.0.2.1")),
            (2, &["10.0.0.2"], Some("192.0.2.1")),
            "10.0.0.1 > 192.0.2.1 > 192.0.2.1 > ",
            "10.0.0.2 > 10.0.0.2 > 10.0.0.2 > DuplicateVtep",
        ),
        (
            "an annotation that is none",
            (1, &["10.0.0.1"], Some("eth0")),
            (2, &["10.0.0.2"], Some("127.0.0.1")),
            "10.0.0.1 > 10.0.0.1 > 10.0.0.1 > InvalidVtep",
            "10.0.0.2 > 10.0.0.2 > 10.0.0.2 > InvalidVtep",
        ),
        (
            "no InternalIP",
            (1, &[], None),
            (2, &[], Some("192.0.2.1")),
            " >  > - > NoInternalIP",
            " > 192.0.2.1 > 192.0.2.1 > NoInternalIP",
        ),
        (
            "addresses that are no host's",
            (1, &["fe80::1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.1"], None),
            (2, &["x", "::1", "ff02::1", "::"], None),
            "10.0.0.1 > 10.0.0.1 > 10.0.0.1 > InvalidInternalIP InvalidInternalIP InvalidInternalIP InvalidInternalIP",
            " >  > - > InvalidInternalIP InvalidInternalIP InvalidInternalIP InvalidInternalIP",
        ),
        (
            "an IPv4 address in IPv6's form is the IPv4 address",
            (1, &["::ffff:10.0.0.1", "10.0.0.1"], None),
            (2, &["::ffff:10.0.0.1"], Some("::ffff:10.0.0.1")),
            "10.0.0.1 > 10.0.0.1 > 10.0.0.1 > ",
            " >  > - > DuplicateInternalIP DuplicateVtep",
        ),
    ];
    for (name, a, b, for_a, for_b) in cases {
        let peers = peers(&by_name([node("a", a.0, a.1, a.2), node("b", b.0, b.1, b.2)]));
        assert_eq!((described(&peers["a"]).as_str(), described(&peers["b"]).as_str()), (*for_a, *for_b), "{name}");
    }
}

#[test]
fn every_problem_says_what_to_do() {
    let address = "10.0.0.1".parse().unwrap();
    let owner = || "n9".to_owned();
    for (problem, parts) in [
        (Problem::NoInternalIp, vec!["--node-ip"]),
        (Problem::InvalidInternalIp { text: "x".into() }, vec!["\"x\"", "--node-ip"]),
        (Problem::DuplicateInternalIp { address, owner: owner() }, vec!["10.0.0.1", "n9", "kubectl delete node"]),
        (Problem::InvalidVtep { text: "x\n".into(), why: "why" }, vec![r#""x\n""#, "why", "remove the annotation"]),
        (Problem::DuplicateVtep { address, owner: owner() }, vec!["10.0.0.1", "n9", "remove the annotation"]),
    ] {
        let text = problem.to_string();
        for part in parts {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\n'));
    }
}

fn some_address() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..12_u8).prop_map(|n| format!("10.0.0.{n}")),
        4 => (0..12_u8).prop_map(|n| format!("2001:db8::{n:x}")),
        1 => "\\PC{0,20}",
    ]
}

fn some_nodes() -> impl Strategy<Value = BTreeMap<String, NodeRecord>> {
    let one = (0..4_i64, proptest::collection::vec(some_address(), 0..4), proptest::option::of(some_address()));
    proptest::collection::vec(one, 0..12).prop_map(|nodes| {
        by_name(nodes.into_iter().enumerate().map(|(n, (created_secs, internal_ips, vtep))| NodeRecord {
            internal_ips,
            vtep,
            ..node(&format!("n{n}"), created_secs, &[], None)
        }))
    })
}

proptest! {
    #[test]
    fn nobody_may_speak_for_another(records in some_nodes()) {
        let peers = peers(&records);
        prop_assert_eq!(peers.len(), records.len());
        let mut owners: HashMap<IpAddr, &str> = HashMap::new();
        for peer in peers.values() {
            for address in peer.addresses.iter().copied().chain(peer.next_hops()).chain(peer.vtep) {
                let owner = *owners.entry(address).or_insert(&peer.name);
                prop_assert_eq!(owner, peer.name.as_str());
            }
            prop_assert!(peer.vtep.is_none_or(|vtep| peer.next_hops().contains(&vtep)));
            prop_assert!(peer.vtep.is_some() || !peer.problems.is_empty());
        }
    }

    #[test]
    fn the_order_of_addresses_does_not_matter(records in some_nodes()) {
        let mut reversed = records.clone();
        reversed.values_mut().for_each(|record| record.internal_ips.reverse());
        prop_assert_eq!(peers(&records), peers(&reversed));
    }

    #[test]
    fn who_joins_takes_no_session_from_who_was_there(records in some_nodes(), addresses in proptest::collection::vec(some_address(), 0..4)) {
        let before = peers(&records);
        let mut more = records;
        more.insert("newest".into(), NodeRecord { internal_ips: addresses, ..node("newest", 1_000, &[], None) });
        let after = peers(&more);
        for (name, peer) in &before {
            prop_assert_eq!(&peer.addresses, &after[name].addresses);
        }
    }

    #[test]
    fn every_way_that_json_can_be_a_node_is_read(text in "\\PC{0,40}", n in any::<i64>()) {
        let value = serde_json::json!({
            "metadata": {"name": text, "annotations": {VTEP_ANNOTATION: text}},
            "status": {"addresses": [{"type": "InternalIP", "address": text}, {"type": text, "address": n.to_string()}]},
        });
        let record = NodeRecord::of(&serde_json::from_value(value).unwrap());
        peers(&by_name([record]));
    }
}
