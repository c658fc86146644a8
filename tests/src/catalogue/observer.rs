//! A healthy peer of a reflector that keeps every octet it is sent and reads it with the strictest decoder.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bgp_core::types::{AddressFamily, Asn};
use bgp_core::wire::context::{EvpnErrors, MultiprotocolErrors};
use bgp_core::wire::message::{Routes, Treatment, Unreach};
use bgp_core::wire::{AttributeTypes, Capability, DecodeContext, Frame, Message, MessageKind, Open, Update};
use bytes::Bytes;

use crate::bgp::{self, Connection};
use crate::host::Host;

/// Messages kept for rows to look into.
const KEPT: usize = 4_096;

/// What an observer knows.
#[derive(Debug, Default)]
struct Knowledge {
    /// Next hop by route.
    routes: BTreeMap<String, String>,
    /// UPDATEs since [`Observer::forget`].
    updates: Vec<Vec<u8>>,
    received: u64,
    ended: bool,
    faults: Vec<String>,
}

/// The peer. It never sends a route.
#[derive(Debug)]
pub struct Observer {
    knowledge: Arc<Mutex<Knowledge>>,
    connection: Connection,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Brings a session up from an address of `host`, as a member of every LAN.
    ///
    /// # Panics
    ///
    /// If the other side does not want to.
    pub fn start(host: &Host, address: IpAddr, router_id: [u8; 4], to: SocketAddr) -> Self {
        let memberships = [bgp::default_membership(router_id), bgp::end_of_memberships()].concat();
        Self::start_with(host, address, router_id, to, &memberships)
    }

    /// The same with a daemon that asks for no memberships (RFC 4684).
    ///
    /// # Panics
    ///
    /// If the other side does not want to.
    pub fn start_plain(host: &Host, address: IpAddr, router_id: [u8; 4], to: SocketAddr) -> Self {
        Self::start_with(host, address, router_id, to, &[])
    }

    fn start_with(host: &Host, address: IpAddr, router_id: [u8; 4], to: SocketAddr, memberships: &[u8]) -> Self {
        let mut connection = Connection::open(host, address, to).unwrap_or_else(|error| panic!("{to}: {error}"));
        // AS numbers of four octets: paths come as they are.
        connection.send(&bgp::Open::of(router_id).message(&[65, 4, 0, 0, 0xfd, 0xe8]));
        connection.receive_kind(bgp::OPEN).unwrap_or_else(|| panic!("closed before OPEN"));
        connection.send(&bgp::message(bgp::KEEPALIVE, &[]));
        connection.send(memberships);
        connection.send(&bgp::withdraw(&[]));
        let knowledge = Arc::new(Mutex::new(Knowledge::default()));
        let (known, mut wire) = (Arc::clone(&knowledge), connection.share());
        let thread = std::thread::spawn(move || {
            while let Some((kind, body)) = wire.receive() {
                if kind == bgp::KEEPALIVE {
                    wire.send(&bgp::message(bgp::KEEPALIVE, &[]));
                }
                lock(&known).learn(kind, body);
            }
            lock(&known).ended = true;
        });
        Self { knowledge, connection, thread: Some(thread) }
    }

    /// The routes it was told of and not told to forget, each with its next hop.
    pub fn routes(&self) -> BTreeMap<String, String> {
        lock(&self.knowledge).routes.clone()
    }

    /// The UPDATEs since [`Observer::forget`], header removed.
    pub fn updates(&self) -> Vec<Vec<u8>> {
        lock(&self.knowledge).updates.clone()
    }

    /// How many UPDATEs it was sent since [`Observer::forget`].
    pub fn received(&self) -> u64 {
        lock(&self.knowledge).received
    }

    /// Begins to keep UPDATEs anew.
    pub fn forget(&self) {
        let mut knowledge = lock(&self.knowledge);
        knowledge.updates.clear();
        knowledge.received = 0;
    }

    /// What has become of it, if anything has: for daemons that are not ours. Faults are forgotten with that.
    pub fn harm(&self) -> Option<String> {
        let mut knowledge = lock(&self.knowledge);
        let faults = std::mem::take(&mut knowledge.faults);
        match (knowledge.ended, faults.is_empty()) {
            (true, _) => Some("another session ended".to_owned()),
            (false, false) => Some("passed on".to_owned()),
            (false, true) => None,
        }
    }

    /// Whether its session is over.
    pub fn has_ended(&self) -> bool {
        lock(&self.knowledge).ended
    }

    /// Its session is up, and nothing that it was sent was malformed.
    pub fn assert_content(&self) {
        let knowledge = lock(&self.knowledge);
        assert!(knowledge.faults.is_empty(), "malformed octets reached another peer: {:?}", knowledge.faults);
        assert!(!knowledge.ended, "the session of the observer has ended");
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.connection.stream().shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(knowledge: &Mutex<Knowledge>) -> MutexGuard<'_, Knowledge> {
    knowledge.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Knowledge {
    fn learn(&mut self, kind: u8, body: Vec<u8>) {
        match read_strictly(kind, &body, true) {
            Ok(Some(update)) => self.apply(update),
            Ok(None) => {}
            Err(fault) => self.faults.push(fault),
        }
        if kind == bgp::UPDATE {
            self.received += 1;
            if self.updates.len() < KEPT {
                self.updates.push(body);
            }
        }
    }

    fn apply(&mut self, update: Update) {
        for unreach in update.unreach {
            if let Unreach::Evpn(keys) = unreach {
                keys.iter().for_each(|key| drop(self.routes.remove(&key.to_string())));
            }
        }
        if let Some(reach) = update.reach
            && let Routes::Evpn(routes) = reach.routes
        {
            let next_hop = reach.attributes.next_hop.to_string();
            self.routes.extend(routes.iter().map(|route| (route.key.to_string(), next_hop.clone())));
        }
    }
}

/// Reads a message that one of our daemons sent, as strictly as can be.
///
/// # Errors
///
/// What is wrong with it, and all of its octets.
pub fn read_strictly(kind: u8, body: &[u8], four_octet_as: bool) -> Result<Option<Update>, String> {
    let kind = match kind {
        bgp::OPEN => MessageKind::Open,
        bgp::UPDATE => MessageKind::Update,
        bgp::NOTIFICATION => MessageKind::Notification,
        bgp::KEEPALIVE => MessageKind::Keepalive,
        bgp::ROUTE_REFRESH => MessageKind::RouteRefresh,
        other => return Err(format!("message type {other}")),
    };
    let context = DecodeContext {
        four_octet_as,
        families: [AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN].into_iter().collect(),
        external: false,
        evpn_errors: EvpnErrors::Strict,
        multiprotocol_errors: MultiprotocolErrors::Reset,
        opaque_routes: false,
        stripped: AttributeTypes::default(),
    };
    let frame = Frame { kind, body: Bytes::copy_from_slice(body) };
    match Message::decode(&frame, &context) {
        Ok(Message::Update(update)) if update.findings.iter().all(|f| f.treatment == Treatment::Note) => {
            Ok(Some(*update))
        }
        Ok(Message::Update(update)) => Err(format!("{:?} in {body:02x?}", update.findings)),
        Ok(Message::Open(open)) if !is_sound(&open) => Err(format!("{open:?}")),
        Ok(_) => Ok(None),
        Err(notification) => Err(format!("{notification} for {kind:?} {body:02x?}")),
    }
}

/// An OPEN of our daemons offers families and AS numbers of four octets.
fn is_sound(open: &Open) -> bool {
    open.asn != Asn(0)
        && open.four_octet_as()
        && open.capabilities.iter().any(|capability| matches!(capability, Capability::Multiprotocol(_)))
}
