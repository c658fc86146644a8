//! One row being tried: connections of actors, and routes that come and go.

use super::Profile;
use super::actor::Actor;
use super::dialogue::{self, Ground, confirm};
use super::scene::{Scene, reflector_address};
use crate::bgp::Connection;

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
        self.scene.connect(actor)
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
        self.scene.assert_up(&self.actor);
    }

    /// Waits for the end of a connection and keeps the NOTIFICATION that comes before it.
    pub fn await_end(&mut self, connection: &mut Connection) -> Option<(u8, u8)> {
        self.farewell = dialogue::await_end(connection);
        dialogue::code(self.farewell.as_deref())
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
}
