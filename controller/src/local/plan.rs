//! Who runs where: the pure part of starting a lab on one machine.
//!
//! In: a lab and what the command line asks. Out: a [`Plan`], or the usage error
//! that names what would have been right.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::lab::Lab;
use crate::placement::{self, Pin, PlacementError};

/// The most nodes of a lab on one machine.
pub const NODES_MAX: u8 = 64;
/// The most reflectors of a lab on one machine.
pub const REFLECTORS_MAX: u8 = 8;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// How many nodes.
    pub nodes: NonZeroU8,
    /// How many reflectors.
    pub reflectors: NonZeroU8,
    /// Devices that must run on a certain node: pairs of device and node.
    pub pinned: Vec<(String, String)>,
}

/// A wish that cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many nodes or reflectors.
    #[error("{count} {what} are too many for one machine; at most {max} are possible")]
    TooMany {
        /// `nodes` or `reflectors`.
        what: &'static str,
        /// How many were asked for.
        count: u8,
        /// How many are possible.
        max: u8,
    },
    /// `--place` names a device that the lab does not have.
    #[error("--place {device}=…: the lab has no device {device}; it has {known}")]
    UnknownDevice {
        /// What was given.
        device: String,
        /// The lab's devices.
        known: String,
    },
    /// `--place` names a node that there will not be.
    #[error("--place {device}={node}: there is no node {node}; there are {known} (--nodes makes more)")]
    UnknownNode {
        /// The device.
        device: String,
        /// What was given.
        node: String,
        /// The nodes.
        known: String,
    },
    /// `--place` gives a device twice.
    #[error("--place names {0} twice, with different nodes; give it once")]
    PlacedTwice(String),
    /// The devices cannot be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

/// Who runs where, and the numbers of the LANs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many nodes: `node1` and so on.
    pub nodes: u8,
    /// How many reflectors: `rr1` and so on.
    pub reflectors: u8,
    /// Each device's node, counted from 0, in the order of the lab's devices.
    pub placement: Vec<u8>,
    /// Each LAN's VNI by its name.
    pub vnis: BTreeMap<String, u32>,
}

impl Plan {
    /// Plans a lab.
    ///
    /// # Errors
    /// A wish that cannot be met; always a usage error.
    pub fn new(lab: &Lab, wishes: &Wishes) -> Result<Self, PlanError> {
        let (nodes, reflectors) = (wishes.nodes.get(), wishes.reflectors.get());
        check_count("nodes", nodes, NODES_MAX)?;
        check_count("reflectors", reflectors, REFLECTORS_MAX)?;
        let pinned = pins(lab, wishes)?;
        let mut names: Vec<&str> = lab.lans.iter().map(|lan| lan.name.as_str()).collect();
        names.sort_unstable();
        let vnis = (1_u32..).zip(names).map(|(vni, name)| (name.to_owned(), vni)).collect();
        let placement = placement::place(lab, usize::from(nodes), &pinned)?;
        let placement = placement.node_of.into_iter().map(|node| u8::try_from(node).unwrap_or(0)).collect();
        Ok(Self { nodes, reflectors, placement, vnis })
    }

    /// The name of a node, counted from 0.
    pub fn node_name(index: u8) -> String {
        format!("node{}", u16::from(index) + 1)
    }

    /// The name of a reflector, counted from 0.
    pub fn reflector_name(index: u8) -> String {
        format!("rr{}", u16::from(index) + 1)
    }

    /// The VNI of a LAN; 0, which no LAN has, for one that the lab lacks.
    pub fn vni(&self, lan: &str) -> u32 {
        self.vnis.get(lan).copied().unwrap_or(0)
    }

    /// The node of the lab's device at `index`, counted from 0.
    pub fn node_of(&self, index: usize) -> u8 {
        self.placement.get(index).copied().unwrap_or(0)
    }
}

fn check_count(what: &'static str, count: u8, max: u8) -> Result<(), PlanError> {
    if count > max {
        return Err(PlanError::TooMany { what, count, max });
    }
    Ok(())
}

/// The node, counted from 0, that each named device must run on.
fn pins(lab: &Lab, wishes: &Wishes) -> Result<Vec<Pin>, PlanError> {
    let nodes = wishes.nodes.get();
    let mut pinned: Vec<Pin> = Vec::new();
    for (device, node) in &wishes.pinned {
        if lab.device(device).is_none() {
            let names = lab.devices.iter().map(|device| device.name.as_str());
            return Err(PlanError::UnknownDevice { device: device.clone(), known: enumerate(names) });
        }
        let index = (0..nodes).find(|index| Plan::node_name(*index) == *node);
        let Some(index) = index else {
            let names: Vec<String> = (0..nodes).map(Plan::node_name).collect();
            return Err(PlanError::UnknownNode {
                device: device.clone(),
                node: node.clone(),
                known: enumerate(names.iter().map(String::as_str)),
            });
        };
        let pin = Pin { device: device.clone(), node: usize::from(index) };
        if pinned.iter().any(|other| other.device == pin.device && other.node != pin.node) {
            return Err(PlanError::PlacedTwice(pin.device));
        }
        pinned.push(pin);
    }
    Ok(pinned)
}

/// Names in a line, at most twelve, the rest counted.
pub fn enumerate<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.collect();
    let shown = names.get(..SHOWN).unwrap_or(&names);
    match names.len() - shown.len() {
        0 if names.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Device, Lan};

    fn lab(devices: &[&str], lans: &[&str]) -> Lab {
        let device = |name: &&str| Device { name: (*name).to_owned(), ..Device::default() };
        let lan = |name: &&str| Lan { name: (*name).to_owned(), ..Lan::default() };
        Lab { devices: devices.iter().map(device).collect(), lans: lans.iter().map(lan).collect(), ..Lab::default() }
    }

    fn wishes(nodes: u8, pinned: &[(&str, &str)]) -> Wishes {
        Wishes {
            nodes: NonZeroU8::new(nodes).unwrap(),
            reflectors: NonZeroU8::MIN,
            pinned: pinned.iter().map(|(device, node)| ((*device).to_owned(), (*node).to_owned())).collect(),
        }
    }

    #[test]
    fn lans_are_numbered_from_one_in_order_of_name() {
        let plan = Plan::new(&lab(&["a"], &["C", "A", "B"]), &wishes(1, &[])).unwrap();
        assert_eq!([plan.vni("A"), plan.vni("B"), plan.vni("C")], [1, 2, 3]);
    }

    #[test]
    fn pinned_devices_stay_where_they_are_wanted() {
        let lab = lab(&["a", "b", "c"], &[]);
        let plan = Plan::new(&lab, &wishes(2, &[("b", "node2"), ("a", "node2")])).unwrap();
        assert_eq!(plan.placement, [1, 1, 0]);
    }

    #[test]
    fn wishes_that_cannot_be_met_name_what_there_is() {
        let lab = lab(&["a", "b"], &[]);
        let refused = |wishes: Wishes| Plan::new(&lab, &wishes).unwrap_err().to_string();
        assert!(refused(wishes(2, &[("x", "node1")])).ends_with("it has a, b"));
        let text = refused(wishes(2, &[("a", "node3")]));
        assert!(text.contains("there are node1, node2"), "{text}");
        assert!(refused(wishes(65, &[])).contains("at most 64"));
        let text = refused(wishes(2, &[("a", "node1"), ("a", "node2")]));
        assert!(text.contains("twice"), "{text}");
    }
}
