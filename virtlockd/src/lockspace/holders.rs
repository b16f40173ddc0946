//! Who has a lease. Nearly always it is one owner, for whom there is no memory to be asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::ids::OwnerId;
use crate::protocol::Guest;

/// A lease that somebody has.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) guest: Arc<Guest>,
    pub(crate) since: SystemTime,
    /// It was had before that, and nobody knows for how long: libvirt's daemon does not say.
    pub(crate) held_before: bool,
    /// How often it was acquired, and so how often it must be released.
    pub(crate) shares: u64,
}

/// All who have a lease on one resource.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    first: Option<(OwnerId, Holder)>,
    /// Those who share it with the first.
    others: BTreeMap<OwnerId, Holder>,
}

impl Holders {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerId, &Holder)> {
        let first = self.first.iter().map(|(owner, holder)| (*owner, holder));
        first.chain(self.others.iter().map(|(&owner, holder)| (owner, holder)))
    }

    pub(crate) fn get_mut(&mut self, owner: OwnerId) -> Option<&mut Holder> {
        match &mut self.first {
            Some((first, holder)) if *first == owner => Some(holder),
            _ => self.others.get_mut(&owner),
        }
    }

    /// The owner has none yet.
    pub(crate) fn insert(&mut self, owner: OwnerId, holder: Holder) {
        if self.first.is_none() {
            self.first = Some((owner, holder));
        } else {
            self.others.insert(owner, holder);
        }
    }

    /// Gives what the owner had.
    pub(crate) fn remove(&mut self, owner: OwnerId) -> Option<Holder> {
        match self.first.take_if(|(first, _)| *first == owner) {
            Some((_, holder)) => {
                self.first = self.others.pop_first();
                Some(holder)
            }
            None => self.others.remove(&owner),
        }
    }
}

impl Holder {
    /// From now on, once.
    pub(crate) fn new(guest: &Arc<Guest>) -> Self {
        let (guest, since) = (Arc::clone(guest), SystemTime::now());
        Self { guest, since, held_before: false, shares: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_goes_the_others_stay() {
        let guest = Arc::new(Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid: 7 });
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut holders = Holders::default();
            (1..4).for_each(|number| holders.insert(OwnerId(number), Holder::new(&guest)));
            for (gone, number) in order.into_iter().enumerate() {
                assert_eq!(holders.iter().count(), 3 - gone);
                assert!(holders.get_mut(OwnerId(number)).is_some());
                assert!(holders.remove(OwnerId(number)).is_some(), "{order:?}");
                assert!(holders.remove(OwnerId(number)).is_none(), "{order:?}");
            }
            assert!(holders.is_empty());
        }
    }
}
