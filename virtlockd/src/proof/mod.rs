//! Leases on shared storage, and whether they are proved.
//!
//! A lock on a file system of several hosts ends when its server has not heard of this host for the
//! lease time, and nobody tells. So a [prober](asking), a process without any lease, asks the server
//! of each [mount] again and again, and the [rule] says until when the last answer proves the
//! leases there. What happens then is set by the [policy].
//!
//! Without leases on such file systems there is no process, no timer and no memory for this.

mod asking;
mod deadline;
mod message;
pub(crate) mod mount;
mod nfs;
pub(crate) mod outside;
pub(crate) mod policy;
pub(crate) mod prober;
mod reach;
pub(crate) mod rule;
pub(crate) mod shared;
pub(crate) mod track;
mod upkeep;
pub(crate) mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the prober and returns its exit status, if these are its arguments.
#[must_use]
pub fn run_if_asked(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let is_asked = arguments.into_iter().nth(1).is_some_and(|argument| argument == prober::OPTION);
    is_asked.then(asking::run)
}
