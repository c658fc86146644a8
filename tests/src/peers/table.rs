//! EVPN tables of different daemons in one form, and their comparison route by route, attribute by attribute.
//!
//! Keys and values are text as `megalos show routes` prints it. An attribute that a route does not have is absent.

use std::collections::BTreeMap;
use std::fmt;

use daemon::show::RouteRow;

/// What a route carries beside its key.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names are the field's own")]
pub enum Attribute {
    NextHop,
    Origin,
    AsPath,
    Med,
    LocalPref,
    /// COMMUNITIES (RFC 1997), sorted.
    Communities,
    /// EXTENDED COMMUNITIES (RFC 4360), sorted: their order has no meaning.
    ExtendedCommunities,
    OriginatorId,
    ClusterList,
    /// The VNI: the label of types 1, 2 and 5, of type 3 that of its PMSI_TUNNEL.
    Label,
    /// Second label of type 2.
    Label2,
    Esi,
    Gateway,
    /// Type, label and endpoint of PMSI_TUNNEL.
    PmsiTunnel,
    /// Type codes of attributes that the daemon passes along without understanding them.
    Unknown,
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One path of one EVPN route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Route {
    /// Identity, for instance `[3][10.0.0.1:100][0][10.0.0.1]`.
    pub key: String,
    /// Who sent it: an address; empty if it is the daemon's own.
    pub from: String,
    /// What it says.
    pub attributes: BTreeMap<Attribute, String>,
}

impl Route {
    /// A route of which nothing but its key is known.
    pub fn new(key: String) -> Self {
        Self { key, ..Self::default() }
    }

    /// Adds an attribute, unless there is nothing to say.
    pub fn set(&mut self, attribute: Attribute, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.attributes.insert(attribute, value);
        }
    }

    /// Adds an attribute that is a list without an order.
    pub fn set_all(&mut self, attribute: Attribute, values: impl IntoIterator<Item = String>) {
        let mut values: Vec<String> = values.into_iter().collect();
        values.sort_unstable();
        self.set(attribute, values.join(" "));
    }

    /// As a reflector passes it on (RFC 4456 section 8): with the originator, if there was none, and its cluster.
    #[must_use]
    pub fn reflected(mut self, originator: &str, cluster: &str) -> Self {
        self.attributes.entry(Attribute::OriginatorId).or_insert_with(|| originator.to_owned());
        let list = self.attributes.entry(Attribute::ClusterList).or_default();
        *list = format!("{cluster} {list}").trim_end().to_owned();
        self
    }
}

/// The EVPN rows of one of our daemons.
pub fn ours(rows: &[RouteRow]) -> Vec<Route> {
    rows.iter().filter(|row| row.family == "evpn").map(ours_of).collect()
}

fn ours_of(row: &RouteRow) -> Route {
    let mut route = Route::new(row.route.clone());
    let number = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
    route.from = if row.from == "local" { String::new() } else { row.from.clone() };
    let path = &row.path;
    route.set(Attribute::NextHop, &*row.next_hop);
    route.set(Attribute::Origin, &*path.origin);
    route.set(Attribute::AsPath, &*path.as_path);
    route.set(Attribute::Med, number(path.med));
    route.set(Attribute::LocalPref, number(path.local_pref));
    route.set_all(Attribute::Communities, path.standard_communities.clone());
    route.set_all(Attribute::ExtendedCommunities, row.communities.clone());
    route.set(Attribute::OriginatorId, path.originator_id.clone().unwrap_or_default());
    route.set(Attribute::ClusterList, path.cluster_list.join(" "));
    route.set(Attribute::Label, number(row.label));
    route.set(Attribute::Label2, number(path.label2));
    route.set(Attribute::Esi, path.esi.clone().unwrap_or_default());
    route.set(Attribute::Gateway, path.gateway.clone().unwrap_or_default());
    route.set(Attribute::PmsiTunnel, path.pmsi_tunnel.clone().unwrap_or_default());
    route.set_all(Attribute::Unknown, path.unknown_attributes.iter().map(ToString::to_string));
    route
}

/// Where two tables differ.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Difference {
    /// The route.
    pub key: String,
    /// What of it; none if one side lacks the route.
    pub attribute: Option<Attribute>,
    /// What was sent; none if there was nothing.
    pub sent: Option<String>,
    /// What the other side holds; none if it holds nothing.
    pub held: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let what = self.attribute.map_or_else(|| "route".to_owned(), |attribute| attribute.to_string());
        write!(f, "{} {what}: sent {}, held {}", self.key, text(&self.sent), text(&self.held))
    }
}

/// Compares what was sent with what is held. Attributes in `hidden` are not shown by the tools of one side.
pub fn compare(sent: &[Route], held: &[Route], hidden: &[Attribute]) -> Vec<Difference> {
    let index = |routes: &[Route]| -> BTreeMap<String, BTreeMap<Attribute, String>> {
        routes.iter().map(|route| (route.key.clone(), route.attributes.clone())).collect()
    };
    let (sent, held) = (index(sent), index(held));
    let mut differences = Vec::new();
    for key in sent.keys().chain(held.keys().filter(|key| !sent.contains_key(*key))) {
        let (here, there) = (sent.get(key), held.get(key));
        let (Some(here), Some(there)) = (here, there) else {
            let present = |side: Option<_>| side.map(|_: &BTreeMap<_, _>| "the route".to_owned());
            let (sent, held) = (present(here), present(there));
            differences.push(Difference { key: key.clone(), attribute: None, sent, held });
            continue;
        };
        let names = here.keys().chain(there.keys().filter(|name| !here.contains_key(*name)));
        for name in names.filter(|name| !hidden.contains(name)) {
            let (sent, held) = (here.get(name).cloned(), there.get(name).cloned());
            if sent != held {
                differences.push(Difference { key: key.clone(), attribute: Some(*name), sent, held });
            }
        }
    }
    differences.sort();
    differences
}
