//! Guests and their output, on its way to a log.
//!
//! A [guest](access) has a [pipe], whose bytes pass through a [staging pipe](staging) into the log's file.
//! Bytes that cannot be written are in the [`backlog`], and in the end a [`loss`]. Nothing here knows the
//! tasks and queues of logs.

pub(crate) mod access;
pub(crate) mod activity;
pub(crate) mod backlog;
pub(crate) mod crash_records;
mod discard;
pub(crate) mod fetch;
pub(crate) mod loss;
pub(crate) mod loss_line;
pub(crate) mod loss_report;
pub(crate) mod pipe;
pub(crate) mod pipe_budget;
pub(crate) mod rate;
pub(crate) mod rate_cap;
pub(crate) mod reason;
pub(crate) mod staging;
pub(crate) mod tally;
