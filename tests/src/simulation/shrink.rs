//! A scenario that fails, made small: steps, reflectors and workers are taken away, and waits shortened, as long as what
//! does not hold is the same rule.

use bgp_core::time::Duration;

use super::run::Invariant;
use super::sabotage::Sabotage;
use super::scenario::{Scenario, Step};
use super::seeds::checked;

/// Looks for the smallest scenario that breaks the same rule.
pub struct Shrinker {
    invariant: Invariant,
    sabotage: Sabotage,
    /// Runs that may still be made.
    budget: usize,
}

impl Shrinker {
    /// Looks for scenarios that break `invariant`, with so many runs at most.
    pub const fn new(invariant: Invariant, sabotage: Sabotage, budget: usize) -> Self {
        Self { invariant, sabotage, budget }
    }

    fn fails(&mut self, scenario: &Scenario) -> bool {
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        checked(scenario, self.sabotage).violation.is_some_and(|violation| violation.invariant == self.invariant)
    }

    /// The smallest that was found.
    pub fn shrink(&mut self, mut scenario: Scenario) -> Scenario {
        loop {
            let before = scenario.clone();
            scenario = self.fewer_steps(scenario);
            scenario = self.smaller_fabric(scenario);
            scenario = self.shorter_waits(scenario);
            if scenario == before || self.budget == 0 {
                return scenario;
            }
        }
    }

    /// Halves, quarters, … single steps are left out.
    fn fewer_steps(&mut self, mut scenario: Scenario) -> Scenario {
        let mut length = scenario.steps.len().next_power_of_two().max(2) / 2;
        loop {
            let mut begin = 0;
            while begin < scenario.steps.len() {
                let mut smaller = scenario.clone();
                smaller.steps.drain(begin..(begin + length).min(scenario.steps.len()));
                if self.fails(&smaller) {
                    scenario = smaller;
                } else {
                    begin += length;
                }
            }
            if length == 1 {
                return scenario;
            }
            length /= 2;
        }
    }

    fn smaller_fabric(&mut self, mut scenario: Scenario) -> Scenario {
        let smaller: [fn(&mut Scenario); 6] = [
            |scenario| scenario.nodes = scenario.nodes.saturating_sub(1).max(1),
            |scenario| scenario.reflectors = scenario.reflectors.saturating_sub(1).max(1),
            |scenario| scenario.flags.ipv6 = false,
            |scenario| scenario.flags.adopts = false,
            |scenario| scenario.flags.reflectors_dial = false,
            |scenario| scenario.flags.expects_peers = true,
        ];
        for change in smaller {
            loop {
                let mut candidate = scenario.clone();
                change(&mut candidate);
                if candidate == scenario || !self.fails(&candidate) {
                    break;
                }
                scenario = candidate;
            }
        }
        scenario
    }

    fn shorter_waits(&mut self, mut scenario: Scenario) -> Scenario {
        for index in 0..scenario.steps.len() {
            let Some(Step::Wait(time)) = scenario.steps.get(index).cloned() else { continue };
            // Round numbers are easier to read.
            let round = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];
            for shorter in round.into_iter().filter(|round| *round < time) {
                let mut candidate = scenario.clone();
                if let Some(step) = candidate.steps.get_mut(index) {
                    *step = Step::Wait(shorter);
                }
                if self.fails(&candidate) {
                    scenario = candidate;
                    break;
                }
            }
        }
        scenario
    }
}
