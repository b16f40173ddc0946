//! Live upgrade: a process executes its successor, with every fd open.
//!
//! An upgrade is a transaction. Before anything is given up the [target](mod@target) is asked, in a
//! [child](check), whether it could take over with the present document and configuration. Only
//! then the final [document] is [written](state) and the target [executed](exec()). If any step
//! fails, this process continues.
//!
//! - Only [`document`] has serde's derives. Live objects are converted to and from its items, and
//!   adopted one by one: a broken item does not affect others.
//! - Only [`exec()`] clears `FD_CLOEXEC`.
//! - [`InheritedFds`] owns an inherited fd until it is taken.

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
