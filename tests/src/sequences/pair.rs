//! libvirt's daemon and ours, side by side.

use super::side::Side;
use crate::harness::{Program, Subject, Whose};

/// What both are configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) max_size: u64,
    pub(super) max_backups: u64,
}

/// What pairs of virtlogds have, in turns.
const CONFIGURATIONS: &[Configuration] = &[
    Configuration { max_size: 400, max_backups: 2 },
    Configuration { max_size: 0, max_backups: 3 },
    Configuration { max_size: 2_000, max_backups: 1 },
    Configuration { max_size: 300, max_backups: 0 },
    Configuration { max_size: 100, max_backups: 4 },
    Configuration { max_size: 1_000, max_backups: 33 },
];

/// Two daemons that are told the same.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) theirs: Side,
    pub(super) ours: Side,
    pub(super) configuration: Configuration,
    /// Sequences that have been played.
    pub(super) played: usize,
}

impl Pair {
    /// Starts both.
    pub(super) fn start(program: Program, configuration: Configuration) -> Self {
        let start = |whose| Side::start(Subject { whose, program }, &configuration.text(program));
        let (theirs, ours) = (start(Whose::Theirs), start(Whose::Ours));
        Self { theirs, ours, configuration, played: 0 }
    }

    /// Both sides.
    pub(super) fn sides(&mut self) -> [&mut Side; 2] {
        [&mut self.theirs, &mut self.ours]
    }
}

impl Configuration {
    /// The one that a pair has which plays this sequence first.
    pub(super) fn of(number: u64) -> Self {
        let index = number % CONFIGURATIONS.len() as u64;
        CONFIGURATIONS[usize::try_from(index).expect("an index")]
    }

    fn text(self, program: Program) -> String {
        match program {
            Program::Virtlogd => {
                format!("max_size = {}\nmax_backups = {}\n", self.max_size, self.max_backups)
            }
            Program::Virtlockd => String::new(),
        }
    }
}
