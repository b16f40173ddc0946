//! Live upgrade: one image of the process executes the next, with every fd open.
//!
//! A transaction. Before anything is given up the [target](mod@target) is asked, in a [child](check),
//! whether it could take over with the document and the configuration that there are. Only then
//! the final [document] is [written](state) and the target [executed](exec()). Whatever fails on
//! the way, this image serves on.
//!
//! - Only [`document`] has serde's derives. Live objects know how to become one of its items and
//!   how to be made from one, and adopt item by item: what is sound counts.
//! - Only [`exec()`] clears `FD_CLOEXEC`.
//! - An fd that was inherited is owned by [`InheritedFds`] until somebody takes it.

pub mod check;
pub mod document;
mod exec;
mod fds;
mod memfd;
mod state;
mod target;
pub mod text;

pub use exec::{Error, exec};
pub use fds::{FdSet, InheritedFds};
pub use memfd::BYTES_MAX;
pub use state::{Found, Successor, VARIABLE, WriteError, find, remove};
pub use target::{Error as TargetError, Target, executed};
