//! Guests: their pipes, the backlog of what could not be written, and the pipes that bytes pass through.

pub(crate) mod access;
pub(crate) mod backlog;
pub(crate) mod crash_records;
pub(crate) mod fetch;
pub(crate) mod loss;
pub(crate) mod loss_line;
pub(crate) mod loss_report;
pub(crate) mod pipe;
pub(crate) mod pipe_budget;
pub(crate) mod rate;
pub(crate) mod staging;
