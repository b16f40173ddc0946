//! Counts of what was asked of leases, for who looks into the daemon.

use std::collections::BTreeMap;

use crate::error::lock::LockError;
use crate::lockspace::action::{Action, Begun, HolderChange};

/// Names of the reasons for refusals in the answers of our read-only program.
const REASONS: [&str; 5] = ["held", "locked", "file", "not-held", "call"];

/// Counts of calls that were refused, by their reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals([u64; REASONS.len()]);

/// Counts of leases that came and went.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// ACQUIRE that succeeded.
    pub(crate) acquired: u64,
    /// RELEASE that succeeded.
    pub(crate) released: u64,
    /// Leases that were released for another reason, mostly as their owner has ended.
    pub(crate) ended: u64,
}

impl Refusals {
    /// Counts a refusal.
    pub(crate) fn add(&mut self, refusal: &LockError) {
        let reason = reason(refusal);
        let counts = REASONS.iter().zip(&mut self.0);
        counts.filter(|(name, _)| **name == reason).for_each(|(_, count)| *count += 1);
    }

    /// Returns the number of each reason.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        REASONS.iter().zip(self.0).map(|(name, count)| ((*name).to_owned(), count)).collect()
    }
}

impl Counts {
    /// Counts an action that was begun.
    pub(crate) fn begun(&mut self, action: &Action, begun: &Begun) {
        let has_lost = matches!(
            begun,
            Begun::Job(HolderChange::Lost(_), _) | Begun::Finished(Ok(HolderChange::Lost(_)))
        );
        self.ended += u64::from(has_lost && matches!(action, Action::ReleaseAll(_)));
    }

    /// Counts an action that has succeeded.
    pub(crate) fn done(&mut self, action: &Action) {
        match action {
            Action::Acquire(..) => self.acquired += 1,
            Action::Release(_) => self.released += 1,
            Action::Create
            | Action::Delete
            | Action::ReleaseAll(_)
            | Action::CheckLock { .. }
            | Action::TestLock => {}
        }
    }
}

fn reason(refusal: &LockError) -> &'static str {
    match refusal {
        LockError::Locked { holders, .. } if holders.are_known() => "held",
        LockError::Locked { .. } => "locked",
        LockError::File(_) => "file",
        LockError::NotLocked(_) | LockError::NotHolder { .. } => "not-held",
        LockError::Restricted
        | LockError::Unregistered
        | LockError::NoLockspace(_)
        | LockError::DefaultLockspace
        | LockError::LockspaceExists(_)
        | LockError::TooManyLockspaces => "call",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_one_reason() {
        let mut refusals = Refusals::default();
        refusals.add(&LockError::Restricted);
        refusals.add(&LockError::NotLocked(Box::default()));
        refusals.add(&LockError::Unregistered);
        let found = refusals.by_reason();
        let expected = [("call", 2), ("file", 0), ("held", 0), ("locked", 0), ("not-held", 1)];
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            expected.map(|(it, n)| (it.to_owned(), n))
        );
    }
}
