//! What tests do to a cluster, and the way back.

use std::sync::atomic::{AtomicU32, Ordering};

use super::network::{self, Place};
use super::process::until;
use super::{Cluster, Result, control_plane};
use crate::host::Host;

impl Cluster {
    /// Takes the power from a node: everything on it ends at once. What is on its disk stays.
    ///
    /// # Panics
    ///
    /// If it does not go.
    pub fn power_off(&self, index: usize) {
        done(self.nodes[index].power_off(&self.keeper));
    }

    /// Switches a node on again: empty /run and /tmp, another boot id. [`Cluster::wait_ready`] waits for it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn power_on(&self, index: usize) {
        done(self.nodes[index].power_on(&self.keeper));
    }

    /// Waits until every node that is on is Ready since its power came, with Multus.
    ///
    /// # Panics
    ///
    /// If one is not.
    pub fn wait_ready(&self) {
        done(self.wait_nodes());
        if self.config.has_multus {
            done(self.wait_multus());
        }
    }

    /// Adds a node with all images and waits until it is ready; gives its index.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn add_node(&mut self) -> usize {
        let index = done(self.prepare_node());
        done(self.give_images(&self.nodes[index]));
        self.wait_ready();
        index
    }

    /// Deletes a node from the API, takes its power, and forgets its disk.
    ///
    /// # Panics
    ///
    /// If the API refuses it.
    pub fn delete_node(&mut self, index: usize) {
        let node = self.nodes.remove(index);
        self.kubectl(&["delete", "node", node.name(), "--wait=false"]);
        done(node.power_off(&self.keeper));
        done(node.remove(&self.keeper));
        done(self.record());
    }

    /// Gives a running node the addresses of another place on the underlay, 2 to 99, and waits until the API knows.
    ///
    /// # Panics
    ///
    /// If the place is taken or the API does not learn it.
    pub fn renumber(&mut self, index: usize, number: u8) {
        let place = Place::new(number).unwrap_or_else(|| panic!("{number} is no place on the underlay"));
        let taken = self.nodes.iter().any(|node| node.places().contains(&place));
        assert!(!taken || self.nodes[index].places().contains(&place), "{number} is another node's");
        done(self.nodes[index].renumber(&self.keeper, place));
        done(self.record());
        let node = &self.nodes[index];
        let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        done(until("the API to know the node's addresses", || {
            let known = self.try_kubectl(&["get", "node", node.name(), "-o", path])?;
            if known.split_whitespace().eq(node.addresses()) { Ok(()) } else { Err(known) }
        }));
    }

    /// Ends kube-apiserver at once; what it stored stays.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn stop_api(&self) {
        done(control_plane::stop_api(&self.keeper));
    }

    /// Starts kube-apiserver again and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn start_api(&self) {
        let started =
            super::debian::Debian::obtain().and_then(|debian| control_plane::start_api(&self.keeper, &debian));
        done(started.and_then(|()| control_plane::wait_ready(&self.keeper)));
    }

    /// Plugs a host of the testbed into the underlay: its eth0 gets these addresses, each with its prefix length.
    ///
    /// # Panics
    ///
    /// If it has an eth0.
    pub fn plug(&self, host: &Host, addresses: &[&str]) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let port = format!("x{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        done(network::plug(&self.keeper, &port, host.name(), None));
        for address in addresses {
            let flags = if address.contains(':') { "nodad" } else { "" };
            host.sh(&format!("ip address add {address} dev eth0 {flags}"));
        }
        host.sh("ip link set eth0 up");
    }
}

fn done<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
