//! Proof of what the fd store holds.
//!
//! A supervisor says nothing: what it has no room for it drops in silence. So a question follows
//! what was sent: a [sentinel](Sentinel), the end of a pipe, to be stored like anything else, and a
//! barrier. When the barrier is through, the sentinel's pipe is open if the store had room for it,
//! and then for all that came before, as nothing is removed in between: removals wait until all that
//! was sent has a sentinel behind it.
//!
//! A supervisor that went away and came back may have lost what it was sent before, and what waited for
//! one may have had to go: a question that spans that proves nothing.
//!
//! Sentinels stay in the store, the first one and the latest. When the pipe of one of them ends, the
//! store has lost what was in it, or some of that.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::names::Kind;
use crate::event::{Interest, Reactor, Registered, Token};
use crate::sys::pipe::{self, State};
use crate::systemd::{Notify, Pace};

/// A question that was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Whether the store has all of it.
    pub(crate) is_taken: bool,
    /// Some of it may have been lost on the way.
    pub(crate) is_doubtful: bool,
    /// The names that were sent.
    pub(crate) names: Vec<Box<str>>,
    /// The names that were removed before that.
    pub(crate) removed: Vec<Box<str>>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Proof {
    /// Sent, and not known to be taken.
    unproved: HashSet<Box<str>>,
    /// Sent, and no question covers them yet.
    sent: Vec<Box<str>>,
    /// To be removed behind the next sentinel.
    removals: Vec<Box<str>>,
    /// Fds of these, as far as that is known: they have their places in the store still.
    leaving_fds: usize,
    /// Removed, and no question covers them yet.
    removed: Vec<Box<str>>,
    questions: VecDeque<Question>,
    pace: Pace,
    /// Proved ones: the first and the latest.
    sentinels: Vec<Sentinel>,
    last_number: u64,
    /// What [`Notify::losses`] said when it was looked at last.
    losses: u64,
    /// Of what was sent and is covered by no question yet, some may have been lost.
    is_doubtful: bool,
    /// How often anything was sent or removed.
    changes: u64,
    /// Pipes for a question when there are no descriptors for others.
    spare: Vec<Pipe>,
}

/// Its read end and its write end.
type Pipe = (OwnedFd, OwnedFd);

/// Questions that may be asked in a row, and the time for each one after that: each is three messages.
/// Ours.
const QUESTIONS_IN_A_ROW_MAX: u32 = 64;
const QUESTION_PERIOD: Duration = Duration::from_millis(20);

/// Removals that wait for a question until it is asked at once. Ours.
const REMOVALS_MAX: usize = 16;

/// Pipes of a question.
const QUESTION_PIPES: usize = 2;

#[derive(Debug)]
struct Question {
    answer: Answer,
    sentinel: Sentinel,
    /// Ends when the supervisor has seen to everything before.
    barrier: Registered<OwnedFd>,
}

/// A pipe whose other end is in the store alone.
#[derive(Debug)]
struct Sentinel {
    name: Box<str>,
    reader: Registered<OwnedFd>,
}

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
            changes: 0,
            spare: Vec::new(),
        }
    }
}

impl Proof {
    /// Numbers up to this one were a predecessor's.
    pub(crate) fn number_from(&mut self, last_number: u64) {
        self.last_number = self.last_number.max(last_number);
    }

    /// These names, of a predecessor, are not known to be taken.
    pub(crate) fn doubt(&mut self, names: &[String]) {
        self.unproved.extend(names.iter().map(|name| name.as_str().into()));
    }

    /// Sentinels of a predecessor, by name: either end of each.
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

    /// For a successor.
    pub(crate) fn sentinels(&self) -> impl Iterator<Item = (&str, &Registered<OwnedFd>)> {
        self.sentinels.iter().map(|sentinel| (&*sentinel.name, &sentinel.reader))
    }

    /// This was sent just now.
    pub(crate) fn sent(&mut self, name: &str) {
        self.changes += 1;
        self.unproved.insert(name.into());
        self.sent.push(name.into());
    }

    /// How many names no question covers yet.
    pub(crate) fn sent_count(&self) -> usize {
        self.sent.len()
    }

    /// Whether what was sent under this name is known to be taken.
    pub(crate) fn is_proved(&self, name: &str) -> bool {
        !self.unproved.contains(name)
    }

    /// Whether all that was sent is known to be taken or not.
    pub(crate) fn is_complete(&self) -> bool {
        self.sent.is_empty() && self.questions.is_empty()
    }

    /// A number that changes with whatever may be in the store.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Has a name taken out of the store, if it has got there at all.
    pub(crate) fn remove(&mut self, notify: &mut Notify, name: &str) {
        self.unproved.remove(name);
        self.leaving_fds += notify.count(name);
        notify.withdraw(name);
        self.removals.push(name.into());
    }

    /// Removes what a predecessor has removed, of which the supervisor may not have heard. It may not
    /// hear of it from this process either.
    pub(crate) fn remove_again(&mut self, notify: &mut Notify, names: &[String]) {
        self.changes += 1;
        for name in names {
            notify.remove(name);
            self.removed.push(name.as_str().into());
        }
    }

    /// Removes what is to be removed, unless something was sent that has no sentinel behind it yet.
    /// Gives whether there was anything.
    pub(crate) fn send_removals(&mut self, notify: &mut Notify) -> bool {
        self.note_losses(notify);
        self.sent.is_empty() && self.send_all_removals(notify)
    }

    /// Removes what is to be removed, for one who sends everything again behind that: systemd stores
    /// nothing that it has under another name. Gives whether there was anything.
    pub(crate) fn send_all_removals(&mut self, notify: &mut Notify) -> bool {
        if self.removals.is_empty() {
            return false;
        }
        self.changes += 1;
        self.leaving_fds = 0;
        for name in std::mem::take(&mut self.removals) {
            // Essentials may have been stored again under the same name.
            if !notify.has(&name) {
                notify.remove(&name);
                self.removed.push(name);
            }
        }
        true
    }

    /// How many fds are to be removed, and have their places in the store still.
    pub(crate) fn leaving_fds(&self) -> usize {
        self.leaving_fds
    }

    /// Whether something is to be removed that cannot be yet.
    pub(crate) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Whether there is anything to ask about, and nothing was asked.
    pub(crate) fn is_to_ask(&self) -> bool {
        self.questions.is_empty() && !self.sent.is_empty()
    }

    /// Whether another question would not be one too many for the supervisor.
    pub(crate) fn may_ask(&self) -> bool {
        self.removals.len() >= REMOVALS_MAX || self.pace.is_due(Instant::now())
    }

    /// Whether something was removed, and nothing was asked since.
    pub(crate) fn are_removals_unasked(&self) -> bool {
        self.questions.is_empty() && !self.removed.is_empty()
    }

    /// Asks about everything that was sent.
    ///
    /// # Errors
    /// As `pipe2(2)` and `epoll_ctl(2)`, or no supervisor; it can be asked later.
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
        // The first stays, and is joined by this one.
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

    /// What was sent before a loss is in doubt.
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

    /// The next question that was answered.
    pub(crate) fn next_answer(&mut self, notify: &mut Notify) -> Option<Answer> {
        self.note_losses(notify);
        self.questions.front().filter(|question| has_ended(&question.barrier))?;
        let Question { mut answer, sentinel, .. } = self.questions.pop_front()?;
        while self.spare.len() < QUESTION_PIPES
            && let Ok(pipe) = pipe::pipe()
        {
            self.spare.push(pipe);
        }
        answer.is_taken = !answer.is_doubtful && !has_ended(&sentinel.reader);
        if answer.is_taken {
            self.sentinels.push(sentinel);
            answer.names.iter().for_each(|name| {
                self.unproved.remove(name);
            });
        } else {
            notify.forget(&sentinel.name);
            self.removals.push(sentinel.name);
            // They may have been lost with a supervisor that has gone.
            self.removals.append(&mut answer.removed);
        }
        Some(answer)
    }

    /// Whether the store has lost something.
    pub(crate) fn is_lost(&self) -> bool {
        self.sentinels.iter().any(|sentinel| has_ended(&sentinel.reader))
    }

    /// Nothing is known of the store any more. What was to be removed still is.
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

    /// Takes everything out of the store at once. That it was removed is known until the supervisor
    /// has heard it.
    pub(crate) fn end(&mut self, notify: &mut Notify) {
        self.start_over();
        self.removals.extend(notify.stored().into_iter().map(|(name, _)| name.into()));
        notify.forget_all();
        self.send_removals(notify);
    }

    /// For a successor: names of what is not known to be taken.
    pub(crate) fn unproved(&self) -> Vec<String> {
        self.unproved.iter().map(|name| name.to_string()).collect()
    }

    /// For a successor: names of what may still be there although it was removed.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &str> {
        let asked = self.questions.iter().flat_map(|question| &question.answer.removed);
        self.removals.iter().chain(&self.removed).chain(asked).map(AsRef::as_ref)
    }
}

fn has_ended(pipe: &Registered<OwnedFd>) -> bool {
    pipe::state(pipe.as_fd()).is_ok_and(|state| state == State::AtEnd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_predecessor_has_removed_is_passed_on_until_the_supervisor_has_heard_it() {
        let (mut proof, mut notify) = (Proof::default(), Notify::default());
        proof.remove_again(&mut notify, &["c2".to_owned()]);
        assert_eq!(proof.removed().collect::<Vec<_>>(), ["c2"]);
        proof.start_over();
        assert_eq!(proof.removed().collect::<Vec<_>>(), ["c2"]);
    }
}
