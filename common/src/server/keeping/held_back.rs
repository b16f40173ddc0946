//! Answers that wait until the supervisor was sent what they promise.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::ClientId;
use crate::rpc::{self, Reply};
use crate::systemd::Notify;

/// How long an answer waits for a supervisor that has no room for messages. One that takes longer is
/// deaf, and not waited for until it has taken everything.
const PATIENCE: Duration = Duration::from_secs(1);

/// A client, and what it is to be told.
pub(super) type Told = (ClientId, Result<Reply, rpc::Error>);

/// Bounded by the clients, of whom each has one call in flight.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    answers: VecDeque<Waiting>,
    is_deaf: bool,
}

#[derive(Debug)]
struct Waiting {
    /// The last message before it.
    number: u64,
    since: Instant,
    told: Told,
}

impl HeldBack {
    /// Whether an answer has to wait now.
    pub(super) fn is_needed(&mut self, notify: &Notify) -> bool {
        self.is_deaf &= notify.waiting() > 0;
        !self.is_deaf && notify.stored_up_to() < notify.last_number()
    }

    pub(super) fn push(&mut self, told: Told, notify: &Notify) {
        let number = notify.last_number();
        self.answers.push_back(Waiting { number, since: Instant::now(), told });
    }

    /// The next answer that has waited for long enough.
    pub(super) fn next(&mut self, notify: &Notify) -> Option<Told> {
        let &Waiting { number, since, .. } = self.answers.front()?;
        if number > notify.stored_up_to() && self.is_needed(notify) {
            if !notify.is_blocked() || since.elapsed() < PATIENCE {
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
        self.answers.pop_front().map(|waiting| waiting.told)
    }
}
