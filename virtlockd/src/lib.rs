//! virtlockd: holds leases on disk images for guests, so that two guests never have one disk.
//!
//! A call is checked by the [`handler`] and becomes a task for a [resource](lockspace::resource) of a
//! [lockspace](lockspace::table); what touches files is a [job](lease::job) in between. Leases belong to [owners](owner::owners),
//! processes that are [watched](owner::lifecycle) for their [end](owner::signals).
//!
//! Five journeys through the code, and a glossary, are in the documentation of [`common`]; behaviour and
//! settings are in `virtlockd/README.md`.
//!
//! Invariants, because they are absences that nobody can see in the code:
//! - Only [`lease::job`] opens, closes, makes or removes a path that a client named, and [`lease::directory`]
//!   makes those of lockspaces, and only in jobs. One job at a time works on a resource.
//! - Whether two names are one file is never decided here: each name has a lock of its own on an
//!   open file description of its own, and the kernel knows. So closing one name's file never
//!   harms another's lock, and no table can be wrong about it. What the kernel does not know is which
//!   nodes are one block [device](lease::devices), and that we must not open what has a [POSIX lock](lease::inherited_posix_locks) of
//!   ours.
//! - No process is ever signalled by its number, only by its pidfd, and where there is none, nothing
//!   is done. (Where the kernel has no pidfds `sys` makes do with numbers and start times.) One is taken for dead when its pidfd says so; when no process had its number as it
//!   was registered (and one could have it: made-up pids of no process are left alone); or when the
//!   number that it was [known by](owner::identity) is another process's, or nobody's, later.
//! - A file's content is never read or written.

mod calls;
mod connections;
mod error;
mod handler;
mod ids;
mod lease;
mod lockspace;
mod outcome;
mod owner;
mod persist;
mod protocol;
mod service;
mod session;
mod sessions;
mod shutdown;
mod state;

pub use handler::Handler;
pub use outcome::Outcome;
