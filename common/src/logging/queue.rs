//! Queue of lines to be written, with the state of its writer.
//!
//! The thread that logs puts a line in and continues, whatever the file or stderr does. The queue
//! is bounded: what does not fit is lost, counted, and reported behind the lines before it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time at an orderly end to write all messages.
pub const FLUSH_PERIOD: Duration = Duration::from_secs(1);

/// Bytes of lines queued for one output.
pub(super) const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Messages queued for one output.
pub(super) const QUEUE_MESSAGES_MAX: usize = 16_384;

/// Bytes of memory that an empty queue retains.
const RETAINED_BYTES_MAX: usize = 64 * 1024;

/// Time of one call after which the output counts as hanging.
const HANG: Duration = Duration::from_millis(250);

/// Interval of checks for that.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// A queue. Clones are the same queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals the writer: there are lines, or it may continue.
    work: Condvar,
    /// Signals others: all is written, a call has ended, or the writer has.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    messages: usize,
    /// Messages that did not fit behind those lines.
    lost: u64,
    /// Messages lost before those lines and not reported yet.
    unreported: u64,
    /// Messages that are neither written nor reported as lost.
    pending: u64,
    /// The writer has taken a batch.
    is_writing: bool,
    /// The writer waits for lines.
    is_idle: bool,
    /// Start of the writer's call in progress.
    call_since: Option<Instant>,
    /// A thread has the writer.
    has_thread: bool,
    /// The writer is to stop.
    is_held: bool,
    /// Time at which the queue was closed.
    closed_at: Option<Instant>,
    /// The writer has ended.
    is_over: bool,
    /// Number of threads that wait for `news`.
    waiting: usize,
}

/// Lines for the writer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    /// Messages lost behind them.
    pub(super) lost: u64,
}

impl Queue {
    /// Adds a line, if there is room.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.lock();
        state.pending += 1;
        // Nothing is added behind a loss until the writer has seen the loss.
        if state.lost > 0 || !state.has_room_for(line) {
            state.lost += 1;
            return;
        }
        state.lines.extend_from_slice(line.as_bytes());
        state.messages += 1;
        if std::mem::take(&mut state.is_idle) {
            self.0.work.notify_one();
        }
    }

    /// Closes the queue. Queued lines are still written.
    pub(super) fn close(&self) {
        self.lock().closed_at = Some(Instant::now());
        self.0.work.notify_all();
    }

    /// Returns the time at which it was closed.
    pub(super) fn closed_at(&self) -> Option<Instant> {
        self.lock().closed_at
    }

    /// Marks the writer as ended.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.0.news.notify_all();
    }

    /// Returns whether the writer has ended.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Takes all queued lines, if there are any.
    pub(super) fn take(&self) -> Option<Batch> {
        self.lock().take(Vec::new())
    }

    /// Takes all queued lines as soon as there are any. `memory` is reused from the last batch.
    /// `None` when the queue is closed and empty, or the writer is to stop.
    pub(super) fn wait_for_lines(&self, mut memory: Vec<u8>) -> Option<Batch> {
        memory.clear();
        memory.shrink_to(RETAINED_BYTES_MAX);
        let mut state = self.lock();
        loop {
            if state.is_held {
                return None;
            }
            if !state.lines.is_empty() || state.lost > 0 {
                return state.take(memory);
            }
            if state.closed_at.is_some() {
                return None;
            }
            state.is_idle = true;
            state = self.0.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Finishes a batch.
    pub(super) fn put_down(&self, batch: Batch) -> Vec<u8> {
        let mut state = self.lock();
        state.is_writing = false;
        self.tell_news(&state);
        batch.lines
    }

    /// Returns the rest of a batch after the writer was stopped in the middle: it is written first
    /// later.
    pub(super) fn put_back(&self, rest: &[u8], messages: usize) {
        let mut state = self.lock();
        state.lines.splice(0..0, rest.iter().copied());
        state.messages += messages;
    }

    /// Counts messages as lost, to be reported by the output.
    pub(super) fn note_lost(&self, messages: u64) {
        self.lock().unreported += messages;
    }

    /// Counts messages as written.
    pub(super) fn note_written(&self, messages: u64) {
        let mut state = self.lock();
        state.pending = state.pending.saturating_sub(messages);
    }

    /// Counts lost messages as reported.
    pub(super) fn note_reported(&self, messages: u64) {
        let mut state = self.lock();
        state.unreported = state.unreported.saturating_sub(messages);
        state.pending = state.pending.saturating_sub(messages);
    }

    /// Returns the number of lost messages that are not reported yet.
    pub(super) fn unreported(&self) -> u64 {
        self.lock().unreported
    }

    /// Returns the number of messages that are neither written nor reported as lost.
    pub(super) fn pending(&self) -> u64 {
        self.lock().pending
    }

    /// Makes a call that may block, unless the writer is to stop.
    pub(super) fn call<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.lock();
        if state.is_held {
            return None;
        }
        state.call_since = Some(Instant::now());
        drop(state);
        let result = call();
        self.lock().call_since = None;
        Some(result)
    }

    /// Sets whether a thread has the writer.
    pub(super) fn set_has_thread(&self, has_thread: bool) {
        let mut state = self.lock();
        state.has_thread = has_thread;
        self.tell_news(&state);
    }

    /// Returns whether a thread has the writer.
    pub(super) fn has_thread(&self) -> bool {
        self.lock().has_thread
    }

    /// Returns whether the writer is to stop.
    pub(super) fn is_held(&self) -> bool {
        self.lock().is_held
    }

    /// Returns whether a call takes so long that the output counts as hanging.
    pub(super) fn hangs(&self) -> bool {
        self.lock().call_since.is_some_and(|since| since.elapsed() >= HANG)
    }

    /// Returns whether all lines are written or lost.
    pub(super) fn is_written(&self) -> bool {
        self.lock().is_written()
    }

    /// Waits until all lines are written or lost. Returns whether they are.
    pub(super) fn wait_until_written(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, State::is_written)
    }

    /// Waits until the writer has ended, or is to stop. Returns whether it has ended.
    pub(super) fn wait_until_over(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |state| state.is_over || state.is_held);
        self.is_over()
    }

    /// Stops the writer's thread between two calls.
    pub(super) fn hold(&self) {
        self.lock().is_held = true;
        self.0.work.notify_all();
        self.0.news.notify_all();
    }

    /// Waits until no thread has the writer, unless that [hangs](Self::hangs). Returns whether none
    /// has it.
    pub(super) fn wait_until_put_down(&self, deadline: Instant) -> bool {
        loop {
            let next = deadline.min(Instant::now() + LOOK_PERIOD);
            if self.wait_until(next, |state| !state.has_thread) {
                return true;
            }
            if self.hangs() || Instant::now() >= deadline {
                return false;
            }
        }
    }

    /// Allows the writer to continue.
    pub(super) fn release(&self) {
        self.lock().is_held = false;
    }

    fn wait_until(&self, deadline: Instant, is_so: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        state.waiting += 1;
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.news.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        is_so(&state)
    }

    fn tell_news(&self, state: &State) {
        if state.waiting > 0 {
            self.0.news.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room_for(&self, line: &str) -> bool {
        self.messages < QUEUE_MESSAGES_MAX && self.lines.len() + line.len() <= QUEUE_BYTES_MAX
    }

    fn take(&mut self, memory: Vec<u8>) -> Option<Batch> {
        if self.lines.is_empty() && self.lost == 0 {
            return None;
        }
        self.is_writing = true;
        self.messages = 0;
        let lines = std::mem::replace(&mut self.lines, memory);
        Some(Batch { lines, lost: std::mem::take(&mut self.lost) })
    }

    fn is_written(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.is_writing
    }
}

#[cfg(test)]
mod tests;
