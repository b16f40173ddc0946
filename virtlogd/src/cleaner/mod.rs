//! Deletes the logs of guests that are long gone.

mod chain;
mod pass;

pub use pass::{Summary, clean};
