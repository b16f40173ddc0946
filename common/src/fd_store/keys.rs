//! Keys of what is kept: small numbers, as all names have to fit one variable, so they are used
//! again.

use std::collections::BTreeSet;

/// A key is used again only when the supervisor has certainly removed what had it before: the
/// journal would say of the old what is true of the new.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    last: u64,
    /// Above that, those of a process before this one.
    used: BTreeSet<u64>,
    free: BTreeSet<u64>,
    /// Given back, and the supervisor may still have what had them.
    given_back: BTreeSet<u64>,
}

impl Keys {
    /// Beside those that are used already.
    pub(crate) fn beside(used: BTreeSet<u64>) -> Self {
        Self { used, ..Self::default() }
    }

    /// One that nothing has.
    pub(crate) fn take(&mut self) -> u64 {
        self.free.pop_first().unwrap_or_else(|| {
            // It ends: they are no more than this process has fds.
            loop {
                self.last += 1;
                if !self.used.remove(&self.last) {
                    return self.last;
                }
            }
        })
    }

    /// Nothing has this any more.
    pub(crate) fn give_back(&mut self, key: u64) {
        self.given_back.insert(key);
    }

    /// What had these was removed.
    pub(crate) fn are_free(&mut self, keys: impl IntoIterator<Item = u64>) {
        self.free.extend(keys.into_iter().filter(|key| self.given_back.remove(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absurd_key_costs_nothing() {
        let mut keys = Keys::beside(BTreeSet::from([1, 1 << 40, u64::MAX]));
        assert_eq!([keys.take(), keys.take()], [2, 3]);
    }

    #[test]
    fn a_key_is_used_again_once_the_supervisor_knows() {
        let mut keys = Keys::beside(BTreeSet::from([2, 4]));
        assert_eq!([keys.take(), keys.take(), keys.take()], [1, 3, 5]);
        keys.give_back(2);
        assert_eq!(keys.take(), 6);
        keys.are_free([2, 7]);
        assert_eq!([keys.take(), keys.take()], [2, 7]);
    }
}
