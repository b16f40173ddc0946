//! Deletion of old logs: their guests are long gone.

mod chain;
mod pass;

pub use pass::{Summary, clean};
