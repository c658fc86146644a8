//! Placement: which node each device of a lab runs on.
//!
//! Devices and LANs are a hypergraph. The devices are split into one part per node, all parts of the same
//! size give or take one, so that as few LANs as possible reach over several nodes: each node beyond a
//! LAN's first costs one (the *cut*), since a broadcast on it is sent once more over the underlay. In: a
//! lab, the number of nodes, pins. Out: a node for each device. Same input, same output: nothing is drawn.
//!
//! ```text
//!  file order ───────────────────────┐
//!  recursive bisection (bisect) ─────┴─▶ swaps between nodes (refine) ─▶ the better of the two
//! ```
//!
//! Balance is a hard bound, so that few devices spread as well: two devices on two nodes never share one.

mod bisect;
mod hypergraph;
mod refine;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lab::Lab;
use hypergraph::Hypergraph;

/// A wish that a device run on a given node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Name of the device.
    pub device: String,
    /// Node, counted from 0.
    pub node: usize,
}

/// The node of each device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Number of nodes; some are empty when there are fewer devices.
    pub nodes: usize,
    /// Node, counted from 0, of each device, in the order of [`Lab::devices`].
    pub node_of: Vec<usize>,
    /// Over all LANs, the nodes that a LAN is on beyond its first.
    pub cut: usize,
    /// LANs that are on more than one node.
    pub inter_node_lans: usize,
    /// LANs of the lab.
    pub lans: usize,
}

/// What is wrong with the wishes for a placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct PlacementError {
    /// Each with its cure; never empty.
    pub problems: Vec<String>,
}

/// Places the devices of `lab` on `nodes` nodes, those of `pins` where they are wished.
///
/// Without pins, the numbers of devices on two nodes differ by one at most. Nodes on which pins put more
/// than their share get nothing else, and the rest is balanced over the others.
///
/// # Errors
///
/// No nodes, or a pin that names no device of the lab, no node, or contradicts another.
pub fn place(lab: &Lab, nodes: usize, pins: &[Pin]) -> Result<Placement, PlacementError> {
    let pinned = resolve_pins(lab, nodes, pins)?;
    let members = |lan: &crate::lab::Lan| lan.members.iter().map(|m| m.device).collect();
    let graph = Hypergraph::new(lab.devices.len(), lab.lans.iter().map(members));
    let sizes = balanced_sizes(lab.devices.len(), nodes, &pinned);
    let starts = [in_file_order(&sizes, &pinned), bisect::partition(&graph, &sizes, &pinned)];
    let candidates = starts.map(|start| refine::refine(&graph, nodes, &pinned, start));
    // The first of equals: file order is what people expect.
    let best = candidates.into_iter().min_by_key(|node_of| graph.cut(node_of));
    Ok(Placement::new(lab, nodes, best.unwrap_or_default()))
}

impl Placement {
    fn new(lab: &Lab, nodes: usize, node_of: Vec<usize>) -> Self {
        let mut placement = Self { nodes, node_of, cut: 0, inter_node_lans: 0, lans: lab.lans.len() };
        for lan in &lab.lans {
            let mut touched: Vec<usize> =
                lan.members.iter().filter_map(|member| placement.node_of.get(member.device).copied()).collect();
            touched.sort_unstable();
            touched.dedup();
            let beyond = touched.len().saturating_sub(1);
            placement.cut += beyond;
            placement.inter_node_lans += usize::from(beyond > 0);
        }
        placement
    }

    /// Indices into [`Lab::devices`] of the devices on each node.
    pub fn devices_by_node(&self) -> Vec<Vec<usize>> {
        let mut devices = vec![Vec::new(); self.nodes];
        for (device, node) in self.node_of.iter().enumerate() {
            if let Some(devices) = devices.get_mut(*node) {
                devices.push(device);
            }
        }
        devices
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.devices_by_node();
        let sizes: Vec<String> = sizes.iter().map(|on| on.len().to_string()).collect();
        write!(
            f,
            "devices per node: {}; LANs over several nodes: {} of {}; cut: {}",
            sizes.join(", "),
            self.inter_node_lans,
            self.lans,
            self.cut
        )
    }
}

/// The pinned node of each device.
fn resolve_pins(lab: &Lab, nodes: usize, pins: &[Pin]) -> Result<Vec<Option<usize>>, PlacementError> {
    let mut problems = Vec::new();
    if nodes == 0 {
        problems.push("no nodes to place devices on: ask for one at least".to_owned());
    }
    let index: BTreeMap<&str, usize> = lab.devices.iter().map(|device| device.name.as_str()).zip(0..).collect();
    let mut pinned = vec![None; lab.devices.len()];
    for Pin { device, node } in pins {
        if *node >= nodes && nodes > 0 {
            let last = nodes - 1;
            problems
                .push(format!("device {device} cannot be placed on node {node}: nodes are counted from 0 to {last}"));
        }
        let slot = index.get(device.as_str()).and_then(|i| pinned.get_mut(*i));
        match slot {
            None => problems.push(format!("no device {device} to place on node {node}: name a device of the lab")),
            Some(Some(other)) if other != node => {
                problems.push(format!("device {device} is to be placed on node {other} and on node {node}: choose one"))
            }
            Some(slot) => *slot = Some(*node),
        }
    }
    if problems.is_empty() { Ok(pinned) } else { Err(PlacementError { problems }) }
}

/// How many devices each node gets: its pinned ones, then one more for the emptiest, again and again.
fn balanced_sizes(devices: usize, nodes: usize, pinned: &[Option<usize>]) -> Vec<usize> {
    let mut sizes = vec![0; nodes];
    for node in pinned.iter().flatten() {
        if let Some(size) = sizes.get_mut(*node) {
            *size += 1;
        }
    }
    let free = devices - pinned.iter().flatten().count();
    let mut emptiest: std::collections::BTreeSet<(usize, usize)> = sizes.iter().copied().zip(0..).collect();
    for _ in 0..free {
        if let Some((size, node)) = emptiest.pop_first() {
            emptiest.insert((size + 1, node));
        }
    }
    for (size, node) in emptiest {
        if let Some(slot) = sizes.get_mut(node) {
            *slot = size;
        }
    }
    sizes
}

/// Fills one node after the other with the devices as the file names them.
fn in_file_order(sizes: &[usize], pinned: &[Option<usize>]) -> Vec<usize> {
    let mut room = sizes.to_vec();
    for node in pinned.iter().flatten() {
        if let Some(room) = room.get_mut(*node) {
            *room -= 1;
        }
    }
    let slots = room.iter().enumerate();
    let mut slots = slots.flat_map(|(node, room)| std::iter::repeat_n(node, *room));
    let node = |pin: &Option<usize>| pin.or_else(|| slots.next()).unwrap_or_default();
    pinned.iter().map(node).collect()
}
