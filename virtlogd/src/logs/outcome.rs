//! What a job brings back.

use crate::guest::access::Fetched;
use crate::logs::task::TaskResult;

/// The result of a job.
#[derive(Debug)]
pub struct Outcome(pub(crate) JobResult);

/// The jobs that there are.
#[derive(Debug)]
pub(crate) enum JobResult {
    /// A task of the queue with this number.
    Task(u64, TaskResult),
    /// A fetch of a guest's bytes beside the tasks of its log.
    Fetch {
        /// Number of the queue.
        number: u64,
        /// Number of the guest.
        guest: u64,
        /// What was done to its pipe.
        fetched: Fetched,
    },
    /// The pipe of the guest with this number is closed.
    Closing(u64),
    /// A piece was taken out of an unclaimed pipe.
    UnclaimedPipe {
        /// Number of the pipe.
        number: u64,
        /// Nothing will come any more.
        is_at_end: bool,
    },
    /// Old logs were looked for.
    Cleaning,
}
