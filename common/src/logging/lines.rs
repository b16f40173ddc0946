//! Lines on their way to a file or stderr, which may make whoever writes them wait.

use std::thread::JoinHandle;

use super::queue::Queue;
use super::stream::Stream;
use super::writer::Writer;

/// With whose hands files and stderr are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hands {
    /// With those of whoever logs: a process that is yet to fork has no other thread.
    Callers,
    /// With those of a thread for each, which may wait for ever.
    Threads,
    /// With nobody's: a process that is about to exec has no other thread either. Lines wait.
    None,
}

/// A queue of lines, and the writer that takes them out.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) queue: Queue,
    writer: Place,
}

/// Where the writer is.
#[derive(Debug)]
enum Place {
    Here(Writer),
    /// A thread gives it back when it puts it down.
    Away(JoinHandle<Option<Writer>>),
    /// It has ended.
    Nowhere,
}

impl Lines {
    pub(super) fn new(stream: Stream) -> Self {
        let queue = Queue::default();
        let writer = Place::Here(Writer::new(queue.clone(), stream));
        Self { queue, writer }
    }

    /// Sees to it that what waits is written with these hands.
    pub(super) fn see_to(&mut self, hands: Hands) {
        match (hands, &mut self.writer) {
            (Hands::Callers, Place::Here(writer)) => writer.write_waiting(),
            // If there is no thread to be had, the next message tries again.
            (Hands::Threads, _) if !self.queue.is_written() => self.start(),
            (Hands::Callers | Hands::Threads | Hands::None, _) => {}
        }
    }

    /// Has what waits in `earlier` written before anything else.
    pub(super) fn follow(&mut self, earlier: &Queue) {
        if let Place::Here(writer) = &mut self.writer {
            writer.follow(earlier.clone());
        }
    }

    /// Ends when all that waits is written. To close a file may take as long as to write it, so that
    /// a thread does it. `None` if nothing is left to be done.
    pub(super) fn leave(mut self, hands: Hands) -> Option<Self> {
        self.queue.close();
        match hands {
            Hands::Callers => self.see_to(hands),
            Hands::Threads => self.start(),
            Hands::None => return Some(self),
        }
        matches!(self.writer, Place::Away(_)).then_some(self)
    }

    /// Takes the writer back, if its thread has [put it down](Queue::hold). Says whether no thread has it.
    pub(super) fn take_back(&mut self) -> bool {
        if self.queue.has_thread() {
            return false;
        }
        self.writer = match std::mem::replace(&mut self.writer, Place::Nowhere) {
            // It has nothing to do any more, and does not panic.
            Place::Away(thread) => thread.join().ok().flatten().map_or(Place::Nowhere, Place::Here),
            other => other,
        };
        true
    }

    /// Goes on behind that, though nothing may be left but to close the file.
    pub(super) fn go_on(&mut self) {
        self.queue.release();
        if !self.queue.is_written() || self.queue.closed_at().is_some() {
            self.start();
        }
    }

    /// One that was put down too late is still to be taken back.
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
