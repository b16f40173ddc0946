//! Logs: the [`table`] of paths, the [`queue`] of each path, the [tasks](task) in it, and the [`writer`] of a
//! log's file, who [transfers](transfer) the bytes of its guest.
//!
//! Tasks run as jobs, on any thread, and own what they work on. They are started by the
//! [scheduler](crate::scheduler).

mod calls;
pub(crate) mod closing_pipes;
pub(crate) mod outcome;
mod path_bytes;
pub(crate) mod queue;
pub(crate) mod restored_file;
pub(crate) mod source;
pub(crate) mod stops;
pub(crate) mod suspects;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod timer;
mod transfer;
pub(crate) mod turn_budget;
mod waiting_tasks;
pub(crate) mod write_outcome;
pub(crate) mod writer;
