//! Proof of what the fd store holds.
//!
//! A supervisor does not acknowledge fds, and silently drops those it has no room for. So messages
//! are followed by a question: a [sentinel](Sentinel), which is the end of a pipe to be stored like
//! anything else, and a barrier. When the barrier is through, the sentinel's pipe is open if the
//! store had room for it, and then for everything before it too. Nothing is removed in between:
//! removals wait until a sentinel follows everything that was sent.
//!
//! A supervisor that was restarted may have lost what was sent before, and queued messages may have
//! been dropped. A question that spans such a loss proves nothing.
//!
//! The first and the latest sentinel stay in the store. When the pipe of one ends, the store has
//! lost some or all of its content. So where there is none, a question without content is asked
//! before anything is sent: a store that loses everything between an item and the sentinel behind it
//! would pass for one that has it.

mod question;
mod removing;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::names::Kind;
use crate::event::{Interest, Reactor, Registered, Token};
use crate::sys::pipe;
use crate::systemd::{Notify, Pace};
pub(crate) use question::Answer;
use question::{Question, Sentinel, has_ended};

/// State of the questions, see the [module](self).
#[derive(Debug)]
pub(crate) struct Proof {
    /// Sent, and not known to be stored.
    unproved: HashSet<Box<str>>,
    /// Sent, and covered by no question yet.
    sent: Vec<Box<str>>,
    /// To be removed behind the next sentinel.
    removals: Vec<Box<str>>,
    /// Fds of the pending removals, as far as known: they still take room in the store.
    leaving_fds: usize,
    /// Removed, and covered by no question yet.
    removed: Vec<Box<str>>,
    questions: VecDeque<Question>,
    pace: Pace,
    /// Proved sentinels: the first and the latest.
    sentinels: Vec<Sentinel>,
    last_number: u64,
    /// Value of [`Notify::losses`] at the last look.
    losses: u64,
    /// Some of what was sent and is covered by no question yet may be lost.
    is_doubtful: bool,
    /// Something was sent with no sentinel before it: the next one proves nothing.
    has_gap: bool,
    /// Number of times that anything was sent or removed.
    changes: u64,
    /// Pipes reserved for a question when no descriptors are left.
    spare: Vec<Pipe>,
}

/// Read end and write end.
type Pipe = (OwnedFd, OwnedFd);

/// Questions that may be asked in a row, and the time for each further one: each takes three
/// messages. Ours.
const QUESTIONS_IN_A_ROW_MAX: u32 = 64;
const QUESTION_PERIOD: Duration = Duration::from_millis(20);

/// Pending removals that cause a question at once. Ours.
const REMOVALS_MAX: usize = 16;

/// Pipes per question.
const QUESTION_PIPES: usize = 2;

impl Default for Proof {
    fn default() -> Self {
        Self {
            unproved: HashSet::new(),
            sent: Vec::new(),
            removals: Vec::new(),
            leaving_fds: 0,
            removed: Vec::new(),
            questions: VecDeque::new(),
            pace: Pace::new(QUESTIONS_IN_A_ROW_MAX, QUESTION_PERIOD),
            sentinels: Vec::new(),
            last_number: 0,
            losses: 0,
            is_doubtful: false,
            has_gap: false,
            changes: 0,
            spare: Vec::new(),
        }
    }
}

impl Proof {
    /// Starts the numbers after a predecessor's last.
    pub(crate) fn number_from(&mut self, last_number: u64) {
        self.last_number = self.last_number.max(last_number);
    }

    /// Marks a predecessor's names as unproved.
    pub(crate) fn doubt(&mut self, names: &[String]) {
        self.unproved.extend(names.iter().map(|name| name.as_str().into()));
    }

    /// Adopts a predecessor's sentinels, by name: either end of each.
    pub(crate) fn adopt<T: Token>(
        &mut self,
        sentinels: Vec<(String, OwnedFd)>,
        reactor: &Reactor<T>,
        token: T,
    ) {
        let numbered = sentinels.into_iter().filter_map(|(name, fd)| {
            let reader = reactor.register(pipe::reader_of(&fd).ok()?, token, Interest::Read);
            let reader = reader.ok()?;
            Some((Kind::Sentinel.key(&name)?, Sentinel { name: name.into(), reader }))
        });
        let mut numbered: Vec<_> = numbered.collect();
        numbered.sort_by_key(|(number, _)| *number);
        self.last_number = numbered.last().map_or(0, |(number, _)| *number).max(self.last_number);
        self.sentinels.extend(numbered.into_iter().map(|(_, sentinel)| sentinel));
    }

    /// Returns the sentinels, for a successor.
    pub(crate) fn sentinels(&self) -> impl Iterator<Item = (&str, &Registered<OwnedFd>)> {
        self.sentinels.iter().map(|sentinel| (&*sentinel.name, &sentinel.reader))
    }

    /// Records that this name was sent.
    pub(crate) fn sent(&mut self, name: &str) {
        self.changes += 1;
        self.unproved.insert(name.into());
        self.sent.push(name.into());
    }

    /// Returns the number of names that no question covers yet.
    pub(crate) fn sent_count(&self) -> usize {
        self.sent.len()
    }

    /// Returns whether this name is proved to be stored.
    pub(crate) fn is_proved(&self, name: &str) -> bool {
        !self.unproved.contains(name)
    }

    /// Returns whether everything that was sent is proved or refused.
    pub(crate) fn is_complete(&self) -> bool {
        self.sent.is_empty() && self.questions.is_empty()
    }

    /// Returns a number that changes whenever the store's content may.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns whether no sentinel is in the store or on its way there, unless what was sent is known to
    /// [lack one](Self::note_gap).
    pub(crate) fn has_no_sentinel(&self) -> bool {
        let is_known = self.has_gap && !self.sent.is_empty();
        self.sentinels.is_empty() && self.questions.is_empty() && !is_known
    }

    /// Notes that something is sent with no sentinel before it.
    pub(crate) fn note_gap(&mut self) {
        self.has_gap = true;
    }

    /// Returns whether there is something to ask about, and no question is in flight.
    pub(crate) fn is_to_ask(&self) -> bool {
        self.questions.is_empty() && !self.sent.is_empty()
    }

    /// Returns whether the supervisor can take another question.
    pub(crate) fn may_ask(&self) -> bool {
        self.removals.len() >= REMOVALS_MAX || self.pace.is_due(Instant::now())
    }

    /// Asks about everything that was sent.
    ///
    /// # Errors
    /// As `pipe2(2)` and `epoll_ctl(2)`, or without a supervisor; it can be asked later.
    pub(crate) fn ask<T: Token>(
        &mut self,
        notify: &mut Notify,
        reactor: &Reactor<T>,
        token: T,
    ) -> io::Result<()> {
        let (reader, writer) = self.pipe()?;
        let reader = reactor.register(reader, token, Interest::Read)?;
        let (barrier, end) = self.pipe()?;
        let barrier = reactor.register(barrier, token, Interest::Read)?;
        let name = Kind::Sentinel.name(self.last_number + 1);
        notify.store(&name, &[writer.as_fd()]).map_err(io::Error::other)?;
        self.last_number += 1;
        self.pace.step(Instant::now());
        notify.barrier(end.as_fd()).inspect_err(|_| notify.remove(&name))?;
        // The first one stays, and is joined by this one.
        let last = self.sentinels.drain(1.min(self.sentinels.len())..);
        for Sentinel { name, .. } in last {
            notify.forget(&name);
            self.leaving_fds += 1;
            self.removals.push(name);
        }
        let (names, removed) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.removed));
        self.note_losses(notify);
        let is_doubtful = std::mem::take(&mut self.is_doubtful);
        let answer = Answer { is_taken: false, is_doubtful, names, removed };
        let sentinel = Sentinel { name: name.into(), reader };
        self.questions.push_back(Question { answer, sentinel, barrier });
        Ok(())
    }

    /// Marks as doubtful what was sent before a loss.
    fn note_losses(&mut self, notify: &Notify) {
        if std::mem::replace(&mut self.losses, notify.losses()) != notify.losses() {
            self.is_doubtful = true;
            self.questions.iter_mut().for_each(|question| question.answer.is_doubtful = true);
            self.removals.append(&mut self.removed);
        }
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        pipe::pipe().or_else(|error| self.spare.pop().ok_or(error))
    }

    /// Returns the next answer.
    pub(crate) fn next_answer(&mut self, notify: &mut Notify) -> Option<Answer> {
        self.note_losses(notify);
        self.questions.front().filter(|question| has_ended(&question.barrier))?;
        let Question { mut answer, sentinel, .. } = self.questions.pop_front()?;
        while self.spare.len() < QUESTION_PIPES
            && let Ok(pipe) = pipe::pipe()
        {
            self.spare.push(pipe);
        }
        let has_ended = has_ended(&sentinel.reader);
        // A supervisor that dies drops what it has not read, barriers included, and refuses nothing.
        answer.is_doubtful |= has_ended && notify.has_gone();
        let is_there = !has_ended && !answer.is_doubtful;
        answer.is_doubtful |= is_there && std::mem::take(&mut self.has_gap);
        answer.is_taken = is_there && !answer.is_doubtful;
        if answer.is_taken {
            answer.names.iter().for_each(|name| {
                self.unproved.remove(name);
            });
        }
        if !has_ended {
            // Also if the answer is doubtful: it is the first one for what is sent again.
            self.sentinels.push(sentinel);
        } else {
            // What is doubtful is sent again anyway.
            self.has_gap |= !answer.is_doubtful && self.sentinels.is_empty();
            notify.forget(&sentinel.name);
            self.removals.push(sentinel.name);
        }
        if !answer.is_taken {
            // The removals may have been lost with a supervisor that was restarted.
            self.removals.append(&mut answer.removed);
        }
        Some(answer)
    }

    /// Returns whether the store has lost something.
    pub(crate) fn is_lost(&self) -> bool {
        self.sentinels.iter().any(|sentinel| has_ended(&sentinel.reader))
    }

    /// Forgets everything about the store's content. Pending removals stay.
    pub(crate) fn start_over(&mut self) {
        let before = std::mem::take(self);
        let Self { mut removals, removed, last_number, losses, changes, pace, spare, .. } = before;
        let mut sentinels: Vec<_> = before.sentinels;
        for Question { answer, sentinel, .. } in before.questions {
            removals.extend(answer.removed);
            sentinels.push(sentinel);
        }
        removals.extend(removed.into_iter().chain(sentinels.into_iter().map(|it| it.name)));
        let changes = changes + 1;
        *self = Self { removals, last_number, losses, changes, pace, spare, ..Self::default() };
    }

    /// Removes everything from the store at once. The removals are remembered until the supervisor
    /// has received them.
    pub(crate) fn end(&mut self, notify: &mut Notify) {
        self.start_over();
        self.removals.extend(notify.stored().into_iter().map(|(name, _)| name.into()));
        notify.forget_all();
        self.send_removals(notify);
    }

    /// Returns the unproved names, for a successor.
    pub(crate) fn unproved(&self) -> Vec<String> {
        self.unproved.iter().map(|name| name.to_string()).collect()
    }
}

#[cfg(test)]
mod tests;
