//! Another daemon as a client of our reflector, beside two of our workers and a speaker that announces everything.

use tests::fabric::{Fabric, Family, LAN, MACS, PORT};
use tests::host::Host;
use tests::overlay::Reflector;
use tests::peers::table::{Attribute, Route, compare, ours};
use tests::peers::{Daemon, Software};
use tests::wait;

use crate::originate::{self, ADDRESS, Restarts};
use crate::samples::{self, Sample, Speaker};
use crate::waivers::{Way, check};
use crate::{for_each_peer, samples::Form};

const REFLECTOR: &str = "10.0.0.1";

/// Everybody at work; the client is established once the tables agree.
pub struct Setup {
    pub fabric: Fabric,
    pub devices: [Host; 2],
    speaker: Speaker,
    samples: Vec<Sample>,
    pub client: Daemon,
    pub client_device: Option<Host>,
}

/// Starts everybody; `settings` are those of the client at our reflector. Its session need not be up yet.
pub fn set_up(software: Software, settings: &str, restarts: Restarts) -> Setup {
    let mut fabric = Fabric::empty(Family::V4);
    // A reflector that knows its peers has heard everybody soon after its start.
    let peer = |address: &str, settings| format!("[[peer]]\naddress = \"{address}\"\npassive = true\n{settings}\n");
    let config = format!("listen = [\"{REFLECTOR}:{PORT}\"]\n")
        + &["10.0.0.11", "10.0.0.12", samples::ADDRESS_TEXT].map(|address| peer(address, "")).concat()
        + &peer(ADDRESS, settings);
    fabric.reflectors.push(Reflector::configured(fabric.host("rr1", 1), &config));
    fabric.add_worker(0, &[]);
    fabric.add_worker(1, &[]);
    let devices = fabric.devices();
    let mut speaker = Speaker::start(fabric.host("hand", 13), REFLECTOR, PORT);
    let samples = samples::of_types(&[1, 2, 3, 4, 5]);
    speaker.announce(&samples);
    // What shares its attributes goes to the client in one UPDATE, so that it is seen to take routes apart.
    let reflector = &fabric.reflectors[0];
    wait::until_true("the samples at our reflector", || {
        ours(&reflector.routes()).iter().filter(|route| route.from == samples::ADDRESS_TEXT).count() == samples.len()
    });
    let (client, client_device) = originate::start(software, fabric.host("client", 21), REFLECTOR, PORT, restarts);
    eprintln!("{}", client.version());
    fabric.wait_established();
    Setup { fabric, devices, speaker, samples, client, client_device }
}

impl Setup {
    /// Our reflector's table.
    fn table(&self) -> Vec<Route> {
        ours(&self.fabric.reflectors[0].routes())
    }

    /// What we sent against what they hold, what they sent against what we hold, and that on to a worker.
    pub fn compare(&self) -> Result<(), String> {
        let software = self.client.software();
        let (theirs, others): (Vec<_>, Vec<_>) = self.table().into_iter().partition(|route| route.from == ADDRESS);
        let (own, received): (Vec<_>, Vec<_>) =
            self.client.routes().into_iter().partition(|route| route.from.is_empty());
        let is_taken = |route: &Route| software.route_types().iter().any(|t| route.key.starts_with(&format!("[{t}]")));
        let sent: Vec<Route> = others.into_iter().filter(is_taken).map(as_reflected).collect();
        check(software, Way::ToClient, &compare(&sent, &received, self.client.hidden()))?;
        // LOCAL_PREF and ORIGIN go to every internal peer (RFC 4271 sections 5.1.1, 5.1.5), whether they stand in their
        // table or not.
        let sent: Vec<Route> = own
            .into_iter()
            .map(|mut route| {
                route.attributes.entry(Attribute::LocalPref).or_insert_with(|| "100".to_owned());
                route.attributes.entry(Attribute::Origin).or_insert_with(|| "igp".to_owned());
                route
            })
            .collect();
        if sent.len() < originate::count(software) {
            return Err(format!("it announces {sent:?}"));
        }
        check(software, Way::FromClient, &compare(&sent, &theirs, self.client.hidden()))?;
        let at_worker: Vec<Route> = ours(&self.fabric.workers[0].routes());
        let at_worker: Vec<Route> = at_worker
            .into_iter()
            .filter(|route| route.attributes.get(&Attribute::NextHop).is_some_and(|hop| hop == ADDRESS))
            .collect();
        let reflected: Vec<Route> = theirs.into_iter().map(as_reflected).collect();
        let differences = compare(&reflected, &at_worker, &[]);
        if differences.is_empty() { Ok(()) } else { Err(format!("at our worker: {differences:?}")) }
    }
}

/// As our reflector passes it on; the router id of everybody here is its address.
fn as_reflected(route: Route) -> Route {
    let originator = route.from.clone();
    route.reflected(&originator, REFLECTOR)
}

/// What its peer settings at our reflector must say.
pub const fn settings(software: Software) -> &'static str {
    match software {
        Software::Openbgpd => "route_types = [2, 3]",
        _ => "",
    }
}

fn is_a_client(software: Software) {
    let mut setup = set_up(software, settings(software), Restarts::Default);
    wait::until("tables to agree", || setup.compare());
    setup.devices[0].wait_pings("192.168.1.2");
    if let Some(device) = &setup.client_device {
        device.wait_pings("192.168.1.1");
        setup.devices[1].wait_pings("192.168.1.4");
    }
    // What is withdrawn on either side goes on the other.
    setup.speaker.withdraw(&setup.samples, Form::AsAnnounced);
    setup.fabric.workers[0].detach(&setup.devices[0]);
    let left = left_over(software);
    wait::until("our withdrawals to arrive", || {
        let keys = setup.client.routes().into_iter().map(|route| route.key);
        let gone = |key: &String| key.contains("[10.0.0.13:") || key.contains(MACS[0]);
        let found: Vec<String> = keys.filter(gone).collect();
        if found == left { Ok(()) } else { Err(found.join(" ")) }
    });
    originate::withdraw(&setup.client, setup.client_device.as_ref());
    let withdrawn =
        |route: &Route| route.from == ADDRESS && (software == Software::Gobgp || route.key.contains(MACS[3]));
    wait::until_true("their withdrawals to arrive", || !setup.table().iter().any(withdrawn));
    setup.fabric.workers[1].wait_row(LAN, MACS[3], None);
    assert_eq!(setup.fabric.reflectors[0].peer(ADDRESS).map(|peer| peer.established_count), Some(1));
}

/// What the client keeps of what we withdraw. We withdraw the bare key of a route; to BIRD, a type that it does not know
/// is its octets, labels and gateway included.
const fn left_over(software: Software) -> &'static [&'static str] {
    match software {
        Software::Bird => &["[5][10.0.0.13:100][0][172.16.1.0/24]"],
        _ => &[],
    }
}

mod of_our_reflector {
    use super::*;
    for_each_peer!(is_a_client);
}
