//! The supervisor's fd store, as far as that has to do with neither clients nor a daemon's items.
//!
//! - [`journal`] and [`slots`] are what is written for a process that comes after a crash;
//!   [`recovery`] is how that reads it.
//! - [`proof`] finds out what the store holds.
//! - [`answer_gate`] and [`reply_record`] are for answers that promise something that is stored.

pub(crate) mod answer_gate;
pub mod journal;
pub(crate) mod keys;
pub mod names;
pub mod pending_reply;
pub(crate) mod proof;
pub mod recovery;
pub(crate) mod reply_record;
pub mod slots;
