//! Lines that wait to be written, and how far the thread that writes them is.
//!
//! Whoever logs puts a line in and goes on, whatever the file or stderr does. The queue is bounded: what
//! does not fit is lost, counted, and told of behind the lines that were there before it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an orderly end waits for what was logged to be written.
pub const FLUSH_PERIOD: Duration = Duration::from_secs(1);

/// Bytes of lines that wait for one output.
pub(super) const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Messages that wait for one output.
pub(super) const QUEUE_MESSAGES_MAX: usize = 16_384;

/// Bytes of memory that a queue keeps when nothing waits.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How long one call may take until the output is taken to hang.
const HANG: Duration = Duration::from_millis(250);

/// How often it is looked for that.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// A queue. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the writer: there are lines, or it may go on.
    work: Condvar,
    /// For others: all is written, a call has ended, or the writer has.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    messages: usize,
    /// Messages that did not fit behind those lines.
    lost: u64,
    /// Messages lost before those lines, of which the output does not tell yet.
    untold: u64,
    /// Messages that were neither written nor told of as lost.
    owed: u64,
    /// The writer has lines in its hands.
    is_writing: bool,
    /// The writer waits for lines.
    is_idle: bool,
    /// Since when the writer is in a call.
    call_since: Option<Instant>,
    /// A thread has the writer.
    has_thread: bool,
    /// It is to put the writer down.
    is_held: bool,
    /// When it was told that no more lines come.
    closed_at: Option<Instant>,
    /// The writer has ended.
    is_over: bool,
    /// How many wait for news.
    waiting: usize,
}

/// What the writer is to write next.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    /// Messages lost behind them.
    pub(super) lost: u64,
}

impl Queue {
    /// Puts a line in, if there is room.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.lock();
        state.owed += 1;
        // Nothing comes behind what was lost before the writer has heard of that.
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

    /// No more lines come. What is there is still written.
    pub(super) fn close(&self) {
        self.lock().closed_at = Some(Instant::now());
        self.0.work.notify_all();
    }

    /// When it was closed.
    pub(super) fn closed_at(&self) -> Option<Instant> {
        self.lock().closed_at
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.0.news.notify_all();
    }

    /// Whether the writer has ended.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// What waits, if anything does.
    pub(super) fn take(&self) -> Option<Batch> {
        self.lock().take(Vec::new())
    }

    /// What waits, as soon as something does; `None` when nothing more comes. `memory` is what the last
    /// batch was in. `None` as well when the writer is to be put down.
    pub(super) fn wait_for_lines(&self, mut memory: Vec<u8>) -> Option<Batch> {
        memory.clear();
        memory.shrink_to(KEPT_BYTES_MAX);
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

    /// The writer is through with a batch.
    pub(super) fn put_down(&self, batch: Batch) -> Vec<u8> {
        let mut state = self.lock();
        state.is_writing = false;
        self.tell_news(&state);
        batch.lines
    }

    /// The writer was put down in the middle of a batch: the rest comes first when it goes on.
    pub(super) fn put_back(&self, rest: &[u8], messages: usize) {
        let mut state = self.lock();
        state.lines.splice(0..0, rest.iter().copied());
        state.messages += messages;
    }

    /// So many messages are lost, and the output is to tell of them.
    pub(super) fn note_lost(&self, messages: u64) {
        self.lock().untold += messages;
    }

    /// So many messages were written.
    pub(super) fn note_written(&self, messages: u64) {
        let mut state = self.lock();
        state.owed = state.owed.saturating_sub(messages);
    }

    /// The output tells of so many lost ones.
    pub(super) fn note_told(&self, messages: u64) {
        let mut state = self.lock();
        state.untold = state.untold.saturating_sub(messages);
        state.owed = state.owed.saturating_sub(messages);
    }

    /// Messages lost of which the output does not tell yet.
    pub(super) fn untold(&self) -> u64 {
        self.lock().untold
    }

    /// Messages that were neither written nor told of as lost.
    pub(super) fn owed(&self) -> u64 {
        self.lock().owed
    }

    /// Makes a call that may take any time, unless the writer is to be put down.
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

    /// A thread takes the writer up, or puts it down.
    pub(super) fn set_has_thread(&self, has_thread: bool) {
        let mut state = self.lock();
        state.has_thread = has_thread;
        self.tell_news(&state);
    }

    /// Whether a thread has the writer.
    pub(super) fn has_thread(&self) -> bool {
        self.lock().has_thread
    }

    /// Whether the writer is to be put down.
    pub(super) fn is_held(&self) -> bool {
        self.lock().is_held
    }

    /// Whether a call has not ended for longer than one takes that ends.
    pub(super) fn hangs(&self) -> bool {
        self.lock().call_since.is_some_and(|since| since.elapsed() >= HANG)
    }

    /// Whether all lines are written or lost.
    pub(super) fn is_written(&self) -> bool {
        self.lock().is_written()
    }

    /// Waits for that. Says whether it came about.
    pub(super) fn wait_until_written(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, State::is_written)
    }

    /// Waits until the writer has ended, or is to be put down. Says whether it has ended.
    pub(super) fn wait_until_over(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |state| state.is_over || state.is_held);
        self.is_over()
    }

    /// Has the writer put down by its thread, between two calls.
    pub(super) fn hold(&self) {
        self.lock().is_held = true;
        self.0.work.notify_all();
        self.0.news.notify_all();
    }

    /// Waits until no thread has the writer, unless that [hangs](Self::hangs). Says whether it came about.
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

    /// The writer may be taken up again.
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
