//! One row being tried: connections of actors, and routes that come and go.

use super::actor::Actor;
use super::observer::read_strictly;
use super::scene::{Scene, reflector_address};
use super::{Profile, Verdict};
use crate::bgp::{self, Connection};

/// A row's place in a scene.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Around it.
    pub scene: &'a Scene,
    /// Who sends.
    pub actor: Actor,
    /// The body of the NOTIFICATION that ended the actor's connection.
    pub farewell: Option<Vec<u8>>,
    profile: Profile,
    /// The connection of a row that is octets and a verdict.
    pub connection: Option<Connection>,
}

impl<'a> Stage<'a> {
    /// With a new actor.
    pub fn new(scene: &'a Scene, profile: Profile) -> Self {
        Self { scene, actor: scene.actor(profile), farewell: None, profile, connection: None }
    }

    /// One more actor like the first.
    pub fn another(&self) -> Actor {
        self.scene.actor(self.profile)
    }

    /// One more actor, of another profile.
    pub fn another_of(&self, profile: Profile) -> Actor {
        self.scene.actor(profile)
    }

    /// A connection of the actor.
    ///
    /// # Panics
    ///
    /// If the daemon does not listen.
    pub fn connect(&self) -> Connection {
        self.connect_as(&self.actor)
    }

    /// A connection of another actor.
    ///
    /// # Panics
    ///
    /// If the daemon does not listen.
    pub fn connect_as(&self, actor: &Actor) -> Connection {
        self.try_connect(actor).unwrap_or_else(|error| panic!("{}: {error}", actor.address))
    }

    /// A connection of an actor, if there can be one.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_connect(&self, actor: &Actor) -> std::io::Result<Connection> {
        Connection::open(&self.scene.hostile, actor.ip(), reflector_address())
    }

    /// A connection of the actor whose packets have this TTL.
    ///
    /// # Panics
    ///
    /// If the daemon does not listen.
    pub fn connect_with_ttl(&self, ttl: u32) -> Connection {
        let connection = Connection::open_with(&self.scene.hostile, self.actor.ip(), reflector_address(), |socket| {
            socket.set_ttl_v4(ttl)
        });
        connection.unwrap_or_else(|error| panic!("{}: {error}", self.actor.address))
    }

    /// A connection of the actor that keeps little unread input.
    ///
    /// # Panics
    ///
    /// If the daemon does not listen.
    pub fn connect_small(&self) -> Connection {
        let connection = Connection::open_with(&self.scene.hostile, self.actor.ip(), reflector_address(), |socket| {
            socket.set_recv_buffer_size(4_096)
        });
        connection.unwrap_or_else(|error| panic!("{}: {error}", self.actor.address))
    }

    /// A session of the actor, with these capabilities beside EVPN and RT-constrain.
    pub fn establish(&self, capabilities: &[u8]) -> Connection {
        self.establish_as(&self.actor, capabilities)
    }

    /// A session of another actor.
    pub fn establish_as(&self, actor: &Actor, capabilities: &[u8]) -> Connection {
        let mut connection = self.connect_as(actor);
        connection.send(&actor.open().message(capabilities));
        confirm(&mut connection);
        connection
    }

    /// Announces the actor's key and waits until everybody knows it.
    pub fn install_key(&self, connection: &mut Connection) {
        connection.send(&self.actor.announce(self.actor.key));
        self.scene.wait_installed(self.actor.key);
    }

    /// Waits until everything sent before was processed by everybody: a marker sent now is known everywhere.
    pub fn barrier(&self, connection: &mut Connection) {
        connection.send(&self.actor.announce(self.actor.marker));
        self.scene.wait_installed(self.actor.marker);
    }

    /// Asserts that the actor's session, its first, is up.
    pub fn assert_up(&self) {
        let peer = self.scene.reflector().peer(&self.actor.address.to_string()).unwrap_or_default();
        assert_eq!((peer.state.as_str(), peer.established_count), ("Established", 1), "{:?}", peer.last_error);
    }

    /// Waits for the end of a connection and keeps the NOTIFICATION that comes before it.
    pub fn await_end(&mut self, connection: &mut Connection) -> Option<(u8, u8)> {
        self.farewell = None;
        while let Some((kind, body)) = connection.receive() {
            assert!(self.farewell.is_none(), "octets follow a NOTIFICATION");
            if kind == bgp::NOTIFICATION {
                self.farewell = Some(body);
            } else if kind != bgp::UPDATE {
                read_strictly(kind, &body, true).unwrap_or_else(|fault| panic!("{fault}"));
            }
        }
        let body = self.farewell.as_deref()?;
        Some((*body.first()?, *body.get(1)?))
    }

    /// Waits for the end of a connection and asserts that it is this.
    ///
    /// # Panics
    ///
    /// If it is another, or none comes.
    pub fn assert_end(&mut self, connection: &mut Connection, expected: Option<(u8, u8)>) {
        let found = self.await_end(connection);
        assert_eq!(found, expected, "code and subcode of the NOTIFICATION");
    }

    /// The data of the NOTIFICATION that ended the actor's connection.
    pub fn data(&self) -> &[u8] {
        self.farewell.as_deref().and_then(|body| body.get(2..)).unwrap_or_default()
    }

    /// Plays octets that come before a session.
    pub(super) fn play_early(&mut self, octets: &[u8], verdict: Verdict, is_open: bool) {
        let mut connection = self.connect();
        connection.send(octets);
        match verdict {
            Verdict::Reset(code, subcode) => self.assert_end(&mut connection, Some((code, subcode))),
            Verdict::Closed => self.assert_end(&mut connection, None),
            Verdict::Accepted if is_open => {
                confirm(&mut connection);
                self.install_key(&mut connection);
                self.assert_up();
            }
            other => panic!("{other:?} is no verdict on what comes before a session"),
        }
        self.connection = Some(connection);
    }

    /// Plays octets on a session.
    pub(super) fn play_session(&mut self, capabilities: &[u8], octets: &[u8], verdict: Verdict) {
        let mut connection = self.establish(capabilities);
        if !matches!(verdict, Verdict::Accepted | Verdict::Trimmed) {
            self.install_key(&mut connection);
        }
        connection.send(octets);
        match verdict {
            Verdict::Reset(code, subcode) => self.assert_end(&mut connection, Some((code, subcode))),
            Verdict::Closed => self.assert_end(&mut connection, None),
            Verdict::Withdrawn => self.scene.wait_gone(self.actor.key),
            Verdict::Accepted | Verdict::Trimmed => self.scene.wait_installed(self.actor.key),
            Verdict::Ignored => {}
            Verdict::Scripted => panic!("a script has no octets"),
        }
        match verdict {
            Verdict::Reset(..) | Verdict::Closed => self.scene.wait_gone(self.actor.key),
            _ => {
                self.barrier(&mut connection);
                self.assert_up();
                let keeps = verdict != Verdict::Withdrawn;
                let places = self.scene.places(self.actor.key);
                assert!(places.all(keeps), "the key after the input: {places:?}");
                self.scene.wait_kernels_follow();
            }
        }
        self.connection = Some(connection);
    }
}

/// The rest of bringing a session up, once the OPEN is sent.
pub fn confirm(connection: &mut Connection) {
    connection.receive_kind(bgp::OPEN).unwrap_or_else(|| panic!("closed before OPEN"));
    connection.send(&bgp::message(bgp::KEEPALIVE, &[]));
    connection.receive_kind(bgp::KEEPALIVE).unwrap_or_else(|| panic!("closed before KEEPALIVE"));
}
