//! State of the job that takes bytes out of a suspect guest's pipe, beside the tasks of its log.

use std::time::Duration;

use common::server::Progress;

use crate::guest::access::Fetched;

/// Time that a task waits for the bytes that a suspect has written before it, and interval at which
/// it is tried whether they can be fetched.
pub(crate) const FETCH_PERIOD: Duration = Duration::from_millis(50);

/// A job that touches a guest's pipe and nothing else. Boxed, as few guests ever need one.
#[derive(Debug, Default)]
pub(crate) struct Fetch(Option<Box<State>>);

#[derive(Debug, Default)]
struct State {
    /// Account of the one that is under way.
    progress: Option<Progress>,
    /// It was begun after the first task came.
    is_for_task: bool,
    /// The guest's pipe was ready again meanwhile, which is reported once.
    is_wanted_again: bool,
    /// No task waits for it any longer.
    is_stalled: bool,
    /// The guest's bytes from before the first task were fetched, or are not waited for.
    is_done: bool,
    /// Number of those bytes that are left, once that is known.
    left_bytes: Option<u64>,
}

impl Fetch {
    /// Begins one, with an account for the job.
    pub(crate) fn begin(&mut self, progress: Progress, is_for_task: bool) {
        let left_bytes = self.0.as_ref().and_then(|state| state.left_bytes);
        let progress = Some(progress);
        self.set(State { progress, is_for_task, left_bytes, ..State::default() });
    }

    /// Notes that one is wanted although one is under way, which may have looked before. Returns whether
    /// one is under way.
    pub(crate) fn want_again(&mut self) -> bool {
        let under_way = self.0.as_mut().filter(|state| state.progress.is_some());
        under_way.map(|state| state.is_wanted_again = true).is_some()
    }

    /// Ends one. One that was begun before a task came tells nothing of the bytes before that task.
    /// Returns whether another one is wanted.
    pub(crate) fn end(&mut self, fetched: Fetched) -> bool {
        let Fetched { waiting, taken, held_back_for } = fetched;
        let State { left_bytes, is_for_task, is_wanted_again, .. } =
            self.0.take().map(|state| *state).unwrap_or_default();
        let left = left_bytes.or_else(|| is_for_task.then_some(waiting));
        let left_bytes = left.map(|left| left.saturating_sub(taken));
        let is_done =
            held_back_for.is_none() && left_bytes.is_some_and(|left| left == 0 || taken == 0);
        if left_bytes.is_some() {
            self.set(State { is_done, left_bytes, ..State::default() });
        }
        is_wanted_again
    }

    /// Notes that one takes long, so that no task waits for it any longer. Returns whether one is under
    /// way.
    pub(crate) fn set_stalled(&mut self) -> bool {
        let under_way = self.0.as_mut().filter(|state| state.progress.is_some());
        under_way.map(|state| state.is_stalled = true).is_some()
    }

    /// Forgets the bytes before the task that is taken up.
    pub(crate) fn forget_task(&mut self) {
        if let Some(state) = &mut self.0 {
            (state.is_done, state.left_bytes) = (false, None);
        }
    }

    /// Returns whether one is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.progress.is_some())
    }

    /// Returns whether the next task need not wait.
    pub(crate) fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.is_done || state.is_stalled)
    }

    /// Returns whether the guest holds it up.
    pub(crate) fn is_held_up(&self) -> bool {
        let progress = self.0.as_ref().and_then(|state| state.progress.as_ref());
        progress.is_some_and(Progress::is_at_peer)
    }

    fn set(&mut self, state: State) {
        self.0 = Some(Box::new(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_is_ready_during_a_fetch_is_fetched_from_again() {
        let mut fetch = Fetch::default();
        let nothing = Fetched::default();
        assert!(!fetch.want_again(), "none is under way");
        fetch.begin(Progress::of_peer(1), false);
        assert!(!fetch.end(nothing));
        fetch.begin(Progress::of_peer(1), false);
        assert!(fetch.want_again());
        assert!(fetch.end(nothing) && !fetch.is_under_way());
        fetch.begin(Progress::of_peer(1), false);
        assert!(!fetch.end(nothing), "that was for the one before");
    }
}
