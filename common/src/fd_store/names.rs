//! Names of fds in the supervisor's store: a letter for the kind, and a key.

use super::slots::KEY_MAX;

/// Highest number accepted in a name. Counting never reaches it, and counting on from it never
/// overflows.
const NUMBER_MAX: u64 = 1 << 48;

/// Kind of a stored fd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An end of a guest's pipe.
    Log,
    /// Both ends of a staging pipe.
    Pipe,
    /// A memfd with the owner of each staging pipe: a slot per key.
    StagingOwners,
    /// A locked file.
    Lease,
    /// Connection of an owner of leases.
    Client,
    /// A memfd with the pending reply of each client: a slot per key.
    PendingReplies,
    /// A memfd of the journal, by its number.
    Journal,
    /// End of a pipe whose other end reports when the store closes it, by its number.
    Sentinel,
}

impl Kind {
    /// Returns the name of a key. Names are short, as all have to fit one environment variable.
    #[must_use]
    pub fn name(self, key: u64) -> String {
        format!("{}{key:x}", self.prefix())
    }

    /// Returns the key, or number, in a name of this kind.
    #[must_use]
    pub fn key(self, name: &str) -> Option<u64> {
        let number = u64::from_str_radix(name.strip_prefix(self.prefix())?, 16).ok();
        number.filter(|&number| number <= NUMBER_MAX)
    }

    const ALL: [Self; 8] = [
        Self::Log,
        Self::Pipe,
        Self::StagingOwners,
        Self::Lease,
        Self::Client,
        Self::PendingReplies,
        Self::Journal,
        Self::Sentinel,
    ];

    fn prefix(self) -> &'static str {
        match self {
            Self::Log => "l",
            Self::Pipe => "p",
            Self::StagingOwners => "m",
            Self::Lease => "r",
            Self::Client => "c",
            Self::PendingReplies => "o",
            Self::Journal => "j",
            // With the dot: an earlier version would take the number for a key.
            Self::Sentinel => "s.",
        }
    }
}

/// Returns the key in a name. Journals and sentinels have numbers, not keys; other names have none.
#[must_use]
pub fn key_of(name: &str) -> Option<u64> {
    let numbered = |kind: &Kind| matches!(kind, Kind::Journal | Kind::Sentinel);
    let kinds = Kind::ALL.into_iter().filter(|kind| !numbered(kind));
    kinds.filter_map(|kind| kind.key(name)).find(|&key| key <= KEY_MAX)
}
