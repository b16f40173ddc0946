//! Work on files: a [scheduler] of jobs, the [threads] that run them and the loop, and the
//! [storage] that jobs may block on.

pub(crate) mod haste;
pub(crate) mod job;
pub(crate) mod path_work;
pub(crate) mod progress;
pub(crate) mod scheduler;
mod slow;
pub(crate) mod storage;
pub(crate) mod threads;
