//! The Linux kernel as a dataplane.
//!
//! In: changes and attachments. Out: netlink requests to two namespaces, and observations from its notifications.
//!
//! ```text
//!   host's namespace                 overlay namespace (/run/netns/NAME)            pod
//!   ┌──────────────────┐             ┌─────────────────────────────────┐        ┌────────┐
//!   │ VTEP address     │  outer UDP  │ vx<VNI> ── br<VNI> ── ve<hash> ─┼─ veth ─┼─ ethN  │
//!   │ UDP 4789 ◀───────┼─────────────┼─ (VXLAN)   (bridge)             │        │        │
//!   └──────────────────┘             └─────────────────────────────────┘        └────────┘
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `namespace` | making, pinning and entering the overlay namespace |
//! | [`privilege`] | giving up what only that took |
//! | `socket` | requests in batches, dumps, notifications |
//! | `wire` | reading netlink bytes |
//! | `table` | what the kernel is known to hold; notifications into observations |
//! | `links` | devices |
//! | `fdb` | rows |
//! | `underlay` | what happens in the host's namespace: MTU, VNIs that others use |

mod fdb;
mod links;
mod namespace;
mod pod;
pub mod privilege;
mod socket;
mod table;
mod underlay;
mod wire;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bgp_core::types::Vni;
use evpn::forwarding::{Desired, Key};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use tracing::{debug, info, warn};

use self::socket::{EventSocket, Received, Socket};
use self::table::{Ownership, Table};
use self::underlay::HostWatch;
use self::wire::{Link, Notification};
use crate::{
    AttachError, AttachRequest, Attached, Change, ChangeError, Dataplane, Error, HostReport, MAX_BATCH, MtuLimit,
    Observation, PortId, Snapshot,
};

pub use namespace::{pin as pin_namespace, remove as remove_namespace};

/// The UDP port of VXLAN (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;
/// How many observations one poll hands over.
const OBSERVATIONS_PER_POLL: usize = 1024;

/// Whose devices are served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Our own, in a namespace that is opened, or made and pinned, under this name (as `ip netns` does).
    Overlay {
        /// The namespace's name.
        namespace: String,
    },
    /// Those that exist in the namespace of the calling thread: every VXLAN device that is up, in a bridge, and has the
    /// VTEP (or no) local address. Only rows are written.
    Adopt,
}

/// What the Linux dataplane needs to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The address of this node's tunnel end.
    pub vtep: IpAddr,
    /// The UDP port of VXLAN, usually [`VXLAN_PORT`].
    pub udp_port: u16,
    /// Whose devices are served.
    pub mode: Mode,
    /// The underlay's MTU in bytes, where the interface with the VTEP address does not tell it.
    pub underlay_mtu: Option<u32>,
    /// Let the bridge answer ARP and neighbour solicitations for remote hosts from [`Key::Neighbor`] rows; without it
    /// those keys are accepted and ignored.
    pub suppress_neighbors: bool,
}

impl Config {
    /// Our own devices in a namespace of that name, everything else as usual.
    pub fn new(vtep: IpAddr, namespace: &str) -> Self {
        let mode = Mode::Overlay { namespace: namespace.to_owned() };
        Self { vtep, udp_port: VXLAN_PORT, mode, underlay_mtu: None, suppress_neighbors: false }
    }
}

/// The Linux kernel. Dropping it changes nothing in the kernel: forwarding goes on.
pub struct Linux {
    config: Config,
    /// `None` where devices are adopted.
    namespace: Option<File>,
    made_namespace: bool,
    /// Requests in the host's namespace.
    host: Socket,
    /// Requests where the devices are.
    overlay: Socket,
    events: EventSocket,
    /// What happens in the host's namespace; none where the devices themselves are there.
    watch: Option<HostWatch>,
    /// Readable when either has something to tell.
    readable: Epoll,
    table: Table,
    /// What was last said of the host's namespace.
    report: HostReport,
    mtu_max: u32,
}

/// What takes privilege to open, before it is known which address serves it: sockets in the host's namespace and where
/// the devices are.
pub struct Entered {
    mode: Mode,
    namespace: Option<(File, bool)>,
    host: Socket,
    sockets: (Socket, EventSocket),
}

impl Entered {
    /// Opens what `mode` needs; a namespace is made and pinned if it is not there.
    ///
    /// # Errors
    /// A right is missing, or the namespace cannot be made.
    pub fn open(mode: Mode) -> Result<Self, Error> {
        Self::open_with(mode, Socket::open().map_err(unusable)?)
    }

    fn open_with(mode: Mode, host: Socket) -> Result<Self, Error> {
        let Mode::Overlay { namespace: name } = &mode else {
            let sockets = (Socket::open().map_err(unusable)?, EventSocket::open().map_err(unusable)?);
            return Ok(Self { mode, namespace: None, host, sockets });
        };
        let (file, made) = namespace::open_or_create(name)?;
        match sockets_inside(name, &file) {
            Ok(sockets) => Ok(Self { mode, namespace: Some((file, made)), host, sockets }),
            Err(error) => {
                if made {
                    discard(name);
                }
                Err(error)
            }
        }
    }

    /// Opens the namespace that [`pin_namespace`] has pinned under this name, and makes none.
    ///
    /// # Errors
    /// It is not there, or a right is missing.
    pub fn pinned(name: &str) -> Result<Self, Error> {
        let host = Socket::open().map_err(unusable)?;
        let file = namespace::open_existing(name)?;
        let sockets = sockets_inside(name, &file)?;
        let mode = Mode::Overlay { namespace: name.to_owned() };
        Ok(Self { mode, namespace: Some((file, false)), host, sockets })
    }

    /// The largest IP packet that a LAN can carry with this VTEP, in bytes.
    ///
    /// # Errors
    /// [`Error::AddressNotLocal`], or the underlay is too narrow or cannot be read.
    pub fn mtu_with(&mut self, vtep: IpAddr) -> Result<u32, Error> {
        underlay::measure(&mut self.host, vtep, None).map(|measured| measured.limit.most())
    }
}

fn sockets_inside(name: &str, namespace: &File) -> Result<(Socket, EventSocket), Error> {
    let (failures, sockets) = namespace::inside(namespace, || {
        let failures = namespace::apply_sysctls();
        Ok((failures, (Socket::open()?, EventSocket::open()?)))
    })
    .map_err(|error| Error::kernel(format!("entering the namespace {name}"), error))?;
    for (sysctl, error) in failures {
        warn!(%error, "cannot set {sysctl} in the overlay namespace");
    }
    Ok(sockets)
}

/// The name of a LAN's bridge.
fn bridge_name(vni: Vni) -> String {
    format!("br{vni}")
}

/// The name of a LAN's VXLAN device.
fn tunnel_name(vni: Vni) -> String {
    format!("vx{vni}")
}

impl Linux {
    /// Opens the dataplane: the namespace of the calling thread is the host's, whose addresses the outer packets use.
    /// Makes the overlay namespace where it is not there; adopts what is in it where it is, without touching a row.
    /// LANs that have no members any more are removed.
    ///
    /// # Errors
    /// A right, a kernel feature or the VTEP address is missing, each with its cure.
    pub fn open(config: Config) -> Result<Self, Error> {
        let mut host = Socket::open().map_err(unusable)?;
        // What needs no namespace is checked before one is made.
        underlay::measure(&mut host, config.vtep, config.underlay_mtu)?;
        let entered = Entered::open_with(config.mode.clone(), host)?;
        let made = entered.namespace.as_ref().is_some_and(|(_, made)| *made);
        let opened = Self::with(entered, config.clone());
        if let (true, Err(_), Mode::Overlay { namespace }) = (made, &opened, &config.mode) {
            discard(namespace);
        }
        opened
    }

    /// As [`Linux::open`], with what was opened before; `config`'s mode is that of `entered`.
    ///
    /// # Errors
    /// As [`Linux::open`].
    pub fn with(mut entered: Entered, config: Config) -> Result<Self, Error> {
        // Heard from before it is read, so that nothing is missed in between.
        let watch = entered.namespace.is_some().then(HostWatch::open).transpose().map_err(unusable)?;
        let measured = underlay::measure(&mut entered.host, config.vtep, config.underlay_mtu)?;
        let report = HostReport { udp_port: config.udp_port, mtu: Some(measured.limit), ..HostReport::default() };
        let Entered { mode, namespace, host, sockets } = entered;
        Self::assemble(Config { mode, ..config }, namespace, host, watch, sockets, report)
    }

    fn assemble(
        config: Config,
        namespace: Option<(File, bool)>,
        host: Socket,
        watch: Option<HostWatch>,
        (overlay, events): (Socket, EventSocket),
        report: HostReport,
    ) -> Result<Self, Error> {
        let ownership = if namespace.is_some() { Ownership::Ours } else { Ownership::Adopted };
        let table = Table::new(ownership, config.vtep, config.udp_port);
        let made_namespace = namespace.as_ref().is_some_and(|(_, made)| *made);
        let namespace = namespace.map(|(file, _)| file);
        let mtu_max = report.mtu.map_or(0, MtuLimit::most);
        let readable = wait_for([Some(events.as_fd()), watch.as_ref().map(HostWatch::as_fd)]).map_err(unusable)?;
        let mut linux =
            Self { config, namespace, made_namespace, host, overlay, events, watch, readable, table, report, mtu_max };
        linux.start()?;
        Ok(linux)
    }

    /// Whether the overlay namespace did not exist before: a caller that cannot start after all removes it again with
    /// [`remove_namespace`].
    pub fn made_namespace(&self) -> bool {
        self.made_namespace
    }

    fn start(&mut self) -> Result<(), Error> {
        if self.adopts() {
            probe_rows(&mut self.overlay)?;
            self.refresh_links()?;
            self.table.warn_of_unserved();
            return Ok(());
        }
        for kind in ["bridge", "vxlan", "veth"] {
            probe(&mut self.overlay, kind)?;
        }
        self.refresh_host()?;
        self.refresh_links()?;
        let idle = self.idle_devices(&BTreeSet::new());
        if !idle.is_empty() {
            info!(devices = idle.len(), "removing devices of LANs that have no members any more");
            self.remove_devices(&idle)?;
        }
        self.align_mtus()
    }

    /// The largest IP packet that a LAN can carry, in bytes.
    pub fn mtu_max(&self) -> u32 {
        self.mtu_max
    }

    /// What the host's own namespace means for LANs, as of the last look.
    pub fn host_report(&self) -> &HostReport {
        &self.report
    }

    /// The socket of the notifications from where the devices are: how much it can hold is for its owner to say.
    pub fn notifications(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn adopts(&self) -> bool {
        self.namespace.is_none()
    }

    /// Reads all notifications that wait.
    fn drain(&mut self) -> Result<(), Error> {
        let mut overrun = false;
        loop {
            match self.events.receive() {
                Ok(Received::Datagram(bytes)) => {
                    wire::messages(bytes).filter_map(wire::notification).for_each(|n| self.table.notified(n));
                }
                Ok(Received::Overrun) => overrun = true,
                Ok(Received::Empty) => break,
                Err(error) => return Err(Error::kernel("reading notifications", error)),
            }
        }
        self.table.settle();
        if overrun {
            warn!("the kernel dropped notifications: everything is read again");
            self.refresh_links()?;
            self.table.observe(Observation::Overrun);
        }
        Ok(())
    }

    fn refresh_links(&mut self) -> Result<(), Error> {
        let links = dump_links(&mut self.overlay)?;
        self.table.replace_links(links);
        Ok(())
    }

    fn refresh_rows(&mut self) -> Result<(), Error> {
        let mut families = vec![AddressFamily::Bridge];
        if self.config.suppress_neighbors {
            families.extend([AddressFamily::Inet, AddressFamily::Inet6]);
        }
        let mut rows = Vec::new();
        for family in families {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let dumped = self
                .overlay
                .dump(&RouteNetlinkMessage::GetNeighbour(message), Vec::new, |rows, message| {
                    rows.extend(wire::row(message.body));
                })
                .map_err(|cause| Error::kernel("reading forwarding rows", cause))?;
            rows.extend(dumped.ok_or(Error::Unsteady)?);
        }
        self.table.clear_rows();
        rows.into_iter().for_each(|row| self.table.notified(Notification::Row(row)));
        self.table.rows_complete();
        Ok(())
    }

    fn apply_tunnels(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        let split = |wanted: bool| {
            changes
                .iter()
                .filter(|change| change.desired.is_some() == wanted)
                .map(|change| fdb::vni_of(change.key))
                .collect::<Vec<_>>()
        };
        if self.adopts() {
            return changes.iter().map(|change| self.check_adopted_tunnel(change)).collect();
        }
        let removed = self.remove_tunnels(&split(false));
        let made = self.make_tunnels(&split(true));
        let result = |change: &Change| match (change.key, change.desired) {
            (Key::Tunnel(_), None) => removed.clone().map_err(|error| match error {
                Error::Kernel { cause, .. } => ChangeError::Kernel { action: "removing VXLAN devices", cause },
                _ => ChangeError::Kernel {
                    action: "removing VXLAN devices",
                    cause: crate::KernelError { errno: libc::EPERM, explanation: error.to_string() },
                },
            }),
            (Key::Tunnel(vni), Some(Desired::Tunnel)) => {
                made.get(&vni).cloned().unwrap_or(Err(ChangeError::NoLan { vni }))
            }
            (key, _) => Err(ChangeError::Invalid { key }),
        };
        changes.iter().map(result).collect()
    }

    fn check_adopted_tunnel(&self, change: &Change) -> Result<(), ChangeError> {
        match (change.key, change.desired) {
            (Key::Tunnel(vni), Some(Desired::Tunnel)) if self.table.lan(vni).is_none() => {
                Err(ChangeError::NoLan { vni })
            }
            (Key::Tunnel(_), None | Some(Desired::Tunnel)) => Ok(()),
            (key, _) => Err(ChangeError::Invalid { key }),
        }
    }
}

impl Dataplane for Linux {
    fn snapshot(&mut self) -> Result<Snapshot, Error> {
        // What was notified until here is part of the dumps; what comes meanwhile is read after them.
        self.drain()?;
        self.refresh_host()?;
        self.refresh_links()?;
        self.repair()?;
        self.refresh_rows()?;
        self.table.clear_pending();
        Ok(self.table.snapshot(self.config.suppress_neighbors, self.report.clone()))
    }

    fn apply(&mut self, batch: &[Change]) -> Vec<Result<(), ChangeError>> {
        // What happened before is judged by what was wanted before. A failure shows at the next poll.
        let _ = self.drain();
        let (now, beyond) = batch.split_at(batch.len().min(MAX_BATCH));
        let is_tunnel = |change: &Change| matches!(change.key, Key::Tunnel(_));
        let mut results = Vec::with_capacity(batch.len());
        for run in now.chunk_by(|a, b| is_tunnel(a) == is_tunnel(b)) {
            if run.first().is_some_and(is_tunnel) {
                results.extend(self.apply_tunnels(run));
            } else {
                results.extend(self.write_rows(run));
            }
        }
        results.extend(beyond.iter().map(|_| Err(ChangeError::BatchTooLong)));
        results
    }

    fn attach(&mut self, request: AttachRequest) -> Result<Attached, AttachError> {
        if self.adopts() { Err(AttachError::Adopted) } else { self.attach_port(request) }
    }

    fn detach(&mut self, ports: &[PortId]) -> Result<(), Error> {
        if self.adopts() { Ok(()) } else { self.detach_ports(ports) }
    }

    fn poll_events(&mut self, timeout: Duration) -> Result<Vec<Observation>, Error> {
        if !self.table.has_pending() && !timeout.is_zero() {
            let wait = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            // An interrupted wait is a short one.
            let _ = poll(&mut [PollFd::new(self.readable.0.as_fd(), PollFlags::POLLIN)], wait);
        }
        self.drain_host()?;
        self.drain()?;
        self.repair()?;
        Ok(self.table.take_pending(OBSERVATIONS_PER_POLL))
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.readable.0.as_fd())
    }

    fn has_pending_events(&self) -> bool {
        self.table.has_pending()
    }
}

/// Reads a recording of notifications (datagrams one after the other, as `nlmon` sees them) into an empty table: what
/// they tell of the kernel, and what a caller would be told. For analysis and fuzzing; returns on any input.
pub fn replay(recording: &[u8], mode: &Mode, vtep: IpAddr, udp_port: u16) -> (Snapshot, Vec<Observation>) {
    let ownership = match mode {
        Mode::Overlay { .. } => Ownership::Ours,
        Mode::Adopt => Ownership::Adopted,
    };
    let mut table = Table::new(ownership, vtep, udp_port);
    for message in wire::messages(recording) {
        if let Err(cause) = wire::refusal(message) {
            debug!(%cause, "the recording holds a refusal");
        }
        wire::notification(message).into_iter().for_each(|notification| table.notified(notification));
    }
    table.settle();
    (table.snapshot(true, HostReport::default()), table.take_pending(usize::MAX))
}

fn dump_links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    socket
        .dump(&RouteNetlinkMessage::GetLink(message), Vec::new, |links, message| links.extend(wire::link(message.body)))
        .map_err(|cause| Error::kernel("reading network devices", cause))?
        .ok_or(Error::Unsteady)
}

/// A descriptor that is readable when any of these is.
fn wait_for<'a>(descriptors: impl IntoIterator<Item = Option<BorrowedFd<'a>>>) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for descriptor in descriptors.into_iter().flatten() {
        epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    }
    Ok(epoll)
}

fn unusable(error: io::Error) -> Error {
    Error::kernel("opening a netlink socket", error)
}

/// Takes a namespace back that was made for nothing.
fn discard(name: &str) {
    if let Err(error) = remove_namespace(name) {
        warn!(%error, "a network namespace is left behind");
    }
}

/// Whether rows may be written here: asks to remove one from a device that does not exist.
fn probe_rows(socket: &mut Socket) -> Result<(), Error> {
    let mut row = NeighbourMessage::default();
    row.header.family = AddressFamily::Bridge;
    row.header.ifindex = u32::MAX >> 1;
    match socket.request(RouteNetlinkMessage::DelNeighbour(row), 0) {
        Err(cause) if matches!(cause.errno, libc::EPERM | libc::EACCES) => {
            Err(Error::Privilege { action: "writing forwarding rows".into() })
        }
        _ => Ok(()),
    }
}

/// Asks whether the kernel can make a kind of device, by a request that it must refuse in any case: the address is a
/// group's. What it says first tells what is missing.
fn probe(socket: &mut Socket, kind: &'static str) -> Result<(), Error> {
    let info = match kind {
        "bridge" => InfoKind::Bridge,
        "vxlan" => InfoKind::Vxlan,
        _ => InfoKind::Veth,
    };
    let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(info).name("probe").address(vec![0xff; 6]);
    let request = RouteNetlinkMessage::NewLink(message.build());
    match socket.request(request, NLM_F_CREATE | NLM_F_EXCL) {
        Err(cause) if cause.errno == libc::EOPNOTSUPP => Err(Error::MissingFeature { kind }),
        Err(cause) if matches!(cause.errno, libc::EPERM | libc::EACCES) => {
            Err(Error::Privilege { action: format!("making {kind} devices") })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BridgeRow, PortId};

    fn replayed(recording: &[u8], mode: &Mode) -> Snapshot {
        replay(recording.get(1..).unwrap(), mode, [192, 0, 2, 1].into(), VXLAN_PORT).0
    }

    #[test]
    fn recorded_notifications_tell_what_the_kernel_held() {
        let recording = include_bytes!("../../../fuzz/corpus/netlink_parse/rows-adopted");
        let lan = &replayed(recording, &Mode::Adopt).lans[&Vni::new(7).unwrap()];
        assert!(lan.tunnel && lan.name == "lan" && lan.ports.contains_key(&PortId::new("ve0")));
        assert!(lan.flood.contains(&[192, 0, 2, 2].into()));
        let row = |last| lan.remote[&bgp_core::types::MacAddr([2, 0, 0, 0, 0, last])];
        assert_eq!((row(1).vtep, row(1).bridge), (Some([192, 0, 2, 2].into()), Some(BridgeRow::External)));
        assert_eq!((row(2).vtep, row(2).bridge), (None, Some(BridgeRow::Sticky)));
        assert!(lan.local.contains_key(&bgp_core::types::MacAddr([2, 0, 0, 0, 0, 3])));

        let recording = include_bytes!("../../../fuzz/corpus/netlink_parse/whole-overlay");
        let mode = Mode::Overlay { namespace: "overlay".to_owned() };
        assert!(replayed(recording, &mode).lans.is_empty());
    }
}
