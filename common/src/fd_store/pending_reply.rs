//! Pending replies of a process that has crashed.

use super::slots::{SLOT_BYTES, Slot};
use crate::rpc::program::ReplyTo;

/// Not a program's number.
const NO_PROGRAM: u32 = u32::MAX;

/// Reply that a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingReply {
    /// None: every byte that was read belongs to an answered call.
    Nothing,
    /// The answer to a call.
    Answer(ReplyTo),
    /// Unknown: part of a message was read.
    Unknown,
}

impl PendingReply {
    /// Encodes it as a slot.
    #[must_use]
    pub fn to_slot(self) -> Slot {
        let words = match self {
            Self::Nothing => [0; 4],
            Self::Answer(reply_to) => reply_to.to_words(),
            Self::Unknown => [NO_PROGRAM; 4],
        };
        let mut slot = Slot::default();
        let places = slot.chunks_exact_mut(SLOT_BYTES / words.len());
        places.zip(words).for_each(|(place, word)| place.copy_from_slice(&word.to_ne_bytes()));
        slot
    }

    /// Decodes a slot.
    #[must_use]
    pub fn from_slot(slot: Slot) -> Self {
        let mut words = [0; 4];
        let places = slot.chunks_exact(SLOT_BYTES / words.len());
        for (word, place) in words.iter_mut().zip(places) {
            *word = place.try_into().map_or(0, u32::from_ne_bytes);
        }
        match words {
            [0, ..] => Self::Nothing,
            [NO_PROGRAM, ..] => Self::Unknown,
            words => Self::Answer(ReplyTo::from_words(words)),
        }
    }
}

#[cfg(test)]
mod tests;
