//! Deletion of logs: of old ones, whose guests are long gone, and of older parts where there is no room.

mod budget;
mod chain;
mod heads;
mod pass;

pub use budget::{Budget, Kept};
pub use pass::{Summary, clean};
