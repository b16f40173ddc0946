//! What users and groups are called.

use nix::unistd::{Gid, Group, Uid, User};

/// What a client's user and group are called.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) of: Numbers,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Names {
    /// Asks the databases, which may be a directory service that does not answer: for a job.
    pub(super) fn look_up(of: Numbers) -> Self {
        let user = User::from_uid(Uid::from_raw(of.uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(of.gid)).ok().flatten();
        Self { of, user: user.map(|user| user.name), group: group.map(|group| group.name) }
    }
}
