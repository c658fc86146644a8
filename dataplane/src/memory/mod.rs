//! A kernel in memory, for tests and simulation: the same trait, deterministic, and it misbehaves on request.
//!
//! In: changes and attachments as for Linux; frames; what an adversary does (foreign writers, lost notifications,
//! failures). Out: observations, snapshots, and where frames go.
//!
//! A [`Memory`] is a handle: one copy is given to the actor or driven directly, another stays with the test.

mod lan;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bgp_core::types::{MacAddr, Vni};
use evpn::forwarding::{Desired, Key};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use self::lan::Egress;
use self::lan::{Lan, LocalPort, Tunnel};
use crate::model::fnv1a;
use crate::{
    AttachError, AttachRequest, Attached, BridgeRow, Change, ChangeError, Dataplane, Error, Existing, HostReport,
    KernelError, MAX_BATCH, Observation, PortId, Snapshot,
};

/// Observations that wait beyond this are lost, and an overrun is told instead, as by a socket's buffer.
const PENDING_MAX: usize = 4096;

/// See the module.
#[derive(Clone, Debug)]
pub struct Memory {
    kernel: Arc<Mutex<Kernel>>,
    /// Readable once the kernel's bell has rung; none where nobody waits for it.
    readable: Option<Arc<UnixStream>>,
}

#[derive(Debug)]
struct Kernel {
    vtep: IpAddr,
    mtu_max: u32,
    adopted: bool,
    lans: BTreeMap<Vni, Lan>,
    pending: VecDeque<Observation>,
    bell: Option<UnixStream>,
    /// Writes of a key that are to fail, and with which error number.
    failures: BTreeMap<Key, (u32, i32)>,
    /// The most rows that a VXLAN device takes.
    row_limit: usize,
    snapshot_failures: u32,
    deaf: bool,
    /// The index of the last interface that was made.
    last_index: u32,
    host: HostReport,
}

impl Memory {
    /// A kernel without LANs, whose underlay leaves `mtu_max` bytes to them.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new(vtep: IpAddr, mtu_max: u32) -> io::Result<Self> {
        let (readable, bell) = UnixStream::pair()?;
        readable.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let mut memory = Self::silent(vtep, mtu_max);
        memory.lock().bell = Some(bell);
        memory.readable = Some(Arc::new(readable));
        Ok(memory)
    }

    /// The same without a descriptor: for an owner that asks [`Dataplane::has_pending_events`] instead of waiting.
    pub fn silent(vtep: IpAddr, mtu_max: u32) -> Self {
        let kernel = Kernel {
            vtep,
            mtu_max,
            adopted: false,
            lans: BTreeMap::new(),
            pending: VecDeque::new(),
            bell: None,
            failures: BTreeMap::new(),
            row_limit: usize::MAX,
            snapshot_failures: 0,
            deaf: false,
            last_index: 0,
            host: HostReport::default(),
        };
        Self { kernel: Arc::new(Mutex::new(kernel)), readable: None }
    }

    /// All devices belong to somebody else: see [`Memory::foreign_lan`].
    pub fn set_adopted(&self) {
        self.lock().adopted = true;
    }

    fn lock(&self) -> MutexGuard<'_, Kernel> {
        // A test that failed elsewhere must not hide behind this one.
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- frames ----

    /// A frame comes out of a pod: where does it go? The bridge learns its source first.
    pub fn frame(&self, vni: Vni, port: &PortId, source: MacAddr, destination: MacAddr) -> Vec<Egress> {
        let mut kernel = self.lock();
        let Some(lan) = kernel.lans.get_mut(&vni).filter(|lan| lan.ports.contains_key(port)) else {
            return Vec::new();
        };
        let learned = lan.learn(port, source);
        let egress = lan.forward(port, destination);
        learned.into_iter().for_each(|observation| kernel.observe(observation));
        egress
    }

    /// A frame comes out of a tunnel: which ports get it? Nothing is learned from it.
    pub fn receive(&self, vni: Vni, destination: MacAddr) -> Vec<PortId> {
        self.lock().lans.get(&vni).map(|lan| lan.deliver(destination)).unwrap_or_default()
    }

    /// What the kernel holds, as a bystander sees it: unlike [`Dataplane::snapshot`] nothing is dropped by looking.
    pub fn look(&self) -> Snapshot {
        let kernel = self.lock();
        let lans = kernel.lans.iter().map(|(&vni, lan)| (vni, lan.snapshot(kernel.mtu_max))).collect();
        Snapshot { lans, adopted: kernel.adopted, suppresses_neighbors: true, host: kernel.host.clone() }
    }

    /// A MAC behind a local port ages out.
    pub fn age(&self, vni: Vni, mac: MacAddr) {
        let mut kernel = self.lock();
        if let Some(port) = kernel.lans.get_mut(&vni).and_then(|lan| lan.forget_local(mac)) {
            kernel.observe(Observation::LocalMacGone { vni, mac, port });
        }
    }

    /// A pod dies with its port.
    pub fn kill(&self, port: &PortId) {
        let mut kernel = self.lock();
        let Some(vni) = kernel.lans.iter().find_map(|(&vni, lan)| lan.ports.contains_key(port).then_some(vni)) else {
            return;
        };
        if let Some(index) = kernel.remove_port(port) {
            kernel.observe(Observation::PortGone { vni, port: port.clone(), index });
        }
    }

    // ---- misbehaviour ----

    /// The next `times` writes of a key fail with "out of memory", the first half of a pair of rows done.
    pub fn fail(&self, key: Key, times: u32) {
        self.fail_with(key, times, libc::ENOMEM);
    }

    /// The same with another error number.
    pub fn fail_with(&self, key: Key, times: u32, errno: i32) {
        self.lock().failures.insert(key, (times, errno));
    }

    /// A VXLAN device takes no more than so many rows of remote MACs and VTEPs together; those that are there stay.
    pub fn set_row_limit(&self, limit: usize) {
        self.lock().row_limit = limit;
    }

    /// The next `times` snapshots fail.
    pub fn fail_snapshots(&self, times: u32) {
        self.lock().snapshot_failures = times;
    }

    /// Notifications get lost without a word, until told otherwise.
    pub fn set_deaf(&self, deaf: bool) {
        self.lock().deaf = deaf;
    }

    /// What waits is lost, and an overrun is told.
    pub fn overrun(&self) {
        let mut kernel = self.lock();
        kernel.pending.clear();
        kernel.tell(Observation::Overrun);
    }

    /// Somebody else removes a row, or a tunnel.
    pub fn foreign_remove(&self, key: Key) {
        self.lock().foreign(key, None);
    }

    /// Somebody else writes a row.
    pub fn foreign_write(&self, key: Key, desired: Desired) {
        self.lock().foreign(key, Some(desired));
    }

    /// An administrator pins a MAC to a local port.
    pub fn pin(&self, vni: Vni, mac: MacAddr, port: &PortId) {
        let mut kernel = self.lock();
        let lan = kernel.lans.get_mut(&vni).filter(|lan| lan.ports.contains_key(port));
        let observation = lan.and_then(|lan| lan.write_local(mac, port.clone(), true));
        observation.into_iter().for_each(|observation| kernel.observe(observation));
    }

    /// Somebody else makes a LAN with these ports (adopted kernels).
    pub fn foreign_lan(&self, vni: Vni, ports: &[PortId]) {
        let mut kernel = self.lock();
        let mtu = kernel.mtu_max;
        let mut lan = Lan::new(vni, String::new());
        lan.tunnel = Some(Tunnel::default());
        for port in ports {
            let index = kernel.next_index();
            lan.ports.insert(port.clone(), LocalPort { index, mtu });
        }
        kernel.lans.insert(vni, lan);
        kernel.observe(Observation::LanAppeared { vni });
    }

    /// What the host's namespace means for LANs is another matter from now on.
    pub fn set_host(&self, host: HostReport) {
        let mut kernel = self.lock();
        kernel.host = host.clone();
        kernel.observe(Observation::Host(host));
    }

    /// Somebody else removes a LAN (adopted kernels).
    pub fn foreign_lan_gone(&self, vni: Vni) {
        let mut kernel = self.lock();
        if kernel.lans.remove(&vni).is_some() {
            kernel.observe(Observation::LanGone { vni });
        }
    }
}

impl Kernel {
    fn observe(&mut self, observation: Observation) {
        if self.deaf {
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            self.pending.clear();
            return self.tell(Observation::Overrun);
        }
        self.tell(observation);
    }

    fn tell(&mut self, observation: Observation) {
        self.pending.push_back(observation);
        if let Some(bell) = &mut self.bell {
            // A full bell has rung already.
            let _ = bell.write(&[1]);
        }
    }

    /// Removes a port from its LAN, and tells of the MACs that were known behind it; its index.
    fn remove_port(&mut self, port: &PortId) -> Option<u32> {
        let (vni, (removed, macs)) =
            self.lans.iter_mut().find_map(|(&vni, lan)| Some((vni, lan.remove_port(port)?)))?;
        for mac in macs {
            self.observe(Observation::LocalMacGone { vni, mac, port: port.clone() });
        }
        Some(removed.index)
    }

    fn next_index(&mut self) -> u32 {
        self.last_index += 1;
        self.last_index
    }

    /// Does what somebody else does, and tells where that changed something.
    fn foreign(&mut self, key: Key, desired: Option<Desired>) {
        let (Key::Tunnel(vni) | Key::Flood(vni, _) | Key::Mac(vni, _) | Key::Neighbor(vni, _)) = key;
        let before = self.lans.get(&vni).map(|lan| lan.snapshot(0));
        let change = Change { key, desired };
        let changed = self.write(&change).is_ok() && before != self.lans.get(&vni).map(|lan| lan.snapshot(0));
        match (changed, key, desired) {
            (true, Key::Tunnel(vni), None) => self.observe(Observation::TunnelGone { vni }),
            (false, _, _) | (_, Key::Tunnel(_), _) => {}
            _ => self.observe(Observation::RowDisturbed { key }),
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), ChangeError> {
        let Some((left, errno)) = self.failures.get_mut(&change.key).filter(|(left, _)| *left > 0) else {
            return self.write(change);
        };
        *left -= 1;
        let cause = KernelError::new(*errno);
        if let (Key::Mac(vni, mac), Some(Desired::RemoteMac { vtep, .. })) = (change.key, change.desired)
            && let Some(tunnel) = self.lans.get_mut(&vni).and_then(|lan| lan.tunnel.as_mut())
        {
            tunnel.rows.insert(mac, vtep);
        }
        Err(ChangeError::Kernel { action: "writing a row", cause })
    }

    fn write(&mut self, change: &Change) -> Result<(), ChangeError> {
        let key = change.key;
        match (key, change.desired) {
            (Key::Tunnel(vni), desired) => return self.write_tunnel(vni, desired),
            (Key::Mac(_, mac), _) if !mac.is_unicast() => return Err(ChangeError::Invalid { key }),
            (_, Some(Desired::RemoteMac { vtep, .. })) => {
                self.check_family(vtep)?;
            }
            (Key::Flood(_, vtep), Some(_)) => self.check_family(vtep)?,
            _ => {}
        }
        let (Key::Tunnel(vni) | Key::Flood(vni, _) | Key::Mac(vni, _) | Key::Neighbor(vni, _)) = key;
        let lan = self.lans.get_mut(&vni).filter(|lan| lan.tunnel.is_some());
        let Some((lan, mut tunnel)) = lan.and_then(|lan| lan.tunnel.take().map(|tunnel| (lan, tunnel))) else {
            return if change.desired.is_some() { Err(ChangeError::NoTunnel { vni }) } else { Ok(()) };
        };
        let result = if has_room(&tunnel, change, self.row_limit) {
            write_row(lan, &mut tunnel, change)
        } else {
            Err(ChangeError::Kernel { action: "writing a row", cause: KernelError::new(libc::ENOSPC) })
        };
        lan.tunnel = Some(tunnel);
        result
    }

    fn write_tunnel(&mut self, vni: Vni, desired: Option<Desired>) -> Result<(), ChangeError> {
        let adopted = self.adopted;
        match (self.lans.get_mut(&vni), desired) {
            (None, Some(_)) => Err(ChangeError::NoLan { vni }),
            (Some(lan), Some(Desired::Tunnel)) => {
                lan.tunnel.get_or_insert_default();
                Ok(())
            }
            (_, Some(_)) => Err(ChangeError::Invalid { key: Key::Tunnel(vni) }),
            (Some(lan), None) if !adopted => {
                lan.remove_tunnel();
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    fn check_family(&self, vtep: IpAddr) -> Result<(), ChangeError> {
        let local = self.vtep;
        if vtep.is_ipv4() == local.is_ipv4() { Ok(()) } else { Err(ChangeError::AddressFamily { vtep, local }) }
    }

    fn attach(&mut self, request: AttachRequest) -> Result<Attached, AttachError> {
        if self.adopted {
            return Err(AttachError::Adopted);
        }
        if self.lans.values().any(|lan| lan.ports.contains_key(&request.port)) {
            if request.existing == Existing::Keep {
                return Err(AttachError::Exists { port: request.port });
            }
            self.remove_port(&request.port);
            self.lans.retain(|_, lan| !lan.ports.is_empty());
        }
        let mtu = match request.mtu {
            Some(wanted) if wanted > self.mtu_max => {
                return Err(AttachError::Mtu { wanted, most: self.mtu_max });
            }
            wanted => wanted.unwrap_or(self.mtu_max),
        };
        if let Some(user) = self.host.user_of(request.vni) {
            return Err(AttachError::VniInUse { vni: request.vni, port: self.host.udp_port, user });
        }
        let host_index = self.next_index();
        let mac = request.mac.unwrap_or_else(|| {
            let [.., a, b, c, d, e] = fnv1a(request.port.as_str().as_bytes()).to_be_bytes();
            MacAddr([2, a, b, c, d, e])
        });
        let lan = self.lans.entry(request.vni).or_insert_with(|| Lan::new(request.vni, String::new()));
        lan.name = request.lan;
        let host_interface = request.port.device_name();
        lan.ports.insert(request.port, LocalPort { index: host_index, mtu });
        Ok(Attached { mac, mtu, host_interface, host_index })
    }
}

/// Whether a VXLAN device takes one more row, if the change asks for one.
fn has_room(tunnel: &Tunnel, change: &Change, limit: usize) -> bool {
    let is_new = match (change.key, change.desired) {
        (Key::Mac(_, mac), Some(_)) => !tunnel.rows.contains_key(&mac),
        (Key::Flood(_, vtep), Some(_)) => !tunnel.flood.contains(&vtep),
        _ => false,
    };
    !is_new || tunnel.rows.len() + tunnel.flood.len() < limit
}

fn write_row(lan: &mut Lan, tunnel: &mut Tunnel, change: &Change) -> Result<(), ChangeError> {
    match (change.key, change.desired) {
        (Key::Mac(_, mac), Some(Desired::RemoteMac { vtep, sticky })) => {
            tunnel.rows.insert(mac, vtep);
            lan.write_bridge_row(mac, if sticky { BridgeRow::Sticky } else { BridgeRow::External });
        }
        (Key::Mac(_, mac), None) => {
            tunnel.rows.remove(&mac);
            lan.remove_bridge_row(mac);
        }
        (Key::Flood(_, vtep), Some(Desired::Flood)) => _ = tunnel.flood.insert(vtep),
        (Key::Flood(_, vtep), None) => _ = tunnel.flood.remove(&vtep),
        (Key::Neighbor(_, ip), Some(Desired::Neighbor { mac })) => _ = lan.neighbors.insert(ip, mac),
        (Key::Neighbor(_, ip), None) => _ = lan.neighbors.remove(&ip),
        (key, _) => return Err(ChangeError::Invalid { key }),
    }
    Ok(())
}

impl Dataplane for Memory {
    fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let mut kernel = self.lock();
        if let Some(left) = kernel.snapshot_failures.checked_sub(1) {
            kernel.snapshot_failures = left;
            return Err(Error::Unsteady);
        }
        kernel.pending.clear();
        drop(kernel);
        Ok(self.look())
    }

    fn apply(&mut self, batch: &[Change]) -> Vec<Result<(), ChangeError>> {
        let mut kernel = self.lock();
        let (now, beyond) = batch.split_at(batch.len().min(MAX_BATCH));
        let done = now.iter().map(|change| kernel.change(change));
        done.chain(beyond.iter().map(|_| Err(ChangeError::BatchTooLong))).collect()
    }

    fn attach(&mut self, request: AttachRequest) -> Result<Attached, AttachError> {
        self.lock().attach(request)
    }

    fn detach(&mut self, ports: &[PortId]) -> Result<(), Error> {
        let mut kernel = self.lock();
        if kernel.adopted {
            return Ok(());
        }
        for port in ports {
            kernel.remove_port(port);
        }
        kernel.lans.retain(|_, lan| !lan.ports.is_empty());
        Ok(())
    }

    fn poll_events(&mut self, timeout: Duration) -> Result<Vec<Observation>, Error> {
        if !self.has_pending_events() && !timeout.is_zero() {
            let wait = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            let mut fds: Vec<PollFd<'_>> =
                self.event_fd().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, wait);
        }
        if let Some(mut readable) = self.readable.as_deref() {
            let mut swallowed = [0; 256];
            while matches!(readable.read(&mut swallowed), Ok(n) if n == swallowed.len()) {}
        }
        Ok(self.lock().pending.drain(..).collect())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.readable.as_deref().map(AsFd::as_fd)
    }

    fn has_pending_events(&self) -> bool {
        !self.lock().pending.is_empty()
    }
}
