//! Lines for a file or stderr, whose writes may block.

use std::thread::JoinHandle;

use super::queue::Queue;
use super::stream::Stream;
use super::writer::Writer;

/// Thread that writes files and stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hands {
    /// The thread that logs: a process that is yet to fork has no other.
    Callers,
    /// A thread for each, which may block for ever.
    Threads,
    /// None: a process that is about to exec has no other thread either. Lines are queued.
    None,
}

/// A queue of lines, and the writer that empties it.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) queue: Queue,
    writer: Place,
}

/// Owner of the writer.
#[derive(Debug)]
enum Place {
    Here(Writer),
    /// A thread, which returns it when it is held.
    Away(JoinHandle<Option<Writer>>),
    /// None: it has ended.
    Nowhere,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Self {
        let queue = Queue::default();
        let writer = Place::Here(Writer::new(queue.clone(), stream));
        Self { queue, writer }
    }

    /// Starts writing queued lines on the thread that `hands` names.
    pub(super) fn start_writing(&mut self, hands: Hands) {
        match (hands, &mut self.writer) {
            (Hands::Callers, Place::Here(writer)) => writer.write_waiting(),
            // If no thread can be started, the next message tries again.
            (Hands::Threads, _) if !self.queue.is_written() => self.start(),
            (Hands::Callers | Hands::Threads | Hands::None, _) => {}
        }
    }

    /// Lets the lines of `earlier` be written first.
    pub(super) fn follow(&mut self, earlier: &Queue) {
        if let Place::Here(writer) = &mut self.writer {
            writer.follow(earlier.clone());
        }
    }

    /// Ends when all queued lines are written. A thread does it, as closing a file can block like
    /// writing it. Returns `None` if nothing is left to do.
    pub(super) fn leave(mut self, hands: Hands) -> Option<Self> {
        self.queue.close();
        match hands {
            Hands::Callers => self.start_writing(hands),
            Hands::Threads => self.start(),
            Hands::None => return Some(self),
        }
        matches!(self.writer, Place::Away(_)).then_some(self)
    }

    /// Takes the writer back if its thread has [ended](Queue::hold). Returns whether no thread has
    /// it.
    pub(super) fn take_back(&mut self) -> bool {
        if self.queue.has_thread() {
            return false;
        }
        self.writer = match std::mem::replace(&mut self.writer, Place::Nowhere) {
            // The thread is about to end and does not panic.
            Place::Away(thread) => thread.join().ok().flatten().map_or(Place::Nowhere, Place::Here),
            other => other,
        };
        true
    }

    /// Resumes writing, even if only the file is left to be closed.
    pub(super) fn go_on(&mut self) {
        self.queue.release();
        if !self.queue.is_written() || self.queue.closed_at().is_some() {
            self.start();
        }
    }

    /// Starts a thread. A writer that was held too late is still to be taken back.
    fn start(&mut self) {
        if !self.queue.is_over() {
            self.take_back();
        }
        self.writer = match std::mem::replace(&mut self.writer, Place::Nowhere) {
            Place::Here(writer) => match writer.start() {
                Ok(thread) => Place::Away(thread),
                Err(writer) => writer.map_or(Place::Nowhere, Place::Here),
            },
            other => other,
        };
    }
}
