//! Routes of all types with all attributes, as octets and as the text that every table should show, from a speaker made
//! by hand.

use std::net::IpAddr;

use tests::bgp::{self, Connection, Open};
use tests::host::Host;
use tests::peers::table::{Attribute, Route};

/// The speaker's address and router id.
pub const ADDRESS: [u8; 4] = [10, 0, 0, 13];
/// The same as text.
pub const ADDRESS_TEXT: &str = "10.0.0.13";

const RD: [u8; 8] = [0, 1, 10, 0, 0, 13, 0, 100];
const RD_TEXT: &str = "10.0.0.13:100";
const ESI: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const ESI_TEXT: &str = "00:01:02:03:04:05:06:07:08:09";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x33];
const MAC_TEXT: &str = "02:00:00:00:00:33";
const NO_ESI: [u8; 10] = [0; 10];
const NO_TAG: [u8; 4] = [0; 4];
/// 0x123456: a VNI that needs all 24 bits.
const WIDE_VNI: [u8; 3] = [0x12, 0x34, 0x56];

/// A route as it goes onto the wire, and as it must read in any table.
#[derive(Clone, Debug)]
pub struct Sample {
    /// EVPN route type.
    pub route_type: u8,
    /// All path attributes, MP_REACH_NLRI first.
    attributes: Vec<Vec<u8>>,
    /// The NLRI as announced.
    nlri: Vec<u8>,
    /// The NLRI with zero in all that is no part of the key (RFC 7432 section 7.2).
    bare: Vec<u8>,
    /// The route as text.
    pub route: Route,
}

/// How a route is withdrawn.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// With the octets of its announcement.
    AsAnnounced,
    /// With zero in all that is no part of its key.
    Bare,
}

/// Extended communities and how they read.
const COMMUNITIES: [([u8; 8], &str); 9] = [
    ([0, 2, 0xfd, 0xe8, 0, 0, 0, 100], "rt:65000:100"),
    ([1, 2, 10, 0, 0, 13, 0, 100], "rt:10.0.0.13:100"),
    ([2, 2, 0, 1, 0, 0, 0, 100], "rt:65536:100"),
    ([3, 0x0c, 0, 0, 0, 0, 0, 8], "encapsulation:8"),
    ([6, 0, 1, 0, 0, 0, 0, 5], "mac-mobility:5,sticky"),
    ([6, 2, 2, 0, 0, 0, 0, 9], "0x0602020000000009"),
    ([6, 3, 2, 0, 0, 0, 0, 8], "0x0603020000000008"),
    ([3, 0x0d, 0, 0, 0, 0, 0, 0], "0x030d000000000000"),
    ([0, 3, 0xfd, 0xe8, 0, 0, 0, 9], "0x0003fde800000009"),
];
/// Of a sub-type that nobody has: to be carried as any other (RFC 4360 section 6, RFC 7606 section 7.14).
const UNKNOWN_COMMUNITY: ([u8; 8], &str) = ([6, 0xee, 1, 2, 3, 4, 5, 6], "0x06ee010203040506");

/// The samples of these route types.
pub fn of_types(types: &[u8]) -> Vec<Sample> {
    let samples = vec![
        type_1(),
        type_2("", &[], &[0, 0, 100]),
        type_2("192.168.1.51", &[192, 168, 1, 51], &[0, 0, 100, 0, 0, 200]),
        type_2("fd00:1::33", &[0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x33], &WIDE_VNI),
        type_3(),
        type_4(),
        type_5(),
        unknown_community(),
    ];
    samples.into_iter().filter(|sample| types.contains(&sample.route_type)).collect()
}

fn sample(route_type: u8, body: &[u8], labels: &[u8], key: String, more: &[(Attribute, &str, Vec<u8>)]) -> Sample {
    let nlri = bgp::evpn_route(route_type, &[body, labels].concat());
    let mut route = Route::new(key);
    route.from = ADDRESS_TEXT.to_owned();
    let (octets, texts): (Vec<_>, Vec<_>) = COMMUNITIES.iter().map(|(octets, text)| (*octets, *text)).unzip();
    let common = [
        (Attribute::Origin, "egp", bgp::attribute(0x40, 1, &[1])),
        (Attribute::AsPath, "", bgp::attribute(0x40, 2, &[])),
        (Attribute::Med, "7", bgp::attribute(0x80, 4, &7_u32.to_be_bytes())),
        (Attribute::LocalPref, "200", bgp::attribute(0x40, 5, &200_u32.to_be_bytes())),
        (Attribute::Communities, "65000:1", bgp::attribute(0xc0, 8, &[0xfd, 0xe8, 0, 1])),
        (Attribute::ExtendedCommunities, "", bgp::attribute(0xc0, 16, &octets.concat())),
    ];
    let mut attributes = vec![bgp::reach(ADDRESS, std::slice::from_ref(&nlri))];
    route.set(Attribute::NextHop, ADDRESS_TEXT);
    for (attribute, text, octets) in common.into_iter().chain(more.iter().cloned()) {
        route.set(attribute, text);
        if !octets.is_empty() {
            attributes.push(octets);
        }
    }
    route.set_all(Attribute::ExtendedCommunities, texts.into_iter().map(str::to_owned));
    let mut bare = nlri.clone();
    if let (2, Some(esi)) = (route_type, bare.get_mut(10..20)) {
        esi.fill(0);
    }
    let labels = bare.len() - labels.len();
    bare.get_mut(labels..).unwrap_or_default().fill(0);
    Sample { route_type, attributes, nlri, bare, route }
}

fn type_1() -> Sample {
    let body = [&RD[..], &ESI, &[0, 0, 0, 7]].concat();
    sample(1, &body, &[0, 0, 100], format!("[1][{RD_TEXT}][{ESI_TEXT}][7]"), &[(Attribute::Label, "100", Vec::new())])
}

fn type_2(ip: &str, octets: &[u8], labels: &[u8]) -> Sample {
    let bits = u8::try_from(octets.len() * 8).unwrap_or_default();
    let body = [&RD[..], &ESI, &NO_TAG, &[48], &MAC, &[bits], octets].concat();
    let key = format!("[2][{RD_TEXT}][0][{MAC_TEXT}]{}", if ip.is_empty() { String::new() } else { format!("[{ip}]") });
    let label = if labels == WIDE_VNI { "1193046" } else { "100" };
    let label2 = if labels.len() > 3 { "200" } else { "" };
    let more = [
        (Attribute::Esi, ESI_TEXT, Vec::new()),
        (Attribute::Label, label, Vec::new()),
        (Attribute::Label2, label2, Vec::new()),
    ];
    sample(2, &body, labels, key, &more)
}

fn type_3() -> Sample {
    let body = [&RD[..], &NO_TAG, &[32], &ADDRESS].concat();
    let pmsi = bgp::attribute(0xc0, 22, &[&[0, 6, 0, 0, 100][..], &ADDRESS].concat());
    let more =
        [(Attribute::PmsiTunnel, "ingress-replication 100 10.0.0.13", pmsi), (Attribute::Label, "100", Vec::new())];
    sample(3, &body, &[], format!("[3][{RD_TEXT}][0][{ADDRESS_TEXT}]"), &more)
}

fn type_4() -> Sample {
    let body = [&RD[..], &ESI, &[32], &ADDRESS].concat();
    sample(4, &body, &[], format!("[4][{RD_TEXT}][{ESI_TEXT}][{ADDRESS_TEXT}]"), &[])
}

fn type_5() -> Sample {
    let body = [&RD[..], &NO_ESI, &NO_TAG, &[24, 172, 16, 1, 0], &[192, 168, 1, 9]].concat();
    let more = [(Attribute::Gateway, "192.168.1.9", Vec::new()), (Attribute::Label, "100", Vec::new())];
    sample(5, &body, &[0, 0, 100], format!("[5][{RD_TEXT}][0][172.16.1.0/24]"), &more)
}

/// A type 2 that also carries [`UNKNOWN_COMMUNITY`].
fn unknown_community() -> Sample {
    let mut mac = MAC;
    mac[5] = 0xee;
    let body = [&RD[..], &NO_ESI, &NO_TAG, &[48], &mac, &[0]].concat();
    let key = format!("[2][{RD_TEXT}][0][02:00:00:00:00:ee]");
    let mut sample = sample(2, &body, &[0, 0, 100], key, &[(Attribute::Label, "100", Vec::new())]);
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    if let Some(communities) = sample.attributes.iter_mut().find(|attribute| attribute.get(1) == Some(&16)) {
        *communities = bgp::attribute(0xc0, 16, &[target, UNKNOWN_COMMUNITY.0].concat());
    }
    let texts = ["rt:65000:100", UNKNOWN_COMMUNITY.1].map(str::to_owned);
    sample.route.set_all(Attribute::ExtendedCommunities, texts);
    sample
}

/// The speaker: a session that was made by hand and stays up.
#[derive(Debug)]
pub struct Speaker {
    connection: Connection,
    _host: Host,
}

impl Speaker {
    /// Brings a session up from `host`, which has [`ADDRESS`].
    pub fn start(host: Host, peer: &str, port: u16) -> Self {
        let peer: IpAddr = peer.parse().unwrap_or_else(|error| panic!("{error}"));
        let connection = Connection::open(&host, IpAddr::from(ADDRESS), (peer, port).into());
        let mut connection = connection.unwrap_or_else(|error| panic!("{peer}: {error}"));
        // Without keepalives; with the AS in four octets, which OpenBGPD insists on.
        let open = Open { hold_time_secs: 0, ..Open::of(ADDRESS) };
        connection.send(&open.message(&[65, 4, 0, 0, 0xfd, 0xe8]));
        connection.receive_kind(bgp::OPEN).unwrap_or_else(|| panic!("closed before OPEN"));
        connection.send(&bgp::message(bgp::KEEPALIVE, &[]));
        connection.receive_kind(bgp::KEEPALIVE).unwrap_or_else(|| panic!("closed before KEEPALIVE"));
        Self { connection, _host: host }
    }

    /// Announces samples, one UPDATE each, and that these are all (RFC 4724 section 2): a reflector that starts waits for
    /// that before it says the same to others.
    pub fn announce(&mut self, samples: &[Sample]) {
        for sample in samples {
            self.connection.send(&bgp::update(&sample.attributes));
        }
        self.connection.send(&bgp::update(&[bgp::attribute(0x80, 15, &[0, 25, 70])]));
    }

    /// Withdraws samples, one UPDATE each, in one of two forms that mean the same.
    pub fn withdraw(&mut self, samples: &[Sample], form: Form) {
        for sample in samples {
            let nlri = match form {
                Form::AsAnnounced => &sample.nlri,
                Form::Bare => &sample.bare,
            };
            let unreach = bgp::attribute(0x80, 15, &[&[0, 25, 70][..], nlri].concat());
            self.connection.send(&bgp::update(&[unreach]));
        }
    }
}
