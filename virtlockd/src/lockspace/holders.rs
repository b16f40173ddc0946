//! Who has a lease. Nearly always it is one owner, for whom there is no memory to be asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::ids::OwnerId;
use crate::protocol::Guest;

/// A lease that somebody has.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    pub(crate) guest: Arc<Guest>,
    pub(crate) since: SystemTime,
    /// It was had before that, and nobody knows for how long: libvirt's daemon does not say.
    pub(crate) was_had_before: bool,
    /// How often it was acquired, and so how often it must be released.
    pub(crate) shares: u64,
}

/// All who have a lease on one resource.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    first: Option<(OwnerId, Holding)>,
    /// Those who share it with the first.
    others: BTreeMap<OwnerId, Holding>,
}

impl Holdings {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerId, &Holding)> {
        let first = self.first.iter().map(|(owner, holding)| (*owner, holding));
        first.chain(self.others.iter().map(|(&owner, holding)| (owner, holding)))
    }

    pub(crate) fn get_mut(&mut self, owner: OwnerId) -> Option<&mut Holding> {
        match &mut self.first {
            Some((first, holding)) if *first == owner => Some(holding),
            _ => self.others.get_mut(&owner),
        }
    }

    /// The owner has none yet.
    pub(crate) fn insert(&mut self, owner: OwnerId, holding: Holding) {
        if self.first.is_none() {
            self.first = Some((owner, holding));
        } else {
            self.others.insert(owner, holding);
        }
    }

    /// Gives what the owner had.
    pub(crate) fn remove(&mut self, owner: OwnerId) -> Option<Holding> {
        match self.first.take_if(|(first, _)| *first == owner) {
            Some((_, holding)) => {
                self.first = self.others.pop_first();
                Some(holding)
            }
            None => self.others.remove(&owner),
        }
    }
}

impl Holding {
    /// From now on, once.
    pub(crate) fn new(guest: &Arc<Guest>) -> Self {
        let (guest, since) = (Arc::clone(guest), SystemTime::now());
        Self { guest, since, was_had_before: false, shares: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_goes_the_others_stay() {
        let guest = Arc::new(Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid: 7 });
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut holdings = Holdings::default();
            (1..4).for_each(|number| holdings.insert(OwnerId(number), Holding::new(&guest)));
            for (gone, number) in order.into_iter().enumerate() {
                assert_eq!(holdings.iter().count(), 3 - gone);
                assert!(holdings.get_mut(OwnerId(number)).is_some());
                assert!(holdings.remove(OwnerId(number)).is_some(), "{order:?}");
                assert!(holdings.remove(OwnerId(number)).is_none(), "{order:?}");
            }
            assert!(holdings.is_empty());
        }
    }
}
