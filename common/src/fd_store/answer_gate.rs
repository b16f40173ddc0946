//! Answers held back until the supervisor has received what they promise.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rpc::{self, Reply};
use crate::systemd::Notify;

/// Time for a supervisor whose queue is full. One that takes longer counts as deaf, and is not
/// waited for until it takes messages again.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A client and its answer.
pub(crate) type DeferredAnswer<C> = (C, Result<Reply, rpc::Error>);

/// Held-back answers to clients `C`, bounded by the number of clients: each has one call in flight.
#[derive(Debug)]
pub(crate) struct AnswerGate<C> {
    answers: VecDeque<Waiting<C>>,
    is_deaf: bool,
}

#[derive(Debug)]
struct Waiting<C> {
    /// Number of the last message that must be sent before it.
    number: u64,
    since: Instant,
    answer: DeferredAnswer<C>,
}

impl<C> Default for AnswerGate<C> {
    fn default() -> Self {
        Self { answers: VecDeque::new(), is_deaf: false }
    }
}

impl<C> AnswerGate<C> {
    /// Returns whether an answer has to wait now.
    pub(crate) fn must_wait(&mut self, notify: &Notify) -> bool {
        self.is_deaf &= notify.is_blocked();
        !self.is_deaf && notify.stored_up_to() < notify.last_number()
    }

    pub(crate) fn push(&mut self, answer: DeferredAnswer<C>, notify: &Notify) {
        let number = notify.last_number();
        self.answers.push_back(Waiting { number, since: Instant::now(), answer });
    }

    /// Returns the next answer that no longer has to wait.
    pub(crate) fn next(&mut self, notify: &Notify) -> Option<DeferredAnswer<C>> {
        let &Waiting { number, since, .. } = self.answers.front()?;
        if number > notify.stored_up_to() && self.must_wait(notify) {
            if !notify.is_blocked() || since.elapsed() < TIMEOUT {
                return None;
            }
            tracing::warn!(
                target: "util.systemd",
                "The supervisor takes no messages; a crash now could lose what was opened last"
            );
            self.is_deaf = true;
        }
        self.take()
    }

    /// Returns the next answer, whether or not the supervisor has received everything.
    pub(crate) fn take(&mut self) -> Option<DeferredAnswer<C>> {
        self.answers.pop_front().map(|waiting| waiting.answer)
    }
}

#[cfg(test)]
mod tests;
