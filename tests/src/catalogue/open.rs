//! Section B: OPEN, its capabilities, and what two connections of one peer do to each other.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::dialogue::confirm;
use super::observer::read_strictly;
use super::stage::Stage;
use super::{Profile, Row, Verdict};
use crate::bgp::{
    self, Connection, KEEPALIVE, OPEN, Open, ROUTE_REFRESH, UPDATE, default_membership, end_of_memberships, message,
};
use crate::{inside, wait};

/// Multiprotocol capabilities of EVPN and RT-constrain.
const FAMILIES: [u8; 12] = [1, 4, 0, 25, 0, 70, 1, 4, 0, 1, 0, 132];

/// The graceful restart capability for EVPN (RFC 4724), with these flags (0x80: restarting, 0x40: N bit) and time.
pub fn graceful(flags: u8, secs: u16) -> [u8; 8] {
    let [high, low] = secs.to_be_bytes();
    [64, 6, flags | high, low, 0, 25, 70, 0x80]
}

/// All rows.
pub fn rows() -> Vec<Row> {
    [fields(), parameters(), capabilities(), order(), pairs()].into_iter().flatten().collect()
}

/// A refused OPEN, told apart by rule.
fn refused(
    id: &'static str,
    what: &'static str,
    rfc: &'static str,
    subcode: u8,
    rule: &'static str,
    octets: fn(&Actor) -> Vec<u8>,
) -> Row {
    Row::open(id, what, rfc, Verdict::Reset(2, subcode), octets).breaks(rule)
}

fn accepted(id: &'static str, what: &'static str, rfc: &'static str, octets: fn(&Actor) -> Vec<u8>) -> Row {
    Row::open(id, what, rfc, Verdict::Accepted, octets)
}

fn fields() -> Vec<Row> {
    let version = |row: Row| row.also(|stage| assert_eq!(stage.data(), [0, 4], "the version that we have"));
    let ours = "RFC 6286 2.1";
    vec![
        version(refused("B01", "version 3", "RFC 4271 6.2", 1, "open-version", |actor| {
            Open { version: 3, ..actor.open() }.message(&[])
        })),
        version(refused("B01", "version 5", "RFC 4271 6.2", 1, "open-version", |actor| {
            Open { version: 5, ..actor.open() }.message(&[])
        })),
        refused("B02", "AS 0", "RFC 7607", 2, "open-as", |actor| Open { asn: 0, ..actor.open() }.message(&[])),
        refused("B02", "AS 0 in four octets", "RFC 7607", 2, "open-as", |actor| {
            actor.open().message(&[65, 4, 0, 0, 0, 0])
        }),
        refused("B03", "another AS", "RFC 4271 6.2", 2, "open-as", |actor| {
            Open { asn: 65_001, ..actor.open() }.message(&[])
        }),
        refused("B03", "another AS in four octets", "RFC 4271 6.2", 2, "open-as", |actor| {
            actor.open().message(&[65, 4, 0, 1, 0, 0])
        }),
        refused("B05", "hold time 1", "RFC 4271 6.2", 6, "open-hold-time", |actor| {
            Open { hold_time_secs: 1, ..actor.open() }.message(&[])
        }),
        refused("B05", "hold time 2", "RFC 4271 6.2", 6, "open-hold-time", |actor| {
            Open { hold_time_secs: 2, ..actor.open() }.message(&[])
        }),
        // RFC 4271 section 4.2 allows it, and so do we; such a session ends only when TCP does.
        accepted("B06", "hold time 0", "RFC 4271 4.2", |actor| Open { hold_time_secs: 0, ..actor.open() }.message(&[])),
        Row::script("B07", "60 peers with a hold time of 3 s", "RFC 4271 6.5", short_hold_times).on(Profile::Impatient),
        refused("B08", "identifier 0.0.0.0", "RFC 6286 2.1", 3, "open-router-id", |actor| {
            Open { router_id: [0; 4], ..actor.open() }.message(&[])
        }),
        refused("B09", "our own identifier", ours, 3, "open-router-id", |actor| {
            Open { router_id: actor.daemon, ..actor.open() }.message(&[])
        }),
        Row::script("B10", "two peers with one identifier", "RFC 6286 2.1", twins),
    ]
}

/// An OPEN whose length of optional parameters is this, whatever follows.
fn with_length(actor: &Actor, length: u8, parameters: &[u8]) -> Vec<u8> {
    let mut octets = actor.open().with_parameters(parameters);
    octets[19 + 9] = length;
    octets
}

/// Parameters in the extended form of RFC 9072, the first octet of the form included.
fn extended(parameters: &[u8]) -> Vec<u8> {
    let length = u16::try_from(parameters.len()).unwrap_or_default();
    [&[255], &length.to_be_bytes()[..], parameters].concat()
}

/// The capabilities that a session needs as one parameter of the extended form.
fn extended_capabilities() -> Vec<u8> {
    [&[2, 0, 12][..], &FAMILIES].concat()
}

fn parameters() -> Vec<Row> {
    let malformed = "open-malformed";
    vec![
        refused("B11", "parameters longer than the message", "RFC 4271 6.2", 0, malformed, |actor| {
            with_length(actor, 200, &[2, 6, 1, 4, 0, 25, 0, 70])
        }),
        refused("B11", "octets behind the parameters", "RFC 4271 6.2", 0, malformed, |actor| {
            with_length(actor, 6, &[2, 6, 1, 4, 0, 25, 0, 70])
        }),
        refused("B12", "the length of parameters is the last octet", "RFC 4271 6.2", 0, malformed, |actor| {
            with_length(actor, 5, &[])
        }),
        refused("B12", "the mark of the extended form is the last octet", "RFC 9072 2", 0, malformed, |actor| {
            with_length(actor, 255, &[])
        }),
        refused("B12", "the extended form without its length", "RFC 9072 2", 0, malformed, |actor| {
            with_length(actor, 255, &[255, 0])
        }),
        // Well-formed: what is wrong with it is that no family is offered, as in B21.
        refused("B14", "the extended form of length 0", "RFC 9072 2", 7, "open-capability", |actor| {
            with_length(actor, 255, &extended(&[]))
        }),
        accepted("B15", "the extended form behind a length of 255", "RFC 9072 2", |actor| {
            with_length(actor, 255, &extended(&extended_capabilities()))
        }),
        accepted("B15", "the extended form behind a length that is wrong", "RFC 9072 2", |actor| {
            with_length(actor, 7, &extended(&extended_capabilities()))
        }),
        refused("B16", "parameter 255 behind another", "RFC 9072 3", 4, "open-parameter", |actor| {
            actor.open().with_parameters(&[&[2, 12], &FAMILIES[..], &[255, 0]].concat())
        }),
        refused("B17", "parameter 1, authentication", "RFC 4271 6.2", 4, "open-parameter", |actor| {
            actor.open().with_parameters(&[&[2, 12], &FAMILIES[..], &[1, 1, 0]].concat())
        }),
        refused("B17", "parameter 254", "RFC 4271 6.2", 4, "open-parameter", |actor| {
            actor.open().with_parameters(&[&[254, 0, 2, 12], &FAMILIES[..]].concat())
        }),
        refused("B19", "a capability longer than its parameter", "RFC 5492 4", 0, malformed, |actor| {
            actor.open().with_parameters(&[2, 6, 1, 200, 0, 25, 0, 70])
        }),
        refused("B19", "a capability without its length", "RFC 5492 4", 0, malformed, |actor| {
            actor.open().with_parameters(&[&[2, 13], &FAMILIES[..], &[65]].concat())
        }),
    ]
}

fn capabilities() -> Vec<Row> {
    let malformed = "open-malformed";
    // Code, length and value beside what a session needs; none of them may cost the session.
    let ignored: [(&'static str, &'static str, &'static str, &'static [u8]); 14] = [
        ("B18", "an unknown capability", "RFC 5492 3", &[200, 3, 1, 2, 3]),
        ("B18", "capability 0, empty", "RFC 5492 3", &[0, 0]),
        (
            "B23",
            "add-path with modes 0, 4 and 255",
            "RFC 7911 4",
            &[69, 12, 0, 25, 70, 0, 0, 25, 70, 4, 0, 25, 70, 255],
        ),
        ("B24", "add-path for a family that is not offered", "RFC 7911 4", &[69, 4, 0, 2, 1, 3]),
        (
            "B25",
            "graceful restart with a family twice and one that is not offered",
            "RFC 4724 3",
            &[64, 14, 0, 1, 0, 25, 70, 0x80, 0, 25, 70, 0, 0, 2, 1, 0x80],
        ),
        ("B25", "graceful restart of a length that is none", "RFC 4724 3", &[64, 3, 0, 1, 0]),
        ("B26", "graceful restart with time 0", "RFC 4724 3", &[64, 6, 0, 0, 0, 25, 70, 0x80]),
        ("B27", "long-lived graceful restart alone", "RFC 9494 4.1", &[71, 7, 0, 25, 70, 0x80, 0, 1, 0]),
        ("B27", "long-lived graceful restart of a length that is none", "RFC 9494 3", &[71, 6, 0, 25, 70, 0x80, 0, 1]),
        ("B29", "a software version of length 0", "software-version draft", &[75, 1, 0]),
        ("B29", "a software version longer than its capability", "software-version draft", &[75, 3, 200, 65, 66]),
        ("B29", "a software version without its length", "software-version draft", &[75, 0]),
        ("B30", "a host name longer than its capability", "FQDN draft", &[73, 3, 255, 65, 66]),
        ("B30", "a host name with escapes", "FQDN draft", &[73, 6, 4, 0x1b, 0x5b, 0x32, 0x4a, 0]),
    ];
    let mut rows: Vec<_> = ignored
        .into_iter()
        .map(|(id, what, rfc, more)| {
            Row::open(id, what, rfc, Verdict::Accepted, move |actor| actor.open().message(more))
        })
        .collect();
    rows.extend([
        refused("B20", "a multiprotocol capability of 3 octets", "RFC 4760 8", 0, malformed, |actor| {
            actor.open().message(&[1, 3, 0, 25, 0])
        }),
        refused("B20", "a multiprotocol capability of 5 octets", "RFC 4760 8", 0, malformed, |actor| {
            actor.open().message(&[1, 5, 0, 25, 0, 70, 0])
        }),
        refused("B21", "no EVPN but IPv4 unicast", "RFC 5492 3", 7, "open-capability", |actor| {
            actor.open().with_parameters(&[2, 6, 1, 4, 0, 1, 0, 1])
        })
        .also(names_what_is_needed),
        refused("B21", "no capability at all", "RFC 5492 3", 7, "open-capability", |actor| {
            actor.open().with_parameters(&[])
        })
        .also(names_what_is_needed),
        Row::script("B26", "graceful restart with time 4095", "RFC 4724 4.2", longest_restart).on(Profile::Impatient),
        Row::script("B28", "a long-lived stale time of 2^24-1", "RFC 9494 4.2", longest_stale_time)
            .on(Profile::Impatient),
    ]);
    rows
}

fn names_what_is_needed(stage: &mut Stage<'_>) {
    let needed = [1, 4, 0, 25, 0, 70];
    let data = stage.data();
    assert!(data.windows(needed.len()).any(|part| part == needed), "EVPN is not named in {data:02x?}");
}

fn order() -> Vec<Row> {
    let state = "RFC 6608";
    let early = |id, what, octets: Vec<u8>| {
        Row::greeting(id, what, "RFC 6608", Verdict::Reset(5, 1), move |_| octets.clone()).breaks("message-unexpected")
    };
    vec![
        Row::session("B32", "a second OPEN", state, Verdict::Reset(5, 3), |actor| actor.open().message(&[]))
            .breaks("message-unexpected"),
        early("B33", "a KEEPALIVE before the OPEN", message(KEEPALIVE, &[])),
        early("B33", "an UPDATE before the OPEN", message(UPDATE, &[0, 0, 0, 0])),
        early("B33", "a ROUTE-REFRESH before the OPEN", message(ROUTE_REFRESH, &[0, 25, 0, 70])),
        Row::open("B33", "an UPDATE before the KEEPALIVE", state, Verdict::Reset(5, 2), |actor| {
            [actor.open().message(&[]), actor.announce(actor.key)].concat()
        })
        .breaks("message-unexpected"),
        Row::open("B33", "a ROUTE-REFRESH before the KEEPALIVE", state, Verdict::Reset(5, 2), |actor| {
            [actor.open().message(&[]), message(ROUTE_REFRESH, &[0, 25, 0, 70])].concat()
        })
        .breaks("message-unexpected"),
        Row::open("B33", "a second OPEN before the KEEPALIVE", state, Verdict::Reset(5, 2), |actor| {
            [actor.open().message(&[]), actor.open().message(&[])].concat()
        })
        .breaks("message-unexpected"),
        Row::session(
            "B37",
            "200 messages of type 6, dynamic capabilities",
            "RFC 4271 6.1",
            Verdict::Reset(1, 3),
            |_| message(6, &[0, 1, 1, 4, 0, 25, 0, 70]).repeat(200),
        )
        .breaks("header-type"),
    ]
}

fn pairs() -> Vec<Row> {
    vec![
        Row::script("B34", "both connect at once, the peer has the higher identifier", "RFC 4271 6.8", |stage| {
            collide(stage, stage.actor.octets(), true);
        })
        .on(Profile::Dialled),
        Row::script("B34", "both connect at once, we have the higher identifier", "RFC 4271 6.8", |stage| {
            collide(stage, [1, 1, 1, 1], false);
        })
        .on(Profile::Dialled),
        Row::script("B35", "a restarted peer connects while its old session looks alive", "RFC 4724 4.2", returned),
        Row::script("B36", "capabilities that change from session to session", "RFC 5492", changed_capabilities),
    ]
}

/// Sessions that live on three seconds while others come and go: our own scheduling expires none of them.
fn short_hold_times(stage: &mut Stage<'_>) {
    let actors: Vec<_> = (0..60).map(|_| stage.another()).collect();
    let mut sessions: Vec<_> = actors.iter().map(|actor| stage.establish_as(actor, &[])).collect();
    for _ in 0..14 {
        sessions.iter_mut().for_each(|session| session.send(&message(KEEPALIVE, &[])));
        drop(stage.establish_as(&stage.another(), &[]));
        std::thread::sleep(Duration::from_millis(500));
    }
    let peers = stage.scene.reflector().peers();
    for actor in actors {
        let address = actor.address.to_string();
        let peer = peers.iter().find(|peer| peer.address == address);
        assert!(
            peer.is_some_and(|peer| peer.state == "Established" && peer.established_count == 1),
            "{address}: {peer:?}"
        );
    }
}

fn twins(stage: &mut Stage<'_>) {
    let (first, second) = (stage.actor, stage.another());
    let router_id = first.octets();
    let mut sessions = [first, second].map(|actor| {
        let mut connection = stage.connect_as(&actor);
        connection.send(&Open { router_id, ..actor.open() }.message(&[]));
        confirm(&mut connection);
        connection
    });
    let counted = || stage.scene.findings(&second.address.to_string()).contains_key("router-id-shared");
    wait::until_true("the operator to be told", counted);
    // One key from both: whoever comes first, the same path is the best.
    let route = first.key_route();
    let announce = |actor: &Actor| actor.update_with(actor.base(), std::slice::from_ref(&route));
    let mut best = Vec::new();
    for order in [[0, 1], [1, 0]] {
        for index in order {
            sessions[index].send(&announce(&[first, second][index]));
            stage.scene.wait_installed(first.key);
        }
        let text = super::actor::text(first.key);
        best.push(wait::until("both paths", || {
            let routes = stage.scene.reflector().routes().into_iter();
            let paths: Vec<_> = routes.filter(|path| path.route.contains(&text)).collect();
            let best = paths.iter().find(|path| path.best).map(|path| path.from.clone());
            if paths.len() == 2 { best.ok_or("none is the best") } else { Err("one is missing") }
        }));
        sessions.iter_mut().for_each(|session| session.send(&first.withdraw(first.key)));
        stage.scene.wait_gone(first.key);
    }
    assert_eq!(best[0], best[1], "the choice depends on who came first");
}

/// A peer may ask for more than an hour, and is given what it may have: here one second.
fn longest_restart(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&graceful(0x40, 4_095));
    stage.install_key(&mut connection);
    drop(connection);
    stage.scene.wait_gone(stage.actor.key);
}

/// With 24 bits a peer may ask for half a year: nothing overflows, and it is given one second more.
fn longest_stale_time(stage: &mut Stage<'_>) {
    let long_lived = [71, 7, 0, 25, 70, 0x80, 0xff, 0xff, 0xff];
    let mut connection = stage.establish(&[&graceful(0x40, 4_095)[..], &long_lived].concat());
    stage.install_key(&mut connection);
    drop(connection);
    stage.scene.wait_gone(stage.actor.key);
}

/// A listening socket of an actor.
fn listen(stage: &Stage<'_>) -> TcpListener {
    let address = SocketAddr::new(stage.actor.ip(), crate::fabric::PORT);
    let listener = inside::run(&stage.scene.hostile.open(), || TcpListener::bind(address));
    listener.unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// Both sides open a connection and send their OPENs before either has seen the other's: the connection of the side with the
/// higher identifier stays.
fn collide(stage: &mut Stage<'_>, router_id: [u8; 4], peers_stays: bool) {
    let listener = listen(stage);
    let (stream, _) = listener.accept().unwrap_or_else(|error| panic!("{error}"));
    let begin = Instant::now();
    let ours = Connection::over(stream).unwrap_or_else(|error| panic!("{error}"));
    let mut both = [stage.connect(), ours];
    let open = Open { router_id, ..stage.actor.open() }.message(&[]);
    for connection in &mut both {
        connection.receive_kind(OPEN).unwrap_or_else(|| panic!("closed before OPEN"));
    }
    both.iter_mut().for_each(|connection| connection.send(&open));
    // Connections that begin further apart than this are no collision: the peer has lost the older one.
    let in_time = begin.elapsed() < Duration::from_secs(1);
    let [peers, ours] = both;
    let (mut stays, mut goes) = if peers_stays { (peers, ours) } else { (ours, peers) };
    assert!(in_time, "the machine was too busy to make two connections collide");
    stage.assert_end(&mut goes, Some((6, 7)));
    stays.send(&message(KEEPALIVE, &[]));
    stays.receive_kind(KEEPALIVE).unwrap_or_else(|| panic!("closed before KEEPALIVE"));
    stage.install_key(&mut stays);
    stage.assert_up();
}

fn returned(stage: &mut Stage<'_>) {
    let mut old = stage.establish(&graceful(0x40, 1));
    stage.install_key(&mut old);
    // It says that it has restarted: however young the old session is, this is no collision.
    let mut new = stage.connect();
    new.send(&stage.actor.open().message(&graceful(0xc0, 1)));
    stage.assert_end(&mut old, None);
    confirm(&mut new);
    let address = stage.actor.address.to_string();
    let stale = || stage.scene.reflector().peer(&address).unwrap_or_default().stale_routes;
    wait::until_true("the routes of the old session to be stale", || stale() > 0);
    assert!(stage.scene.places(stage.actor.key).all(true), "a stale route is a route");
    new.send(&stage.actor.announce(stage.actor.key));
    new.send(&bgp::withdraw(&[]));
    wait::until_true("the routes to be fresh", || stale() == 0);
    assert!(stage.scene.places(stage.actor.key).all(true));
}

fn changed_capabilities(stage: &mut Stage<'_>) {
    let mut connection = stage.establish(&super::header::EXTENDED_MESSAGE);
    connection.send(&default_membership(stage.actor.octets()));
    stage.install_key(&mut connection);
    drop(connection);
    stage.scene.wait_gone(stage.actor.key);
    // Without EVPN: its routes are not looked at, and none are sent.
    let mut connection = stage.connect();
    connection.send(&stage.actor.open().with_parameters(&[2, 6, 1, 4, 0, 1, 0, 132]));
    confirm(&mut connection);
    connection.send(&default_membership(stage.actor.octets()));
    connection.send(&stage.actor.announce(stage.actor.key));
    connection.send(&message(KEEPALIVE, &[]));
    let address = stage.actor.address.to_string();
    wait::until_true("the routes of no family to be refused", || {
        stage.scene.findings(&address).contains_key("family-not-negotiated")
    });
    assert!(stage.scene.places(stage.actor.key).all(false));
    drop(connection);
    wait::until_true("the session to be over", || {
        stage.scene.reflector().peer(&address).is_none_or(|peer| peer.state != "Established")
    });
    // With EVPN again, and add-path, which we do not have: everything is sent anew, without path identifiers.
    let mut connection = stage.establish(&[65, 4, 0, 0, 0xfd, 0xe8, 69, 4, 0, 25, 70, 3]);
    connection.send(&default_membership(stage.actor.octets()));
    connection.send(&end_of_memberships());
    stage.install_key(&mut connection);
    let mut wanted: Vec<_> = stage.scene.best_routes().into_keys().collect();
    wanted.retain(|route| !route.contains(&super::actor::text(stage.actor.key)));
    while !wanted.is_empty() {
        let body = connection.receive_kind(UPDATE).unwrap_or_else(|| panic!("closed before {wanted:?}"));
        let update = read_strictly(UPDATE, &body, true).unwrap_or_else(|fault| panic!("{fault}"));
        if let Some(bgp_core::wire::message::Routes::Evpn(routes)) =
            update.and_then(|update| update.reach).map(|reach| reach.routes)
        {
            wanted.retain(|wanted| !routes.iter().any(|route| route.key.to_string() == *wanted));
        }
    }
}
