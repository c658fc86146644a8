//! The network between the nodes of a lab: a bridge, and per member (node or
//! reflector) a network namespace joined to it.
//!
//! ```text
//!   supervisor's namespace:   underlay (bridge, MTU 9000)
//!                              │        │         │
//!                            node1    node2      rr1        (veth)
//!                              │        │         │
//!   namespaces of their own:  eth0     eth0      eth0
//!                         100.64.0.1 100.64.0.2 100.64.255.1   /16
//! ```
//!
//! Runs inside the supervisor's own network namespace, so names and addresses
//! never meet the host's or another lab's.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVxlan};

use super::netns;

/// MTU of the underlay in bytes: lab interfaces get 1500 and more.
pub const UNDERLAY_MTU: u32 = 9000;

/// Prefix length of the underlay.
const PREFIX_LENGTH: u8 = 16;

const BRIDGE: &str = "underlay";

/// Why the underlay cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// The kernel does not know a kind of device.
    #[error(
        "the kernel has no support for {kind} devices ({source}): load the module (modprobe {kind}) or use a kernel that has it"
    )]
    Unsupported {
        /// The kind, which is also the module's name.
        kind: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else failed.
    #[error("cannot {action}: {source}")]
    Failed {
        /// What was being done.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl UnderlayError {
    fn failed(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Failed { action, source }
    }
}

/// A node or reflector.
#[derive(Debug)]
pub struct Member {
    /// `node1`, `rr1` and so on.
    pub name: String,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// Its network namespace.
    pub netns: OwnedFd,
}

/// The address of node `index` (from 0).
pub fn node_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 0, index.saturating_add(1))
}

/// The address of reflector `index` (from 0).
pub fn reflector_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 255, index.saturating_add(1))
}

/// Makes the bridge and the members, everything up.
///
/// # Errors
/// See [`UnderlayError`].
pub fn build(members: &[(String, Ipv4Addr)]) -> Result<Vec<Member>, UnderlayError> {
    // The underlay has no use for addresses that the kernel makes up.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let made: Vec<Member> = members
        .iter()
        .map(|(name, address)| {
            let netns =
                netns::create().map_err(UnderlayError::failed(format!("make a network namespace for {name}")))?;
            Ok(Member { name: name.clone(), address: *address, netns })
        })
        .collect::<Result<_, UnderlayError>>()?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let handle = connect()?;
        check_vxlan(&handle).await?;
        let bridge = add_bridge(&handle).await?;
        for member in &made {
            add_port(&handle, bridge, member).await?;
        }
        Ok(())
    })?;
    for member in &made {
        netns::inside(&member.netns, || configure(member.address).map_err(|error| io::Error::other(error.to_string())))
            .map_err(UnderlayError::failed(format!("set up {}", member.name)))?;
    }
    Ok(made)
}

fn runtime() -> Result<tokio::runtime::Runtime, UnderlayError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(UnderlayError::failed("start the netlink runtime"))
}

/// A netlink handle in the namespace of the calling thread, served by the
/// runtime that calls.
fn connect() -> Result<Handle, UnderlayError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(UnderlayError::failed("open a netlink socket"))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Finds out early and clearly whether VXLAN devices can be had.
async fn check_vxlan(handle: &Handle) -> Result<(), UnderlayError> {
    let probe = LinkVxlan::new("probe", 1).port(4789).build();
    add(handle, "vxlan", probe).await?;
    let index = index_of("probe")?;
    let deleted = handle.link().del(index).execute().await;
    deleted.map_err(|error| UnderlayError::failed("remove the VXLAN probe")(system_error(error)))
}

async fn add_bridge(handle: &Handle) -> Result<u32, UnderlayError> {
    let bridge = LinkBridge::new(BRIDGE).mtu(UNDERLAY_MTU).up().build();
    add(handle, "bridge", bridge).await?;
    set_up(handle, index_of("lo")?).await?;
    index_of(BRIDGE)
}

/// One message makes the pair, its far end inside the member's namespace.
async fn add_port(handle: &Handle, bridge: u32, member: &Member) -> Result<(), UnderlayError> {
    let mut far = LinkMessageBuilder::<LinkUnspec>::new().name("eth0").mtu(UNDERLAY_MTU).build();
    far.attributes.push(LinkAttribute::NetNsFd(member.netns.as_fd().as_raw_fd()));
    let mut near = LinkMessageBuilder::<LinkUnspec>::new()
        .name(member.name.clone())
        .mtu(UNDERLAY_MTU)
        .controller(bridge)
        .up()
        .build();
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    add(handle, "veth", near).await
}

async fn add(handle: &Handle, kind: &'static str, link: LinkMessage) -> Result<(), UnderlayError> {
    match handle.link().add(link).execute().await.map_err(system_error) {
        Ok(()) => Ok(()),
        Err(source) if source.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            Err(UnderlayError::Unsupported { kind, source })
        }
        Err(source) => Err(UnderlayError::failed(format!("make a {kind} device"))(source)),
    }
}

async fn set_up(handle: &Handle, index: u32) -> Result<(), UnderlayError> {
    let link = LinkUnspec::new_with_index(index).up().build();
    let set = handle.link().set(link).execute().await;
    set.map_err(|error| UnderlayError::failed("set a link up")(system_error(error)))
}

/// Inside a member: loopback and `eth0` up, the address set.
fn configure(address: Ipv4Addr) -> Result<(), UnderlayError> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let handle = connect()?;
        set_up(&handle, index_of("lo")?).await?;
        let index = index_of("eth0")?;
        let added = handle.address().add(index, address.into(), PREFIX_LENGTH);
        let added = added.execute().await;
        added.map_err(|error| UnderlayError::failed(format!("add the address {address}"))(system_error(error)))?;
        set_up(&handle, index).await
    })
}

fn index_of(name: &str) -> Result<u32, UnderlayError> {
    nix::net::if_::if_nametoindex(name)
        .map_err(|errno| UnderlayError::failed(format!("find the device {name}"))(errno.into()))
}

fn system_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
