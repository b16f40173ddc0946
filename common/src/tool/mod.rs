//! Parts that `virtlogctl` and `virtlockctl` share: the daemon's address, tables, failures.
//!
//! They ask by [`crate::client`], and change nothing.

mod daemon;
mod failure;
mod format;
mod metrics;
mod options;
mod processes;
mod status;
mod table;
mod uri;

pub use daemon::{Daemon, Json};
pub use failure::{Failure, run};
pub use format::{bytes, escaped, time};
pub use metrics::Metrics;
pub use options::{Connect, Output};
pub use processes::{Process, Unseen};
pub use status::print_status;
pub use table::{Column, Table};
