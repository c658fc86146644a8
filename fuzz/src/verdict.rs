//! UPDATE against the naive decoder: the same verdict, the same routes, the same attributes, whatever the octets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::types::AddressFamily;
use bgp_core::wire::attributes::{AsPath, Origin, PathAttributes, PmsiTunnel, Tunnel};
use bgp_core::wire::message::{Finding, Routes, Treatment, Unreach};
use bgp_core::wire::{DecodeContext, EvpnKey, EvpnPayload, Frame, Message, MessageKind, RtMembership, Update};
use bytes::Bytes;

use crate::message::{bit, context};
use crate::naive::{self, Attributes, Class, Context, Family, Key, Meaning, Payload};

/// Runs one input: a context octet, then the body of an UPDATE.
pub fn run(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else { return };
    if body.len() > usize::from(u16::MAX) {
        return;
    }
    let ctx = context(choice);
    let ours = ours(body, &ctx).map(without_details);
    let naive = naive::decode(body, &plain(choice, &ctx)).map(without_details);
    assert_eq!(ours, naive, "the decoder on the left, the RFCs on the right");
}

/// How much of a family was read before it had to be disabled does not matter.
fn without_details(mut meaning: Meaning) -> Meaning {
    if meaning.disabled.is_some() {
        meaning.classes.retain(|class| !matches!(class, Class::Skip | Class::WithdrawRoute));
    }
    meaning
}

fn plain(choice: u8, ctx: &DecodeContext) -> Context {
    Context {
        four_octet_as: ctx.four_octet_as,
        families: ctx.families.iter().copied().map(family).collect(),
        external: ctx.external,
        strict: choice & bit::STRICT != 0,
        disable_family: choice & bit::DISABLE_FAMILY != 0,
        opaque_routes: ctx.opaque_routes,
    }
}

fn ours(body: &[u8], ctx: &DecodeContext) -> Result<Meaning, naive::Reset> {
    let frame = Frame { kind: MessageKind::Update, body: Bytes::copy_from_slice(body) };
    match Message::decode(&frame, ctx) {
        Ok(Message::Update(update)) => Ok(meaning(*update)),
        Ok(message) => panic!("an UPDATE became {message:?}"),
        Err(notification) => Err((notification.code, notification.subcode)),
    }
}

/// What the real decoder said, in the words of the naive one.
fn meaning(update: Update) -> Meaning {
    assert!(update.findings.len() < Finding::LIMIT, "so many kinds cannot be in one message");
    let mut meaning = Meaning {
        withdrawn: update.unreach.iter().flat_map(withdrawn).collect(),
        end_of_rib: update.end_of_rib.map(family),
        disabled: update.disable.map(family),
        classes: update.findings.iter().filter_map(|finding| class(finding.treatment)).collect(),
        ..Meaning::default()
    };
    if let Some(reach) = update.reach {
        meaning.announced = announced(&reach.routes);
        meaning.partial = (0..64).filter(|code| reach.attributes.partial.contains(*code)).collect();
        meaning.attributes = attributes(&reach.attributes);
    }
    meaning.withdrawn.retain(|key| !meaning.announced.contains_key(key));
    meaning
}

fn family(family: AddressFamily) -> Family {
    (family.afi, family.safi)
}

/// None for what is merely noted: it changes nothing of what the message means.
fn class(treatment: Treatment) -> Option<Class> {
    Some(match treatment {
        Treatment::Note => return None,
        Treatment::SkipRoute => Class::Skip,
        Treatment::DiscardAttribute => Class::Discard,
        Treatment::WithdrawRoute => Class::WithdrawRoute,
        Treatment::Withdraw => Class::Withdraw,
        Treatment::DisableFamily => Class::Disable,
    })
}

fn withdrawn(keys: &Unreach) -> BTreeSet<(Family, Key)> {
    match keys {
        Unreach::Evpn(keys) => keys.iter().map(|key| (naive::EVPN, evpn_key(key))).collect(),
        Unreach::RtConstrain(keys) => keys.iter().map(|key| (naive::RT_CONSTRAIN, membership(key))).collect(),
    }
}

fn announced(routes: &Routes) -> BTreeMap<(Family, Key), Payload> {
    match routes {
        Routes::Evpn(routes) => {
            let entry = |route: &bgp_core::wire::Route<bgp_core::wire::Evpn>| {
                ((naive::EVPN, evpn_key(&route.key)), evpn_payload(&route.payload))
            };
            routes.iter().map(entry).collect()
        }
        Routes::RtConstrain(routes) => {
            routes.iter().map(|route| ((naive::RT_CONSTRAIN, membership(&route.key)), Vec::new())).collect()
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn evpn_key(key: &EvpnKey) -> Key {
    let (route_type, fields): (u8, Vec<Vec<u8>>) = match key {
        EvpnKey::EthernetAutoDiscovery { rd, esi, tag } => {
            (1, vec![rd.0.to_vec(), esi.0.to_vec(), tag.0.to_be_bytes().to_vec()])
        }
        EvpnKey::MacIp { rd, tag, mac, ip } => {
            let ip = ip.map(octets).unwrap_or_default();
            (2, vec![rd.0.to_vec(), tag.0.to_be_bytes().to_vec(), mac.0.to_vec(), ip])
        }
        EvpnKey::InclusiveMulticast { rd, tag, originator } => {
            (3, vec![rd.0.to_vec(), tag.0.to_be_bytes().to_vec(), octets(*originator)])
        }
        EvpnKey::EthernetSegment { rd, esi, originator } => {
            (4, vec![rd.0.to_vec(), esi.0.to_vec(), octets(*originator)])
        }
        EvpnKey::IpPrefix { rd, tag, prefix } => {
            let bits = vec![prefix.prefix_len()];
            (5, vec![rd.0.to_vec(), tag.0.to_be_bytes().to_vec(), bits, octets(prefix.addr())])
        }
        EvpnKey::Opaque { route_type, body } => return [&[*route_type], &body[..]].concat(),
    };
    let mut key = vec![route_type];
    for field in fields {
        key.push(field.len() as u8);
        key.extend(field);
    }
    key
}

fn evpn_payload(payload: &EvpnPayload) -> Payload {
    match payload {
        EvpnPayload::EthernetAutoDiscovery { label } => label.0.to_vec(),
        EvpnPayload::MacIp { esi, label, label2 } => {
            let label2 = label2.map(|label| label.0.to_vec()).unwrap_or_default();
            [&esi.0[..], &label.0, &label2].concat()
        }
        EvpnPayload::IpPrefix { esi, gateway, label } => [&esi.0[..], &octets(*gateway), &label.0].concat(),
        EvpnPayload::InclusiveMulticast | EvpnPayload::EthernetSegment | EvpnPayload::Opaque => Vec::new(),
    }
}

fn membership(membership: &RtMembership) -> Key {
    match membership {
        RtMembership::Default => vec![255],
        RtMembership::Target { origin, target } => [&[64], &origin.0.to_be_bytes()[..], &target.community().0].concat(),
        RtMembership::Prefix { origin, target, bits } => [&[*bits], &origin.0.to_be_bytes()[..], target].concat(),
    }
}

fn as_path(path: &AsPath) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in &path.segments {
        all.extend((segment.0.len() as u16).to_be_bytes());
        all.extend(segment.0.iter().flat_map(|asn| asn.0.to_be_bytes()));
    }
    all
}

fn pmsi(pmsi: &PmsiTunnel) -> Vec<u8> {
    let (kind, identifier) = match &pmsi.tunnel {
        Tunnel::IngressReplication(endpoint) => (6, octets(*endpoint)),
        Tunnel::Other { tunnel_type, identifier } => (*tunnel_type, identifier.to_vec()),
    };
    [&[pmsi.flags, kind], &pmsi.label.0[..], &identifier].concat()
}

fn numbers(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn attributes(set: &PathAttributes) -> Attributes {
    let origin = match set.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    };
    let mut all = Attributes::from([(1, vec![origin]), (2, as_path(&set.as_path)), (14, octets(set.next_hop))]);
    let number = |number: u32| number.to_be_bytes().to_vec();
    all.extend(set.med.map(|med| (4, number(med))));
    all.extend(set.local_pref.map(|preference| (5, number(preference))));
    all.extend(set.atomic_aggregate.then(|| (6, Vec::new())));
    all.extend(set.aggregator.map(|(asn, address)| (7, [number(asn.0), address.octets().to_vec()].concat())));
    all.extend(set.originator_id.map(|id| (9, number(id.0))));
    all.extend(set.pmsi_tunnel.as_ref().map(|tunnel| (22, pmsi(tunnel))));
    let lists = [
        (8, numbers(&set.communities)),
        (10, numbers(&set.cluster_list)),
        (16, set.extended_communities.iter().flat_map(|community| community.0).collect()),
        (25, set.ipv6_extended_communities.concat()),
        (32, numbers(set.large_communities.as_flattened())),
    ];
    all.extend(lists.into_iter().filter(|(_, list): &(u8, Vec<u8>)| !list.is_empty()));
    for unknown in &set.unknown {
        assert!(all.insert(unknown.code, unknown.value.to_vec()).is_none(), "one attribute twice");
    }
    all
}
