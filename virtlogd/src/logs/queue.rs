//! The queue of a path: its tasks, which run one after the other, and the guest of its log, who
//! must not wait meanwhile.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::server::{Core, StorageId};
use common::sys::file_id::FileId;
use common::sys::pipe;

use crate::guest::access::Guest;
use crate::guest::fetch::{FETCH_PERIOD, Fetch};
use crate::guest::pipe::JournalState;
use crate::guest::reason::{Cause, Reason};
use crate::logs::outcome::Outcome;
use crate::logs::task::Task;
use crate::logs::timer::{QueueTimer, QueueTimers, Timer};
use crate::logs::waiting_tasks::WaitingTasks;
use crate::logs::writer::LogWriter;

/// The queue of one path.
#[derive(Debug)]
pub(crate) struct LogQueue {
    pub(crate) path: Arc<Path>,
    /// Storage of its file, as far as that is known; `None` before the first task.
    pub(crate) place: Option<StorageId>,
    /// `place` is known for certain, by the file.
    is_located: bool,
    /// Writer of its log, unless a task has it.
    pub(crate) writer: Option<Box<LogWriter>>,
    /// Guest of its log, also while a task has that.
    pub(crate) guest: Option<Arc<Guest>>,
    /// Key of the log in the fd store, and the state that was stored there.
    pub(crate) key: Option<u64>,
    pub(crate) journaled: Option<Box<JournalState>>,
    /// A task is under way.
    pub(crate) busy: bool,
    /// The task under way takes long.
    is_stalled: bool,
    /// The last task could not write the log.
    pub(crate) is_failing: bool,
    /// The job that takes bytes of the guest's beside the tasks.
    pub(crate) fetch: Fetch,
    /// The pipe has become ready since the last turn began.
    pub(crate) ready: bool,
    pub(crate) waiting: WaitingTasks,
    pub(crate) timers: QueueTimers,
}

impl LogQueue {
    /// Makes an empty one.
    pub(crate) fn new(path: Arc<Path>) -> Self {
        Self {
            place: None,
            is_located: false,
            path,
            writer: None,
            guest: None,
            key: None,
            journaled: None,
            busy: false,
            is_stalled: false,
            is_failing: false,
            fetch: Fetch::default(),
            ready: false,
            waiting: WaitingTasks::default(),
            timers: QueueTimers::default(),
        }
    }

    /// Returns whether its log is this guest's, as far as the last task has told.
    pub(crate) fn is_log_of(&self, guest: &Arc<Guest>) -> bool {
        self.guest.as_ref().is_some_and(|it| Arc::ptr_eq(it, guest))
    }

    /// Returns whether there is a task to start.
    pub(crate) fn has_task(&self) -> bool {
        !self.waiting.are_none() || (self.ready && self.writer.is_some())
    }

    /// Submits a job that works on its file.
    pub(crate) fn submit(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) {
        let progress = self.guest.as_ref().map(|guest| guest.progress.clone()).unwrap_or_default();
        match self.place.filter(|_| self.is_located) {
            Some(place) => core.submit_with_progress(place, number, progress, work),
            None => self.place = Some(core.submit_at_path(&self.path, number, progress, work)),
        }
    }

    /// Sets the timer to tell of what was dropped over the guest's cap, and to take output again.
    pub(crate) fn tell_of_excess_later(&mut self, core: &mut Core<Outcome>, number: u64) {
        let cap = self.guest.as_ref().and_then(|guest| guest.cap.as_ref());
        if let Some(after) = cap.and_then(|cap| cap.dropping_for(Instant::now())) {
            self.flush_after(core, after, number);
        }
    }

    /// Takes the next task, and the bytes that it has left to store; a turn, short if `is_short`, if
    /// none waits.
    pub(crate) fn next_task(&mut self, is_short: bool) -> (Task, Option<u64>) {
        self.fetch.forget_task();
        self.waiting.pop().unwrap_or_else(|| {
            self.ready = false;
            (Task::Turn { flush: false, retry: false, is_short }, None)
        })
    }

    /// Takes the log back from a task, if the path is one. Returns the guest of a log that has ended.
    pub(crate) fn task_ended(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
        writer: Option<Box<LogWriter>>,
    ) -> Option<Arc<Guest>> {
        self.busy = false;
        if let Some(FileId { device: device @ 1.., .. }) =
            writer.as_ref().map(|writer| writer.file_id())
        {
            (self.place, self.is_located) = (Some(StorageId::device(device)), true);
        }
        let guest = writer.as_ref().map(|writer| Arc::clone(writer.guest()));
        let is_same = |before: &&mut Arc<Guest>| {
            guest.as_ref().is_some_and(|guest| Arc::ptr_eq(before, guest))
        };
        let ended = self.guest.as_mut().filter(|before| !is_same(before)).cloned();
        if ended.is_some() {
            self.fetch = Fetch::default();
        }
        (self.guest, self.writer) = (guest, writer);
        if std::mem::take(&mut self.is_stalled) {
            self.cancel_guest_check(core);
            if self.guest.as_ref().is_some_and(|guest| guest.pipe().has_backlog()) {
                core.again(number);
            }
        }
        ended
    }

    /// Returns the reason to empty the guest's pipe even where that loses bytes; `None`: its log
    /// can be written.
    pub(crate) fn drop_reason(&self, core: &mut Core<Outcome>) -> Option<Reason> {
        if self.is_stalled && self.place.is_some_and(|place| core.hangs(place)) {
            return Some(Reason::new(Cause::Hanging, "the file system did not answer in time"));
        }
        let guest = self.guest.as_ref()?;
        if let Some(cap) = guest.cap.as_ref().filter(|cap| cap.is_dropping()) {
            return Some(cap.reason());
        }
        let pipe = Some(guest).filter(|_| self.is_failing)?.pipe();
        Some(pipe.backlog().map_or_else(Reason::default, |backlog| backlog.reason.clone()))
    }

    /// Returns whether the task under way takes long.
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Notes that the task under way takes long.
    pub(crate) fn set_stalled(&mut self) {
        self.is_stalled = self.busy;
    }

    /// Watches the guest of a task that takes long. Returns whether the guest's pipe is to be
    /// emptied because the file system hangs. While that makes progress, the guest just writes more
    /// than it can take, and nothing is dropped.
    pub(crate) fn watch_guest(&mut self, core: &mut Core<Outcome>, number: u64) -> bool {
        let (Some(guest), true) = (&self.guest, self.is_stalled) else { return false };
        // It may have been left alone. If it cannot be watched there is still the timer.
        let is_watched = guest.pipe().fd.watch().is_ok();
        let hangs = self.place.is_some_and(|place| core.hangs(place));
        if !hangs || !is_watched {
            self.check_guest_after(core, FETCH_PERIOD, number);
        }
        hangs
    }

    /// Sets the timer to check the guest again, unless it is set.
    pub(crate) fn check_guest_after(
        &mut self,
        core: &mut Core<Outcome>,
        after: Duration,
        number: u64,
    ) {
        self.set_unless_set(core, after, QueueTimer::GuestCheck, number);
    }

    /// Cancels that timer.
    pub(crate) fn cancel_guest_check(&mut self, core: &mut Core<Outcome>) {
        let timer = self.timers.take(QueueTimer::GuestCheck);
        timer.into_iter().for_each(|timer| core.cancel_timer(timer));
    }

    /// Closes the guest's pipe although its log cannot be ended, unless a job is held up by the
    /// guest.
    pub(crate) fn close_guest_pipe(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(guest) = self.guest.take().filter(|guest| !core.is_peer_suspect(guest.number))
        else {
            return;
        };
        let Ok(Ok(ended)) = pipe::pipe().map(|(reader, _)| core.watch(Arc::new(reader), number))
        else {
            return;
        };
        guest.pipe().fd = ended;
    }

    /// Sets the timer after which the pipe is read again, unless it is set.
    pub(crate) fn rest(&mut self, core: &mut Core<Outcome>, time: Duration, number: u64) {
        self.set_unless_set(core, time, QueueTimer::Rest, number);
    }

    /// Sets the timer to flush, unless it fires earlier anyway.
    pub(crate) fn flush_after(&mut self, core: &mut Core<Outcome>, after: Duration, number: u64) {
        let due = Instant::now() + after;
        if let Some(timer) = self.timers.get(QueueTimer::Flush).filter(|timer| timer.due() > due) {
            core.cancel_timer(timer);
            self.timers.take(QueueTimer::Flush);
        }
        self.set_unless_set(core, after, QueueTimer::Flush, number);
    }

    fn set_unless_set(
        &mut self,
        core: &mut Core<Outcome>,
        after: Duration,
        timer: QueueTimer,
        number: u64,
    ) {
        if self.timers.get(timer).is_none() {
            self.timers.set(timer, core.set_timer(after, Timer::Queue(timer, number).to_source()));
        }
    }
}

impl fmt::Display for LogQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.guest {
            Some(guest) if guest.progress.is_at_peer() || self.fetch.is_held_up() => write!(
                formatter,
                "log {} of {}, which keeps its pipe locked until it is ended",
                self.path.display(),
                guest.identity
            ),
            Some(guest) => write!(formatter, "log {} of {}", self.path.display(), guest.identity),
            None => write!(formatter, "log {}", self.path.display()),
        }
    }
}
