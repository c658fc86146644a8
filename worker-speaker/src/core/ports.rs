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
    /// The MTU in bytes.
    pub mtu: u32,
    /// The index of its interface, which tells it from one of the same name that was made before or later.
    pub index: u32,
}

/// A port that has come into being.
#[derive(Debug)]
pub struct Arrival {
    /// The port.
    pub port: Port,
    /// What was seen on it before it was known.
    pub held: Vec<Observation>,
    /// The port of the same name whose place it takes: its interface had gone, and nobody had said so yet.
    pub replaced: Option<Port>,
}

#[derive(Debug)]
enum State {
    /// The dataplane is making it; what is seen on it waits here. One of its name that is known is still there, or has
    /// gone without a word: the kernel decides.
    Attaching {
        held: Vec<Observation>,
        known: Option<Port>,
    },
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
    /// The port is being made. False if one of that name is being made or removed just now.
    pub fn begin(&mut self, id: &PortId) -> bool {
        let known = match self.ports.get(id) {
            Some(State::Attaching { .. } | State::Doomed) => return false,
            Some(State::Attached(port)) => Some(port.clone()),
            None => None,
        };
        self.leaving.remove(id);
        self.ports.insert(id.clone(), State::Attaching { held: Vec::new(), known });
        true
    }

    /// The port could not be made, or is not wanted any more. One of its name that was there before is as it was; what
    /// was seen on it meanwhile.
    pub fn abandon(&mut self, id: &PortId) -> Vec<Observation> {
        match self.ports.remove(id) {
            Some(State::Attaching { held, known: Some(port) }) => {
                self.ports.insert(id.clone(), State::Attached(port));
                held
            }
            Some(state @ State::Attached(_)) => {
                self.ports.insert(id.clone(), state);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The port was given up while it was being made.
    pub fn is_doomed(&self, id: &PortId) -> bool {
        matches!(self.ports.get(id), Some(State::Doomed))
    }

    /// The port exists, as an interface with this index.
    pub fn attached(&mut self, id: &PortId, vni: Vni, mtu: u32, index: u32) -> Arrival {
        let port = Port { member: Member(self.next_member), vni, mtu, index };
        self.next_member += 1;
        let before = self.ports.insert(id.clone(), State::Attached(port.clone()));
        let Some(State::Attaching { mut held, known }) = before else {
            return Arrival { port, held: Vec::new(), replaced: None };
        };
        // All until the end of a predecessor is about that one.
        let foreign = |seen: &Observation| matches!(seen, Observation::PortGone { index: gone, .. } if *gone != index);
        if let Some(last) = held.iter().rposition(foreign) {
            held.drain(..=last);
        }
        Arrival { port, held, replaced: known }
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
            Some(State::Attaching { held, .. }) if held.len() < MAX_HELD => {
                held.push(observation);
                None
            }
            Some(State::Attaching { .. } | State::Doomed) => None,
            _ => Some(observation),
        }
    }

    /// Whether a port is being made whose name one with this interface has still.
    pub fn replaces(&self, id: &PortId, index: u32) -> bool {
        matches!(self.ports.get(id), Some(State::Attaching { known: Some(port), .. }) if port.index == index)
    }

    /// Whether a port that the kernel shows is nobody's yet: neither attached, nor being made, nor given up.
    pub fn is_unknown(&self, id: &PortId) -> bool {
        !self.ports.contains_key(id) && !self.leaving.contains(id)
    }

    /// The port is to go from the kernel: until it has, its sight there makes it no member again.
    pub fn leave(&mut self, id: PortId) {
        if let Some(state @ State::Attaching { .. }) = self.ports.get_mut(&id) {
            *state = State::Doomed;
        }
        self.leaving.insert(id);
    }

    /// The port has gone from the kernel.
    pub fn left(&mut self, id: &PortId) {
        self.leaving.remove(id);
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

    /// Forgets the port. One that is being made in its place goes on being made.
    pub fn remove(&mut self, id: &PortId) -> Option<Port> {
        match self.ports.remove(id)? {
            State::Attached(port) => Some(port),
            State::Attaching { held, known } => {
                self.ports.insert(id.clone(), State::Attaching { held, known: None });
                known
            }
            State::Doomed => {
                self.ports.insert(id.clone(), State::Doomed);
                None
            }
        }
    }

    /// All attached ports.
    pub fn iter(&self) -> impl Iterator<Item = (&PortId, &Port)> {
        self.ports.iter().filter_map(|(id, state)| match state {
            State::Attached(port) => Some((id, port)),
            State::Attaching { .. } | State::Doomed => None,
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
        ports.attached(&id, vni, 1_450, 1);
        assert!(!ports.is_unknown(&id));
    }

    #[test]
    fn a_port_given_up_stays_given_up_until_the_kernel_has_removed_it() {
        let (id, vni) = ids();
        let mut ports = Ports::default();
        ports.attached(&id, vni, 1_450, 1);
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
    fn the_late_end_of_a_predecessor_is_not_the_end_of_its_successor() {
        let (id, vni) = ids();
        let gone = |index| Observation::PortGone { vni, port: id.clone(), index };
        let heard = Observation::LocalMac {
            vni,
            mac: bgp_core::types::MacAddr([2, 0, 0, 0, 0, 1]),
            port: id.clone(),
            sticky: false,
        };
        let mut ports = Ports::default();
        let first = ports.attached(&id, vni, 1_450, 1).port;
        assert!(ports.begin(&id) && !ports.begin(&id));
        for seen in [heard.clone(), gone(1), heard.clone()] {
            assert!(ports.hold(&id, seen).is_none());
        }
        let arrival = ports.attached(&id, vni, 1_450, 2);
        assert_eq!(arrival.held, [heard], "what was seen of the first is dropped with it");
        assert_eq!(arrival.replaced.map(|port| port.member), Some(first.member));
        // Where the kernel still has it, it stays, and its end counts.
        assert!(ports.begin(&id) && ports.hold(&id, gone(2)).is_none());
        assert_eq!(ports.abandon(&id), [gone(2)]);
        assert_eq!(ports.get(&id).map(|port| port.index), Some(2));
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
