//! End of the log, before an exit or an exec: pending messages are written within a bound.

use std::io::{self, Write};
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::dispatcher;

use super::lines::{Hands, Lines};
use super::logger::Logger;
use super::output::Destination;
use super::queue::{FLUSH_PERIOD, Queue};
use super::state::State;
use crate::sys::{process, signal};

/// Time for the last lines before an exec.
const LINES_PERIOD: Duration = Duration::from_millis(50);

/// Time for threads that do not hang before an exec: they may wait for a processor.
const THREADS_PERIOD: Duration = Duration::from_secs(1);

/// Guard that keeps all threads from writing the log. Messages are queued meanwhile.
#[derive(Debug)]
pub struct Held(Logger);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.hands = Hands::Threads;
        state.lines_mut().for_each(|(_, lines)| lines.go_on());
    }
}

impl Logger {
    /// Returns whether all messages are written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.state().queues().all(|(_, queue)| queue.is_written())
    }

    /// Returns an output that hangs, usually a file on a disk that does.
    #[must_use]
    pub fn hanging(&self) -> Option<String> {
        let state = self.state();
        let hanging = state.queues().find(|(_, queue)| queue.hangs());
        hanging.map(|(destination, _)| destination.to_string())
    }

    /// Ends the threads for an exec, after they have written what is queued or run out of time. One
    /// that hangs in the kernel would block the exec as well.
    ///
    /// # Errors
    /// The output that hangs.
    pub fn hold(&self) -> Result<Held, String> {
        let written_by = Instant::now() + LINES_PERIOD;
        for queue in self.all_queues().1 {
            queue.wait_until_written(written_by);
        }
        let held = Held(self.clone());
        let mut state = self.state();
        state.hands = Hands::None;
        state.lines_mut().for_each(|(_, lines)| lines.queue.hold());
        drop(state);
        // A thread may have something to log before it ends.
        let deadline = Instant::now() + THREADS_PERIOD;
        for queue in self.all_queues().1 {
            queue.wait_until_put_down(deadline);
        }
        let mut state = self.state();
        let hanging = state.lines_mut().find_map(|(destination, lines)| {
            let is_back = lines.take_back();
            (!is_back).then(|| destination.to_string())
        });
        drop(state);
        hanging.map_or(Ok(held), Err)
    }

    /// Returns the outputs, each with the number of messages that an exec would lose now: neither
    /// written nor reported as lost.
    #[must_use]
    pub fn unwritten(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let sinks = state.sinks.iter().map(|sink| (&sink.output.destination, sink.pending()));
        let leaving = state.leaving.iter();
        let leaving = leaving.map(|(destination, lines)| (destination, lines.queue.pending()));
        let pending = sinks.chain(leaving).filter(|(_, pending)| *pending > 0);
        pending.map(|(destination, pending)| (destination.to_string(), pending)).collect()
    }

    /// Waits until everything is written, for up to `period`, but not for outputs in `late`.
    /// Returns the outputs that have messages left, with their number.
    pub(super) fn flush(
        &self,
        period: Duration,
        late: &[(Destination, u64)],
    ) -> Vec<(Destination, u64)> {
        let deadline = Instant::now() + period;
        let (destinations, queues) = self.all_queues();
        let is_late = |destination: &Destination| late.iter().any(|(late, _)| late == destination);
        let each = destinations.into_iter().zip(queues);
        let each = each.filter(|(destination, _)| !is_late(destination));
        let late = each.filter(|(_, queue)| !queue.wait_until_written(deadline));
        late.map(|(destination, queue)| (destination, queue.pending())).collect()
    }

    /// Copies the queues, since no wait may hold the log's lock.
    fn all_queues(&self) -> (Vec<Destination>, Vec<Queue>) {
        let state = self.state();
        state.queues().map(|(destination, queue)| (destination.clone(), queue.clone())).unzip()
    }
}

impl State {
    /// Returns all queues, including those of replaced outputs.
    fn queues(&self) -> impl Iterator<Item = (&Destination, &Queue)> {
        let sinks = self.sinks.iter();
        let present = sinks.filter_map(|sink| Some((&sink.output.destination, sink.lines()?)));
        let leaving = self.leaving.iter().map(|(destination, lines)| (destination, lines));
        let all = present.chain(leaving.filter(|(_, lines)| !lines.queue.is_over()));
        all.map(|(destination, lines)| (destination, &lines.queue))
    }

    /// Returns all lines, to be changed.
    fn lines_mut(&mut self) -> impl Iterator<Item = (Destination, &mut Lines)> {
        let sinks = self.sinks.iter_mut();
        let present = sinks.filter_map(|sink| {
            let destination = sink.output.destination.clone();
            Some((destination, sink.lines_mut()?))
        });
        let leaving = self.leaving.iter_mut();
        present.chain(leaving.map(|(destination, lines)| (destination.clone(), lines)))
    }
}

/// Waits at the end of the process until all messages are written, for [a second](FLUSH_PERIOD).
/// Outputs that fail are reported where possible.
pub fn end() {
    let installed = |dispatch: &tracing::Dispatch| dispatch.downcast_ref::<Logger>().cloned();
    let Some(logger) = dispatcher::get_default(installed) else { return };
    let late = logger.flush(FLUSH_PERIOD, &[]);
    for (destination, messages) in &late {
        tracing::error!(
            target: "daemon", "{messages} messages for the log {destination} could not be written"
        );
    }
    logger.flush(FLUSH_PERIOD, &late);
}

/// Writes a process's last message to stderr, behind everything logged. It waits for the reader as
/// long as for the log.
pub fn last_words(text: &str) {
    end();
    // A failure here cannot be reported anywhere.
    let say = |text: &str| io::stderr().write_all(text.as_bytes()).ok();
    let (sender, is_said) = mpsc::channel::<()>();
    let words = text.to_owned();
    let thread = thread::Builder::new().spawn(move || {
        say(&words);
        drop(sender);
    });
    match thread {
        // The channel ends without a message.
        Ok(_) => is_said.recv_timeout(FLUSH_PERIOD).ok(),
        Err(_) => say(text),
    };
}

/// Makes a panic end the process within a bounded time: it is logged and written to stderr, unless
/// these take too long.
pub fn bound_panics() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let watch = thread::Builder::new().spawn(|| {
            // A signal would interrupt the wait.
            signal::block().ok();
            process::pause(2 * FLUSH_PERIOD);
            std::process::abort();
        });
        if watch.is_ok() {
            tracing::error!(target: "daemon", "{panic}");
            end();
            say(panic);
        }
    }));
}

#[cfg(test)]
mod tests;
