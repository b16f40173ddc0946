//! What is different between two daemons after a step.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display, Formatter, Result};

use super::observation::{Item, Observation};

/// Where a difference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// What a client has received, and the number of the item.
    Item { client: usize, number: usize },
    /// Bytes that are no whole message.
    Leftovers,
    /// A file, by its name in the sequence's directory.
    File(String),
    /// The lock on a file.
    Lock(String),
    /// Pipes that nobody reads.
    Pipes,
    /// Guests that run.
    Guests,
    /// What came of the step where that is no answer.
    Outcome,
    /// Who holds which lease in the end.
    Leases,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) place: Place,
    pub(super) theirs: String,
    pub(super) ours: String,
}

impl Difference {
    /// One between two things, if they are different.
    pub(super) fn between<T: Debug + PartialEq>(
        place: Place,
        theirs: &T,
        ours: &T,
    ) -> Option<Self> {
        (theirs != ours).then(|| Self {
            place,
            theirs: format!("{theirs:?}"),
            ours: format!("{ours:?}"),
        })
    }
}

impl Display for Difference {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        let Self { place, theirs, ours } = self;
        write!(formatter, "  {place:?}\n    theirs: {theirs}\n    ours:   {ours}")
    }
}

/// All differences between what is to be seen of libvirt's daemon and of ours.
pub(super) fn compare(theirs: &Observation, ours: &Observation) -> Vec<Difference> {
    let mut all = items(theirs, ours);
    all.extend(Difference::between(Place::Leftovers, &theirs.leftovers, &ours.leftovers));
    for name in names(theirs.files.keys(), ours.files.keys()) {
        let place = Place::File(name.clone());
        all.extend(Difference::between(place, &theirs.files.get(name), &ours.files.get(name)));
    }
    for name in names(theirs.locks.keys(), ours.locks.keys()) {
        let place = Place::Lock(name.clone());
        all.extend(Difference::between(place, &theirs.locks.get(name), &ours.locks.get(name)));
    }
    all.extend(Difference::between(Place::Pipes, &theirs.broken_pipes, &ours.broken_pipes));
    all.extend(Difference::between(Place::Guests, &theirs.living, &ours.living));
    all.extend(Difference::between(Place::Outcome, &theirs.outcome, &ours.outcome));
    all
}

fn items(theirs: &Observation, ours: &Observation) -> Vec<Difference> {
    let mut all = Vec::new();
    let none: &[Item] = &[];
    for &client in theirs.items.keys().chain(ours.items.keys()).collect::<BTreeSet<_>>() {
        let of = |side: &Observation| side.items.get(&client).map_or(none.to_vec(), Clone::clone);
        let (theirs, ours) = (of(theirs), of(ours));
        for number in 0..theirs.len().max(ours.len()) {
            let place = Place::Item { client, number };
            all.extend(Difference::between(place, &theirs.get(number), &ours.get(number)));
        }
    }
    all
}

fn names<'a>(
    theirs: impl Iterator<Item = &'a String>,
    ours: impl Iterator<Item = &'a String>,
) -> BTreeSet<&'a String> {
    theirs.chain(ours).collect()
}
