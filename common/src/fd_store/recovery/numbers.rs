//! Numbers of recovered fds.

use std::collections::HashMap;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use crate::fd_store::names::Kind;
use crate::fd_store::slots::SlotFile;
use crate::handover::InheritedFds;
use crate::sys::fd;
use crate::sys::shortage::wait_out;

/// Numbers of returned fds, by name.
pub(super) struct Numbers(HashMap<String, Vec<RawFd>>);

impl Numbers {
    pub(super) fn new(stored: Vec<(String, OwnedFd)>, inherited: &mut InheritedFds) -> Self {
        let mut numbers: HashMap<String, Vec<RawFd>> = HashMap::new();
        for (name, fd) in stored {
            let number = fd.into_raw_fd();
            inherited.add(number);
            numbers.entry(name).or_default().push(number);
        }
        Self(numbers)
    }

    pub(super) fn of(&self, kind: Kind, key: u64) -> &[RawFd] {
        self.0.get(&kind.name(key)).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn one(&self, kind: Kind, key: u64) -> Option<RawFd> {
        self.of(kind, key).first().copied()
    }

    /// Returns the slot files of a kind with their names, the newest last. There are two when an
    /// earlier version's start was cut off.
    pub(super) fn slot_files(&self, kind: Kind) -> Vec<(String, RawFd, SlotFile)> {
        let open = |number| fd::with_number(number, |fd| wait_out(|| fd.try_clone_to_owned())).ok();
        let open = |key| {
            let number = self.one(kind, key)?;
            Some((kind.name(key), number, SlotFile::from(open(number)?)))
        };
        let mut all: Vec<_> = self.keys(kind).filter_map(open).collect();
        all.sort_by_cached_key(|(name, _, slots)| (slots.stamp(), name.clone()));
        all
    }

    /// Returns the memfds that the next process continues to use.
    pub(super) fn essentials(&self) -> Vec<(String, RawFd)> {
        let journals = self.keys(Kind::Journal).filter_map(|number| {
            Some((Kind::Journal.name(number), self.one(Kind::Journal, number)?))
        });
        let sentinels = self.keys(Kind::Sentinel).filter_map(|number| {
            Some((Kind::Sentinel.name(number), self.one(Kind::Sentinel, number)?))
        });
        let newest = |kind| self.slot_files(kind).pop().map(|(name, number, _)| (name, number));
        let slots = newest(Kind::StagingOwners).into_iter().chain(newest(Kind::PendingReplies));
        journals.chain(slots).chain(sentinels).collect()
    }

    pub(super) fn keys(&self, kind: Kind) -> impl Iterator<Item = u64> {
        self.0.keys().filter_map(move |name| kind.key(name))
    }
}
