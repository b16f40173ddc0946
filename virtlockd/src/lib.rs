//! virtlockd: holds leases on disk images for guests, so that two guests never write to one disk.
//!
//! A [call](calls) becomes a task in the [queue](lockspace::queue) of a
//! [resource](lockspace::resource). The [execution](lockspace::execution) of a task begins it, runs
//! a [job](lease::job) where files are concerned, and applies the result. Leases belong to
//! [owners](owner::owners), processes that are watched from their registration to their
//! [end](owner::lifecycle).
//!
//! Layers, each of which uses only those below it:
//! - [`handler`] and [`service`]: the loop's and the start's view of the daemon.
//! - [`calls`], [`connections`], [`shutdown`], [`persist::restore`], [`query`]: events from outside.
//! - [`owner::lifecycle`], [`owner::termination`], [`owner::watch_retry`],
//!   [`lockspace::lock_check`]: what follows from an event.
//! - [`lockspace::execution`], and below it [`persist::fd_store`].
//! - [`state`]: all data, in the tables [`lockspace::table`], [`owner::owners`] and [`sessions`].
//! - [`lease`]: files and their locks. It runs on any thread and knows no table.
//! - [`ids`], [`protocol`], [`error`], [`outcome`].
//!
//! The five journeys through the code and the glossary are in the documentation of [`common`].
//! Behaviour and settings are in `virtlockd/README.md`.
//!
//! Invariants:
//! - Only [jobs](lease::job) open, close, create or remove a path that a client named, and
//!   [`lease::directory`] creates the directories of lockspaces, both in jobs. One job at a time
//!   works on a resource.
//! - The kernel decides whether two names are one file: each name has a lock of its own on an open
//!   file description of its own. So closing one name's file never harms another's lock, and no
//!   table can be wrong about it. Two cases are not known to the kernel: several nodes of one block
//!   [device](lease::devices), and files that must not be opened because this process has a [POSIX
//!   lock](lease::inherited_posix_locks) on them.
//! - A process is signalled by its pidfd. Where the kernel has no pidfds, [`common::sys`] compares
//!   pid and start time first. Without either nothing is sent.
//! - An owner counts as dead only if its pidfd says so, if no process had its pid when it was
//!   registered (and a process could have it), or if the pid that it was [found
//!   by](owner::identity) belongs to another process or to none now.
//! - The content of a file is never written, nor read but for a byte that tells whether the kernel has
//!   lost the lock on shared storage.

mod audit;
mod calls;
mod connections;
mod counts;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handler;
mod ids;
mod lease;
mod lockspace;
mod message;
mod outcome;
mod owner;
mod persist;
mod proof;
mod protocol;
mod query;
mod service;
mod session;
mod sessions;
mod shutdown;
mod state;
pub mod tool;

pub use handler::Handler;
pub use outcome::Outcome;
pub use proof::run_if_asked as run_prober_if_asked;
pub use service::Settings;
