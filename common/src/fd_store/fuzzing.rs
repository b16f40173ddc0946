//! The allocator of keys, for fuzzing.

use std::collections::BTreeSet;

use super::keys::Keys;

/// The allocator of keys.
#[derive(Debug, Default)]
pub struct KeyAllocator(Keys);

impl KeyAllocator {
    /// Makes an allocator in which these keys are used already.
    #[must_use]
    pub fn beside(used: BTreeSet<u64>) -> Self {
        Self(Keys::beside(used))
    }

    /// Allocates an unused key.
    pub fn take(&mut self) -> u64 {
        self.0.take()
    }

    /// Frees a key whose item the supervisor may still have.
    pub fn give_back(&mut self, key: u64) {
        self.0.give_back(key);
    }

    /// Makes freed keys available.
    pub fn make_available(&mut self, keys: impl IntoIterator<Item = u64>) {
        self.0.make_available(keys);
    }
}
