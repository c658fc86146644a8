//! Questions with a right answer, asked in a calm fabric.

use bgp_core::time::Duration;
use bgp_core::types::{MacAddr, Vni};
use dataplane::PortId;

use super::clock::{Happening, Node};
use super::frames::{flows, reached};
use super::run::{Invariant, Run, Violation};
use super::scenario::Probe;
use super::truth::{Placed, port_id};

/// Longest time from an ADD in a connected fabric until every worker sends the MAC's frames there.
pub const MOVE_BOUND: Duration = Duration::from_secs(1);
/// When the plugin has the pod say something, once its interface is up: a gratuitous ARP.
const GRATUITOUS: Duration = Duration::from_millis(20);
/// How often frames are sent while something is watched.
const WATCH: Duration = Duration::from_millis(20);
/// How long frames are watched after reflectors or a worker are back.
const WATCH_AFTER: Duration = Duration::from_secs(40);
/// Longest time until a reflector that is back has told what it knows: sessions come up and it waits for those whom it
/// may not know.
const BACK_BOUND: Duration = Duration::from_secs(60);

/// A claim of a probe: what is claimed, and the port that claims it.
struct Claimed {
    vni: Vni,
    mac: MacAddr,
    port: PortId,
}

impl Run {
    pub(super) fn probe(&mut self, probe: &Probe) -> Result<(), Violation> {
        self.calm("the faults before a probe")?;
        match probe {
            Probe::Move { port, worker, new, dies, down } => {
                let Some(old) = self.owner(*port) else { return Ok(()) };
                if let Some(reflector) = down.filter(|_| self.fabric.reflectors.len() > 1) {
                    self.fabric.end(Node::Reflector(reflector), false);
                }
                if let Some(after) = dies {
                    self.fabric.clock.after(*after, Happening::PodDies { port: port_id(*port) });
                }
                self.moves(&old, *worker, *new, Invariant::Moves)
            }
            Probe::Twice { port, first, second, apart } => {
                let Some(old) = self.owner(*port) else { return Ok(()) };
                self.claim(&old, first.0, first.1);
                self.pass(*apart)?;
                self.moves(&old, second.0, second.1, Invariant::Claims)
            }
            Probe::DeadOwner { port, worker, new } => {
                let Some(old) = self.owner(*port).filter(|old| old.worker != *worker) else { return Ok(()) };
                self.fabric.end(Node::Worker(old.worker), false);
                self.pass(Duration::from_secs(1))?;
                self.moves(&old, *worker, *new, Invariant::Claims)
            }
            Probe::UnknownOwner { port, worker, new, down } => self.unknown_owner(*port, *worker, *new, *down),
            Probe::ColdStart { down } => {
                let reflectors: Vec<Node> = (0..self.fabric.reflectors.len()).map(Node::Reflector).collect();
                self.restart(&reflectors, *down, false)
            }
            Probe::Restart { worker, down, gracefully } => self.restart(&[Node::Worker(*worker)], *down, *gracefully),
        }
    }

    /// The port whose MAC is to be claimed elsewhere.
    fn owner(&self, port: u16) -> Option<Placed> {
        self.fabric.truth.ports.get(&port_id(port)).filter(|placed| placed.claim.is_some()).cloned()
    }

    /// An ADD of the same MAC.
    fn claim(&mut self, old: &Placed, worker: usize, new: u16) -> Option<Claimed> {
        let claim = old.claim.as_ref()?;
        let [.., lan, _, host] = claim.mac.0;
        self.add(new, lan - 1, host, worker);
        let port = port_id(new);
        self.fabric.truth.ports.contains_key(&port).then_some(Claimed { vni: old.vni, mac: claim.mac, port })
    }

    /// The MAC is claimed, and within the bound every worker that runs sends its frames there.
    fn moves(&mut self, old: &Placed, worker: usize, new: u16, invariant: Invariant) -> Result<(), Violation> {
        let Some(claimed) = self.claim(old, worker, new) else { return Ok(()) };
        let begin = self.fabric.clock.now();
        self.pass(GRATUITOUS)?;
        self.fabric.frame(&claimed.port, claimed.mac);
        let mut arrived = None;
        loop {
            let passed = self.fabric.clock.now().saturating_since(begin);
            let found = reached(&self.fabric, claimed.vni, claimed.mac, &claimed.port);
            arrived = found.is_ok().then(|| arrived.unwrap_or(passed));
            if passed >= MOVE_BOUND {
                let why = |why| format!("{MOVE_BOUND:?} after {} moved to w{worker}: {why}", claimed.mac);
                found.map_err(|error| invariant.broken(why(error)))?;
                self.figures.moved = self.figures.moved.max(arrived.unwrap_or_default());
                return Ok(());
            }
            self.pass_a_moment(WATCH)?;
        }
    }

    /// A MAC is claimed while no reflector is there that could say who has it.
    fn unknown_owner(&mut self, port: u16, worker: usize, new: u16, down: Duration) -> Result<(), Violation> {
        let Some(old) = self.owner(port) else { return Ok(()) };
        let reflectors: Vec<Node> = (0..self.fabric.reflectors.len()).map(Node::Reflector).collect();
        reflectors.iter().for_each(|node| self.fabric.end(*node, false));
        self.pass(Duration::from_secs(1))?;
        let Some(claimed) = self.claim(&old, worker, new) else { return Ok(()) };
        self.pass(GRATUITOUS)?;
        self.fabric.frame(&claimed.port, claimed.mac);
        self.pass(down)?;
        reflectors.iter().for_each(|node| self.fabric.start(*node));
        self.pass(BACK_BOUND)?;
        reached(&self.fabric, claimed.vni, claimed.mac, &claimed.port).map_err(|why| {
            let what = format!("{BACK_BOUND:?} after reflectors are back, {} claimed at w{worker}", claimed.mac);
            Invariant::Claims.broken(format!("{what}: {why}"))
        })
    }

    /// Processes are gone for a while; whoever reached whom does all the time.
    fn restart(&mut self, nodes: &[Node], down: Duration, gracefully: bool) -> Result<(), Violation> {
        let flows = flows(&self.fabric);
        nodes.iter().for_each(|node| self.fabric.end(*node, gracefully));
        let begin = self.fabric.clock.now();
        let mut started = false;
        loop {
            let passed = self.fabric.clock.now().saturating_since(begin);
            if passed >= down && !started {
                nodes.iter().for_each(|node| self.fabric.start(*node));
                started = true;
            }
            for flow in &flows {
                let why = |why| format!("{passed:?} after {nodes:?} ended, started again: {started}: {why}");
                flow.arrives(&self.fabric).map_err(|error| Invariant::Continuity.broken(why(error)))?;
            }
            if passed >= down + WATCH_AFTER {
                return Ok(());
            }
            // What happens at once is seen at once; what takes long is looked at now and then.
            let soon = passed < Duration::from_secs(1) || (started && passed < down + Duration::from_secs(3));
            self.pass_a_moment(if soon { WATCH } else { Duration::from_millis(500) })?;
        }
    }
}
