//! Whole fan-out of the reflector, TCP included: every client announces its routes, every client must end with the exact
//! set of all others. Prints the reflector's CPU time per (route, client).
//!
//! `cargo bench -p route-reflector --bench fanout -- [CLIENTS [VNIS]] [frr]`; by default 50 clients with 100 VNIs of one
//! type 3 and ten type 2 routes each: 55,000 routes. The reflector is the real program in a process of its own; its CPU
//! time is what the scheduler counted between the first announcement and the last route received. With `frr` the same
//! clients measure FRR's bgpd (`/usr/lib/frr/bgpd`) instead; routes that it sends back to their source are not counted.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use bgp_core::types::{
    AddressFamily, Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, RouteDistinguisher,
    RouteTarget, RouterId, Vni,
};
use bgp_core::wire::attributes::{PathAttributes, PmsiTunnel, Tunnel};
use bgp_core::wire::message::Routes;
use bgp_core::wire::{
    Capability, DecodeContext, EncodeContext, EncodedAttributes, Evpn, EvpnKey, EvpnPayload, MaxMessage, Message, Open,
    announce, frame,
};
use bytes::{Bytes, BytesMut};

const ASN: Asn = Asn(65_000);
const MACS_PER_VNI: u32 = 10;
const STALL: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let clients = numbers.first().copied().unwrap_or(50);
    let vnis = numbers.get(1).copied().unwrap_or(100);
    let reflector =
        if std::env::args().any(|argument| argument == "frr") { Reflector::frr() } else { Reflector::ours() };
    match measure(&reflector, clients, vnis) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("VOID: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The run: prints its figures, or says which client met what.
fn measure(reflector: &Reflector, clients: u32, vnis: u32) -> Result<(), String> {
    let hasher = RandomState::new();
    let tables: Vec<(Bytes, SetHash)> = (0..clients).map(|client| table_of(client, vnis, &hasher)).collect();
    let everything = tables.iter().fold(SetHash::default(), |sum, (_, hash)| sum.plus(*hash));
    let start = Arc::new(Gate::default());
    let (report, reports) = mpsc::channel();
    // The sessions stay up until the figures are taken: their sockets come back with the threads.
    for (client, (bytes, own)) in (0..).zip(tables) {
        let (start, hasher, report) = (Arc::clone(&start), hasher.clone(), report.clone());
        let (expected, port) = (everything.minus(own), reflector.port);
        std::thread::spawn(move || {
            let ready = Session::establish(client, port).map_err(|error| format!("client {client}: {error}"));
            let session = match ready {
                Ok(session) => session,
                Err(error) => return report.send(Err(error)),
            };
            report.send(Ok(None))?;
            start.wait();
            let outcome = session.exchange(bytes, expected, &hasher);
            report.send(outcome.map(Some).map_err(|error| format!("client {client}: {error}")))
        });
    }
    drop(report);
    let next = || reports.recv().map_err(|_| "a client ended without a word".to_owned())?;
    for _ in 0..clients {
        next()?;
    }
    let (clock, cpu) = (Instant::now(), reflector.cpu());
    start.open();
    let sessions = (0..clients).map(|_| next()).collect::<Result<Vec<_>, String>>()?;
    let (wall, cpu) = (clock.elapsed(), reflector.cpu() - cpu);
    let memory = reflector.peak_memory_kib();
    drop(sessions);

    let routes = u64::from(clients) * u64::from(vnis) * u64::from(1 + MACS_PER_VNI);
    let deliveries = routes * u64::from(clients - 1);
    println!("clients {clients}, routes {routes}, delivered {deliveries}");
    println!(
        "wall {:.3} s, reflector CPU {:.3} s, peak memory {} MiB",
        wall.as_secs_f64(),
        cpu.as_secs_f64(),
        memory / 1024
    );
    println!("every client holds the exact set");
    println!("reflector CPU per (route, client): {:.3} us", cpu.as_secs_f64() * 1e6 / deliveries as f64);
    Ok(())
}

/// Where all clients wait for the start.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn wait(&self) {
        let closed = self.is_open.lock().expect("nobody panics with it");
        drop(self.opened.wait_while(closed, |is_open| !*is_open).expect("nobody panics with it"));
    }

    fn open(&self) {
        *self.is_open.lock().expect("nobody panics with it") = true;
        self.opened.notify_all();
    }
}

/// Order-independent hash of a set of keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct SetHash {
    count: u64,
    sum: u64,
}

impl SetHash {
    fn of(key: &EvpnKey, hasher: &RandomState) -> Self {
        Self { count: 1, sum: hasher.hash_one(key) }
    }

    fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }

    fn minus(self, other: Self) -> Self {
        Self { count: self.count - other.count, sum: self.sum.wrapping_sub(other.sum) }
    }
}

fn address_of(client: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x7f01_0001 + client)
}

/// The VTEP of a client: a next hop that is nobody's loopback.
fn vtep_of(client: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0001 + client)
}

/// Everything a client announces, encoded, and its hash.
fn table_of(client: u32, vnis: u32, hasher: &RandomState) -> (Bytes, SetHash) {
    let address = vtep_of(client);
    let ctx = EncodeContext { four_octet_as: true, max_message: MaxMessage::Standard };
    let mut out = BytesMut::new();
    let mut hash = SetHash::default();
    for number in 1..=vnis {
        let vni = Vni::new(number).expect("VNIs begin at 1");
        let rd = RouteDistinguisher::ipv4(address, number as u16);
        let mut attributes = PathAttributes::new(IpAddr::V4(address));
        attributes.local_pref = Some(100);
        attributes.extended_communities.push(RouteTarget::auto(ASN, vni).community());
        attributes.extended_communities.push(ExtendedCommunity::ENCAPSULATION_VXLAN);
        let macs: Vec<_> = (0..MACS_PER_VNI)
            .map(|index| {
                let [_, a, b, c] = (client * MACS_PER_VNI + index).to_be_bytes();
                let mac = MacAddr([2, number as u8, (number >> 8) as u8, a, b, c]);
                let key = EvpnKey::MacIp { rd, tag: EthernetTag(0), mac, ip: None };
                (key, EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: vni.into(), label2: None })
            })
            .collect();
        hash = macs.iter().fold(hash, |sum, (key, _)| sum.plus(SetHash::of(key, hasher)));
        let encoded = EncodedAttributes::new(&attributes, &ctx);
        announce::<Evpn>(&ctx, &encoded, macs.iter().map(|(key, payload)| (key, payload)), &mut out).expect("fits");
        attributes.pmsi_tunnel = Some(PmsiTunnel {
            flags: 0,
            label: Label::from(vni),
            tunnel: Tunnel::IngressReplication(IpAddr::V4(address)),
        });
        let key = EvpnKey::InclusiveMulticast { rd, tag: EthernetTag(0), originator: IpAddr::V4(address) };
        hash = hash.plus(SetHash::of(&key, hasher));
        let encoded = EncodedAttributes::new(&attributes, &ctx);
        let route = [(&key, &EvpnPayload::InclusiveMulticast)];
        announce::<Evpn>(&ctx, &encoded, route, &mut out).expect("fits");
    }
    (out.freeze(), hash)
}

/// Ends a child with its parent.
trait DieWithUs {
    fn die_with_us(&mut self) -> &mut Self;
}

impl DieWithUs for Command {
    fn die_with_us(&mut self) -> &mut Self {
        // SAFETY: prctl is one system call, and touches nothing of the process that the child shares.
        unsafe {
            self.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            })
        }
    }
}

struct Reflector {
    child: Child,
    port: u16,
}

impl Reflector {
    fn ours() -> Self {
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_megalos-rr"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--router-id", "192.0.2.1", "--accept", "127.0.0.0/8"])
            .env("MEGALOS_LOG", "error")
            .stdin(Stdio::null())
            .die_with_us()
            .spawn()
            .expect("the reflector starts");
        Self { child, port }
    }

    /// bgpd alone: no zebra, no checks of next hops, no delay that it can be told to leave out.
    fn frr() -> Self {
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("fanout-frr-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for FRR");
        let config = "router bgp 65000\n bgp router-id 192.0.2.1\n no bgp default ipv4-unicast\n neighbor c peer-group\n \
            neighbor c remote-as 65000\n neighbor c timers 0 0\n bgp listen limit 5000\n \
            bgp listen range 127.0.0.0/8 peer-group c\n address-family l2vpn evpn\n  neighbor c activate\n  \
            neighbor c route-reflector-client\n exit-address-family\n";
        std::fs::write(directory.join("bgpd.conf"), config).expect("FRR's configuration");
        let path = |name: &str| directory.join(name).display().to_string();
        let child = Command::new("/usr/lib/frr/bgpd")
            .args(["-n", "-Z", "-S", "-l", "127.0.0.1", "-p", &port.to_string(), "-f", &path("bgpd.conf")])
            .args(["-i", &path("bgpd.pid"), "--vty_socket", &path(""), "-P", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .die_with_us()
            .spawn()
            .expect("FRR's bgpd starts: install the package frr");
        Self { child, port }
    }

    /// CPU time of all threads so far.
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the reflector runs");
        let nanos = tasks.flatten().filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|probe| probe.local_addr());
    probe.expect("a free port").port()
}

/// Whether a client announced this key itself.
fn is_own(client: u32, key: &EvpnKey) -> bool {
    let (EvpnKey::MacIp { rd, .. } | EvpnKey::InclusiveMulticast { rd, .. }) = key else { return false };
    matches!(rd.0, [0, 1, a, b, c, d, ..] if Ipv4Addr::new(a, b, c, d) == vtep_of(client))
}

struct Session {
    client: u32,
    stream: TcpStream,
    buffer: BytesMut,
}

impl Session {
    /// Connects from the client's own loopback address and completes the handshake.
    fn establish(client: u32, port: u16) -> Result<Self, String> {
        let stream = connect(address_of(client), port)?;
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        stream.set_nodelay(true).map_err(failed("TCP_NODELAY"))?;
        stream.set_read_timeout(Some(STALL)).map_err(failed("the read timeout"))?;
        let mut session = Self { client, stream, buffer: BytesMut::with_capacity(1 << 20) };
        let open = Open {
            asn: ASN,
            hold_time_secs: 0,
            router_id: RouterId::from(address_of(client)),
            capabilities: vec![Capability::Multiprotocol(AddressFamily::EVPN), Capability::FourOctetAs(ASN)],
        };
        session.send(&Message::Open(open)).map_err(failed("sending OPEN"))?;
        session.send(&Message::Keepalive).map_err(failed("sending KEEPALIVE"))?;
        loop {
            match session.next().map_err(|error| format!("waiting for the session: {error}"))? {
                Message::Keepalive => return Ok(session),
                Message::Open(_) => {}
                other => return Err(format!("the reflector answers an OPEN with {other:?}")),
            }
        }
    }

    /// The next message.
    fn next(&mut self) -> Result<Message, String> {
        loop {
            match frame(&mut self.buffer, MaxMessage::Standard) {
                Ok(Some(frame)) => {
                    return Message::decode(&frame, &decode_context())
                        .map_err(|error| format!("cannot read it: {error:?}"));
                }
                Ok(None) => self.fill().map_err(|error| error.to_string())?,
                Err(error) => return Err(format!("not framed: {error:?}")),
            }
        }
    }

    fn send(&mut self, message: &Message) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        message.encode(&EncodeContext { four_octet_as: true, max_message: MaxMessage::Standard }, &mut out);
        self.stream.write_all(&out)
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    /// Announces everything while it reads until the expected set is there.
    fn exchange(mut self, bytes: Bytes, expected: SetHash, hasher: &RandomState) -> Result<Self, String> {
        let mut writer = self.stream.try_clone().map_err(|error| format!("a second handle of the socket: {error}"))?;
        let sender = std::thread::spawn(move || writer.write_all(&bytes));
        let mut received = SetHash::default();
        while received != expected {
            let message = self.next().map_err(|error| format!("stopped at {received:?} of {expected:?}: {error}"))?;
            let Message::Update(update) = message else { continue };
            if let Some(Routes::Evpn(routes)) = update.reach.map(|reach| reach.routes) {
                let others = routes.iter().filter(|route| !is_own(self.client, &route.key));
                received = others.fold(received, |sum, route| sum.plus(SetHash::of(&route.key, hasher)));
            }
        }
        match sender.join() {
            Ok(Ok(())) => Ok(self),
            Ok(Err(error)) => Err(format!("announcing: {error}")),
            Err(_) => Err("the announcing thread panicked".to_owned()),
        }
    }
}

fn decode_context() -> DecodeContext {
    DecodeContext {
        four_octet_as: true,
        families: [AddressFamily::EVPN].into_iter().collect(),
        ..DecodeContext::default()
    }
}

/// Waits for the reflector to listen.
fn connect(from: Ipv4Addr, port: u16) -> Result<TcpStream, String> {
    let deadline = Instant::now() + STALL;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    loop {
        let attempt = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).and_then(|socket| {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect(&to.into()).map(|()| socket)
        });
        match attempt {
            Ok(socket) => return Ok(socket.into()),
            Err(error) if Instant::now() > deadline => return Err(format!("no connection from {from}: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
