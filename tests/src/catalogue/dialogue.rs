//! Rows that are octets and a verdict, played on any ground: a reflector's, or a worker's.

use super::actor::Actor;
use super::observer::read_strictly;
use super::{Play, Row, Verdict};
use crate::bgp::{self, Connection};

/// Where rows are played: a daemon of ours with what is around it.
pub trait Ground {
    /// A connection between the daemon and an actor.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn connect(&self, actor: &Actor) -> std::io::Result<Connection>;
    /// Waits until a MAC is known to everybody who should know it.
    fn wait_installed(&self, mac: [u8; 6]);
    /// Waits until nobody knows a MAC.
    fn wait_gone(&self, mac: [u8; 6]);
    /// Asserts that everybody knows a MAC, or nobody.
    fn assert_places(&self, mac: [u8; 6], known: bool);
    /// Asserts that the actor's session, its first, is up.
    fn assert_up(&self, actor: &Actor);
    /// Waits until each kernel holds what its worker's own tables say.
    fn wait_kernels_follow(&self);
}

/// A dialogue that has been played.
#[derive(Debug, Default)]
pub struct Played {
    /// The actor's connection, which may have ended.
    pub connection: Option<Connection>,
    /// The body of the NOTIFICATION that ended it.
    pub farewell: Option<Vec<u8>>,
}

/// Plays a row and asserts its verdict; `None` if it is not octets and a verdict.
pub fn play(ground: &dyn Ground, actor: &Actor, row: &Row, verdict: Verdict) -> Option<Played> {
    match &row.play {
        Play::Greeting(octets) => Some(play_early(ground, actor, &octets(actor), verdict, false)),
        Play::Open(octets) => Some(play_early(ground, actor, &octets(actor), verdict, true)),
        Play::Session { capabilities, input } => {
            Some(play_session(ground, actor, capabilities, &input(actor), verdict))
        }
        Play::Script(_) | Play::NotApplicable(_) => None,
    }
}

/// Octets that come before a session.
fn play_early(ground: &dyn Ground, actor: &Actor, octets: &[u8], verdict: Verdict, is_open: bool) -> Played {
    let mut connection = connect(ground, actor);
    connection.send(octets);
    let mut farewell = None;
    match verdict {
        Verdict::Reset(..) | Verdict::Closed => farewell = assert_end(&mut connection, verdict),
        Verdict::Accepted if is_open => {
            confirm(&mut connection);
            install_key(ground, actor, &mut connection);
            ground.assert_up(actor);
        }
        other => panic!("{other:?} is no verdict on what comes before a session"),
    }
    Played { connection: Some(connection), farewell }
}

/// Octets on a session.
fn play_session(ground: &dyn Ground, actor: &Actor, capabilities: &[u8], octets: &[u8], verdict: Verdict) -> Played {
    let mut connection = connect(ground, actor);
    connection.send(&actor.open().message(capabilities));
    confirm(&mut connection);
    if !matches!(verdict, Verdict::Accepted | Verdict::Trimmed) {
        install_key(ground, actor, &mut connection);
    }
    connection.send(octets);
    let mut farewell = None;
    match verdict {
        Verdict::Reset(..) | Verdict::Closed => {
            farewell = assert_end(&mut connection, verdict);
            ground.wait_gone(actor.key);
        }
        Verdict::Withdrawn => ground.wait_gone(actor.key),
        Verdict::Accepted | Verdict::Trimmed => ground.wait_installed(actor.key),
        Verdict::Ignored => {}
        Verdict::Scripted => panic!("a script has no octets"),
    }
    if !matches!(verdict, Verdict::Reset(..) | Verdict::Closed) {
        // What was sent before the marker has been processed once the marker is known.
        connection.send(&actor.announce(actor.marker));
        ground.wait_installed(actor.marker);
        ground.assert_up(actor);
        ground.assert_places(actor.key, verdict != Verdict::Withdrawn);
        ground.wait_kernels_follow();
    }
    Played { connection: Some(connection), farewell }
}

fn connect(ground: &dyn Ground, actor: &Actor) -> Connection {
    ground.connect(actor).unwrap_or_else(|error| panic!("{}: {error}", actor.address))
}

fn install_key(ground: &dyn Ground, actor: &Actor, connection: &mut Connection) {
    connection.send(&actor.announce(actor.key));
    ground.wait_installed(actor.key);
}

/// The rest of bringing a session up, once the OPEN is sent.
///
/// # Panics
///
/// If the other side does not want to.
pub fn confirm(connection: &mut Connection) {
    connection.receive_kind(bgp::OPEN).unwrap_or_else(|| panic!("closed before OPEN"));
    connection.send(&bgp::message(bgp::KEEPALIVE, &[]));
    connection.receive_kind(bgp::KEEPALIVE).unwrap_or_else(|| panic!("closed before KEEPALIVE"));
}

/// Waits for the end of a connection and yields the body of the NOTIFICATION that comes before it. Everything on the way
/// must be well-formed.
///
/// # Panics
///
/// If something is not, or no end comes.
pub fn await_end(connection: &mut Connection) -> Option<Vec<u8>> {
    let mut farewell = None;
    while let Some((kind, body)) = connection.receive() {
        assert!(farewell.is_none(), "octets follow a NOTIFICATION");
        if kind == bgp::NOTIFICATION {
            farewell = Some(body);
        } else if kind != bgp::UPDATE {
            read_strictly(kind, &body, true).unwrap_or_else(|fault| panic!("{fault}"));
        }
    }
    farewell
}

/// Code and subcode of the body of a NOTIFICATION.
pub fn code(farewell: Option<&[u8]>) -> Option<(u8, u8)> {
    let body = farewell?;
    Some((*body.first()?, *body.get(1)?))
}

fn assert_end(connection: &mut Connection, verdict: Verdict) -> Option<Vec<u8>> {
    let farewell = await_end(connection);
    let expected = if let Verdict::Reset(code, subcode) = verdict { Some((code, subcode)) } else { None };
    assert_eq!(code(farewell.as_deref()), expected, "code and subcode of the NOTIFICATION");
    farewell
}
