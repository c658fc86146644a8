//! Devices: LANs, members, tunnels, MTU.

use super::sandbox::*;
use bgp_core::types::MacAddr;
use dataplane::linux::{Config, Linux, Mode};
use dataplane::{AttachError, ChangeError, Dataplane, Error, HostReport, Observation, Pod, PortId, Route};
use evpn::forwarding::Key;

#[test]
fn a_lan_lives_from_its_first_member_to_its_last() {
    sandbox(|| {
        let mut linux = node();
        assert!(linux.snapshot().unwrap().lans.is_empty());
        let a = pod(&mut linux, "a", 7, Some("10.0.0.1/24"));
        let b = pod(&mut linux, "b", 7, Some("10.0.0.2/24"));
        assert_ne!(a.mac, b.mac);
        assert_eq!(a.mtu, 1450);
        sh("ip netns exec a ping -c1 -W2 10.0.0.2");
        let snapshot = linux.snapshot().unwrap();
        let lan = &snapshot.lans[&vni(7)];
        assert_eq!((lan.name.as_str(), lan.mtu, lan.tunnel), ("lan 7", 1450, false));
        assert_eq!(lan.ports.len(), 2);
        assert_eq!(lan.ports[&PortId::attachment("a", "eth0")].interface, a.host_interface);
        assert!(lan.local.contains_key(&a.mac) && lan.local.contains_key(&b.mac));

        apply(&mut linux, &[tunnel(7)]);
        assert!(linux.snapshot().unwrap().lans[&vni(7)].tunnel);
        linux.detach(&[PortId::attachment("a", "eth0")]).unwrap();
        let snapshot = linux.snapshot().unwrap();
        assert!(snapshot.lans[&vni(7)].tunnel && snapshot.lans[&vni(7)].ports.len() == 1);
        linux.detach(&[PortId::attachment("b", "eth0")]).unwrap();
        assert!(linux.snapshot().unwrap().lans.is_empty());
        assert_eq!(devices(), "");
        linux.detach(&[PortId::attachment("b", "eth0")]).unwrap();
        assert!(observed(&mut linux).is_empty(), "own work is no news");
        apply(&mut linux, &[without(Key::Tunnel(vni(7)))]);
    });
}

/// The MAC of a device of the overlay namespace.
fn mac_of(device: &str) -> MacAddr {
    sh(&format!("ip netns exec overlay cat /sys/class/net/{device}/address")).trim().parse().unwrap()
}

#[test]
fn the_addresses_of_a_lans_devices_are_told_as_they_come_and_go() {
    sandbox(|| {
        let mut linux = node();
        let port = pod(&mut linux, "a", 7, None).host_interface;
        apply(&mut linux, &[tunnel(7)]);
        sh("ip -n overlay link add gateway link br7 address 00:00:5e:00:01:07 type macvlan mode bridge");
        let gateway = "00:00:5e:00:01:07".parse().unwrap();
        let told = |mac, present| Observation::DeviceMac { vni: vni(7), mac, present };
        let mut news = observe(&mut linux, &told(gateway, true));
        for device in ["br7", "vx7", &port] {
            let own = mac_of(device);
            assert!(linux.snapshot().unwrap().lans[&vni(7)].devices.contains(&own), "{device} {own}");
        }
        sh("ip -n overlay link del gateway");
        news.extend(observe(&mut linux, &told(gateway, false)));
        assert!(!linux.snapshot().unwrap().lans[&vni(7)].devices.contains(&gateway));
        linux.detach(&[PortId::attachment("a", "eth0")]).unwrap();
        assert!(news.iter().all(|news| matches!(news, Observation::DeviceMac { .. })), "{news:?}");
    });
}

/// The devices of the overlay namespace.
fn devices() -> String {
    sh("ip -n overlay -br link | grep -vw lo || true")
}

/// Makes two nodes with an underlay between them: namespaces n1 and n2, with 192.0.2.1 and .2, 2001:db8::1 and ::2.
fn two_nodes(mtu: u32) {
    sh("ip netns add n1; ip netns add n2");
    sh(&format!("ip link add u1 mtu {mtu} netns n1 type veth peer name u2 mtu {mtu} netns n2"));
    for n in 1..=2 {
        sh(&format!(
            "ip -n n{n} link set u{n} up; ip -n n{n} addr add 192.0.2.{n}/24 dev u{n}; \
             ip -n n{n} addr add 2001:db8::{n}/64 dev u{n} nodad; ip -n n{n} link set lo up"
        ));
    }
}

fn open_on(node: u32, vtep: &str) -> Linux {
    let config = Config::new(vtep.parse().unwrap(), &format!("overlay{node}"));
    inside(&format!("n{node}"), || Linux::open(config)).unwrap()
}

fn ping_between_nodes(vteps: [&str; 2], overhead: u32) {
    two_nodes(9000);
    let mut nodes = [open_on(1, vteps[0]), open_on(2, vteps[1])];
    let mut macs = Vec::new();
    for (n, linux) in nodes.iter_mut().enumerate() {
        let attached = pod(linux, &format!("pod{n}"), 7, Some(&format!("10.0.0.{}/24", n + 1)));
        assert_eq!(attached.mtu, 9000 - overhead);
        macs.push(attached.mac);
    }
    for (n, linux) in nodes.iter_mut().enumerate() {
        let other = 1 - n;
        apply(linux, &[tunnel(7), flood(7, vteps[other]), remote(7, macs[other], vteps[other], false)]);
    }
    // The kernel brings links up in its own time.
    eventually("the pods reach each other", || try_sh("ip netns exec pod0 ping -c1 -W1 10.0.0.2").0);
    let payload = 9000 - overhead - 28;
    sh(&format!("ip netns exec pod0 ping -M do -c3 -i 0.05 -W2 -s {payload} 10.0.0.2"));
    let (passed, _) = try_sh(&format!("ip netns exec pod0 ping -M do -c1 -W1 -s {} 10.0.0.2", payload + 1));
    assert!(!passed, "one byte more does not fit");
    // What was learned behind the VXLAN port would be a row of ours: there is none.
    let lan = nodes[0].snapshot().unwrap().lans.remove(&vni(7)).unwrap();
    assert_eq!(lan.remote.len(), 1);
    // Forwarding does not need us.
    drop(nodes);
    sh("ip netns exec pod1 ping -c1 -W2 10.0.0.1");
    link_local_frames_cross();
}

/// STP, LACP, 802.1X and LLDP pass from one pod to the other.
fn link_local_frames_cross() {
    for (n, last) in (0x7700..).zip(["00", "02", "03", "0e"]) {
        let mut wire = Wire::new("pod1");
        let source: String = mac(n).0.iter().map(|octet| format!("{octet:02x}")).collect();
        frame("pod0", &format!("0180c20000{last}{source}88cc"));
        eventually(last, || wire.heard(mac(n)));
    }
}

#[test]
fn pods_of_two_nodes_meet_over_ipv4() {
    sandbox(|| ping_between_nodes(["192.0.2.1", "192.0.2.2"], 50));
}

#[test]
fn pods_of_two_nodes_meet_over_ipv6() {
    sandbox(|| ping_between_nodes(["2001:db8::1", "2001:db8::2"], 70));
}

#[test]
fn devices_are_set_up_as_designed() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        apply(&mut linux, &[tunnel(7)]);
        let device = PortId::attachment("a", "eth0").device_name();
        let [bridge, vxlan, veth] =
            ["br7", "vx7", &device].map(|name| sh(&format!("ip -n overlay -d link show {name}")));
        for word in ["stp_state 0", "mcast_snooping 0", "ageing_time 30000", "mtu 1450", "alias lan 7"] {
            assert!(bridge.contains(word), "{word} not in {bridge}");
        }
        for word in [
            "vxlan id 7 ",
            "local 192.0.2.1",
            "dstport 4789",
            "nolearning",
            "ttl 64",
            "learning off",
            "group_fwd_mask 0xfffd",
            "master br7",
            "mtu 1450",
        ] {
            assert!(vxlan.contains(word), "{word} not in {vxlan}");
        }
        for word in
            [" learning on", "group_fwd_mask 0xfffd", "master br7", "mtu 1450", "alias eth0@a", "neigh_suppress off"]
        {
            assert!(veth.contains(word), "{word} not in {veth}");
        }
        assert_eq!(sh("ip -n overlay -6 addr"), "", "no IPv6 address is ever made here");
        let sysctl = |name: &str| {
            sh(&format!("ip netns exec overlay sh -c 'cat /proc/sys/net/{name} 2>/dev/null || echo none'"))
        };
        assert_eq!(sysctl("ipv6/conf/default/addr_gen_mode").trim(), "1");
        assert_eq!(sysctl("ipv6/conf/default/disable_ipv6").trim(), "0");
        for table in ["iptables", "ip6tables", "arptables"] {
            assert!(["0", "none"].contains(&sysctl(&format!("bridge/bridge-nf-call-{table}")).trim()));
        }
        assert!(!sh("ip link").contains("vx7"), "the host sees no device of ours");
    });
}

#[test]
fn a_hundred_ports_are_attached_and_removed_together() {
    sandbox(|| {
        let mut linux = node();
        let names: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
        for (n, name) in (0..).zip(&names) {
            pod(&mut linux, name, 1 + n % 10, None);
        }
        let snapshot = linux.snapshot().unwrap();
        assert_eq!(snapshot.lans.len(), 10);
        assert!(snapshot.lans.values().all(|lan| lan.ports.len() == 10 && lan.ports.values().all(|port| port.carrier)));
        let tunnels: Vec<_> = (1..=10).map(tunnel).collect();
        apply(&mut linux, &tunnels);
        let ports: Vec<PortId> = names.iter().map(|name| PortId::attachment(name, "eth0")).collect();
        linux.detach(&ports).unwrap();
        assert_eq!(devices(), "");
        assert!(observed(&mut linux).is_empty(), "own work is no news");
    });
}

#[test]
fn a_refused_attachment_leaves_nothing_behind() {
    sandbox(|| {
        let mut linux = node();
        quiet_namespace("a");
        let mut refused = |change: &dyn Fn(&mut dataplane::AttachRequest)| {
            let mut request = request("a", 7);
            change(&mut request);
            let error = linux.attach(request).unwrap_err();
            assert_eq!(devices(), "", "after {error}");
            error
        };
        assert!(matches!(refused(&|r| r.mtu = Some(1451)), AttachError::Mtu { wanted: 1451, most: 1450 }));
        assert!(matches!(refused(&|r| r.mtu = Some(67)), AttachError::Invalid { .. }));
        assert!(matches!(refused(&|r| r.interface = "a/b".into()), AttachError::Invalid { .. }));
        assert!(matches!(
            refused(&|r| r.mac = Some("01:00:00:00:00:01".parse().unwrap())),
            AttachError::Invalid { .. }
        ));
        assert!(matches!(refused(&|r| r.interface = "lo".into()), AttachError::InterfaceExists { .. }));
        let twice = ["10.0.0.1/24", "10.0.0.1/24"].map(|ip| ip.parse().unwrap());
        assert!(refused(&|r| r.addresses = twice.to_vec()).to_string().contains("10.0.0.1/24"));

        let mut wanted = request("a", 7);
        (wanted.mtu, wanted.mac) = (Some(1300), Some(mac(9)));
        wanted.addresses = vec!["10.0.0.1/24".parse().unwrap()];
        let attached = linux.attach(wanted).unwrap();
        assert_eq!((attached.mtu, attached.mac), (1300, mac(9)));
        let inside = sh("ip -n a addr show eth0");
        assert!(inside.contains("mtu 1300") && inside.contains("10.0.0.1/24 brd 10.0.0.255"), "{inside}");
        assert!(matches!(linux.attach(request("a", 7)), Err(AttachError::Exists { .. })));
    });
}

#[test]
fn the_first_frame_of_a_new_member_reaches_the_others() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        quiet_namespace("b");
        let mut wire = Wire::new("a");
        for n in 1..=20 {
            linux.attach(request("b", 7)).unwrap();
            speak("b", mac(n));
            eventually("the frame of a new member", || wire.heard(mac(n)));
            linux.detach(&[PortId::attachment("b", "eth0")]).unwrap();
        }
    });
}

#[test]
fn routes_lead_through_the_interface_with_all_that_they_say() {
    sandbox(|| {
        let mut linux = node();
        sh("ip netns add a");
        let plain = |destination: &str, gateway: Option<&str>| Route {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        };
        let mut wanted = request("a", 7);
        wanted.addresses = ["10.0.0.1/24", "fd00::1/64"].map(|address| address.parse().unwrap()).to_vec();
        wanted.routes = vec![
            plain("0.0.0.0/0", Some("10.0.0.254")),
            plain("192.0.2.0/24", None),
            plain("::/0", Some("fd00::fe")),
            Route {
                mtu: Some(1_400),
                advmss: Some(1_300),
                priority: Some(50),
                table: Some(1_000),
                ..plain("198.51.100.0/24", Some("10.0.0.253"))
            },
        ];
        linux.attach(wanted).unwrap();
        let routes = sh("ip -n a route show table all; ip -n a -6 route show");
        for wanted in [
            "default via 10.0.0.254 dev eth0",
            "192.0.2.0/24 dev eth0 scope link",
            "default via fd00::fe dev eth0",
            "198.51.100.0/24 via 10.0.0.253 dev eth0 table 1000 metric 50 mtu 1400 advmss 1300",
        ] {
            assert!(routes.contains(wanted), "{wanted}: {routes}");
        }
        // A route that the kernel refuses costs the whole attachment.
        sh("ip netns add b");
        let mut wanted = request("b", 8);
        wanted.routes = vec![plain("192.0.2.0/24", Some("203.0.113.1"))];
        let error = linux.attach(wanted).unwrap_err();
        assert!(error.to_string().contains("192.0.2.0/24"), "{error}");
        assert!(!devices().contains("br8"));
    });
}

#[test]
fn ipv6_addresses_are_usable_at_once() {
    sandbox(|| {
        let mut linux = node();
        sh("ip netns add a; ip netns add b");
        for (pod, address) in [("a", "fd00::1/64"), ("b", "fd00::2/64")] {
            let mut request = request(pod, 7);
            request.addresses = vec![address.parse().unwrap()];
            linux.attach(request).unwrap();
        }
        sh("ip netns exec a ping -c1 -W2 fd00::2");
    });
}

#[test]
fn members_that_died_while_nobody_watched_are_cleaned_up_at_start() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        pod(&mut linux, "b", 8, None);
        apply(&mut linux, &[tunnel(7), tunnel(8)]);
        drop(linux);
        sh("ip netns del a");
        eventually("the veth is gone", || !devices().contains(&PortId::attachment("a", "eth0").device_name()));
        let mut linux = open();
        let snapshot = linux.snapshot().unwrap();
        assert_eq!(snapshot.lans.keys().copied().collect::<Vec<_>>(), [vni(8)]);
        assert!(!devices().contains("br7") && !devices().contains("vx7"));
    });
}

#[test]
fn a_changed_vtep_or_port_makes_tunnels_anew() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        apply(&mut linux, &[tunnel(7), flood(7, "192.0.2.2")]);
        drop(linux);
        let mut config = Config::new("192.0.2.1".parse().unwrap(), "overlay");
        config.udp_port = 14789;
        let mut linux = Linux::open(config).unwrap();
        assert!(!linux.snapshot().unwrap().lans[&vni(7)].tunnel);
        apply(&mut linux, &[tunnel(7)]);
        assert!(sh("ip -n overlay -d link show vx7").contains("dstport 14789"));
        assert!(linux.snapshot().unwrap().lans[&vni(7)].flood.is_empty());
    });
}

#[test]
fn a_changed_underlay_changes_the_mtu_of_tunnels_and_no_row() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        apply(&mut linux, &[tunnel(7), flood(7, "192.0.2.2")]);
        drop(linux);
        sh("ip link set under0 mtu 1400");
        let mut linux = open();
        assert!(sh("ip -n overlay link show vx7").contains("mtu 1350"));
        assert_eq!(linux.snapshot().unwrap().lans[&vni(7)].flood.len(), 1);
    });
}

#[test]
fn many_tunnels_are_made_and_removed_in_one_batch() {
    sandbox(|| {
        let mut linux = node();
        for n in 1..=400 {
            let name = format!("p{n}");
            pod(&mut linux, &name, n, None);
        }
        let tunnels: Vec<_> = (1..=400).map(tunnel).collect();
        apply(&mut linux, &tunnels);
        assert!(linux.snapshot().unwrap().lans.values().all(|lan| lan.tunnel));
        apply(&mut linux, &tunnels.iter().map(|change| without(change.key)).collect::<Vec<_>>());
        assert!(linux.snapshot().unwrap().lans.values().all(|lan| !lan.tunnel));
        assert!(observed(&mut linux).is_empty(), "own work is no news");
    });
}

#[test]
fn vnis_that_the_host_has_are_refused_by_name_and_all_others_work() {
    sandbox(|| {
        sh("ip link add flannel.7 type vxlan id 7 dstport 4789 local 127.0.0.1");
        sh("ip link add other type vxlan id 9 dstport 8472 local 127.0.0.1");
        let mut linux = node();
        assert_eq!(linux.snapshot().unwrap().host.reserved, [(vni(7), "flannel.7".to_owned())].into());
        sh("ip netns add a");
        let refused = |linux: &mut Linux, of| linux.attach(request("a", of)).unwrap_err().to_string();
        assert!(refused(&mut linux, 7).contains("flannel.7"), "{}", refused(&mut linux, 7));
        assert!(!devices().contains("br7"));
        pod(&mut linux, "b", 8, None);
        pod(&mut linux, "c", 9, None);
        // Made later, it is told at once; the VNI of another family of addresses, or port, is no matter.
        sh("ip link add late type vxlan id 8 dstport 4789 local 127.0.0.1");
        let late = HostReport {
            reserved: [(vni(7), "flannel.7".into()), (vni(8), "late".into())].into(),
            ..linux.host_report().clone()
        };
        observe(&mut linux, &Observation::Host(late));
        let error = linux.apply(&[tunnel(8)]).pop().unwrap().unwrap_err();
        assert!(matches!(error, ChangeError::VniInUse { .. }) && !error.is_retryable());
        assert!(error.to_string().contains("late"), "{error}");
        assert!(refused(&mut linux, 8).contains("late"));
        apply(&mut linux, &[tunnel(9)]);
        // Gone, it is free again.
        sh("ip link del late && ip link del flannel.7");
        apply(&mut linux, &[tunnel(8)]);
        linux.attach(request("a", 7)).unwrap();
        assert!(linux.host_report().reserved.is_empty());
    });
}

#[test]
fn a_device_that_takes_the_whole_port_is_named_wherever_it_is_in_the_way() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        sh("ip link add any type vxlan external dstport 4789");
        assert!(linux.poll_events(std::time::Duration::ZERO).is_ok());
        assert_eq!(linux.host_report().port_taken_by, None, "while it is down it has no port");
        sh("ip link set any up");
        let error = linux.apply(&[tunnel(7)]).pop().unwrap().unwrap_err();
        assert!(matches!(error, ChangeError::VniInUse { .. }) && error.to_string().contains("any"), "{error}");
        sh("ip netns add b");
        let error = linux.attach(request("b", 8)).unwrap_err();
        assert!(error.to_string().contains("any") && error.to_string().contains("all VNIs"), "{error}");
        sh("ip link set any down");
        apply(&mut linux, &[tunnel(7)]);
        linux.attach(request("b", 8)).unwrap();
    });
}

#[test]
fn lans_follow_the_mtu_of_the_underlay() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        apply(&mut linux, &[tunnel(7)]);
        let before = linux.host_report().mtu.unwrap();
        sh("ip link set under0 mtu 1400");
        let mtu = dataplane::MtuLimit { underlay: 1_400, ..before };
        let resized = HostReport { mtu: Some(mtu), ..linux.host_report().clone() };
        observe(&mut linux, &Observation::Host(resized));
        assert_eq!((linux.mtu_max(), mtu.to_string().as_str()), (1_350, "underlay 1400 - 50 for IPv4 = 1350"));
        assert!(sh("ip -n overlay link show vx7").contains("mtu 1350"));
    });
}

#[test]
fn an_unanswered_port_is_replaced_and_an_answered_one_kept() {
    sandbox(|| {
        let mut linux = node();
        pod(&mut linux, "a", 7, None);
        assert!(matches!(linux.attach(request("a", 7)), Err(AttachError::Exists { .. })));
        let again = dataplane::AttachRequest { existing: dataplane::Existing::Replace, ..request("a", 8) };
        linux.attach(again).unwrap();
        assert!(devices().contains("br8") && !devices().contains("br7"));
        assert!(observed(&mut linux).iter().all(|seen| !matches!(seen, Observation::PortGone { .. })));
    });
}

#[test]
fn a_socket_that_is_not_the_pods_changes_nothing_anywhere() {
    sandbox(|| {
        let mut linux = node();
        for name in ["a", "b"] {
            sh(&format!("ip netns add {name}"));
        }
        sh("ip -n b link add eth0 type veth peer name other");
        let with_socket_of = |pod: &str| match (request("a", 7), request(pod, 7).pod) {
            (request, Pod::Descriptors { netlink, .. }) => match request.pod {
                Pod::Descriptors { namespace, .. } => {
                    dataplane::AttachRequest { pod: Pod::Descriptors { namespace, netlink }, ..request }
                }
                Pod::Simulated => unreachable!("a real pod"),
            },
            (_, Pod::Simulated) => unreachable!("a real pod"),
        };
        let error = linux.attach(with_socket_of("b")).unwrap_err();
        assert!(matches!(error, AttachError::Invalid { .. }), "{error}");
        assert!(sh("ip -n b -brief link show eth0").contains("DOWN"), "somebody else's interface is left alone");
        assert!(!devices().contains("br7"));
        linux.attach(with_socket_of("a")).unwrap();
    });
}

#[test]
fn a_vtep_on_the_loopback_uses_the_mtu_towards_the_routers() {
    sandbox(|| {
        sh("ip link add u0 mtu 1600 type veth peer name u1; ip link set u0 up; ip link set u1 up");
        sh("ip link add x0 mtu 1400 type veth peer name x1; ip link set x0 up; ip link set x1 up");
        sh(
            "ip addr add 192.0.2.1/32 dev lo; ip addr add 198.51.100.1/24 dev u0; ip route add default via 198.51.100.2",
        );
        assert_eq!(open().mtu_max(), 1550);
        let mut config = Config::new("192.0.2.1".parse().unwrap(), "overlay");
        config.underlay_mtu = Some(1500);
        assert_eq!(Linux::open(config).unwrap().mtu_max(), 1450);
    });
}

#[test]
fn what_is_missing_is_said_with_its_cure() {
    sandbox(|| {
        let open =
            |vtep: &str, namespace: &str| Linux::open(Config::new(vtep.parse().unwrap(), namespace)).err().unwrap();
        let error = open("192.0.2.1", "overlay");
        assert!(matches!(error, Error::AddressNotLocal { .. }), "{error}");
        sh("ip link add v0 mtu 1500 type veth peer name v1; ip addr add 198.51.100.9/24 dev v0");
        let error = open("198.51.100.9", "../x");
        assert!(matches!(error, Error::Namespace { .. }), "{error}");
        sh("ip link add u0 mtu 500 type veth peer name u1; ip addr add 192.0.2.9/24 dev u0");
        let error = open("192.0.2.9", "overlay");
        assert!(matches!(error, Error::UnderlayMtu { mtu: 500 }), "{error}");

        sh("ip netns add made; ip addr add 192.0.2.10/24 dev u0; ip link set u0 mtu 1500");
        // SAFETY: a plain system call; it changes this thread alone, which ends with the test.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(result, 0);
        for namespace in ["overlay", "made"] {
            let error = open("192.0.2.10", namespace);
            assert!(matches!(error, Error::Privilege { .. }), "{error}");
            assert!(error.to_string().contains("NET_ADMIN"), "{error}");
        }
    });
}

#[test]
fn adopted_devices_are_served_and_never_made_or_removed() {
    sandbox(|| {
        sh("ip link add u0 type veth peer name u1; ip addr add 192.0.2.1/24 dev u0; ip link set u0 up");
        let lan = |n: u32| {
            format!(
                "ip link add br{n} type bridge; ip link set br{n} up; \
             ip link add vni{n} type vxlan id {n} local 192.0.2.1 dstport 4789 nolearning; \
             ip link set vni{n} master br{n} addrgenmode none; ip link set vni{n} type bridge_slave learning off"
            )
        };
        sh(&lan(7));
        sh("ip link set vni7 up; bridge fdb append 00:00:00:00:00:00 dev vni7 dst 192.0.2.8");
        quiet_namespace("a");
        sh(
            "ip link add port7 type veth peer name eth0 netns a; ip link set port7 master br7 up; ip -n a link set eth0 up",
        );
        let mut config = Config::new("192.0.2.1".parse().unwrap(), "unused");
        config.mode = Mode::Adopt;
        let mut linux = Linux::open(config).unwrap();
        let snapshot = linux.snapshot().unwrap();
        assert!(snapshot.adopted && snapshot.lans[&vni(7)].tunnel && snapshot.lans[&vni(7)].flood.len() == 1);

        use dataplane::Observation::*;
        speak("a", mac(1));
        let port = PortId::new("port7");
        observe(&mut linux, &LocalMac { vni: vni(7), mac: mac(1), port: port.clone(), sticky: false });
        apply(&mut linux, &[tunnel(7), remote(7, mac(2), "192.0.2.2", false), without(flood(7, "192.0.2.8").key)]);
        speak("a", mac(2));
        observe(&mut linux, &RowTakenOver { vni: vni(7), mac: mac(2), port, sticky: false });
        assert!(matches!(linux.attach(request("a", 7)), Err(AttachError::Adopted)));

        sh(&lan(8));
        sh("ip link set vni8 up");
        observe(&mut linux, &LanAppeared { vni: vni(8) });
        apply(&mut linux, &[tunnel(8), flood(8, "192.0.2.2"), without(Key::Tunnel(vni(8)))]);
        assert!(linux.snapshot().unwrap().lans[&vni(8)].tunnel, "a device of somebody else is not removed");
        sh("ip link del vni8");
        observe(&mut linux, &LanGone { vni: vni(8) });
        assert!(matches!(linux.apply(&[tunnel(8)])[0], Err(ChangeError::NoLan { .. })));
        sh("ip link set vni7 nomaster");
        observe(&mut linux, &LanGone { vni: vni(7) });
        sh("ip link set vni7 master br7");
        observe(&mut linux, &LanAppeared { vni: vni(7) });
    });
}
