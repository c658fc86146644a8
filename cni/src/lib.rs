//! The CNI plugin, and the protocol between it and the worker speaker.
//!
//! Whoever adds an interface to a pod (the CNI plugin, or the local mode's
//! supervisor) opens the pod's network namespace and a netlink socket inside
//! it, and passes both descriptors to the worker of the node. The worker
//! therefore needs neither the host's process table nor a mount of the pods'
//! namespaces.
//!
//! ```text
//!   plugin                         worker
//!     │  Attach + [netns, netlink]   │
//!     ├─────────────────────────────►│  veth into netns, announce the MAC
//!     │  Attached {mac, mtu, …}      │
//!     │◄─────────────────────────────┤
//! ```
//!
//! Transport: a Unix socket of type `SOCK_SEQPACKET`; one packet is one JSON
//! message of at most [`MAX_MESSAGE_BYTES`], the descriptors ride on the packet
//! that needs them. Requests and replies alternate strictly; a connection
//! carries any number of them. A packet that makes no sense costs its sender an
//! error reply, never the connection's framing.
//!
//! Owned here: the message types ([`protocol`]), their validated parts
//! ([`types`]), packets with descriptors ([`transport`]), both blocking ends
//! ([`client`], [`server`]), and the plugin ([`plugin`]), whose configuration
//! is described there.

pub mod client;
pub mod plugin;
pub mod protocol;
pub mod server;
pub mod transport;
pub mod types;

pub use protocol::{
    Attach, Attached, Attachment, ErrorReply, Expected, List, Origin, Page, Reply, Request, Route, Status,
};
pub use transport::{MAX_MESSAGE_BYTES, PodDescriptors};
pub use types::{ContainerId, ErrorCode, InterfaceName, LanName, MacAddr, Mtu, Name, SandboxPath, Vni};

/// Where a worker listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/megalos/cni.sock";
