//! A daemon with kernel VXLAN as a worker beside ours.

use daemon::show::MacRow;
use tests::bgp::{Connection, Open, attribute, base, evpn_route, mac_route, reach, update};
use tests::fabric::{Family, LAN, MACS};
use tests::frames::Sniffer;
use tests::handmade;
use tests::host::Host;
use tests::peers::Software;
use tests::rows::RowWatch;
use tests::wait;

use crate::lab::{ADDRESSES, FLOOD, Lab, REFLECTOR, Role};

const FRRS: [Software; 2] = [Software::FrrDebian, Software::FrrSid];
const ALL: [Software; 3] = [Software::FrrDebian, Software::FrrSid, Software::Bird];
const WANDERER: &str = MACS[2];
const WANDERERS_ADDRESS: &str = "192.168.1.3";

/// A station behind one of the devices, which moves to the other without a word of goodbye, as a virtual machine does.
struct Wanderer(Host);

impl Wanderer {
    fn new() -> Self {
        Self(Host::new("wanderer"))
    }

    /// Appears behind `device` and is gone from wherever it was, where the bridge still has its row.
    fn appear_behind(&self, device: &Host) {
        let Self(host) = self;
        let _ = host.try_sh("ip link del eth0");
        device.sh(&format!(
            "ip link add w0 link eth0 address {WANDERER} type macvlan mode bridge &&
             ip link set w0 netns {} name eth0",
            host.name()
        ));
        host.sh(&format!("ip address add {WANDERERS_ADDRESS}/24 dev eth0 && ip link set eth0 up"));
    }
}

/// What our worker says of a MAC.
fn at_ours(lab: &Lab, mac: &str) -> MacRow {
    lab.ours.macs().into_iter().find(|row| row.mac == mac).unwrap_or_default()
}

/// Waits until our worker knows the MAC there, with this sequence.
fn wait_sequence(lab: &Lab, mac: &str, at: &str, sequence: u32) {
    wait::until(&format!("{mac} to be {at} with sequence {sequence}"), || {
        let row = at_ours(lab, mac);
        if (row.at.as_str(), row.sequence) == (at, sequence) { Ok(()) } else { Err(format!("{row:?}")) }
    });
}

/// The bridge port on which our worker has a MAC.
fn our_port(lab: &Lab, mac: &str) -> String {
    let table = lab.ours.overlay_sh(&format!("bridge fdb show br br{LAN} dynamic"));
    let port = table.lines().find_map(|line| line.strip_prefix(mac)?.split_whitespace().nth(1));
    port.unwrap_or_else(|| panic!("no port of {mac} in {table}")).to_owned()
}

/// Waits until a frame from this MAC has reached the other device, flooded.
fn wait_frame_from(sniffer: &Sniffer, mac: &str) {
    let octets: Vec<u8> = mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    sniffer.wait_for(&format!("a frame from {mac}"), |frame| frame.get(6..12) == Some(&octets));
}

#[test]
fn devices_ping_both_ways_and_a_device_that_goes_takes_its_rows_along() {
    for software in ALL {
        let lab = Lab::established(&Role::of(software));
        lab.wait_meeting();
        lab.ours.detach(&lab.our_device);
        lab.wait_their_row(MACS[0], false);
        lab.wait_their_row(FLOOD, false);
        handmade::unplug(&lab.theirs.host, &lab.their_device);
        wait::until_true("their MAC to be gone", || lab.ours.macs().iter().all(|row| row.mac != MACS[1]));
    }
}

#[test]
fn a_mac_that_wanders_between_frr_and_ours_is_followed_every_time() {
    for software in FRRS {
        let lab = Lab::established(&Role::of(software));
        lab.wait_meeting();
        let wanderer = Wanderer::new();
        let there = lab.their_vtep();
        for sequence in [0, 2] {
            wanderer.appear_behind(&lab.their_device);
            wanderer.0.wait_pings(ADDRESSES[0]);
            lab.wait_our_row(WANDERER, true);
            wait_sequence(&lab, WANDERER, &there, sequence);
            lab.wait_their_row(WANDERER, false);
            lab.our_device.wait_pings(WANDERERS_ADDRESS);

            wanderer.appear_behind(&lab.our_device);
            wanderer.0.wait_pings(ADDRESSES[1]);
            lab.wait_their_row(WANDERER, true);
            wait_sequence(&lab, WANDERER, "local", sequence + 1);
            lab.wait_our_row(WANDERER, false);
            lab.their_device.wait_pings(WANDERERS_ADDRESS);
        }
        assert!(lab.reflector.peers().iter().all(|peer| peer.established_count == 1));
    }
}

/// BIRD knows no sequence numbers: it announces a MAC that has come to it only once nobody else does.
#[test]
fn a_mac_that_wanders_to_bird_is_followed_once_it_is_forgotten_here() {
    let lab = Lab::established(&Role::of(Software::Bird));
    lab.wait_meeting();
    let wanderer = Wanderer::new();
    wanderer.appear_behind(&lab.their_device);
    wanderer.0.wait_pings(ADDRESSES[0]);
    lab.wait_our_row(WANDERER, true);

    wanderer.appear_behind(&lab.our_device);
    wanderer.0.wait_pings(ADDRESSES[1]);
    lab.wait_their_row(WANDERER, true);
    wait_sequence(&lab, WANDERER, "local", 1);
    lab.their_device.wait_pings(WANDERERS_ADDRESS);

    let port = our_port(&lab, WANDERER);
    wanderer.appear_behind(&lab.their_device);
    wait::until_true("BIRD to see it", || {
        wanderer.0.pings(ADDRESSES[0]);
        lab.their_row(WANDERER).is_none()
    });
    wait_sequence(&lab, WANDERER, "local", 1);
    // What ageing does after five minutes.
    lab.ours.overlay_sh(&format!("bridge fdb del {WANDERER} dev {port} master"));
    lab.wait_our_row(WANDERER, true);
    wait_sequence(&lab, WANDERER, &lab.their_vtep(), 0);
    lab.our_device.wait_pings(WANDERERS_ADDRESS);
}

#[test]
fn an_attachment_takes_a_mac_from_theirs_while_it_still_stands_there_and_gives_it_back() {
    for software in ALL {
        let lab = Lab::established(&Role::of(software));
        lab.wait_meeting();
        let address = format!("{WANDERERS_ADDRESS}/24");
        for _ in 0..2 {
            let [before, after] = [Host::new("before"), Host::new("after")];
            handmade::plug(&lab.theirs.host, &before, LAN, WANDERER, &address);
            before.wait_pings(ADDRESSES[0]);
            lab.wait_our_row(WANDERER, true);
            lab.ours.attach(&after, LAN, WANDERER, &address);
            lab.wait_their_row(WANDERER, true);
            handmade::unplug(&lab.theirs.host, &before);
            lab.their_device.wait_pings(WANDERERS_ADDRESS);
            assert!(after.counter("IcmpInEchos") > 0);
            lab.wait_their_row(WANDERER, true);
            lab.ours.detach(&after);
            lab.wait_their_row(WANDERER, false);
        }
    }
}

#[test]
fn what_is_sticky_at_frr_stays_there_whatever_speaks_or_attaches_here() {
    for software in FRRS {
        let lab = Lab::established(&Role::of(software));
        lab.wait_meeting();
        let pin = |words: &str| {
            lab.theirs.host.sh(&format!("bridge fdb replace {} dev to-there master {words}", MACS[1]));
        };
        pin("static sticky");
        wait::until("the MAC to be sticky there", || {
            let row = at_ours(&lab, MACS[1]);
            if row.sticky && row.at == lab.their_vtep() { Ok(()) } else { Err(format!("{row:?}")) }
        });
        let sniffer = Sniffer::start(&lab.their_device, "eth0");
        let impostor = Host::new("impostor");
        lab.ours.attach(&impostor, LAN, MACS[1], "192.168.1.9/24");
        impostor.pings("192.168.1.77");
        wait_frame_from(&sniffer, MACS[1]);
        let row = at_ours(&lab, MACS[1]);
        assert_eq!((row.at, row.sticky, row.sequence), (lab.their_vtep(), true, 0), "{}", row.state);
        lab.wait_our_row(MACS[1], true);
        // Who answers is theirs: the impostor has another address.
        lab.our_device.wait_pings(ADDRESSES[1]);
        assert_eq!(lab.their_row(MACS[1]), None);
        // Once it may move, the attachment has it.
        lab.ours.detach(&impostor);
        pin("dynamic");
        wait::until_true("the MAC to be free", || !at_ours(&lab, MACS[1]).sticky);
        lab.ours.attach(&impostor, LAN, MACS[1], "192.168.1.9/24");
        lab.wait_their_row(MACS[1], true);
    }
}

#[test]
fn what_is_sticky_at_ours_stays_here_whatever_speaks_there() {
    for software in ALL {
        let lab = Lab::established(&Role::of(software));
        lab.wait_meeting();
        let port = our_port(&lab, MACS[0]);
        lab.ours.overlay_sh(&format!("bridge fdb replace {} dev {port} master static sticky", MACS[0]));
        wait::until_true("the MAC to be sticky here", || at_ours(&lab, MACS[0]).sticky);
        wait_for_sticky_at(&lab);
        let sniffer = Sniffer::start(&lab.our_device, "eth0");
        let impostor = Host::new("impostor");
        handmade::plug(&lab.theirs.host, &impostor, LAN, MACS[0], "192.168.1.9/24");
        impostor.pings("192.168.1.77");
        wait_frame_from(&sniffer, MACS[0]);
        // What came after the impostor was heard of here, so was what the impostor did.
        let late = Host::new("late");
        handmade::plug(&lab.theirs.host, &late, LAN, MACS[3], "192.168.1.4/24");
        late.wait_pings(ADDRESSES[1]);
        lab.wait_our_row(MACS[3], true);
        let row = at_ours(&lab, MACS[0]);
        assert_eq!((row.at.as_str(), row.sticky, row.sequence), ("local", true, 0), "{}", row.state);
        assert!(our_port(&lab, MACS[0]) == port, "the bridge's row moved");
        // BIRD's own bridge follows the impostor.
        if software != Software::Bird {
            lab.wait_their_row(MACS[0], true);
            lab.their_device.wait_pings(ADDRESSES[0]);
        }
    }
}

/// Waits until they have been told that the first device's MAC is sticky.
fn wait_for_sticky_at(lab: &Lab) {
    wait::until("them to hear that the MAC is sticky", || {
        let (route, word) = match lab.theirs.software() {
            Software::Bird => (lab.theirs.birdc("show route all table fabric"), "(generic, 0x6000100, 0x0)"),
            _ => (lab.theirs.vtysh("show bgp l2vpn evpn route type macip"), "sticky"),
        };
        if route.contains(word) { Ok(()) } else { Err(route) }
    });
}

#[test]
fn a_mac_with_an_ip_is_known_to_frr_and_to_ours_as_long_as_it_is_announced() {
    for software in FRRS {
        let lab = Lab::established(&Role::of(software));
        lab.wait_meeting();
        // Ours to theirs: a neighbour of the bridge, from which FRR's kernel answers ARP where suppression is on.
        let neighbour = || lab.theirs.host.sh(&format!("ip neigh show {} dev br{LAN}", ADDRESSES[0]));
        wait::until("FRR to know the neighbour", || {
            let row = neighbour();
            if row.contains(MACS[0]) && row.contains("extern_learn") { Ok(()) } else { Err(row) }
        });
        // Theirs to ours: what the bridge interface has resolved, FRR announces beside the MAC alone.
        let watch = RowWatch::start(&lab.ours.overlay());
        for (verb, ips) in [("replace", &[ADDRESSES[1]][..]), ("del", &[]), ("replace", &[ADDRESSES[1]]), ("del", &[])]
        {
            let entry = format!("{} lladdr {} dev br{LAN} nud permanent", ADDRESSES[1], MACS[1]);
            lab.theirs.host.sh(&format!("ip neigh {verb} {entry}"));
            wait::until(&format!("the MAC to have {ips:?}"), || {
                let row = at_ours(&lab, MACS[1]);
                if row.ips == ips { Ok(()) } else { Err(format!("{row:?}")) }
            });
        }
        assert_eq!(watch.of(MACS[1]), [], "the row of a MAC depends on no address");
        lab.ours.detach(&lab.our_device);
        wait::until_true("FRR to forget the neighbour", || neighbour().is_empty());
    }
}

/// No daemon withdraws the route without the address before the one with it, so this peer is made by hand.
#[test]
fn a_mac_keeps_its_row_whichever_of_its_two_routes_goes_first() {
    let lab = Lab::established(&Role::of(Software::FrrDebian));
    lab.wait_meeting();
    let source = [10, 0, 0, 31];
    let host = lab.host("hand", 31);
    let mut hand = Connection::open(&host, source.into(), REFLECTOR.parse().unwrap_or_else(|error| panic!("{error}")))
        .unwrap_or_else(|error| panic!("{error}"));
    hand.establish(&Open::of(source));
    let mac = [2, 0, 0, 0, 0, 3];
    let alone = mac_route(source, LAN, mac);
    let with_address = mac_ip_route(&alone, [192, 168, 1, 3]);
    let vtep = Family::V4.address(31).parse().ok();
    let watch = RowWatch::start(&lab.ours.overlay());
    let has = |route: bool, address: bool| {
        wait::until(&format!("{route} and {address}"), || {
            let count = |text: &str| lab.ours.routes().iter().filter(|row| row.route.ends_with(text)).count();
            let found = (count(&format!("[{WANDERER}]")) == 1, count(&format!("[{WANDERER}][192.168.1.3]")) == 1);
            if found == (route, address) { Ok(()) } else { Err(format!("{found:?}")) }
        });
        lab.ours.wait_row(LAN, WANDERER, vtep);
        let known =
            wait::until("the MAC", || lab.ours.macs().into_iter().find(|row| row.mac == WANDERER).ok_or("unknown"));
        assert_eq!(known.ips.len(), usize::from(address), "{known:?}");
    };
    let announce = |route: &Vec<u8>| update(&[base(LAN), vec![reach(source, std::slice::from_ref(route))]].concat());
    let withdraw = |route: &Vec<u8>| update(&[attribute(0x80, 15, &[&[0, 25, 70], route.as_slice()].concat())]);
    for message in [announce(&alone), announce(&with_address)] {
        hand.send(&message);
    }
    has(true, true);
    hand.send(&withdraw(&alone));
    has(false, true);
    hand.send(&announce(&alone));
    has(true, true);
    hand.send(&withdraw(&with_address));
    has(true, false);
    let gone: Vec<_> = watch.of(WANDERER).into_iter().filter(|event| event.gone).collect();
    assert_eq!(gone, []);
    hand.send(&withdraw(&alone));
    lab.ours.wait_row(LAN, WANDERER, None);
}

/// The type 2 route of the same MAC with an IPv4 address (RFC 7432 section 7.2).
fn mac_ip_route(alone: &[u8], address: [u8; 4]) -> Vec<u8> {
    // Type and length, RD, ESI, tag, and the MAC with its length stand before the length of the address.
    let (before, label) = (&alone[2..2 + 8 + 10 + 4 + 7], &alone[alone.len() - 3..]);
    evpn_route(2, &[before, &[32], &address, label].concat())
}
