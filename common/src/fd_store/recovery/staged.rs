//! Recovered staging pipes.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, RawFd};

use super::numbers::Numbers;
use crate::fd_store::names::Kind;
use crate::fd_store::slots::{self, AtRisk, SlotFile};
use crate::sys::{fd, pipe};

/// Staged bytes, by the log's key.
pub(super) struct Staged {
    /// Slot file with lines about losses.
    slots: Option<SlotFile>,
    /// Non-empty staging pipes, in each log's order.
    pub(super) pipes: HashMap<u64, Vec<StagedPipe>>,
    /// Bytes in pipes that the store may lack, by the pipe's key.
    pub(super) at_risk: HashMap<u64, Vec<(u64, AtRisk)>>,
}

#[derive(Clone)]
pub(super) struct StagedPipe {
    pub(super) key: u64,
    order: u64,
    pub(super) ends: (RawFd, RawFd),
}

impl Staged {
    /// Reads the slot files. Bytes at risk count only from this round on.
    pub(super) fn read(numbers: &Numbers, round: u32) -> Self {
        let mut pipes: HashMap<u64, Vec<StagedPipe>> = HashMap::new();
        let slots = numbers.slot_files(Kind::StagingOwners);
        for key in numbers.keys(Kind::Pipe) {
            let owner = |slots: &SlotFile| slots.get(key).ok().and_then(Mark::parse);
            let latest = slots.iter().filter_map(|(.., slots)| owner(slots));
            let latest = latest.max_by_key(|owner| owner.order);
            if let (Some(Mark { owner, order }), Some(ends)) =
                (latest, ends(numbers.of(Kind::Pipe, key)))
            {
                pipes.entry(owner).or_default().push(StagedPipe { key, order, ends });
            }
        }
        pipes.values_mut().for_each(|pipes| pipes.sort_by_key(|pipe| pipe.order));
        let mut at_risk: HashMap<u64, Vec<(u64, AtRisk)>> = HashMap::new();
        let noted = slots.last().and_then(|(.., slots)| slots.at_risk().ok());
        for (key, noted) in noted.into_iter().flatten().filter(|(_, noted)| noted.round >= round) {
            at_risk.entry(noted.owner.into()).or_default().push((key, noted));
        }
        Self { pipes, at_risk, slots: slots.into_iter().next_back().map(|(.., slots)| slots) }
    }

    /// Returns the latest line about a loss of this log.
    pub(super) fn line(&self, key: u64, numbers: &Numbers) -> Option<slots::Line> {
        let line = self.slots.as_ref()?.line(key).ok()??;
        let pipe = numbers.one(Kind::Log, key)?;
        let inode = |fd: BorrowedFd<'_>| fd::device_and_inode(fd).map(|(_, inode)| inode);
        fd::with_number(pipe, inode).is_ok_and(|inode| inode == line.pipe_inode).then_some(line)
    }
}

/// Owner of a staging pipe's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The log's key.
    pub owner: u64,
    /// Grows with each record, also across processes.
    pub order: u64,
}

impl Mark {
    /// Encodes it as a slot.
    #[must_use]
    pub fn to_bytes(self) -> slots::Slot {
        let mut bytes = slots::Slot::default();
        let (owner, order) = bytes.split_at_mut(size_of::<u64>());
        owner.copy_from_slice(&self.owner.to_ne_bytes());
        order.copy_from_slice(&self.order.to_ne_bytes());
        bytes
    }

    fn parse(bytes: slots::Slot) -> Option<Self> {
        let (owner, order) = bytes.split_at_checked(size_of::<u64>())?;
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
        let owner = Self { owner: word(owner)?, order: word(order)? };
        (owner.owner != 0).then_some(owner)
    }
}

/// Returns the read end and the write end of a non-empty pipe.
fn ends(numbers: &[RawFd]) -> Option<(RawFd, RawFd)> {
    let is_reader = |number: RawFd| fd::is(number, |fd| fd::is_readable(fd));
    let reader = numbers.iter().copied().find(|&number| is_reader(number))?;
    let writer = numbers.iter().copied().find(|&number| !is_reader(number))?;
    let is_filled = fd::is(reader, |fd| pipe::readable_bytes(fd).is_ok_and(|bytes| bytes > 0));
    is_filled.then_some((reader, writer))
}
