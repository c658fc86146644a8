//! Section F, second half: what workers make of routes that are well-formed: whose frames go where in the kernel, and what
//! `megalos show` says where they do not.

use std::time::{Duration, Instant};

use super::Row;
use super::actor::{self, Actor};
use super::evidence::{assert_not_used, wait_logged_by};
use super::stage::Stage;
use crate::bgp::{self, Connection, MacRoute, attribute, update};
use crate::fabric::LAN;
use crate::host::Host;
use crate::overlay::{Worker, attach};
use crate::rows::RowWatch;
use crate::wait;

/// A VNI that no worker has.
const ELSEWHERE: u32 = 4_711;
/// Half of the circle on which sequences live.
const HALF: u32 = 1 << 31;

/// All rows.
pub fn rows() -> Vec<Row> {
    [vnis(), own(), mobility(), lifetimes()].into_iter().flatten().collect()
}

/// The attributes of a route of the LAN with MAC mobility.
fn moved(actor: &Actor, sequence: u32, sticky: bool) -> Vec<Vec<u8>> {
    let mut communities = vec![0, 2, 0xfd, 0xe8];
    communities.extend(LAN.to_be_bytes());
    communities.extend([6, 0, u8::from(sticky), 0]);
    communities.extend(sequence.to_be_bytes());
    let mut attributes = actor.base();
    attributes.retain(|attribute| attribute.get(1) != Some(&16));
    attributes.push(attribute(0xc0, 16, &communities));
    attributes
}

/// An UPDATE by which an actor claims a MAC with this sequence.
fn claim(actor: &Actor, mac: [u8; 6], sequence: u32, sticky: bool) -> Vec<u8> {
    actor.update_with(moved(actor, sequence, sticky), &[actor.route(mac)])
}

/// F16 to F18: labels and LANs.
fn vnis() -> Vec<Row> {
    vec![
        Row::script("F16", "the largest VNI: 24 bits, not 20", "RFC 8365 5.1.3", |stage| {
            let mut connection = stage.establish(&[]);
            let actor = stage.actor;
            let route = MacRoute::of(actor.octets(), 0xff_ffff, actor.key).nlri();
            connection.send(&actor.update_with(bgp::base(0xff_ffff), &[route]));
            stage.scene.wait_reflected_only(actor.key);
            let row =
                stage.scene.reflector().routes().into_iter().find(|row| row.route.contains(&actor::text(actor.key)));
            assert_eq!(row.and_then(|row| row.label), Some(0xff_ffff));
            stage.connection = Some(connection);
        }),
        Row::script(
            "F16",
            "a VNI shifted as an MPLS label: another VNI, of which the worker has none",
            "RFC 8365 5.1.3",
            |stage| {
                assert_not_used(stage, "label of VNI 1600", |actor| {
                    let shifted = MacRoute {
                        labels: bgp::label(LAN << 4).to_vec(),
                        ..MacRoute::of(actor.octets(), LAN, actor.key)
                    };
                    actor.update_with(actor.base(), &[shifted.nlri()])
                });
            },
        ),
        Row::script(
            "F17",
            "a VNI that no worker has: no call to a kernel",
            "policy: rows only for own LANs",
            |stage| {
                let scene = stage.scene;
                let watches: Vec<_> =
                    scene.fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
                let mut connection = stage.establish(&[]);
                let actor = stage.actor;
                for part in 0..10_u8 {
                    let route = |number: u8| bgp::mac_route(actor.octets(), ELSEWHERE, [2, 0xce, 0, 0, part, number]);
                    let routes: Vec<_> = (0..100).map(route).collect();
                    connection.send(&actor.update_with(bgp::base(ELSEWHERE), &routes));
                }
                stage.barrier(&mut connection);
                scene.wait_reflected_only([2, 0xce, 0, 0, 9, 99]);
                let marker = actor::text(actor.marker);
                for (watch, worker) in watches.iter().zip(&scene.fabric.workers) {
                    watch.wait_for(&marker);
                    let others: Vec<_> = watch.events().into_iter().filter(|event| event.mac != marker).collect();
                    assert!(others.is_empty(), "{others:?}");
                    assert!(!worker.has_device(&format!("vx{ELSEWHERE}")));
                }
                stage.connection = Some(connection);
            },
        ),
        Row::script("F18", "the route target of one LAN and the label of another", "RFC 8365 5.1.2.1", |stage| {
            assert_not_used(stage, "route target of VNI 100, label of VNI 4711", |actor| {
                let crossed =
                    MacRoute { labels: bgp::label(ELSEWHERE).to_vec(), ..MacRoute::of(actor.octets(), LAN, actor.key) };
                actor.update_with(actor.base(), &[crossed.nlri()])
            });
        }),
        Row::script(
            "F18",
            "the label of a LAN of the worker and the route target of another",
            "RFC 8365 5.1.2.1",
            |stage| {
                let mut connection = stage.establish(&[]);
                let actor = stage.actor;
                stage.install_key(&mut connection);
                connection.send(&actor.update_with(bgp::base(ELSEWHERE), &[actor.route(actor.key)]));
                stage.scene.wait_reflected_only(actor.key);
                stage.connection = Some(connection);
            },
        ),
    ]
}

/// Takes a MAC from the device behind a worker: by sequences above the last one, until the worker answers no more. The last
/// one.
fn take(stage: &Stage<'_>, connection: &mut Connection, worker: &Worker, mac: [u8; 6], last: u32) -> u32 {
    let mut sequence = last;
    let wanted = Some(stage.actor.address.to_string());
    wait::until("the worker to yield", || {
        sequence += 10;
        connection.send(&claim(&stage.actor, mac, sequence, false));
        connection.send(&stage.actor.announce(stage.actor.marker));
        stage.scene.wait_installed(stage.actor.marker);
        connection.send(&stage.actor.withdraw(stage.actor.marker));
        stage.scene.wait_gone(stage.actor.marker);
        let found = worker.fdb(LAN, &actor::text(mac));
        if found == wanted { Ok(()) } else { Err(format!("sequence {sequence}: it is behind {found:?}")) }
    });
    sequence
}

/// F21, F29: what is the node's own.
fn own() -> Vec<Row> {
    vec![
        Row::script(
            "F21",
            "the MAC of a worker's bridge, of its VXLAN device and of its ports",
            "RFC 9135 4.1",
            |stage| {
                let worker = &stage.scene.fabric.workers[0];
                let listed = worker.overlay_sh("ip -brief link");
                let devices =
                    listed.lines().filter(|line| ["br", "vx", "ve"].iter().any(|kind| line.starts_with(kind)));
                let macs: Vec<String> =
                    devices.filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned)).collect();
                assert!(macs.len() >= 3, "{listed}");
                for text in macs {
                    let mac = octets(&text);
                    let actor = stage.another();
                    let mut connection = stage.establish_as(&actor, &[]);
                    connection.send(&claim(&actor, mac, 1_000, true));
                    connection.send(&actor.announce(actor.marker));
                    stage.scene.wait_installed(actor.marker);
                    wait::until("the reason to be shown", || {
                        let row = worker.macs().into_iter().find(|row| row.mac == text);
                        let is_said =
                            row.as_ref().is_some_and(|row| row.state.contains("a device of this node has its MAC"));
                        if is_said { Ok(()) } else { Err(format!("{row:?}")) }
                    });
                    assert_eq!(worker.fdb(LAN, &text), None, "frames for {text} leave the node");
                    wait_logged_by(worker, &["own-device", &text]);
                    // It is nothing to the other worker.
                    stage.scene.fabric.workers[1].wait_row(LAN, &text, Some(actor.ip()));
                    connection.send(&actor.withdraw(mac));
                    stage.scene.wait_gone(mac);
                }
            },
        ),
        Row::script(
            "F21",
            "the MAC of a device behind a worker, with a newer sequence: reported",
            "RFC 7432 15",
            |stage| {
                let scene = stage.scene;
                let mac = stage.another().key;
                let device = Host::new("claimed");
                let worker = &scene.fabric.workers[0];
                worker.attach(&device, LAN, &actor::text(mac), "192.168.1.77/24");
                scene.fabric.workers[1].wait_row(LAN, &actor::text(mac), scene.fabric.vtep(0).parse().ok());
                let mut connection = stage.establish(&[]);
                // Mobility cannot tell a theft from a move: the claim yields, and that is reported.
                take(stage, &mut connection, worker, mac, 0);
                wait_logged_by(worker, &["claim-yielded", &actor::text(mac)]);
                drop(connection);
                // With the thief gone the claim stands.
                scene.fabric.workers[1].wait_row(LAN, &actor::text(mac), scene.fabric.vtep(0).parse().ok());
                worker.detach(&device);
                scene.wait_gone(mac);
            },
        ),
        Row::script("F29", "a next hop that is the worker's own VTEP", "RFC 4271 5.1.3", |stage| {
            let scene = stage.scene;
            let mut connection = stage.establish(&[]);
            let actor = stage.actor;
            stage.install_key(&mut connection);
            let own: std::net::Ipv4Addr = scene.fabric.vtep(0).parse().unwrap_or_else(|error| panic!("{error}"));
            connection.send(&update(&[actor.base(), vec![bgp::reach(own.octets(), &[actor.key_route()])]].concat()));
            scene.fabric.workers[0].wait_row(LAN, &actor::text(actor.key), None);
            scene.fabric.workers[1].wait_row(LAN, &actor::text(actor.key), Some(own.into()));
            let rows = scene.fabric.workers[0].macs();
            let row = rows.into_iter().find(|row| row.mac == actor::text(actor.key)).unwrap_or_default();
            assert!(row.state.contains("this node's own VTEP"), "{row:?}");
            wait_logged_by(&scene.fabric.workers[0], &["own-vtep", &actor::text(actor.key)]);
            stage.connection = Some(connection);
        }),
    ]
}

/// Two actors with sessions of their own.
fn two(stage: &mut Stage<'_>) -> ([Actor; 2], [Connection; 2]) {
    let actors = [stage.actor, stage.another()];
    (actors, actors.map(|actor| stage.establish_as(&actor, &[])))
}

/// F23 to F26: who has a MAC.
fn mobility() -> Vec<Row> {
    vec![
        Row::script("F23", "sequences that wrap around: 0 is newer than 4294967295", "RFC 7432 15", |stage| {
            let (actors, mut connections) = two(stage);
            let mac = actors[0].key;
            for (index, sequence) in [(0, u32::MAX - 1), (1, u32::MAX), (0, 0), (1, 1)] {
                connections[index].send(&claim(&actors[index], mac, sequence, false));
                stage.scene.wait_vtep(mac, actors[index].ip());
            }
        }),
        // Chosen: of two sequences exactly half the circle apart the larger number is newer, whoever comes first.
        Row::script(
            "F24",
            "sequences exactly 2^31 apart: the larger number, in either order",
            "RFC 1982 3.2",
            |stage| {
                for order in
                    [[(0, 5), (1, HALF + 5)], [(1, HALF + 5), (0, 5)], [(1, 5), (0, HALF + 5)], [(0, HALF + 5), (1, 5)]]
                {
                    let actors = [stage.another(), stage.another()];
                    let mut connections = actors.map(|actor| stage.establish_as(&actor, &[]));
                    let mac = actors[0].key;
                    for (index, sequence) in order {
                        connections[index].send(&claim(&actors[index], mac, sequence, false));
                        connections[index].send(&actors[index].announce(actors[index].marker));
                        stage.scene.wait_installed(actors[index].marker);
                    }
                    let winner = order.iter().find(|(_, sequence)| *sequence > HALF).map_or(0, |(index, _)| *index);
                    stage.scene.wait_vtep(mac, actors[winner].ip());
                }
            },
        ),
        // Chosen: workers that do not contend follow the moves, report them once in a window, and stop nothing; who contends
        // is frozen. Changes are coalesced, so a kernel is written to at its own pace.
        Row::script("F25", "a MAC that moves a thousand times between two VTEPs", "RFC 7432 15.1", |stage| {
            let (actors, mut connections) = two(stage);
            let mac = actors[0].key;
            let bystander = actors[1].marker;
            connections[1].send(&actors[1].announce(bystander));
            stage.scene.wait_installed(bystander);
            let watches: Vec<_> = stage.scene.fabric.workers.iter().map(|w| RowWatch::start(&w.overlay())).collect();
            let begin = Instant::now();
            for sequence in 0..1_000_u32 {
                let index = usize::from(sequence % 2 == 1);
                connections[index].send(&claim(&actors[index], mac, sequence, false));
                // A thousand in a second.
                let due = begin + Duration::from_millis(u64::from(sequence));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            stage.scene.wait_vtep(mac, actors[1].ip());
            for (watch, worker) in watches.iter().zip(&stage.scene.fabric.workers) {
                wait_logged_by(worker, &["duplicate-mac", &actor::text(mac)]);
                let others: Vec<_> = watch.events().into_iter().filter(|event| event.mac != actor::text(mac)).collect();
                assert!(others.is_empty(), "rows of other MACs changed: {others:?}");
            }
        }),
        Row::script("F25", "a MAC claimed by a device here and by a peer in turn", "RFC 7432 15.1", |stage| {
            let scene = stage.scene;
            let worker = &scene.fabric.workers[0];
            let mac = stage.another().key;
            let text = actor::text(mac);
            let device = Host::new("flapping");
            worker.attach(&device, LAN, &text, "192.168.1.78/24");
            let mut connection = stage.establish(&[]);
            let mut sequence = 0;
            wait::until("the duplicate to be reported", || {
                // Each newer route takes the MAC, each withdrawal gives it back.
                sequence = take(stage, &mut connection, worker, mac, sequence);
                let log = worker.host.log("megalos-speaker");
                let is_reported = log.lines().any(|line| line.contains("duplicate-mac") && line.contains(&text));
                if is_reported {
                    return Ok(());
                }
                connection.send(&stage.actor.withdraw(mac));
                scene.fabric.workers[1].wait_row(LAN, &text, scene.fabric.vtep(0).parse().ok());
                Err(format!("moved with sequence {sequence}"))
            });
            connection.send(&stage.actor.withdraw(mac));
            scene.fabric.workers[1].wait_row(LAN, &text, scene.fabric.vtep(0).parse().ok());
            worker.detach(&device);
            scene.wait_gone(mac);
        }),
        Row::script("F26", "a sticky MAC announced by another VTEP with a newer sequence", "RFC 7432 15.2", |stage| {
            let (actors, mut connections) = two(stage);
            let mac = actors[0].key;
            connections[0].send(&claim(&actors[0], mac, 0, true));
            stage.scene.wait_vtep(mac, actors[0].ip());
            connections[1].send(&claim(&actors[1], mac, 9, false));
            connections[1].send(&actors[1].announce(actors[1].marker));
            stage.scene.wait_installed(actors[1].marker);
            let vteps = stage.scene.vteps_of(mac);
            assert!(vteps.iter().all(|vtep| *vtep == Some(actors[0].address.to_string())), "{vteps:?}");
            for worker in &stage.scene.fabric.workers {
                wait_logged_by(worker, &["sticky-contested", &actor::text(mac)]);
            }
        }),
        Row::script("F26", "a device here with a MAC that is sticky elsewhere", "RFC 7432 15.2", |stage| {
            let mut connection = stage.establish(&[]);
            let actor = stage.actor;
            connection.send(&claim(&actor, actor.key, 0, true));
            stage.scene.wait_vtep(actor.key, actor.ip());
            let worker = &stage.scene.fabric.workers[0];
            let device = Host::new("sticky");
            let wanted = attach(&device, LAN, &actor::text(actor.key), "192.168.1.79/24");
            worker.try_attach(&device, wanted).unwrap_or_else(|error| panic!("{error}"));
            wait_logged_by(worker, &["claim-yielded", &actor::text(actor.key)]);
            worker.wait_row(LAN, &actor::text(actor.key), Some(actor.ip()));
            worker.detach(&device);
            stage.connection = Some(connection);
        }),
    ]
}

/// F32, F43: how much there is of it, and how long.
fn lifetimes() -> Vec<Row> {
    let mut rows =
        vec![Row::script("F32", "5000 VTEPs that want the LAN's flooded frames", "policy: max_flood_vteps", |stage| {
            let mut connection = stage.establish(&[]);
            let actor = stage.actor;
            let vtep = |number: u16| {
                let [high, low] = number.to_be_bytes();
                [10, 200, high, low]
            };
            for number in 1..=5_000 {
                let next_hop = vtep(number);
                let route = bgp::multicast_route(next_hop, LAN, &next_hop);
                let attributes =
                    [actor.base(), vec![bgp::pmsi(LAN, &next_hop), bgp::reach(next_hop, &[route])]].concat();
                connection.send(&update(&attributes));
            }
            stage.barrier(&mut connection);
            let worker = &stage.scene.fabric.workers[0];
            let flood = || {
                let table = worker.overlay_sh(&format!("bridge fdb show dev vx{LAN}"));
                table.lines().filter(|line| line.starts_with("00:00:00:00:00:00") && line.contains("dst ")).count()
            };
            wait::until("the flood list to be full", || {
                let count = flood();
                if count == FLOOD_LIMIT { Ok(()) } else { Err(format!("{count} rows")) }
            });
            wait_logged_by(worker, &["flood-limit"]);
            stage.assert_up();
            stage.connection = Some(connection);
        })];
    for (what, first_is_plain) in [("the MAC alone first", true), ("the MAC with its address first", false)] {
        let script: fn(&mut Stage<'_>) = if first_is_plain {
            |stage| withdraw_one_by_one(stage, true)
        } else {
            |stage| withdraw_one_by_one(stage, false)
        };
        let what = format!("routes of a MAC and of the MAC with an address, withdrawn one by one, {what}");
        rows.push(Row::script("F43", what, "RFC 7432 9.2, 10", script));
    }
    rows.push(Row::script("F43", "both withdrawn at once", "RFC 7432 9.2", |stage| {
        let mut connection = stage.establish(&[]);
        let actor = stage.actor;
        let with_ip = MacRoute::of(actor.octets(), LAN, actor.key).with_ip([192, 168, 1, 80]).nlri();
        connection.send(&actor.update_with(actor.base(), &[actor.key_route(), with_ip.clone()]));
        stage.scene.wait_installed(actor.key);
        connection.send(&bgp::withdraw(&[with_ip, actor.key_route()]));
        stage.scene.wait_gone(actor.key);
        stage.scene.wait_kernels_follow();
        stage.assert_up();
        stage.connection = Some(connection);
    }));
    rows
}

/// Most VTEPs of a LAN's flood list by default.
const FLOOD_LIMIT: usize = 2_048;

fn withdraw_one_by_one(stage: &mut Stage<'_>, plain_first: bool) {
    let mut connection = stage.establish(&[]);
    let actor = stage.actor;
    let plain = actor.key_route();
    let with_ip = MacRoute::of(actor.octets(), LAN, actor.key).with_ip([192, 168, 1, 80]).nlri();
    connection.send(&actor.update_with(actor.base(), &[plain.clone(), with_ip.clone()]));
    stage.scene.wait_installed(actor.key);
    let watches: Vec<_> = stage.scene.fabric.workers.iter().map(|worker| RowWatch::start(&worker.overlay())).collect();
    let (first, last) = if plain_first { (plain, with_ip) } else { (with_ip, plain) };
    connection.send(&bgp::withdraw(&[first]));
    stage.barrier(&mut connection);
    for watch in &watches {
        watch.wait_for(&actor::text(actor.marker));
        let changes = watch.of(&actor::text(actor.key));
        assert!(changes.is_empty(), "the row changed while a route was left: {changes:?}");
    }
    connection.send(&bgp::withdraw(&[last]));
    stage.scene.wait_gone(actor.key);
    stage.scene.wait_kernels_follow();
    stage.connection = Some(connection);
}

/// A MAC of its text.
fn octets(text: &str) -> [u8; 6] {
    let mac: bgp_core::types::MacAddr = text.parse().unwrap_or_else(|error| panic!("{error}"));
    mac.0
}
