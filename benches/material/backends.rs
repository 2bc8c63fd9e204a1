//! Backends to choose among: nobody is new, and what speaks against each stays as it is.

use std::cell::Cell;

use switchyard::pool::balance::Candidates;
use switchyard::pool::balance::roster::Roster;
use switchyard::pool::found::Found;
use switchyard::pool::{self, Endpoint, Policy};

/// A key to choose by.
pub const KEY: u64 = 0x1234_5678_9abc_def0;

/// Backends with their loads.
pub struct Known {
    roster: Roster,
    loads: Vec<u64>,
    turns: Vec<Cell<u64>>,
}

impl Known {
    /// A backend for each weight.
    pub fn new(policy: Policy, weights: impl IntoIterator<Item = u32>) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let endpoint = |at| Endpoint { host: format!("collector-{at}"), port: 11_800 };
        let found = weights.into_iter().enumerate().map(|(at, weight)| Found { weight, ..Found::at(endpoint(at)) });
        let settings =
            pool::Settings { backends: found.collect(), balance: policy, ..pool::Settings::new("p", vec![]) };
        let loads = settings.backends.iter().map(|_| random.u64(..1 << 20)).collect();
        let turns = settings.backends.iter().map(|_| Cell::default()).collect();
        Self { roster: Roster::at_rest(&settings), loads, turns }
    }

    /// Backends that weigh the same.
    pub fn alike(policy: Policy, backends: usize) -> Self {
        Self::new(policy, vec![1; backends])
    }
}

impl Candidates for Known {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn is_usable(&self, _: usize) -> bool {
        true
    }

    fn load(&self, at: usize) -> u64 {
        self.loads[at]
    }

    fn waiting(&self, _: usize) -> u64 {
        0
    }

    fn given(&self, at: usize) -> u64 {
        self.loads[at]
    }

    fn turns(&self, at: usize) -> &Cell<u64> {
        &self.turns[at]
    }
}
