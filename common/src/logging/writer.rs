//! Writer of a queue's lines.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::queue::{Batch, FLUSH_PERIOD, Queue};
use super::record::Record;
use super::stream::Stream;
use crate::sys::signal;

/// Stack size of a writing thread, in bytes. It formats only lines about losses.
const STACK_BYTES: usize = 128 * 1024;

/// Interval at which a writer that waits for its reader checks whether it is to end or to stop.
const WAIT_PERIOD: Duration = Duration::from_millis(25);

/// Takes lines from a queue and writes them.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Queue,
    stream: Stream,
    /// Queue of an earlier output to the same destination, whose lines come first.
    follows: Option<Queue>,
    /// The last line is incomplete.
    is_cut: bool,
    has_complained: bool,
}

impl Writer {
    pub(super) fn new(queue: Queue, stream: Stream) -> Self {
        Self { queue, stream, follows: None, is_cut: false, has_complained: false }
    }

    /// Writes the lines of `earlier` first, unless that takes too long.
    pub(super) fn follow(&mut self, earlier: Queue) {
        self.follows = Some(earlier);
    }

    /// Writes queued lines on the calling thread. Lines for a file that is not open yet stay
    /// queued.
    pub(super) fn write_waiting(&mut self) {
        while self.stream.is_open()
            && let Some(batch) = self.queue.take()
        {
            self.write_batch(batch);
        }
    }

    /// Continues on a thread of its own, which returns it when it is [held](Queue::hold).
    ///
    /// # Errors
    /// Itself, if no thread can be started.
    pub(super) fn start(self) -> Result<JoinHandle<Option<Self>>, Option<Self>> {
        let queue = self.queue.clone();
        queue.set_has_thread(true);
        let passed = Arc::new(Mutex::new(Some(self)));
        let take = |passed: &Mutex<Option<Self>>| {
            passed.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let thread = thread::Builder::new().name("log".into()).stack_size(STACK_BYTES);
        let given = Arc::clone(&passed);
        thread.spawn(move || take(&given).and_then(Self::run)).map_err(|_| {
            queue.set_has_thread(false);
            take(&passed)
        })
    }

    /// Writes until the queue ends, or returns itself when it is held.
    fn run(mut self) -> Option<Self> {
        // Signals belong to the thread with their handlers. The signal set is fixed, so this cannot
        // fail.
        signal::block().ok();
        let queue = self.queue.clone();
        let rest = self.write_all().then_some(self);
        if rest.is_none() {
            queue.end();
        }
        queue.set_has_thread(false);
        rest
    }

    /// Writes all lines until the queue ends. Returns whether it was held before.
    fn write_all(&mut self) -> bool {
        if let Some(earlier) = self.follows.take() {
            earlier.wait_until_over(Instant::now() + FLUSH_PERIOD);
            if self.queue.is_held() {
                self.follows = Some(earlier);
                return true;
            }
        }
        let mut memory = Vec::new();
        while let Some(batch) = self.queue.wait_for_lines(memory) {
            memory = self.write_batch(batch);
        }
        let Self { queue, stream, .. } = self;
        queue.call(|| stream.close()).is_none()
    }

    /// Writes a batch, and returns its memory.
    fn write_batch(&mut self, batch: Batch) -> Vec<u8> {
        self.tell_of_lost();
        match self.write(&batch.lines, true) {
            Ok(()) => {}
            Err(Unwritten { lines, is_held: false }) => self.queue.note_lost(count(lines)),
            Err(Unwritten { lines, is_held: true }) => {
                let messages = usize::try_from(count(lines)).unwrap_or(usize::MAX);
                self.queue.put_back(lines, messages);
            }
        }
        self.queue.note_lost(batch.lost);
        self.tell_of_lost();
        self.queue.put_down(batch)
    }

    fn tell_of_lost(&mut self) {
        let lost = self.queue.unreported();
        if lost > 0 && self.write(Record::of_lost(lost).line().as_bytes(), false).is_ok() {
            self.queue.note_reported(lost);
        }
    }

    /// Writes lines, or reports of lost ones.
    fn write<'a>(&mut self, lines: &'a [u8], are_messages: bool) -> Result<(), Unwritten<'a>> {
        self.begin().map_err(|failure| failure.of(lines))?;
        let mut rest = lines;
        while !rest.is_empty() {
            let written = self.write_piece(rest).map_err(|failure| failure.of(rest))?;
            let (written, left) = rest.split_at_checked(written).unwrap_or((rest, b""));
            self.is_cut = !written.ends_with(b"\n");
            if are_messages {
                self.queue.note_written(count(written));
            }
            rest = left;
        }
        Ok(())
    }

    /// Prepares the stream: opens it, and ends an incomplete line.
    fn begin(&mut self) -> Result<(), Failure> {
        self.open()?;
        if self.is_cut {
            self.write_piece(b"\n")?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Failure> {
        if self.stream.is_open() {
            return Ok(());
        }
        let Self { queue, stream, .. } = self;
        let opened = queue.call(|| stream.open()).ok_or(Failure::Held)?;
        let Err(error) = opened else { return Ok(()) };
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::error!(
                target: "daemon",
                "{error}; messages for it are lost until it can be opened"
            );
        }
        Err(Failure::Failed)
    }

    fn write_piece(&mut self, lines: &[u8]) -> Result<usize, Failure> {
        loop {
            let Self { queue, stream, .. } = self;
            match queue.call(|| stream.write(lines)).ok_or(Failure::Held)? {
                Ok(written @ 1..) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.may_wait() => {
                    self.stream.wait(WAIT_PERIOD);
                }
                Ok(0) | Err(_) => return Err(Failure::Failed),
            }
        }
    }

    /// Returns whether to wait for a reader that is behind.
    fn may_wait(&self) -> bool {
        let closed_at = self.queue.closed_at();
        self.queue.has_thread() && closed_at.is_none_or(|at| at.elapsed() < FLUSH_PERIOD)
    }
}

/// Reason why nothing was written.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// A call has failed.
    Failed,
    /// The writer is to stop.
    Held,
}

impl Failure {
    fn of(self, lines: &[u8]) -> Unwritten<'_> {
        Unwritten { lines, is_held: matches!(self, Self::Held) }
    }
}

/// Lines that were not written.
#[derive(Debug)]
struct Unwritten<'a> {
    lines: &'a [u8],
    /// The writer is to stop.
    is_held: bool,
}

fn count(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(ends).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
