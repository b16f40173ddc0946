//! Work that touches files, beside the loop: [what waits](scheduler), the [threads] that run it, and
//! the [storage] that it may have to wait for.

pub(crate) mod haste;
pub(crate) mod job;
pub(crate) mod path_work;
pub(crate) mod progress;
pub(crate) mod scheduler;
mod slow;
pub(crate) mod storage;
pub(crate) mod threads;
