//! What a row left behind: counters and log lines of the reflector, octets at the observer, reasons at the workers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::actor::{self, Actor};
use super::scene::{Scene, rows};
use super::stage::Stage;
use crate::overlay::Worker;
use crate::wait;

impl Scene {
    /// The MACs known in each place: to the reflector, to the observer, to each worker's kernel.
    pub fn known(&self) -> Vec<BTreeSet<String>> {
        let of_routes =
            |routes: std::collections::BTreeMap<String, String>| routes.into_keys().filter_map(mac_of).collect();
        let of_kernel = |worker: &Worker| rows(worker).into_iter().map(|(mac, _)| mac).collect();
        let mut places = vec![of_routes(self.best_routes()), of_routes(self.observer.routes())];
        places.extend(self.fabric.workers.iter().map(of_kernel));
        places
    }

    /// The VTEP to which each worker's kernel sends frames for a MAC.
    pub fn vteps_of(&self, mac: [u8; 6]) -> Vec<Option<String>> {
        let text = actor::text(mac);
        let of = |worker: &Worker| rows(worker).into_iter().find(|(mac, _)| *mac == text).map(|(_, vtep)| vtep);
        self.fabric.workers.iter().map(of).collect()
    }

    /// Waits until every worker's kernel sends frames for a MAC to this VTEP.
    ///
    /// # Panics
    ///
    /// If one does not.
    pub fn wait_vtep(&self, mac: [u8; 6], vtep: IpAddr) {
        let wanted = Some(vtep.to_string());
        wait::until(&format!("{} to be behind {vtep}", actor::text(mac)), || {
            let found = self.vteps_of(mac);
            if found.iter().all(|found| *found == wanted) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// Waits until a MAC is known to the reflector and the observer; the workers' kernels have no row for it.
    ///
    /// # Panics
    ///
    /// If that does not come.
    pub fn wait_reflected_only(&self, mac: [u8; 6]) {
        wait::until(&format!("{} to be reflected and not installed", actor::text(mac)), || {
            let places = self.places(mac);
            let reflected = places.reflector && places.observer;
            if reflected && places.kernels.iter().all(|row| !row) { Ok(()) } else { Err(format!("{places:?}")) }
        });
    }

    /// Whether some worker's kernel floods to a VTEP.
    pub fn floods_to(&self, vtep: IpAddr) -> bool {
        let row = (actor::text([0; 6]), vtep.to_string());
        self.fabric.workers.iter().any(|worker| rows(worker).contains(&row))
    }
}

/// The MAC in the text of a route of type 2.
fn mac_of(route: String) -> Option<String> {
    let parts: Vec<_> = route.split(['[', ']']).filter(|part| !part.is_empty()).collect();
    match parts[..] {
        ["2", _, _, mac, ..] => Some(mac.to_owned()),
        _ => None,
    }
}

impl Stage<'_> {
    /// How often the reflector counted that the actor broke a rule.
    pub fn counted(&self, rule: &str) -> u64 {
        let findings = self.scene.findings(&self.actor.address.to_string());
        findings.get(rule).copied().unwrap_or_default()
    }

    /// Whether these octets stand in an UPDATE that the observer was sent since the row began.
    pub fn observed(&self, octets: &[u8]) -> bool {
        self.announcements_observed(octets) > 0
    }

    /// How many times these octets stand in UPDATEs that the observer was sent since the row began.
    pub fn announcements_observed(&self, octets: &[u8]) -> usize {
        let updates = self.scene.observer.updates();
        updates.iter().map(|update| update.windows(octets.len()).filter(|window| *window == octets).count()).sum()
    }

    /// Waits until every worker says this of a MAC, in `megalos show macs`.
    ///
    /// # Panics
    ///
    /// If one does not.
    pub fn wait_said_of(&self, mac: [u8; 6], words: &str) {
        let text = actor::text(mac);
        for worker in &self.scene.fabric.workers {
            wait::until(&format!("{words:?} to be said of {text} by {}", worker.host.name()), || {
                let row = worker.macs().into_iter().find(|row| row.mac == text);
                if row.as_ref().is_some_and(|row| row.state.contains(words)) { Ok(()) } else { Err(format!("{row:?}")) }
            });
        }
    }

    /// Waits until every worker says this of the routes whose text has `part`, in `megalos show routes`.
    ///
    /// # Panics
    ///
    /// If one does not.
    pub fn wait_said_of_route(&self, part: &str, words: &str) {
        for worker in &self.scene.fabric.workers {
            wait::until(&format!("{words:?} to be said of {part} by {}", worker.host.name()), || {
                let rows: Vec<_> = worker.routes().into_iter().filter(|row| row.route.contains(part)).collect();
                let said =
                    |row: &daemon::show::RouteRow| row.use_here.as_ref().is_some_and(|text| text.contains(words));
                if !rows.is_empty() && rows.iter().all(said) { Ok(()) } else { Err(format!("{rows:?}")) }
            });
        }
    }

    /// The key is installed everywhere, then announced in a form that is longer than 4,096 octets: those who take such
    /// messages have it, and the observer, which does not, is told that its earlier form is gone.
    pub fn assert_withheld_from_small_messages(&mut self, capabilities: &[u8], big: &[u8]) {
        let mut connection = self.establish(capabilities);
        self.install_key(&mut connection);
        connection.send(big);
        self.barrier(&mut connection);
        self.assert_up();
        let key = self.actor.key;
        wait::until("the key to be withheld from the observer alone", || {
            let places = self.scene.places(key);
            let is_right = places.reflector && !places.observer && places.kernels.iter().all(|row| *row);
            if is_right { Ok(()) } else { Err(format!("{places:?}")) }
        });
        assert!(
            self.scene.metric("megalos_rib_unsendable_routes") > 0,
            "the route that fits no message was not counted"
        );
        // In a form that fits it is everybody's again.
        connection.send(&self.actor.announce(key));
        self.scene.wait_installed(key);
        self.connection = Some(connection);
    }
}

/// Waits until a worker's log has a line with all of these words.
///
/// # Panics
///
/// If none comes.
pub fn wait_logged_by(worker: &Worker, words: &[&str]) {
    wait::until(&format!("a line with {words:?} in the log of {}", worker.host.name()), || {
        let log = worker.host.log("megalos-speaker");
        let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if found { Ok(()) } else { Err("there is none") }
    });
}

/// A new actor's key is installed everywhere, then announced as `make` does: it is still reflected, no worker's kernel has
/// it any more, and each worker says why. When it is withdrawn, nothing of it is left.
///
/// # Panics
///
/// If that does not come.
pub fn assert_not_used(stage: &mut Stage<'_>, words: &str, make: impl Fn(&Actor) -> Vec<u8>) {
    let actor = stage.another();
    let mut connection = stage.establish_as(&actor, &[]);
    connection.send(&actor.announce(actor.key));
    stage.scene.wait_installed(actor.key);
    connection.send(&make(&actor));
    stage.scene.wait_reflected_only(actor.key);
    stage.wait_said_of_route(&actor::text(actor.key), words);
    connection.send(&actor.announce(actor.marker));
    stage.scene.wait_installed(actor.marker);
    stage.scene.wait_kernels_follow();
    connection.send(&actor.withdraw(actor.key));
    stage.scene.wait_gone(actor.key);
}
