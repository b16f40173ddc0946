//! Answers that wait until the supervisor has taken what they promise.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::ClientId;
use crate::rpc::{self, Reply};

/// How long an answer waits. A supervisor that takes longer is deaf, and not waited for until it
/// has taken everything.
const PATIENCE: Duration = Duration::from_secs(1);

/// A client, and what it is to be told.
pub(super) type Told = (ClientId, Result<Reply, rpc::Error>);

/// Bounded by the clients, of whom each has one call in flight.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    answers: VecDeque<(Instant, Told)>,
    is_deaf: bool,
}

impl HeldBack {
    /// Whether an answer has to wait while the supervisor lacks so many messages.
    pub(super) fn is_needed(&mut self, waiting: usize) -> bool {
        self.is_deaf &= waiting > 0;
        waiting > 0 && !self.is_deaf
    }

    pub(super) fn push(&mut self, told: Told) {
        self.answers.push_back((Instant::now(), told));
    }

    /// The next answer that has waited for long enough.
    pub(super) fn next(&mut self, waiting: usize) -> Option<Told> {
        let &(since, _) = self.answers.front()?;
        if self.is_needed(waiting) {
            if since.elapsed() < PATIENCE {
                return None;
            }
            tracing::warn!(
                target: "util.systemd",
                "The supervisor takes nothing; a crash now could lose what was opened just now"
            );
            self.is_deaf = true;
        }
        self.take()
    }

    /// The next answer, whatever the supervisor has taken.
    pub(super) fn take(&mut self) -> Option<Told> {
        self.answers.pop_front().map(|(_, told)| told)
    }
}
