use proptest::prelude::*;

use super::*;

fn keys(peers: &[(&str, Option<&str>)], accepted: &[(&str, Option<&str>)]) -> Keys {
    let mut keys = Keys::default();
    let owned = |key: &Option<&str>| key.map(str::to_owned);
    keys.set_accepted(accepted.iter().map(|(prefix, key)| (prefix.parse().unwrap(), owned(key))).collect());
    for (address, key) in peers {
        keys.set_peer(address.parse().unwrap(), owned(key));
    }
    keys
}

fn apply(keys: &mut Keys) -> Difference {
    let difference = keys.difference();
    for (prefix, key) in &difference.set {
        keys.note(*prefix, Some(key.clone()));
    }
    difference.removed.iter().for_each(|prefix| keys.note(*prefix, None));
    keys.settle();
    difference
}

fn shown(table: &Table) -> Vec<String> {
    table.iter().map(|(prefix, key)| format!("{prefix} {key}")).collect()
}

#[test]
fn few_peers_have_a_key_each() {
    let mut keys = keys(&[("10.0.0.1", Some("a")), ("10.0.0.2", None), ("2001:db8::1", Some("b"))], &[]);
    apply(&mut keys);
    assert_eq!(shown(&keys.installed), ["10.0.0.1/32 a", "2001:db8::1/128 b"]);
    keys.remove_peer("10.0.0.1".parse().unwrap());
    keys.set_peer("2001:db8::1".parse().unwrap(), Some("c".into()));
    let difference = apply(&mut keys);
    assert_eq!(shown(&difference.set), ["2001:db8::1/128 c"]);
    assert_eq!(difference.removed, ["10.0.0.1/32".parse().unwrap()]);
    assert_eq!(apply(&mut keys), Difference::default());
}

#[test]
fn who_comes_by_an_accepted_prefix_has_its_key_already() {
    let mut keys = keys(
        &[("10.0.0.1", Some("a")), ("10.0.0.2", Some("b")), ("10.1.0.1", Some("a"))],
        &[("10.0.0.0/24", Some("a")), ("10.1.0.0/24", None)],
    );
    apply(&mut keys);
    assert_eq!(shown(&keys.installed), ["10.0.0.0/24 a", "10.0.0.2/32 b", "10.1.0.1/32 a"]);
}

#[test]
fn thousands_with_one_key_take_few_prefixes_around_those_who_have_none() {
    let mut keys = keys(&[("10.0.3.7", None), ("10.0.3.9", Some("router"))], &[("10.0.9.0/24", None)]);
    for n in 0..5_000_u32 {
        let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        if !keys.peers.contains_key(&address) {
            keys.set_peer(address, Some("a".into()));
        }
    }
    apply(&mut keys);
    // The accepted /24 has no key of its own, so its peers are named one by one: 256 of them.
    assert!(keys.installed.len() < 256 + 2 * PREFIXES, "{}", keys.installed.len());
    let lookup = |address: &str| longest(&keys.installed, address.parse().unwrap()).map(String::as_str);
    assert_eq!((lookup("10.0.3.7"), lookup("10.0.3.9"), lookup("10.0.3.8")), (None, Some("router"), Some("a")));
    assert_eq!((lookup("10.0.9.200"), lookup("10.0.19.136")), (Some("a"), None));
}

#[test]
fn one_key_in_place_of_another_takes_no_more_room_than_twice_the_prefixes() {
    let mut keys = Keys::default();
    let all = |keys: &mut Keys, key: &str| {
        (0..2_000_u32).for_each(|n| keys.set_peer(IpAddr::from((0x0a00_0000 + 3 * n).to_be_bytes()), Some(key.into())));
        apply(keys)
    };
    all(&mut keys, "old");
    let difference = all(&mut keys, "new");
    assert!(difference.set.len() <= PREFIXES && difference.removed.is_empty());
    assert!(keys.installed.values().all(|key| key == "new"));
}

fn some_key() -> impl Strategy<Value = Option<String>> {
    prop_oneof![6 => Just(Some("a".to_owned())), 1 => Just(Some("b".to_owned())), 1 => Just(None)]
}

fn some_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..1_024_u32).prop_map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())),
        any::<u32>().prop_map(|n| IpAddr::from(n.to_be_bytes())),
        (0..1_024_u128).prop_map(|n| IpAddr::V6(((0x2001_0db8_u128 << 96) + n).into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everybody_has_the_own_key_whatever_comes_and_goes(
        changes in proptest::collection::vec((some_address(), proptest::option::weighted(0.9, some_key())), 1..400),
        pause in 1..50_usize,
    ) {
        let mut keys = Keys::default();
        for (n, (address, change)) in changes.iter().enumerate() {
            match change {
                Some(key) => keys.set_peer(*address, key.clone()),
                None => keys.remove_peer(*address),
            }
            if n % pause == 0 {
                apply(&mut keys);
            }
        }
        apply(&mut keys);
        for (address, key) in &keys.peers {
            prop_assert_eq!(longest(&keys.installed, *address), key.as_ref(), "{}", address);
        }
        prop_assert_eq!(apply(&mut keys), Difference::default());
    }

    #[test]
    fn without_others_in_between_the_prefixes_are_few(addresses in proptest::collection::vec(some_address(), 1..1_000)) {
        let mut keys = Keys::default();
        addresses.iter().for_each(|address| keys.set_peer(*address, Some("a".into())));
        apply(&mut keys);
        let of = |is_ipv4: bool| keys.installed.keys().filter(|prefix| prefix.addr().is_ipv4() == is_ipv4).count();
        prop_assert!(of(true) <= PREFIXES && of(false) <= PREFIXES);
    }
}
