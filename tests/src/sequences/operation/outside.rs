//! Changes that others make to files.

use super::Operation;
use crate::harness::Program;
use crate::random::Random;

/// A change of a file by somebody who is no client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sequences) enum Change {
    /// It is removed, a directory with all that is in it.
    Remove,
    /// It gets another name.
    Rename(&'static str),
    /// It is made empty.
    Truncate,
    /// Something is written to its end.
    Grow(usize),
    /// It is made anew, and takes the old one's name at once.
    Replace(usize),
    /// A symbolic link takes its place.
    Link(&'static str),
    /// Another name is made of it.
    HardLink(&'static str),
    /// A directory takes its place.
    Directory,
    /// A device takes its place.
    Device,
    /// Nobody may read or write it any more, which root does not mind.
    Forbid,
    /// Somebody who is no client locks its first byte.
    Lock(LockMode),
    /// They let go of all their locks.
    Unlock,
}

/// How a stranger locks a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sequences) enum LockMode {
    Read,
    Write,
    /// The second byte.
    Beside,
}

impl Change {
    /// Another file that it concerns.
    pub(in crate::sequences) fn other_file(&self) -> Option<&str> {
        match self {
            Self::Rename(name) | Self::Link(name) | Self::HardLink(name) => Some(name),
            _ => None,
        }
    }
}

pub(super) fn change(random: &mut Random, program: Program) -> Operation {
    let file = match program {
        Program::Virtlogd => random.of(&["a", "a", "a", "b", "a.0", "a.1", "d/a", "d", "link"]),
        Program::Virtlockd => {
            random.of(&["a", "a", "a", "b", "b", "n", "space", "space/a", "link"])
        }
    };
    let others = match program {
        Program::Virtlogd => 92,
        Program::Virtlockd => 142,
    };
    let change = match random.below(others) {
        0..18 => Change::Remove,
        18..30 => Change::Rename(random.of(&["b", "a.1", "a.9", "d/b", "moved"])),
        30..40 => Change::Truncate,
        40..50 => Change::Grow(random.of(&[1, 50, 300])),
        50..60 => Change::Replace(random.of(&[0, 50, 500])),
        60..70 => Change::Link(random.of(&["b", "d/a", "d", "missing", "a"])),
        70..78 => Change::HardLink(random.of(&["b", "moved", "a.0"])),
        78..84 => Change::Directory,
        84..88 => Change::Device,
        88..92 => Change::Forbid,
        92..108 => Change::Lock(LockMode::Read),
        108..124 => Change::Lock(LockMode::Write),
        124..130 => Change::Lock(LockMode::Beside),
        _ => Change::Unlock,
    };
    Operation::Outside { file: file.to_owned(), change }
}
