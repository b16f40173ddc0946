//! Keys of what is kept: small numbers, as all names have to fit one variable, so they are used
//! again.

use std::collections::BTreeSet;

/// A key is used again only when the supervisor was told to remove what had it before: the journal
/// would say of the old what is true of the new.
#[derive(Debug, Default)]
pub(super) struct Keys {
    last: u64,
    free: BTreeSet<u64>,
    /// Given back, and the supervisor was not told yet.
    given_back: BTreeSet<u64>,
}

impl Keys {
    /// Beside those that are used already.
    pub(super) fn beside(used: &BTreeSet<u64>) -> Self {
        let last = used.last().copied().unwrap_or(0);
        let free = (1..last).filter(|key| !used.contains(key)).collect();
        Self { last, free, given_back: BTreeSet::new() }
    }

    /// One that nothing has.
    pub(super) fn take(&mut self) -> u64 {
        self.free.pop_first().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }

    /// Nothing has this any more.
    pub(super) fn give_back(&mut self, key: u64) {
        self.given_back.insert(key);
    }

    /// The supervisor was told of all that were given back.
    pub(super) fn given_back_are_free(&mut self) {
        self.free.append(&mut self.given_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_again_once_the_supervisor_knows() {
        let mut keys = Keys::beside(&BTreeSet::from([2, 4]));
        assert_eq!([keys.take(), keys.take(), keys.take()], [1, 3, 5]);
        keys.give_back(2);
        assert_eq!(keys.take(), 6);
        keys.given_back_are_free();
        assert_eq!([keys.take(), keys.take()], [2, 7]);
    }
}
