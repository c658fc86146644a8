//! Opening connections.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::net::{TcpSocket, TcpStream};

use crate::api::PeerSpec;
use crate::sockopt;

/// Connects to the peer.
///
/// # Errors
///
/// In words that name the cause and the cure.
pub(crate) async fn dial(spec: PeerSpec) -> Result<TcpStream, String> {
    let address = spec.address;
    let socket = socket(&spec).map_err(|error| format!("cannot prepare a connection to {address}: {error}"))?;
    if let Some(local) = spec.local_address {
        socket.bind(SocketAddr::new(local, 0)).map_err(|error| bind_failure(local, address, &error))?;
    }
    socket.connect(address).await.map_err(|error| connect_failure(&spec, &error))
}

/// A socket with everything that the handshake needs.
fn socket(spec: &PeerSpec) -> io::Result<TcpSocket> {
    let socket = if spec.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(key) = &spec.key {
        sockopt::set_md5_key(&socket, IpNet::from(spec.address.ip()), Some(key))?;
    }
    // Peers with GTSM take nothing else, and no other peer minds.
    sockopt::send_with_full_ttl(&socket, &spec.address)?;
    if spec.gtsm {
        sockopt::require_full_ttl(&socket, &spec.address)?;
    }
    Ok(socket)
}

/// Tries on a socket that is then closed whether the kernel takes the key.
///
/// # Errors
///
/// What the kernel says; also where the key is empty, which would mean none.
pub(crate) fn check_key(peers: IpNet, key: &str) -> io::Result<()> {
    if key.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key is empty"));
    }
    let socket = if peers.addr().is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    sockopt::set_md5_key(&socket, peers, Some(key))
}

fn bind_failure(local: IpAddr, address: SocketAddr, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::AddrNotAvailable => "give an address that this machine has, or none",
        io::ErrorKind::InvalidInput => "give an address of the same family as the peer's",
        _ => "give another local address, or none",
    };
    format!("cannot connect to {address} from {local}: {error}; {cure}")
}

fn connect_failure(spec: &PeerSpec, error: &io::Error) -> String {
    let address = spec.address;
    let cure = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there: start the peer, or correct its address and port",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "check the routes to it",
        io::ErrorKind::PermissionDenied => "a firewall of this machine forbids it",
        io::ErrorKind::TimedOut => &no_answer_cure(spec),
        _ => "trying again",
    };
    format!("cannot connect to {address}: {error}; {cure}")
}

/// What has another key is dropped without a word, on both sides, and here what has not the TTL of GTSM (RFC 2385, RFC
/// 5082).
fn no_answer_cure(spec: &PeerSpec) -> String {
    let key = if spec.key.is_some() { "has the same TCP-MD5 key" } else { "wants no TCP-MD5 key, as none is set here" };
    let gtsm = if spec.gtsm { ", and that it uses GTSM too" } else { "" };
    format!("check that the peer runs, that no firewall is between, that it {key}{gtsm}")
}

/// The words for an attempt that was given up.
pub(crate) fn no_answer(spec: &PeerSpec) -> String {
    format!("no answer from {}; {}", spec.address, no_answer_cure(spec))
}
