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
    let is_filled = |fd: BorrowedFd<'_>| pipe::readable_bytes(fd).is_ok_and(|bytes| bytes > 0);
    let are_ends = |reader, writer| {
        fd::is(reader, |reader| fd::is(writer, |writer| pipe::are_ends(reader, writer)))
    };
    let with_writer = |reader| {
        let writer = numbers.iter().copied().find(|&number| are_ends(reader, number))?;
        Some((reader, writer))
    };
    numbers.iter().copied().filter(|&number| fd::is(number, is_filled)).find_map(with_writer)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn ends_are_of_one_pipe_with_bytes() {
        let ((reader, writer), (other_reader, other_writer)) =
            (pipe::pipe().unwrap(), pipe::pipe().unwrap());
        let numbers = [&other_reader, &writer, &reader, &other_writer].map(AsRawFd::as_raw_fd);
        assert_eq!(ends(&numbers), None, "they are empty");
        pipe::write(&writer, b"bytes").unwrap();
        assert_eq!(ends(&numbers), Some((reader.as_raw_fd(), writer.as_raw_fd())));
        let without_writer = [&reader, &other_reader, &other_writer].map(AsRawFd::as_raw_fd);
        assert_eq!(ends(&without_writer), None, "the other writer is of the other pipe");
    }

    #[test]
    fn a_mark_names_its_owner_unless_nothing_was_written() {
        let mark = Mark { owner: 1 << 40, order: 7 };
        assert_eq!(Mark::parse(mark.to_bytes()), Some(mark));
        assert_eq!(Mark::parse(slots::Slot::default()), None);
    }
}
