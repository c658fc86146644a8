//! Section H: volume and fairness.

use super::actor::text;
use super::notification::large;
use super::scene;
use super::stage::Stage;
use super::{Profile, Row};
use crate::bgp::{NOTIFICATION, default_membership};
use crate::wait;

/// All rows.
pub fn rows() -> Vec<Row> {
    vec![
        Row::script("H01", "more routes than the peer may announce", "RFC 4486 4", too_many_routes)
            .on(Profile::Limited)
            .breaks("max-routes"),
        Row::script("H02", "more MACs of a LAN than a worker takes", "robustness", too_many_macs),
        Row::script("H03", "200,000 routes at once from who may announce ten", "RFC 4486 4", far_too_many_routes)
            .on(Profile::Limited)
            .breaks("max-routes"),
        Row::script("H05", "a hundred peers announce one route", "RFC 4271 9.1", one_route_of_many),
        Row::not_applicable(
            "H06",
            "routes whose keys collide in the hash tables",
            "robustness",
            "the tables are keyed with a number drawn when the process starts, so nobody outside can choose keys that collide",
        ),
        Row::script(
            "H07",
            "attribute sets without end, and a reader that takes none of them",
            "RFC 4486 4",
            attribute_flood,
        )
        .on(Profile::Scarce)
        .breaks("max-attribute-sets"),
        Row::script("H08", "announced and withdrawn in turn, a thousand times at once", "RFC 4271 9", in_turn),
    ]
}

fn too_many_routes(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&[]);
    stage.install_key(&mut connection);
    let [.., profile, high, low, _] = stage.actor.key;
    for number in 0..10 {
        connection.send(&stage.actor.announce([0x02, 0xcb, profile, high, low, number]));
    }
    stage.assert_end(&mut connection, Some((6, 1)));
    stage.scene.wait_gone(stage.actor.key);
    // It stays out until the pause is over, or the operator asks.
    let mut again = stage.connect();
    again.send(&stage.actor.open().message(&[]));
    assert!(again.receive().is_none_or(|(kind, _)| kind == NOTIFICATION), "it came back at once");
    let address = stage.actor.address.to_string();
    wait::until_true("the return to be refused", || stage.scene.findings(&address).contains_key("idle-hold"));
}

/// The limit on remote MACs of a LAN that the workers of this section's scene have.
pub const MAX_REMOTE_MACS: usize = 50;

/// The workers take as many as they may, tell of the rest, and keep the session; what they took stays exact.
fn too_many_macs(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&[]);
    let [.., high, low, _] = stage.actor.key;
    let macs: Vec<_> = (0..80).map(|number| [0x02, 0xcb, 0, high, low, number]).collect();
    macs.iter().for_each(|mac| connection.send(&stage.actor.announce(*mac)));
    for worker in &stage.scene.fabric.workers {
        wait::until("the MACs up to the limit", || {
            let rows = scene::rows(worker).into_iter().filter(|(mac, _)| mac != scene::FLOOD).count();
            if rows == MAX_REMOTE_MACS { Ok(()) } else { Err(format!("there are {rows}")) }
        });
        wait::until_true("the worker to tell", || worker.host.log("megalos-speaker").contains("remote-mac-limit"));
    }
    stage.scene.wait_kernels_follow();
    stage.assert_up();
    // What waits takes the place of what goes.
    macs.iter().take(40).for_each(|mac| connection.send(&stage.actor.withdraw(*mac)));
    macs.iter().skip(40).for_each(|mac| stage.scene.wait_installed(*mac));
}

fn attribute_flood(stage: &mut Stage<'_>) {
    let reader = stage.another_of(Profile::Impatient);
    let mut deaf = stage.establish_as(&reader, &[]);
    deaf.send(&default_membership(reader.octets()));
    let mut connection = stage.establish(&[]);
    stage.install_key(&mut connection);
    let (mut wire, actor) = (connection.share(), stage.actor);
    let flood = std::thread::spawn(move || (0..2_000).for_each(|number| wire.send(&large(&actor, number))));
    let end = stage.await_end(&mut connection);
    // Whoever goes on sending may lose our last words to a reset of TCP.
    assert!(matches!(end, Some((6, 8)) | None), "{end:?}");
    drop(connection);
    assert!(flood.join().is_ok());
    stage.scene.wait_gone(stage.actor.key);
    drop(deaf);
}

fn far_too_many_routes(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&[]);
    stage.install_key(&mut connection);
    let mut wire = connection.share();
    let actor = stage.actor;
    let flood = std::thread::spawn(move || {
        for block in 0..2_000_u32 {
            let routes: Vec<_> = (0..100)
                .map(|number: u32| {
                    let [_, a, b, c] = (block * 100 + number).to_be_bytes();
                    actor.route([0x02, 0xcc, 0, a, b, c])
                })
                .collect();
            wire.send(&actor.update_with(actor.base(), &routes));
        }
    });
    let end = stage.await_end(&mut connection);
    // Whoever goes on sending may lose our last words to a reset of TCP.
    assert!(matches!(end, Some((6, 1)) | None), "{end:?}");
    drop(connection);
    assert!(flood.join().is_ok());
    stage.scene.wait_gone(stage.actor.key);
}

fn one_route_of_many(stage: &mut Stage<'_>) {
    const PEERS: usize = 100;
    let first = stage.actor;
    let actors: Vec<_> = (0..PEERS).map(|_| stage.another()).collect();
    let mut sessions: Vec<_> = actors.iter().map(|actor| stage.establish_as(actor, &[])).collect();
    for (session, actor) in sessions.iter_mut().zip(&actors) {
        session.send(&actor.update_with(actor.base(), &[first.key_route()]));
    }
    let paths = || {
        let routes = stage.scene.reflector().routes().into_iter();
        routes.filter(|path| path.route.contains(&text(first.key))).count()
    };
    wait::until_true("all paths", || paths() == PEERS);
    stage.scene.wait_installed(first.key);
    while let Some(session) = sessions.pop() {
        drop(session);
        if sessions.len() % 20 == 0 {
            wait::until_true("the paths of those who stay", || paths() == sessions.len());
        }
    }
    stage.scene.wait_gone(first.key);
    // Each path can have been the best once, each can have gone once.
    let told = stage.scene.observer.received();
    assert!(told <= 2 * PEERS as u64 + 10, "{told} messages about one route of {PEERS} peers");
}

/// What was said last is what counts, wherever reads and batches end.
fn in_turn(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&[]);
    let (announce, withdraw) = (stage.actor.announce(stage.actor.key), stage.actor.withdraw(stage.actor.key));
    for last_is_announcement in [true, false, true] {
        let mut octets = Vec::new();
        for _ in 0..1_000 {
            octets.extend(&announce);
            octets.extend(&withdraw);
        }
        if last_is_announcement {
            octets.extend(&announce);
        }
        connection.send(&octets);
        stage.barrier(&mut connection);
        connection.send(&stage.actor.withdraw(stage.actor.marker));
        stage.scene.wait_gone(stage.actor.marker);
        let places = stage.scene.places(stage.actor.key);
        assert!(places.all(last_is_announcement), "{places:?}");
    }
    stage.assert_up();
}
