//! The supervisor's fd store, independent of clients and of a daemon's items.
//!
//! - [`journal`] and [`slots`] are written for recovery after a crash, and [`recovery`] reads them.
//! - [`proof`] finds out what the store holds.
//! - [`answer_gate`] and [`reply_record`] hold back and record answers that promise stored items.

pub(crate) mod answer_gate;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod journal;
pub(crate) mod keys;
pub mod names;
pub mod pending_reply;
pub(crate) mod proof;
pub mod recovery;
pub(crate) mod reply_record;
pub mod slots;
