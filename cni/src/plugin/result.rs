//! The success object of ADD (CNI specification, section 5), and how it differs between versions.
//!
//! In: what a plugin before us in a chain, or a delegated IPAM plugin, has printed. Out: the same with our interfaces,
//! addresses and routes. What others put into it passes as it came.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::plugin::config::is_of_a_host;
use crate::plugin::version::SpecVersion;
use crate::protocol::{Attached, MAX_IPS, MAX_ROUTES, Route};
use crate::types::{InterfaceName, MacAddr, SandboxPath};

/// The most interfaces or addresses that a result of others may list.
const MAX_ENTRIES: usize = 4_096;

/// A result: ours, or one that others made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddResult {
    interfaces: Vec<Value>,
    ips: Vec<Value>,
    routes: Vec<Value>,
    dns: Value,
}

/// What an IPAM plugin gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    /// Addresses, each with its gateway where it has one.
    pub ips: Vec<(IpNet, Option<IpAddr>)>,
    /// Routes as they go into the pod: a gateway is filled in where the address has one.
    pub routes: Vec<Route>,
    /// Routes as they were told.
    told_routes: Vec<Value>,
    dns: Value,
}

/// Our interface in a result, as CHECK expects it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedInterface {
    /// Its MAC address, where it is told.
    pub mac: Option<MacAddr>,
    /// Its MTU, where it is told.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub ips: Vec<IpNet>,
}

fn list(object: &Value, key: &str) -> Result<Vec<Value>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) if values.len() > MAX_ENTRIES => {
            Err(format!("a result with at most {MAX_ENTRIES} {key}"))
        }
        Some(Value::Array(values)) if values.iter().all(Value::is_object) => Ok(values.clone()),
        Some(_) => Err(format!("a result whose `{key}` is a list of objects")),
    }
}

fn dns(object: &Value) -> Result<Value, String> {
    match object.get("dns") {
        None | Some(Value::Null) => Ok(json!({})),
        Some(dns) if dns.is_object() => Ok(dns.clone()),
        Some(_) => Err("a result whose `dns` is an object".to_owned()),
    }
}

impl AddResult {
    /// Takes over a result.
    ///
    /// # Errors
    /// What a result must be, where it is none.
    pub fn parse(value: &Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err("a result object".to_owned());
        }
        Ok(Self {
            interfaces: list(value, "interfaces")?,
            ips: list(value, "ips")?,
            routes: list(value, "routes")?,
            dns: dns(value)?,
        })
    }

    /// Adds our interface: the host's end first, which has no sandbox, then the container's, so that whoever looks for
    /// the first interface with a sandbox finds that.
    pub fn add(
        &mut self,
        version: SpecVersion,
        interface: &InterfaceName,
        sandbox: &SandboxPath,
        attached: &Attached,
        assigned: &Assigned,
    ) {
        let mut inside = json!({
            "name": interface.as_str(),
            "mac": attached.mac.to_string(),
            "sandbox": sandbox.as_str(),
        });
        let mut outside = json!({ "name": attached.host_interface.as_str() });
        if version >= SpecVersion::V1_1_0 {
            inside["mtu"] = attached.mtu.get().into();
            outside["mtu"] = attached.mtu.get().into();
        }
        self.interfaces.extend([outside, inside]);
        let index = self.interfaces.len() - 1;
        for (ip, gateway) in &assigned.ips {
            let mut entry = Map::new();
            if version < SpecVersion::V1_0_0 {
                entry.insert("version".to_owned(), if ip.addr().is_ipv4() { "4" } else { "6" }.into());
            }
            entry.insert("address".to_owned(), ip.to_string().into());
            if let Some(gateway) = gateway {
                entry.insert("gateway".to_owned(), gateway.to_string().into());
            }
            entry.insert("interface".to_owned(), index.into());
            self.ips.push(entry.into());
        }
        self.routes.extend(assigned.told_routes.iter().cloned());
        if let (Some(ours), Some(given)) = (self.dns.as_object_mut(), assigned.dns.as_object()) {
            // What the chain knows already stands.
            given.iter().for_each(|(key, value)| _ = ours.entry(key.clone()).or_insert_with(|| value.clone()));
        } else if self.dns.is_null() {
            self.dns = assigned.dns.clone();
        }
    }

    /// Our interface, if it is listed.
    pub fn find(&self, interface: &InterfaceName, sandbox: &SandboxPath) -> Option<ListedInterface> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let is_ours = |value: &Value| {
            text(value, "name").as_deref() == Some(interface.as_str())
                && text(value, "sandbox").as_deref() == Some(sandbox.as_str())
        };
        let (index, found) = self.interfaces.iter().enumerate().find(|(_, value)| is_ours(value))?;
        let of_it = |ip: &&Value| ip.get("interface").and_then(Value::as_u64) == u64::try_from(index).ok();
        Some(ListedInterface {
            mac: text(found, "mac").and_then(|mac| mac.parse().ok()),
            mtu: found.get("mtu").and_then(Value::as_u64).and_then(|mtu| u32::try_from(mtu).ok()),
            ips: self.ips.iter().filter(of_it).filter_map(|ip| text(ip, "address")?.parse().ok()).collect(),
        })
    }

    /// As it is printed.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut object = json!({ "cniVersion": version.as_str(), "interfaces": self.interfaces });
        // Empty lists are left out, as the plugins of the CNI project do it.
        for (key, values) in [("ips", &self.ips), ("routes", &self.routes)] {
            if !values.is_empty() {
                object[key] = values.clone().into();
            }
        }
        object["dns"] = if self.dns.is_object() { self.dns.clone() } else { json!({}) };
        object
    }
}

impl Assigned {
    /// Reads what an IPAM plugin printed.
    ///
    /// # Errors
    /// What its result must be, where it is not that.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("a JSON object ({error})"))?;
        if !value.is_object() {
            return Err("a result object".to_owned());
        }
        let ips = list(&value, "ips")?.iter().map(assigned_ip).collect::<Result<Vec<_>, _>>()?;
        let told_routes = list(&value, "routes")?;
        if ips.len() > MAX_IPS || told_routes.len() > MAX_ROUTES {
            return Err(format!("a result with at most {MAX_IPS} addresses and {MAX_ROUTES} routes"));
        }
        let routes = told_routes.iter().map(|route| assigned_route(route, &ips)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { ips, routes, told_routes, dns: dns(&value)? })
    }

    /// Adds addresses that were asked for, where the plugin has not given these very ones.
    pub fn and_requested(mut self, ips: &[IpNet]) -> Self {
        let missing = |ip: &&IpNet| self.ips.iter().all(|(given, _)| given.addr() != ip.addr());
        let more: Vec<_> = ips.iter().filter(missing).map(|&ip| (ip, None)).collect();
        self.ips.extend(more);
        self
    }

    /// Lets the configuration's own `dns` win.
    pub fn with_dns(mut self, dns: Option<&Value>) -> Self {
        if let Some(dns) = dns {
            self.dns = dns.clone();
        }
        self
    }

    /// The addresses alone.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.ips.iter().map(|(ip, _)| *ip).collect()
    }
}

/// A field that may be absent or empty, and must else be of its type.
fn parsed<T: std::str::FromStr>(value: &Value, key: &str) -> Result<Option<T>, String> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(other) => {
            let found = other.as_str().and_then(|text| text.parse().ok());
            found.map(Some).ok_or_else(|| format!("a result with a valid `{key}` instead of {other}"))
        }
    }
}

fn assigned_ip(value: &Value) -> Result<(IpNet, Option<IpAddr>), String> {
    let address: IpNet = parsed(value, "address")?.ok_or("a result whose `ips` have an `address`")?;
    if !is_of_a_host(&address) {
        return Err(format!("a result with an address that an interface can have, not {address}"));
    }
    Ok((address, parsed(value, "gateway")?))
}

fn assigned_route(value: &Value, ips: &[(IpNet, Option<IpAddr>)]) -> Result<Route, String> {
    let destination: IpNet = parsed(value, "dst")?.ok_or("a result whose `routes` have a `dst`")?;
    let is_v4 = destination.addr().is_ipv4();
    let of_the_address = || ips.iter().filter_map(|(_, gateway)| *gateway).find(|gateway| gateway.is_ipv4() == is_v4);
    let number = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(other) => {
            let found = other.as_u64().and_then(|number| u32::try_from(number).ok());
            found.map(Some).ok_or_else(|| format!("a result whose routes have a valid `{key}` instead of {other}"))
        }
    };
    let scope = number("scope")?.map(u8::try_from).transpose().map_err(|_| "a route scope from 0 to 255")?;
    let gateway = parsed(value, "gw")?.or_else(of_the_address);
    // A route of scope link or narrower has no gateway (rtnetlink).
    let gateway = gateway.filter(|_| scope.is_none_or(|scope| scope < 253));
    if gateway.is_some_and(|gateway: IpAddr| gateway.is_ipv4() != is_v4) {
        return Err(format!("a route to {destination} through a gateway of its family"));
    }
    // Zero is how Go prints what is not set.
    let set = |found: Option<u32>| found.filter(|&number| number != 0);
    Ok(Route {
        destination: destination.trunc(),
        gateway,
        mtu: set(number("mtu")?),
        advmss: set(number("advmss")?),
        priority: set(number("priority")?),
        table: set(number("table")?),
        scope,
    })
}
