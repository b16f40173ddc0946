//! How often what came about in walks: a walk in which everything is refused shows nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by what it was.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally(BTreeMap<String, usize>);

/// What a line of a walk begins with.
const MARK: &str = "TALLY ";

impl Tally {
    /// Says, in a walk, that something came about.
    pub(super) fn note(what: &str) {
        println!("{MARK}{what}");
    }

    /// Whether a line of a walk is one of these.
    pub(super) fn is_one(line: &str) -> bool {
        line.starts_with(MARK)
    }

    /// Counts what a walk has said.
    pub(super) fn read(said: &str) -> Self {
        let mut tally = Self::default();
        for what in said.lines().filter_map(|line| line.strip_prefix(MARK)) {
            *tally.0.entry(what.to_owned()).or_default() += 1;
        }
        tally
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add_all(&mut self, others: &Self) {
        others.0.iter().for_each(|(what, count)| {
            *self.0.entry(what.clone()).or_default() += count;
        });
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(formatter, "{count:>9} {what}"))
    }
}
