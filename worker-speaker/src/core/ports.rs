//! The local ports of the worker's LANs: how the dataplane names them, how the engine numbers them.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The dataplane is making it, and it has been given up meanwhile.
    Doomed,
    Attached(Port),
}

/// All ports.
#[derive(Debug, Default)]
pub struct Ports {
    ports: BTreeMap<PortId, State>,
    /// Ports given up whose removal from the kernel has not been seen yet.
    leaving: BTreeSet<PortId>,
    next_member: u64,
}

impl Ports {
    /// The port is being made. False if there is one of that name already.
    pub fn begin(&mut self, id: &PortId) -> bool {
        if self.ports.contains_key(id) {
            return false;
        }
        self.leaving.remove(id);
        self.ports.insert(id.clone(), State::Attaching(Vec::new()));
        true
    }

    /// The port could not be made, or is not wanted any more.
    pub fn abandon(&mut self, id: &PortId) {
        if matches!(self.ports.get(id), Some(State::Attaching(_) | State::Doomed)) {
            self.ports.remove(id);
        }
    }

    /// The port was given up while it was being made.
    pub fn is_doomed(&self, id: &PortId) -> bool {
        matches!(self.ports.get(id), Some(State::Doomed))
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
            Some(State::Attaching(_) | State::Doomed) => None,
            _ => Some(observation),
        }
    }

    /// Whether a port that the kernel shows is nobody's yet: neither attached, nor being made, nor given up.
    pub fn is_unknown(&self, id: &PortId) -> bool {
        !self.ports.contains_key(id) && !self.leaving.contains(id)
    }

    /// The port is to go from the kernel: until it has, its sight there makes it no member again.
    pub fn leave(&mut self, id: PortId) {
        if let Some(state @ State::Attaching(_)) = self.ports.get_mut(&id) {
            *state = State::Doomed;
        }
        self.leaving.insert(id);
    }

    /// Ports that are known in any way.
    pub fn len(&self) -> usize {
        self.ports.len() + self.leaving.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets ports given up that the kernel does not show any more; those that it still shows.
    pub fn still_leaving(&mut self, exists: impl Fn(&PortId) -> bool) -> Vec<PortId> {
        self.leaving.retain(exists);
        self.leaving.iter().cloned().collect()
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
            State::Attaching(_) | State::Doomed => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (PortId, Vni) {
        (PortId::new("eth1@pod"), Vni::new(7).expect("a VNI"))
    }

    #[test]
    fn a_port_that_is_being_made_is_not_taken_for_a_stranger_by_an_audit() {
        let (id, vni) = ids();
        let mut ports = Ports::default();
        assert!(ports.is_unknown(&id) && ports.begin(&id));
        assert!(!ports.is_unknown(&id));
        ports.attached(&id, vni, None);
        assert!(!ports.is_unknown(&id));
    }

    #[test]
    fn a_port_given_up_stays_given_up_until_the_kernel_has_removed_it() {
        let (id, vni) = ids();
        let mut ports = Ports::default();
        ports.attached(&id, vni, None);
        ports.remove(&id);
        ports.leave(id.clone());
        assert!(!ports.is_unknown(&id));
        assert_eq!(ports.still_leaving(|_| true), std::slice::from_ref(&id), "to be removed once more");
        assert!(ports.still_leaving(|_| false).is_empty());
        assert!(ports.is_unknown(&id));
    }

    #[test]
    fn a_port_given_up_while_it_is_being_made_is_doomed() {
        let (id, _) = ids();
        let mut ports = Ports::default();
        assert!(ports.begin(&id) && !ports.is_doomed(&id));
        ports.leave(id.clone());
        assert!(ports.is_doomed(&id));
        ports.abandon(&id);
        assert!(!ports.is_doomed(&id) && !ports.is_unknown(&id), "until the kernel has removed it");
    }

    #[test]
    fn a_new_attachment_of_the_same_name_is_not_given_up() {
        let (id, _) = ids();
        let mut ports = Ports::default();
        ports.leave(id.clone());
        assert!(ports.begin(&id));
        assert!(ports.still_leaving(|_| true).is_empty());
    }
}
