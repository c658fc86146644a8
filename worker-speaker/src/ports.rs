//! The local ports of the worker's LANs: how the dataplane names them, how the engine numbers them.

use std::collections::BTreeMap;

use bgp_core::types::Vni;
use dataplane::{Observation, PortId};
use evpn::Member;

/// Observations kept for a port whose attachment is under way.
const MAX_HELD: usize = 1_024;

/// One port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its number in the engine.
    pub member: Member,
    /// The LAN.
    pub vni: Vni,
    /// The MTU, where it is known.
    pub mtu: Option<u32>,
}

#[derive(Debug)]
enum State {
    /// The dataplane is making it; what is seen on it waits here.
    Attaching(Vec<Observation>),
    Attached(Port),
}

/// All ports.
#[derive(Debug, Default)]
pub struct Ports {
    ports: BTreeMap<PortId, State>,
    next_member: u64,
}

impl Ports {
    /// The port is being made. False if there is one of that name already.
    pub fn begin(&mut self, id: &PortId) -> bool {
        if self.ports.contains_key(id) {
            return false;
        }
        self.ports.insert(id.clone(), State::Attaching(Vec::new()));
        true
    }

    /// The port could not be made.
    pub fn abandon(&mut self, id: &PortId) {
        if matches!(self.ports.get(id), Some(State::Attaching(_))) {
            self.ports.remove(id);
        }
    }

    /// The port exists. Gives its record and what was seen on it meanwhile.
    pub fn attached(&mut self, id: &PortId, vni: Vni, mtu: Option<u32>) -> (Port, Vec<Observation>) {
        let port = Port { member: Member(self.next_member), vni, mtu };
        self.next_member += 1;
        match self.ports.insert(id.clone(), State::Attached(port.clone())) {
            Some(State::Attaching(held)) => (port, held),
            _ => (port, Vec::new()),
        }
    }

    /// The port, if it is attached.
    pub fn get(&self, id: &PortId) -> Option<&Port> {
        match self.ports.get(id) {
            Some(State::Attached(port)) => Some(port),
            _ => None,
        }
    }

    /// Keeps an observation of a port that is being made; gives it back otherwise.
    pub fn hold(&mut self, id: &PortId, observation: Observation) -> Option<Observation> {
        match self.ports.get_mut(id) {
            Some(State::Attaching(held)) if held.len() < MAX_HELD => {
                held.push(observation);
                None
            }
            Some(State::Attaching(_)) => None,
            _ => Some(observation),
        }
    }

    /// Forgets the port.
    pub fn remove(&mut self, id: &PortId) -> Option<Port> {
        match self.ports.get(id) {
            Some(State::Attached(_)) => match self.ports.remove(id) {
                Some(State::Attached(port)) => Some(port),
                _ => None,
            },
            _ => None,
        }
    }

    /// All attached ports.
    pub fn iter(&self) -> impl Iterator<Item = (&PortId, &Port)> {
        self.ports.iter().filter_map(|(id, state)| match state {
            State::Attached(port) => Some((id, port)),
            State::Attaching(_) => None,
        })
    }
}
