//! The kernel's locks on the first bytes of files, as the model has them.

use std::collections::BTreeMap;

use super::names::Name;
use crate::walks::locks::File;

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

/// Who has a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// The daemon's process, by a POSIX lock, which is one for all its fds of the file.
    Process,
    /// The open file of one lease, by an OFD lock.
    Lease(Name),
    /// A process that is no client of the daemon.
    Stranger,
}

/// All locks.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel(BTreeMap<(File, Holder), Mode>);

impl Kernel {
    /// Takes a lock in place of any that the holder has, unless others' stand against it.
    pub(super) fn try_lock(&mut self, file: File, holder: &Holder, mode: Mode) -> bool {
        let can = self.can_lock(file, holder, mode);
        if can {
            self.0.insert((file, holder.clone()), mode);
        }
        can
    }

    /// Whether that would work.
    pub(super) fn can_lock(&self, file: File, holder: &Holder, mode: Mode) -> bool {
        let excludes = |other: Mode| mode == Mode::Exclusive || other == Mode::Exclusive;
        !self.of(file).any(|(other, &its)| other != holder && excludes(its))
    }

    /// Gives up a lock, if there is one.
    pub(super) fn unlock(&mut self, file: File, holder: &Holder) {
        self.0.remove(&(file, holder.clone()));
    }

    /// The daemon's process has ended, and nobody keeps its files open.
    pub(super) fn daemon_ends(&mut self) {
        self.0.retain(|(_, holder), _| *holder == Holder::Stranger);
    }

    /// The lock that a holder has.
    pub(super) fn lock(&self, file: File, holder: &Holder) -> Option<Mode> {
        self.0.get(&(file, holder.clone())).copied()
    }

    /// The strongest lock of the daemon.
    pub(super) fn daemons(&self, file: File) -> Option<Mode> {
        let daemons = self.of(file).filter(|(holder, _)| **holder != Holder::Stranger);
        daemons.map(|(_, &mode)| mode).max()
    }

    fn of(&self, file: File) -> impl Iterator<Item = (&Holder, &Mode)> {
        let all = self.0.iter().filter(move |((its, _), _)| *its == file);
        all.map(|((_, holder), mode)| (holder, mode))
    }
}
