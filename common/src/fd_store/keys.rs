//! Keys of stored items. They are small and reused, as all names have to fit one environment
//! variable.

use std::collections::BTreeSet;

/// Allocator of keys. A key is reused only when the supervisor has certainly removed its old item:
/// the journal would apply the old record to the new item.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    last: u64,
    /// Used keys. The larger ones are a predecessor's.
    used: BTreeSet<u64>,
    free: BTreeSet<u64>,
    /// Freed keys whose items the supervisor may still have.
    given_back: BTreeSet<u64>,
}

impl Keys {
    /// Makes an allocator in which these keys are used already.
    pub(crate) fn beside(used: BTreeSet<u64>) -> Self {
        Self { used, ..Self::default() }
    }

    /// Allocates an unused key.
    pub(crate) fn take(&mut self) -> u64 {
        self.free.pop_first().unwrap_or_else(|| {
            // Terminates: there are no more keys than this process has fds.
            loop {
                self.last += 1;
                if !self.used.remove(&self.last) {
                    return self.last;
                }
            }
        })
    }

    /// Frees a key whose item the supervisor may still have.
    pub(crate) fn give_back(&mut self, key: u64) {
        self.given_back.insert(key);
    }

    /// Makes freed keys available: their items were removed.
    pub(crate) fn make_available(&mut self, keys: impl IntoIterator<Item = u64>) {
        self.free.extend(keys.into_iter().filter(|key| self.given_back.remove(key)));
    }
}

#[cfg(test)]
mod tests;
