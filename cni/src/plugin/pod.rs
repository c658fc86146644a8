//! The pod's network namespace: opened from its path, looked into, and spoken from.
//!
//! A namespace belongs to a thread, so work inside runs on a thread of its own that ends afterwards. The plugin, which the
//! runtime starts as root, does this so that the worker needs no right to enter a pod.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::thread;

use ipnet::IpNet;
use nix::libc;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, SockaddrStorage, sendto, socket,
};

use crate::plugin::error::PluginError;
use crate::transport::PodDescriptors;
use crate::types::{ErrorCode, InterfaceName, MacAddr, SandboxPath};

/// An open network namespace.
#[derive(Debug)]
pub struct Pod {
    namespace: File,
    path: SandboxPath,
}

/// An interface as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It is up.
    pub up: bool,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths.
    pub ips: Vec<IpNet>,
}

impl Pod {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// Code 4, naming `CNI_NETNS`, where there is no namespace, or it is the one that the plugin runs in.
    pub fn open(path: &SandboxPath) -> Result<Self, PluginError> {
        let wrong = |cause: &str| {
            PluginError::variable(
                "CNI_NETNS",
                path.as_str(),
                format!("the path of the pod's network namespace: {cause}"),
            )
        };
        // A path that leads to a pipe must not make us wait.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path.as_str());
        let namespace = opened.map_err(|error| wrong(&error.to_string()))?;
        let pod = Self { namespace, path: path.clone() };
        pod.inside(|| Ok(())).map_err(|error| wrong(&format!("it cannot be entered: {error}")))?;
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
        let own = File::open("/proc/self/ns/net").ok().as_ref().and_then(identity);
        if own.is_some() && own == identity(&pod.namespace) {
            return Err(wrong("it is the host's own"));
        }
        Ok(pod)
    }

    /// The path as the runtime gave it.
    pub fn path(&self) -> &SandboxPath {
        &self.path
    }

    /// What the worker needs: the namespace, and a route netlink socket inside it.
    ///
    /// # Errors
    /// Code 5: the system refused.
    pub fn descriptors(&self) -> Result<PodDescriptors, PluginError> {
        let open =
            || Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?);
        let netlink = self.inside(open).map_err(|error| self.failed("opening a netlink socket", &error))?;
        let netns = self.namespace.try_clone().map_err(|error| self.failed("keeping the namespace", &error))?;
        Ok(PodDescriptors { netns: netns.into(), netlink })
    }

    /// Whether it has an interface of that name.
    ///
    /// # Errors
    /// Code 5: the system refused.
    pub fn has(&self, interface: &InterfaceName) -> Result<bool, PluginError> {
        let look = || Ok(if_nametoindex(interface.as_str()).is_ok());
        self.inside(look).map_err(|error| self.failed("looking for the interface", &error))
    }

    /// The interface as it is; `None` if there is none.
    ///
    /// # Errors
    /// Code 5: the system refused.
    pub fn look(&self, interface: &InterfaceName) -> Result<Option<Seen>, PluginError> {
        self.inside(|| look(interface.as_str())).map_err(|error| self.failed("looking at the interface", &error))
    }

    /// Sends frames out of an interface.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, interface: &InterfaceName, frames: &[Vec<u8>]) -> io::Result<()> {
        self.inside(|| {
            let address = link_address(interface.as_str())?;
            // Of no protocol: nothing is received on it.
            let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            for frame in frames {
                sendto(raw.as_raw_fd(), frame, &address, MsgFlags::empty())?;
            }
            Ok(())
        })
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(&self.namespace, work)
    }

    fn failed(&self, action: &str, error: &io::Error) -> PluginError {
        PluginError::new(
            ErrorCode::IO_FAILURE,
            format!("{action} in the pod failed"),
            format!(
                "{}: {error}; the plugin must run as root, with the capabilities NET_ADMIN and SYS_ADMIN",
                self.path
            ),
        )
    }
}

/// Runs `work` inside the namespace and waits for it.
///
/// # Errors
/// The namespace cannot be entered, or what `work` says.
pub(crate) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let entered = thread::Builder::new().spawn_scoped(scope, || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
        entered.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace failed")))
    })
}

fn look(interface: &str) -> io::Result<Option<Seen>> {
    let mut seen: Option<Seen> = None;
    for entry in nix::ifaddrs::getifaddrs()?.filter(|entry| entry.interface_name == interface) {
        let found = seen.get_or_insert_default();
        found.up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = entry.address else { continue };
        found.mac = address.as_link_addr().and_then(LinkAddr::addr).or(found.mac);
        let prefix = entry.netmask.and_then(ip_of).and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok());
        found.ips.extend(ip_of(address).zip(prefix).and_then(|(ip, prefix)| IpNet::new(ip, prefix).ok()));
    }
    if let Some(found) = &mut seen {
        found.mtu = mtu(interface)?;
    }
    Ok(seen)
}

fn ip_of(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
}

fn mtu(interface: &str) -> io::Result<u32> {
    let any: OwnedFd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, &from) in name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.as_bytes()) {
        *to = from.cast_signed();
    }
    let mut request = libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 } };
    // SAFETY: the kernel reads the name and writes the MTU, both inside the live request.
    if unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFMTU has filled in this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
}

/// The address of an interface of the calling thread's namespace.
fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let index = if_nametoindex(interface)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer leads to a whole sockaddr_ll of the given length, which from_raw copies.
    let address = unsafe {
        LinkAddr::from_raw((&raw const address).cast(), Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t))
    };
    address.ok_or_else(|| io::Error::other("no link address"))
}

/// What differs between an interface as it should be and as it is; empty where nothing does.
pub(crate) fn differences(seen: &Seen, mac: Option<MacAddr>, mtu: Option<u32>, ips: &[IpNet]) -> Vec<String> {
    let mut differences = Vec::new();
    if !seen.up {
        differences.push("it is down".to_owned());
    }
    if let Some(wanted) = mac.filter(|mac| seen.mac != Some(mac.octets())) {
        differences.push(format!("its MAC address is not {wanted}"));
    }
    if let Some(wanted) = mtu.filter(|&mtu| mtu != seen.mtu) {
        differences.push(format!("its MTU is {}, not {wanted}", seen.mtu));
    }
    let missing = ips.iter().filter(|ip| !seen.ips.contains(ip));
    differences.extend(missing.map(|ip| format!("it has not got the address {ip}")));
    differences
}
