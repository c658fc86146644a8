//! One engine driven by command lines, its outputs as text.
//!
//! Everywhere in the text `m1` to `m9` stand for `02:00:00:00:00:01` to `:09`.
//!
//! ```text
//! config moves 3 | window 60 | recovery never | action warn | foreign 65001 | form rfc8365 | limit flood 2 | vtep …
//! at 12.5                                   time, in seconds; what became due is done
//! attach VNI PORT       detach VNI PORT     serve VNI      unserve VNI
//! claim VNI PORT MAC [ip A]… [sticky]       restore … [seq N]       release VNI PORT MAC
//! learned VNI PORT MAC [sticky]             taken-over VNI PORT MAC [sticky]       forgotten VNI PORT MAC
//! written-remote VNI MAC                    device VNI MAC [gone]
//! mac VNI MAC via VTEP [ip A] [seq N] [sticky] [llgr-stale] [rd N] [rt ASN:N]… [no-rt] [label N] [encap N]…
//! flood VNI via VTEP [originator A] [pmsi A|none|pim] [rd N] [rt ASN:N]… [no-rt] [label N] [encap N]…
//! withdraw mac …        withdraw flood …    with what identifies the route
//! adopted flood VNI VTEP | mac VNI MAC VTEP [sticky] | tunnel VNI | neighbor VNI IP MAC          sweep
//! informed yes | no                         whether reflectors have said all they know; at first they have
//! clear VNI MAC         show                deadline            given COMMAND…      without showing what comes out
//! ```

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use bgp_core::time::{Duration, Instant};
use bgp_core::types::{
    Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility, RouteDistinguisher, RouterId,
    Vni,
};
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::config::{DuplicateAction, MissingEncapsulation, RouteTargetForm};
use evpn::forwarding::{Desired, Key};
use evpn::show::TunnelView;
use evpn::{Claim, Config, Engine, Member};

pub struct Rig {
    pub engine: Engine,
    pub now: Instant,
}

type Words<'a> = std::vec::IntoIter<&'a str>;

fn next<T: FromStr>(words: &mut Words<'_>) -> T {
    let word = words.next().expect("another word");
    word.parse().unwrap_or_else(|_| panic!("unexpected `{word}`"))
}

fn mac(words: &mut Words<'_>) -> MacAddr {
    long(words.next().expect("a MAC")).parse().expect("a MAC")
}

fn vni(words: &mut Words<'_>) -> Vni {
    Vni::new(next(words)).expect("a VNI")
}

fn member(words: &mut Words<'_>) -> Member {
    Member(next(words))
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().expect("seconds"))
}

/// An engine whose reflectors have said all they know.
fn informed(config: Config) -> Engine {
    let mut engine = Engine::new(config);
    engine.set_informed(true, Instant::ZERO);
    engine
}

fn long(text: &str) -> String {
    match text.strip_prefix('m') {
        Some(digit) => format!("02:00:00:00:00:0{digit}"),
        None => text.to_owned(),
    }
}

fn short(text: &str) -> String {
    text.replace("02:00:00:00:00:0", "m")
}

/// What a route line says.
struct RouteLine {
    key: EvpnKey,
    payload: EvpnPayload,
    attributes: PathAttributes,
}

impl Rig {
    /// The worker 10.0.0.5 in AS 65000.
    pub fn new() -> Self {
        let vtep: IpAddr = "10.0.0.5".parse().unwrap();
        Self { engine: informed(config(vtep)), now: Instant::ZERO }
    }

    /// Runs one command line; what came out of it, a line each, indented.
    pub fn run(&mut self, line: &str) -> String {
        if let Some(line) = line.strip_prefix("given ") {
            self.run(line);
            return String::new();
        }
        let mut words = line.split_whitespace().collect::<Vec<_>>().into_iter();
        let command = words.next().expect("a command");
        let now = self.now;
        let mut out = String::new();
        match command {
            "config" => self.configure(&mut words),
            "at" => {
                self.now = Instant::ZERO + seconds(words.next().unwrap());
                self.engine.handle_timeout(self.now);
            }
            "attach" => self.engine.attach(vni(&mut words), member(&mut words), now),
            "detach" => self.engine.detach(vni(&mut words), member(&mut words), now),
            "serve" => self.engine.serve(vni(&mut words), now),
            "unserve" => self.engine.unserve(vni(&mut words), now),
            "claim" | "restore" => self.claim(command, &mut words, &mut out),
            "release" => self.engine.release(vni(&mut words), member(&mut words), mac(&mut words), now),
            "learned" => {
                let (vni, member, mac) = (vni(&mut words), member(&mut words), mac(&mut words));
                self.engine.learned(vni, member, mac, words.next().is_some(), now);
            }
            "taken-over" => {
                let (vni, member, mac) = (vni(&mut words), member(&mut words), mac(&mut words));
                self.engine.taken_over(vni, member, mac, words.next().is_some(), now);
            }
            "written-remote" => self.engine.written_remote(vni(&mut words), mac(&mut words), now),
            "device" => {
                let (vni, mac) = (vni(&mut words), mac(&mut words));
                self.engine.device(vni, mac, words.next().is_none(), now);
            }
            "forgotten" => self.engine.forgotten(vni(&mut words), member(&mut words), mac(&mut words), now),
            "clear" => self.engine.clear_duplicate(vni(&mut words), mac(&mut words), now),
            "mac" | "flood" => {
                let route = route(command, &mut words);
                self.engine.route_changed(&route.key, Some((&route.payload, &route.attributes)), now);
            }
            "withdraw" => {
                let kind = words.next().unwrap();
                self.engine.route_changed(&route(kind, &mut words).key, None, now);
            }
            "adopted" => {
                let (key, found) = adopted(&mut words);
                self.engine.adopted(key, found, now);
            }
            "sweep" => self.engine.sweep(now),
            "informed" => self.engine.set_informed(words.next() == Some("yes"), now),
            "show" => self.show(&mut out),
            "deadline" => {
                let deadline = self.engine.next_deadline();
                let _ = writeln!(out, "  {:?}", deadline.map(|at| at.saturating_since(Instant::ZERO)));
            }
            other => panic!("unknown command `{other}`"),
        }
        assert!(words.next().is_none(), "words left over in `{line}`");
        self.drain(&mut out);
        short(&out)
    }

    fn claim(&mut self, command: &str, words: &mut Words<'_>, out: &mut String) {
        let (vni, member, mac) = (vni(words), member(words), mac(words));
        let mut claim = Claim { mac, ips: Vec::new(), sticky: false };
        let mut sequence = 0;
        while let Some(word) = words.next() {
            match word {
                "ip" => claim.ips.push(next(words)),
                "sticky" => claim.sticky = true,
                "seq" => sequence = next(words),
                other => panic!("unexpected `{other}`"),
            }
        }
        let taken = match command {
            "restore" => self.engine.restore(vni, member, &claim, sequence, self.now),
            _ => self.engine.claim(vni, member, &claim, self.now),
        };
        if let Err(error) = taken {
            let _ = writeln!(out, "  error: {error}");
        }
    }

    fn configure(&mut self, words: &mut Words<'_>) {
        let mut config = self.engine.config().clone();
        let recovery_is = |recovery| DuplicateAction::Freeze { recovery };
        while let Some(word) = words.next() {
            match (word, words.next().expect("a value")) {
                ("moves", n) => config.duplicates.moves = n.parse().unwrap(),
                ("window", secs) => config.duplicates.window = seconds(secs),
                ("action", "warn") => config.duplicates.action = DuplicateAction::Warn,
                ("recovery", "never") => config.duplicates.action = recovery_is(None),
                ("recovery", secs) => config.duplicates.action = recovery_is(Some(seconds(secs))),
                ("foreign", asn) => config.foreign_asns.push(Asn(asn.parse().unwrap())),
                ("asn", asn) => config.asn = Asn(asn.parse().unwrap()),
                ("form", "rfc8365") => config.route_target_form = RouteTargetForm::Rfc8365,
                ("form", "both") => config.route_target_form = RouteTargetForm::Both,
                ("no-encap", "mpls") => config.missing_encapsulation = MissingEncapsulation::Mpls,
                ("vtep", address) => config.vtep = address.parse().unwrap(),
                ("limit", "flood") => config.limits.flood = next(words),
                ("limit", "remote") => config.limits.remote_macs = next(words),
                ("limit", "learned") => config.limits.learned_macs = next(words),
                ("limit", "port") => config.limits.port_macs = next(words),
                other => panic!("unexpected {other:?}"),
            }
        }
        self.engine = informed(config);
    }

    fn show(&self, out: &mut String) {
        for view in self.engine.vnis() {
            let tunnel = match view.tunnel {
                TunnelView::Down => "down".to_owned(),
                TunnelView::Up => "up".to_owned(),
                TunnelView::Lingering { until } => {
                    format!("up until {} s", until.saturating_since(Instant::ZERO).as_secs_f64())
                }
            };
            let served = if view.served { ", served" } else { "" };
            let _ = writeln!(
                out,
                "  vni {}: {} members{served}, tunnel {tunnel}, {} vteps, {} local, {} remote, {} stale",
                view.vni, view.members, view.remote_vteps, view.local_macs, view.remote_macs, view.stale_rows
            );
        }
        for view in self.engine.vteps() {
            let flood = match view.flood {
                Ok(()) => "flooded to".to_owned(),
                Err(reason) => format!("not flooded to: {reason}"),
            };
            let _ = writeln!(out, "  vtep {} {}: {flood}", view.vni, view.vtep);
        }
        for view in self.engine.macs() {
            let sticky = if view.sticky { ", sticky" } else { "" };
            let ips = view.ips.iter().map(|ip| format!(" {ip}")).collect::<String>();
            let _ = writeln!(
                out,
                "  mac {} {}{ips}: {:?}, sequence {}{sticky}, {}",
                view.vni, view.mac, view.place, view.sequence, view.state
            );
        }
    }

    fn drain(&mut self, out: &mut String) {
        while let Some((membership, wanted)) = self.engine.poll_membership() {
            let verb = if wanted { "interest" } else { "no interest" };
            let text = match membership {
                bgp_core::wire::RtMembership::Target { origin, target } => format!("{target} origin {origin}"),
                other => format!("{other:?}"),
            };
            let _ = writeln!(out, "  {verb} {text}");
        }
        while let Some(origination) = self.engine.poll_origination() {
            let key = key_text(&origination.key);
            let _ = match origination.route {
                Some((payload, attributes)) => writeln!(out, "  announce {key} {}", text_of(&payload, &attributes)),
                None => writeln!(out, "  withdraw {key}"),
            };
        }
        while let Some(key) = self.engine.poll_dirty() {
            let state = self.engine.desired(key).map_or("none".to_owned(), |desired| desired.to_string());
            let _ = writeln!(out, "  row {key}: {state}");
        }
        while let Some(report) = self.engine.poll_report() {
            let _ = writeln!(out, "  report {}: {report}", report.rule().code());
        }
    }
}

fn config(vtep: IpAddr) -> Config {
    Config::new(Asn(65_000), RouterId(u32::from_be_bytes([10, 0, 0, 5])), vtep)
}

fn key_text(key: &EvpnKey) -> String {
    match key {
        EvpnKey::MacIp { rd, mac, ip, .. } => {
            format!("mac {mac}{} rd {rd}", ip.map_or(String::new(), |ip| format!(" ip {ip}")))
        }
        EvpnKey::InclusiveMulticast { rd, originator, .. } => format!("flood originator {originator} rd {rd}"),
        other => format!("{other:?}"),
    }
}

fn text_of(payload: &EvpnPayload, attributes: &PathAttributes) -> String {
    let mut text = format!("via {}", attributes.next_hop);
    if let EvpnPayload::MacIp { label, .. } = payload {
        let _ = write!(text, " label {}", label.vni().unwrap());
    }
    if let Some(pmsi) = &attributes.pmsi_tunnel {
        let _ = write!(text, " pmsi {:?} label {}", pmsi.tunnel, pmsi.label.vni().unwrap());
    }
    for community in &attributes.extended_communities {
        let _ = write!(text, " {community}");
    }
    text
}

fn adopted(words: &mut Words<'_>) -> (Key, Desired) {
    let kind = words.next().unwrap();
    let vni = vni(words);
    match kind {
        "tunnel" => (Key::Tunnel(vni), Desired::Tunnel),
        "flood" => (Key::Flood(vni, next(words)), Desired::Flood),
        "mac" => {
            let (mac, vtep) = (mac(words), next(words));
            (Key::Mac(vni, mac), Desired::RemoteMac { vtep, sticky: words.next() == Some("sticky") })
        }
        "neighbor" => (Key::Neighbor(vni, next(words)), Desired::Neighbor { mac: mac(words) }),
        other => panic!("unexpected `{other}`"),
    }
}

/// What a route line says. What is not said is as a well-behaved worker of AS 65000 would send it.
struct RouteWords {
    vni: Vni,
    vtep: IpAddr,
    rd: String,
    ip: Option<IpAddr>,
    originator: IpAddr,
    pmsi: String,
    mobility: MacMobility,
    label: u32,
    is_stale: bool,
    has_targets: bool,
    /// None said: the one of the LAN.
    targets: Vec<String>,
    has_encapsulations: bool,
    /// None said: VXLAN.
    encapsulations: Vec<u16>,
}

impl RouteWords {
    fn new(vni: Vni, vtep: IpAddr) -> Self {
        Self {
            vni,
            vtep,
            rd: vtep.to_string(),
            ip: None,
            originator: vtep,
            pmsi: vtep.to_string(),
            mobility: MacMobility::default(),
            label: vni.get(),
            is_stale: false,
            has_targets: true,
            targets: Vec::new(),
            has_encapsulations: true,
            encapsulations: Vec::new(),
        }
    }

    fn read(mut self, words: &mut Words<'_>) -> Self {
        while let Some(word) = words.next() {
            match word {
                "ip" => self.ip = Some(next(words)),
                "seq" => self.mobility.sequence = next(words),
                "sticky" => self.mobility.sticky = true,
                "llgr-stale" => self.is_stale = true,
                "rd" => self.rd = next(words),
                "originator" => self.originator = next(words),
                "pmsi" => self.pmsi = next(words),
                "label" => self.label = next(words),
                "no-rt" => self.has_targets = false,
                "no-encap" => self.has_encapsulations = false,
                "rt" => self.targets.push(next(words)),
                "encap" => self.encapsulations.push(next(words)),
                other => panic!("unexpected `{other}`"),
            }
        }
        if self.has_targets && self.targets.is_empty() {
            self.targets.push(format!("65000:{}", self.vni));
        }
        if self.has_encapsulations && self.encapsulations.is_empty() {
            self.encapsulations.push(8);
        }
        self
    }

    fn label(&self) -> Label {
        let [_, a, b, c] = self.label.to_be_bytes();
        Label([a, b, c])
    }

    fn attributes(&self) -> PathAttributes {
        let mut attributes = PathAttributes::new(self.vtep);
        if self.is_stale {
            attributes.communities.push(0xffff_0006);
        }
        attributes.extended_communities.extend(self.targets.iter().map(|target| target_community(target)));
        for tunnel in &self.encapsulations {
            let [high, low] = tunnel.to_be_bytes();
            attributes.extended_communities.push(ExtendedCommunity([3, 0x0c, 0, 0, 0, 0, high, low]));
        }
        if self.mobility != MacMobility::default() {
            attributes.extended_communities.push(ExtendedCommunity::mac_mobility(self.mobility));
        }
        attributes
    }

    fn pmsi(&self) -> Option<PmsiTunnel> {
        let tunnel = match self.pmsi.as_str() {
            "none" => return None,
            "pim" => Tunnel::Other { tunnel_type: 3, identifier: Default::default() },
            address => Tunnel::IngressReplication(address.parse().unwrap()),
        };
        Some(PmsiTunnel { flags: 0, label: self.label(), tunnel })
    }
}

fn route(kind: &str, words: &mut Words<'_>) -> RouteLine {
    let vni = vni(words);
    let mac = (kind == "mac").then(|| mac(words));
    assert_eq!(words.next(), Some("via"));
    let said = RouteWords::new(vni, next(words)).read(words);
    let (rd, tag) = (distinguisher(&format!("{}:{vni}", said.rd)), EthernetTag(0));
    let mut attributes = said.attributes();
    match mac {
        Some(mac) => {
            let esi = EthernetSegmentId::default();
            let payload = EvpnPayload::MacIp { esi, label: said.label(), label2: None };
            RouteLine { key: EvpnKey::MacIp { rd, tag, mac, ip: said.ip }, payload, attributes }
        }
        None => {
            attributes.pmsi_tunnel = said.pmsi();
            let key = EvpnKey::InclusiveMulticast { rd, tag, originator: said.originator };
            RouteLine { key, payload: EvpnPayload::InclusiveMulticast, attributes }
        }
    }
}

fn distinguisher(text: &str) -> RouteDistinguisher {
    let (address, number) = text.rsplit_once(':').unwrap();
    let address: IpAddr = address.parse().unwrap();
    let number = u16::try_from(number.parse::<u32>().unwrap() & 0xffff).unwrap();
    match address {
        IpAddr::V4(address) => RouteDistinguisher::ipv4(address, number),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            RouteDistinguisher::ipv4([a, b, c, d].into(), number)
        }
    }
}

/// `ASN:N` as a two-octet AS specific target; an address before the colon makes the IPv4 form.
fn target_community(text: &str) -> ExtendedCommunity {
    let (administrator, number) = text.split_once(':').unwrap();
    match administrator.parse::<std::net::Ipv4Addr>() {
        Ok(address) => {
            let [a, b, c, d] = address.octets();
            let [e, f] = number.parse::<u16>().unwrap().to_be_bytes();
            ExtendedCommunity([1, 2, a, b, c, d, e, f])
        }
        Err(_) => match administrator.parse::<u32>().unwrap().to_be_bytes() {
            [0, 0, a, b] => {
                let [c, d, e, f] = number.parse::<u32>().unwrap().to_be_bytes();
                ExtendedCommunity([0, 2, a, b, c, d, e, f])
            }
            [a, b, c, d] => {
                let [e, f] = number.parse::<u16>().unwrap().to_be_bytes();
                ExtendedCommunity([2, 2, a, b, c, d, e, f])
            }
        },
    }
}
