//! Can devices that share a LAN reach one another?
//!
//! In: the devices' network namespaces and who shares which LAN. Every device
//! sends ICMP echo requests (RFC 792, RFC 4443) to each address that its
//! neighbours have on the shared LAN and that lies in one of its own subnets
//! there, until each has answered or the time is over. LANs that a device bridges
//! are one. Out: a report per pair. No program inside the devices is needed.

mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto, socket,
};
use serde::{Deserialize, Serialize};

use self::survey::{Segments, Survey};
use super::netns;
use super::status::table;

/// The pause between two requests to an address that has not answered.
const RETRY: Duration = Duration::from_millis(200);
/// The identifier of our requests; in a device's own namespace nobody else's
/// replies are likely to carry it.
const ECHO_IDENTIFIER: u16 = 0x4d67;
/// The most columns of a matrix; with more, only failures are listed.
const MATRIX_MAX: usize = 24;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The devices, in the lab's order.
    pub devices: Vec<String>,
    /// Every address that was asked.
    pub pings: Vec<Ping>,
}

/// One address asked by one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Who asked.
    pub from: String,
    /// Whose address it is.
    pub to: String,
    /// On which LAN.
    pub lan: String,
    /// The address.
    pub address: IpAddr,
    /// Whether it answered.
    pub answered: bool,
}

/// A device as the check sees it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its network namespace.
    pub netns: BorrowedFd<'a>,
    /// Its interfaces: name and LAN.
    pub interfaces: Vec<(String, String)>,
}

/// An address to be asked.
#[derive(Debug)]
struct Target {
    ping: Ping,
    /// The interface towards it, for link-local addresses.
    interface: String,
}

/// An address of a device on a LAN.
#[derive(Debug)]
struct Found {
    device: usize,
    interface: String,
    lan: String,
    segment: String,
    net: IpNet,
}

/// Asks everybody, each device on a thread of its own.
///
/// # Errors
/// A namespace cannot be entered.
pub fn check(subjects: &[Subject<'_>], timeout: Duration) -> io::Result<CheckReport> {
    let surveys = subjects.iter().map(|subject| netns::inside(subject.netns, survey::survey));
    let found = locate(subjects, &surveys.collect::<io::Result<Vec<Survey>>>()?);
    let deadline = Instant::now() + timeout;
    let pings = std::thread::scope(|scope| -> io::Result<Vec<Ping>> {
        let mut jobs = Vec::new();
        for (device, subject) in subjects.iter().enumerate() {
            let targets = targets(device, subjects, &found);
            if targets.is_empty() {
                continue;
            }
            let job = move || netns::inside(subject.netns, || ask(targets, deadline));
            jobs.push(std::thread::Builder::new().spawn_scoped(scope, job)?);
        }
        let mut pings = Vec::new();
        for job in jobs {
            let lost = |_| Err(io::Error::other("a checking thread failed"));
            pings.extend(job.join().unwrap_or_else(lost)?);
        }
        Ok(pings)
    })?;
    let devices = subjects.iter().map(|subject| subject.name.to_owned()).collect();
    Ok(CheckReport { devices, pings })
}

/// The addresses that are on a LAN, those of a bridge over it included.
fn locate(subjects: &[Subject<'_>], surveys: &[Survey]) -> Vec<Found> {
    let mut segments = Segments::default();
    let mut found: Vec<(usize, &str, &str, IpNet)> = Vec::new();
    for (device, (subject, survey)) in subjects.iter().zip(surveys).enumerate() {
        // An interface of the lab, or a bridge over some.
        let mut lans: BTreeMap<&str, &str> =
            subject.interfaces.iter().map(|(name, lan)| (name.as_str(), lan.as_str())).collect();
        for (port, bridge) in &survey.ports {
            if let Some(lan) = lans.get(port.as_str()).copied() {
                segments.join(lan, lans.entry(bridge).or_insert(lan));
            }
        }
        for (interface, net) in &survey.addresses {
            if let Some(lan) = lans.get(interface.as_str()) {
                found.push((device, interface, lan, *net));
            }
        }
    }
    let owned = |(device, interface, lan, net): (usize, &str, &str, IpNet)| Found {
        device,
        interface: interface.to_owned(),
        lan: lan.to_owned(),
        segment: segments.of(lan).to_owned(),
        net,
    };
    found.into_iter().map(owned).collect()
}

/// What `device` asks: addresses of others on a segment of its own, in a subnet
/// of its own there.
fn targets(device: usize, subjects: &[Subject<'_>], found: &[Found]) -> Vec<Target> {
    let name = |index: usize| subjects.get(index).map_or_else(String::new, |s| s.name.to_owned());
    let mut targets = Vec::new();
    for theirs in found.iter().filter(|theirs| theirs.device != device) {
        let near = found
            .iter()
            .find(|own| own.device == device && own.segment == theirs.segment && own.net.contains(&theirs.net.addr()));
        let Some(near) = near else { continue };
        let ping = Ping {
            from: name(device),
            to: name(theirs.device),
            lan: theirs.lan.clone(),
            address: theirs.net.addr(),
            answered: false,
        };
        targets.push(Target { ping, interface: near.interface.clone() });
    }
    // A request's number is 16 bits; no lab comes near.
    targets.truncate(usize::from(u16::MAX));
    targets
}

/// Asks, inside the device's namespace, until all have answered or it is late.
fn ask(mut targets: Vec<Target>, deadline: Instant) -> io::Result<Vec<Ping>> {
    let v4 = open_socket(AddressFamily::Inet, SockProtocol::Icmp)?;
    // Where the kernel has no IPv6 there is no such address to ask either.
    let v6 = open_socket(AddressFamily::Inet6, SockProtocol::IcmpV6).ok();
    loop {
        for (number, target) in (0_u16..).zip(&targets).filter(|(_, target)| !target.ping.answered) {
            request(&v4, v6.as_ref(), number, target);
        }
        let pause = deadline.min(Instant::now() + RETRY);
        while targets.iter().any(|target| !target.ping.answered) && wait(&v4, v6.as_ref(), pause)? {
            collect(&v4, header_length_v4, 0, &mut targets);
            if let Some(v6) = &v6 {
                collect(v6, |_| 0, 129, &mut targets);
            }
        }
        let all = targets.iter().all(|target| target.ping.answered);
        if all || Instant::now() >= deadline {
            return Ok(targets.into_iter().map(|target| target.ping).collect());
        }
    }
}

fn open_socket(family: AddressFamily, protocol: SockProtocol) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Raw, flags, protocol)?)
}

/// Sends one request. Errors are those of a network that is not ready yet
/// (no route, an address still being checked); the next attempt may do better.
fn request(v4: &OwnedFd, v6: Option<&OwnedFd>, number: u16, target: &Target) {
    match (target.ping.address, v6) {
        (IpAddr::V4(address), _) => {
            let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
            let _ = sendto(v4.as_raw_fd(), &echo_request(8, number), &to, MsgFlags::empty());
        }
        (IpAddr::V6(address), Some(v6)) => {
            let link_local = address.segments()[0] & 0xffc0 == 0xfe80;
            let index = nix::net::if_::if_nametoindex(target.interface.as_str()).unwrap_or(0);
            let scope = if link_local { index } else { 0 };
            let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, scope));
            let _ = sendto(v6.as_raw_fd(), &echo_request(128, number), &to, MsgFlags::empty());
        }
        (IpAddr::V6(_), None) => {}
    }
}

/// An echo request without data. The checksum is that of ICMP for IPv4; the
/// kernel writes the one of ICMPv6 itself.
fn echo_request(kind: u8, number: u16) -> [u8; 8] {
    let [id_high, id_low] = ECHO_IDENTIFIER.to_be_bytes();
    let [number_high, number_low] = number.to_be_bytes();
    let words = [u16::from_be_bytes([kind, 0]), ECHO_IDENTIFIER, number];
    let sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [sum_high, sum_low] = (!u16::try_from(folded).unwrap_or(0)).to_be_bytes();
    [kind, 0, sum_high, sum_low, id_high, id_low, number_high, number_low]
}

/// Waits for a reply; `false` when it is time to ask again.
fn wait(v4: &OwnedFd, v6: Option<&OwnedFd>, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let millis = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
    let mut polled = vec![PollFd::new(v4.as_fd(), PollFlags::POLLIN)];
    polled.extend(v6.map(|v6| PollFd::new(v6.as_fd(), PollFlags::POLLIN)));
    match poll(&mut polled, PollTimeout::from(millis)) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// The length of the IPv4 header that a raw socket delivers.
fn header_length_v4(packet: &[u8]) -> usize {
    packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4)
}

/// Notes every reply that has arrived.
fn collect(socket: &OwnedFd, header_length: fn(&[u8]) -> usize, reply: u8, targets: &mut [Target]) {
    let mut buffer = [0_u8; 2048];
    while let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let packet = buffer.get(..length).unwrap_or_default();
        let message = packet.get(header_length(packet)..).unwrap_or_default();
        let [kind, _, _, _, id_high, id_low, high, low, ..] = *message else { continue };
        if kind != reply || u16::from_be_bytes([id_high, id_low]) != ECHO_IDENTIFIER {
            continue;
        }
        let number = usize::from(u16::from_be_bytes([high, low]));
        if let Some(target) = targets.get_mut(number) {
            target.ping.answered = true;
        }
    }
}

impl CheckReport {
    /// Whether every address answered. A lab in which nothing was to be asked is
    /// no failure: its devices may have no addresses.
    pub fn passed(&self) -> bool {
        self.pings.iter().all(|ping| ping.answered)
    }

    /// The matrix, then what did not answer, then a summary.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let concerned: BTreeSet<&str> =
            self.pings.iter().flat_map(|ping| [ping.from.as_str(), ping.to.as_str()]).collect();
        let names: Vec<&str> =
            self.devices.iter().map(String::as_str).filter(|name| concerned.contains(name)).collect();
        if !names.is_empty() && names.len() <= MATRIX_MAX {
            let head: Vec<&str> = std::iter::once("from \\ to").chain(names.iter().copied()).collect();
            let rows = names.iter().map(|from| {
                let cells = names.iter().map(|to| self.cell(from, to));
                std::iter::once((*from).to_owned()).chain(cells).collect()
            });
            table(&mut text, &head, rows);
            text.push('\n');
        }
        for ping in self.pings.iter().filter(|ping| !ping.answered) {
            let Ping { from, to, lan, address, .. } = ping;
            let _ = writeln!(text, "{from}: no answer from {address} ({to} on {lan})");
        }
        let answered = self.pings.iter().filter(|ping| ping.answered).count();
        let _ = match self.pings.len() {
            0 => writeln!(text, "no two devices of a LAN have addresses of one subnet: nothing to ping"),
            all if all == answered => writeln!(text, "all {all} pings answered"),
            all => writeln!(text, "{answered} of {all} pings answered"),
        };
        text
    }

    fn cell(&self, from: &str, to: &str) -> String {
        let of_pair = || self.pings.iter().filter(|ping| ping.from == from && ping.to == to);
        let (all, answered) = (of_pair().count(), of_pair().filter(|ping| ping.answered).count());
        match (all, answered) {
            (0, _) => "-".to_owned(),
            (all, answered) if all == answered => "ok".to_owned(),
            (_, 0) => "FAIL".to_owned(),
            (all, answered) => format!("{answered}/{all}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(from: &str, to: &str, answered: bool) -> Ping {
        Ping { from: from.into(), to: to.into(), lan: "A".into(), address: "10.0.0.1".parse().unwrap(), answered }
    }

    #[test]
    fn the_matrix_tells_silence_from_neighbours_that_share_no_lan() {
        let report = CheckReport {
            devices: vec!["a".into(), "b".into(), "c".into()],
            pings: vec![ping("a", "b", true), ping("b", "a", false), ping("b", "c", true), ping("b", "c", false)],
        };
        assert!(!report.passed());
        let text = report.to_text();
        assert!(text.contains("a          -     ok  -"), "{text}");
        assert!(text.contains("b          FAIL  -   1/2"), "{text}");
        assert!(text.ends_with("2 of 4 pings answered\n"), "{text}");
    }

    #[test]
    fn lans_behind_a_bridge_are_one() {
        let netns = std::fs::File::open("/proc/self/ns/net").unwrap();
        let subject = |name, interfaces: &[(&str, &str)]| Subject {
            name,
            netns: netns.as_fd(),
            interfaces: interfaces.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        };
        let survey = |addresses: &[(&str, &str)], ports: &[(&str, &str)]| Survey {
            addresses: addresses.iter().map(|(a, net)| ((*a).to_owned(), net.parse().unwrap())).collect(),
            ports: ports.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        };
        let subjects = [
            subject("pc1", &[("eth0", "A")]),
            subject("pc2", &[("eth0", "B")]),
            subject("br", &[("eth0", "A"), ("eth1", "B")]),
        ];
        let surveys = [
            survey(&[("lo", "127.0.0.1/8"), ("eth0", "10.0.0.1/24")], &[]),
            survey(&[("eth0", "10.0.0.2/24"), ("eth0", "10.9.0.2/24")], &[]),
            survey(&[("br0", "10.0.0.3/24")], &[("eth0", "br0"), ("eth1", "br0")]),
        ];
        let found = locate(&subjects, &surveys);
        let asked = |device| -> Vec<String> {
            targets(device, &subjects, &found).iter().map(|target| target.ping.address.to_string()).collect()
        };
        assert_eq!(asked(0), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(asked(2), ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn the_checksum_of_a_request_adds_up() {
        for number in [0, 1, 0xffff, 0x1234] {
            let words = echo_request(8, number);
            let sum: u32 = words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
    }
}
