//! Names of fds in the supervisor's store: a letter for the kind, and a key.

use super::slots::KEY_MAX;

/// The highest number in a name that is believed. Nobody comes as far who counts, and who goes on
/// counting from there comes to no end of the numbers.
const NUMBER_MAX: u64 = 1 << 48;

/// What a stored fd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The end of a guest's pipe.
    Log,
    /// Both ends of a staging pipe.
    Pipe,
    /// A memfd that says whose bytes are in which staging pipe: a mark at the place of each key.
    StagingOwners,
    /// A locked file.
    Lease,
    /// A connection of an owner of leases.
    Client,
    /// A memfd that says what clients are pending: a mark at the place of each key.
    PendingReplies,
    /// A memfd of the journal, by its number.
    Journal,
    /// The end of a pipe whose other end tells when the store lets go of it, by its number.
    Sentinel,
}

impl Kind {
    /// Short: all names together have to fit one variable of the environment.
    #[must_use]
    pub fn name(self, key: u64) -> String {
        format!("{}{key:x}", self.prefix())
    }

    /// The key, or number, in a name of this kind.
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
            // An earlier version would take the number for a key.
            Self::Sentinel => "s.",
        }
    }
}

/// The key in a name; journals and sentinels have numbers of their own, and what is not ours has
/// none.
#[must_use]
pub fn key_of(name: &str) -> Option<u64> {
    let numbered = |kind: &Kind| matches!(kind, Kind::Journal | Kind::Sentinel);
    let kinds = Kind::ALL.into_iter().filter(|kind| !numbered(kind));
    kinds.filter_map(|kind| kind.key(name)).find(|&key| key <= KEY_MAX)
}
