//! Holders of a lease. Nearly always it is one owner, who needs no allocation.

use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use crate::ids::OwnerId;
use crate::protocol::Guest;

/// Largest number of holders that one log line names; ours.
const HOLDERS_NAMED_MAX: usize = 8;

/// Owner's part of a lease.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) guest: Arc<Guest>,
    pub(crate) since: SystemTime,
    /// Whether the lease was held before `since`: libvirt's daemon does not say since when.
    pub(crate) held_before: bool,
    /// Number of times it was acquired, and has to be released.
    pub(crate) shares: u64,
}

/// Holders of the lease on one resource.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    first: Option<(OwnerId, Holder)>,
    /// Holders that share the lease with the first.
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

    /// Returns the holders whose owners are above this one, in the order of those.
    pub(crate) fn above(&self, owner: OwnerId) -> impl Iterator<Item = (OwnerId, &Holder)> {
        let others = self.others.range((Bound::Excluded(owner), Bound::Unbounded));
        let mut others = others.map(|(&owner, holder)| (owner, holder)).peekable();
        let first = self.first.as_ref().map(|(owner, holder)| (*owner, holder));
        let mut first = first.filter(|(first, _)| *first > owner);
        iter::from_fn(move || match (&first, others.peek()) {
            (Some((first_owner, _)), Some((other, _))) if other < first_owner => others.next(),
            (Some(_), _) => first.take(),
            (None, _) => others.next(),
        })
    }

    pub(crate) fn get_mut(&mut self, owner: OwnerId) -> Option<&mut Holder> {
        match &mut self.first {
            Some((first, holder)) if *first == owner => Some(holder),
            _ => self.others.get_mut(&owner),
        }
    }

    /// Adds an owner that is no holder yet.
    pub(crate) fn insert(&mut self, owner: OwnerId, holder: Holder) {
        if self.first.is_none() {
            self.first = Some((owner, holder));
        } else {
            self.others.insert(owner, holder);
        }
    }

    /// Removes an owner, and returns its part.
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
    /// Creates the part of an owner that acquires the lease now.
    pub(crate) fn new(guest: &Arc<Guest>) -> Self {
        let (guest, since) = (Arc::clone(guest), SystemTime::now());
        Self { guest, since, held_before: false, shares: 1 }
    }
}

/// Holders of leases on a file, for the log. Without any, the file is locked by a process that is not
/// a client.
#[derive(Debug, Default)]
pub(crate) struct HolderSummary {
    pub(crate) named: Vec<Holder>,
    /// Number of holders beside those.
    more: usize,
}

impl HolderSummary {
    /// Names as many holders as one log line does, and counts the others.
    pub(crate) fn new<'a>(mut holders: impl Iterator<Item = &'a Holder>) -> Self {
        let named = holders.by_ref().take(HOLDERS_NAMED_MAX).cloned().collect();
        Self { named, more: holders.count() }
    }

    /// Returns whether there are any.
    pub(crate) fn are_known(&self) -> bool {
        !self.named.is_empty()
    }
}

impl fmt::Display for HolderSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.are_known() {
            return out.write_str("a process that is not a client of this daemon holds it");
        }
        for (number, Holder { guest, since, held_before, .. }) in self.named.iter().enumerate() {
            let held = SystemTime::now().duration_since(*since).unwrap_or_default();
            let comma = if number > 0 { ", " } else { "" };
            let at_least = if *held_before { "at least " } else { "" };
            write!(out, "{comma}{guest} has held it for {at_least}{} s", held.as_secs())?;
        }
        if self.more > 0 { write!(out, ", and {} more", self.more) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_listed_in_the_order_of_their_owners() {
        let guest = Arc::new(Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid: 7 });
        for first in [1, 3, 5] {
            let mut holders = Holders::default();
            holders.insert(OwnerId(first), Holder::new(&guest));
            let others = [1, 3, 5].into_iter().filter(|&number| number != first);
            others.for_each(|number| holders.insert(OwnerId(number), Holder::new(&guest)));
            for (after, expected) in [(0, &[1, 3, 5][..]), (1, &[3, 5]), (4, &[5]), (5, &[])] {
                let found: Vec<_> =
                    holders.above(OwnerId(after)).map(|(owner, _)| owner.0).collect();
                assert_eq!(found, expected, "first {first}, after {after}");
            }
        }
    }

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

    #[test]
    fn a_summary_names_some_and_counts_the_others() {
        let holder = |pid| {
            let guest = Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid };
            Holder::new(&Arc::new(guest))
        };
        let summary = |count| {
            let holders: Vec<_> = (1..=count).map(holder).collect();
            HolderSummary::new(holders.iter())
        };
        assert!(!summary(0).are_known() && summary(1).are_known());
        let nobody = "a process that is not a client of this daemon holds it";
        assert_eq!(summary(0).to_string(), nobody);
        let text = summary(2).to_string();
        let named = |pid| format!("pid {pid}) has held it for 0 s");
        assert!(text.contains(&format!("{}, guest", named(1))) && text.ends_with(&named(2)));
        let max = u32::try_from(HOLDERS_NAMED_MAX).unwrap();
        assert!(summary(max).to_string().ends_with(&named(max)));
        assert!(summary(max + 2).to_string().ends_with(&format!("{}, and 2 more", named(max))));
        let before = Holder { held_before: true, ..holder(1) };
        let text = HolderSummary::new([before].iter()).to_string();
        assert!(text.ends_with("has held it for at least 0 s"));
    }
}
