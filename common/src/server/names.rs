//! Names of users and groups.

use nix::unistd::{Gid, Group, Uid, User};

/// Names of a client's user and group.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) of: Numbers,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

/// Ids of a user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Names {
    /// Looks the names up. Belongs in a job, as a directory service may not answer.
    pub(super) fn look_up(of: Numbers) -> Self {
        let user = User::from_uid(Uid::from_raw(of.uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(of.gid)).ok().flatten();
        Self { of, user: user.map(|user| user.name), group: group.map(|group| group.name) }
    }
}
