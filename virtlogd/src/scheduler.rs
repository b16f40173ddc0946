//! Tasks of all logs: each path has a queue, whose tasks run one at a time, in the order in which they
//! came. Each is a job that takes the queue's log along and brings it back.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::server::{ClientId, Core, StorageId};
use common::sys::pipe;

use crate::guest::access::{Fetched, Guest};
use crate::guest::rate;
use crate::guest::staging::Workspaces;
use crate::logs::closing_pipes::ClosingPipes;
use crate::logs::outcome::{JobResult, Outcome};
use crate::logs::queue::LogQueue;
use crate::logs::stops::Stops;
use crate::logs::suspects::{self, Prerequisite};
use crate::logs::table::LogTable;
use crate::logs::task::{Task, TaskResult};
use crate::logs::timer::QueueTimer;
use crate::logs::write_outcome::WriteOutcome;
use crate::logs::writer::LogWriter;
use crate::message::log_about;
use crate::persist::fd_store;
use crate::persist::restored_log::RestoredLog;
use crate::persist::staging_store;
use crate::protocol::GuestIdentity;
use crate::rules::Rules;

/// Time that a partial line may wait for its end near the end of a file.
const HOLD: Duration = Duration::from_millis(50);

/// Time before a log that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Queues of all paths, and the resources of their tasks.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) table: LogTable,
    pub(crate) workspaces: Workspaces,
    pub(crate) rules: Arc<Rules>,
    open_logs: usize,
    failing_logs: usize,
    opened_logs: u64,
    pub(crate) closing_pipes: ClosingPipes,
    pub(crate) stops: Stops,
}

impl Scheduler {
    /// Makes one without any log.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn new(rules: Arc<Rules>) -> io::Result<Self> {
        Ok(Self {
            table: LogTable::default(),
            workspaces: Workspaces::new()?,
            rules,
            open_logs: 0,
            failing_logs: 0,
            opened_logs: 0,
            closing_pipes: ClosingPipes::default(),
            stops: Stops::default(),
        })
    }

    /// Returns the number of open logs.
    pub(crate) fn open_logs(&self) -> usize {
        self.open_logs
    }

    /// Returns the number of open logs that the last task could not write.
    pub(crate) fn failing_logs(&self) -> usize {
        self.failing_logs
    }

    /// Returns the number of logs that guests have opened since the start.
    pub(crate) fn opened_logs(&self) -> u64 {
        self.opened_logs
    }

    /// Makes a path the log of a new guest, and answers with its pipe.
    ///
    /// # Errors
    /// As `pipe2(2)` and `epoll_ctl(2)`.
    pub(crate) fn open(
        &mut self,
        core: &mut Core<Outcome>,
        client: ClientId,
        path: &Path,
        identity: GuestIdentity,
        truncate: bool,
    ) -> io::Result<()> {
        let (reader, writer) = pipe::pipe()?;
        let number = self.table.number_of(path);
        let guest = self.table.next_number();
        let settings = self.rules.settings(path, identity.name());
        let pipe = match core.watch(Arc::new(reader), number) {
            Ok(pipe) => pipe,
            Err(error) => {
                self.advance(core, number);
                return Err(error);
            }
        };
        let guest = Guest::new(guest, identity, pipe, self.workspaces.pool());
        let guest = Arc::new(guest.capped(settings.cap()));
        let task =
            Task::Open { client, truncate, limits: settings.limits, guest, guest_end: writer };
        self.enqueue(core, path, task);
        Ok(())
    }

    /// Goes on with a log of the process before this one. Returns the pipe of a log that there is
    /// already.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The pipe is closed.
    pub(crate) fn adopt(
        &mut self,
        core: &mut Core<Outcome>,
        log: RestoredLog,
    ) -> io::Result<Option<OwnedFd>> {
        let RestoredLog { path, identity, pipe, state, file } = log;
        if self.table.has_path(&path) {
            log_about!(
                error,
                identity,
                path,
                "Log {} was handed over twice; the output of {identity} into the second pipe is dropped",
                path.display()
            );
            return Ok(Some(pipe));
        }
        let number = self.table.number_of(&path);
        let pipe = match core.watch(Arc::new(pipe), number) {
            Ok(pipe) => pipe,
            Err(error) => {
                self.forget(core, number);
                return Err(error);
            }
        };
        let settings = self.rules.settings(&path, identity.name());
        let (guest, key) = (self.table.next_number(), state.key);
        let guest = state.into_guest(guest, identity, pipe, self.workspaces.pool());
        let guest = Arc::new(guest.capped(settings.cap()));
        if let Some(queue) = self.table.get_mut(number) {
            queue.guest = Some(Arc::clone(&guest));
            queue.key = key;
            self.open_logs += 1;
        }
        self.enqueue(
            core,
            &path,
            Task::Adopt { limits: settings.limits, guest, file: Box::new(file) },
        );
        Ok(None)
    }

    /// Adds a task to the queue of a path.
    pub(crate) fn enqueue(&mut self, core: &mut Core<Outcome>, path: &Path, task: Task) {
        let number = self.table.number_of(path);
        self.enqueue_at(core, number, task);
    }

    /// Starts all tasks that can be started.
    pub(crate) fn resume(&mut self, core: &mut Core<Outcome>) {
        for number in self.table.numbers() {
            self.advance(core, number);
        }
    }

    /// Notes that the pipe of a queue's guest is ready. Returns whether there is such a queue.
    pub(crate) fn ready(&mut self, core: &mut Core<Outcome>, number: u64) -> bool {
        let Some(queue) = self.table.get_mut(number) else { return false };
        if suspects::is_suspect(core, queue) {
            suspects::fetch(core, queue, number);
        } else {
            queue.ready = true;
            Self::check_guest(core, queue, number);
            self.advance(core, number);
        }
        true
    }

    /// Does what a queue's timer was set for.
    pub(crate) fn timer(&mut self, core: &mut Core<Outcome>, timer: QueueTimer, number: u64) {
        let Some(queue) = self.table.get_mut(number) else { return };
        queue.timers.take(timer);
        match timer {
            QueueTimer::Rest => queue.ready = true,
            QueueTimer::GuestCheck => {
                if suspects::is_suspect(core, queue) {
                    self.fetch_stalled(core, number);
                    return self.fetch(core, number);
                }
                Self::check_guest(core, queue, number);
            }
            QueueTimer::Flush => {
                queue.waiting.push(Task::Turn { flush: true, retry: true, is_short: true });
            }
        }
        self.advance(core, number);
    }

    /// Takes a task's result.
    pub(crate) fn task_ended(&mut self, core: &mut Core<Outcome>, number: u64, result: TaskResult) {
        let is_log = result.writer.is_some();
        let goes_on_elsewhere = self.table.is_stopping && !is_log;
        if goes_on_elsewhere {
            self.stops.ended(number);
            // Its backlog, the last time.
            fd_store::store_log(core, &mut self.table, number);
        }
        let TaskResult { writer, answer, outcome, unfinished } = result;
        let ended = self.take_back(core, number, writer, outcome, unfinished);
        let pool = self.workspaces.pool();
        if goes_on_elsewhere {
            staging_store::forget_ended(core, pool);
        } else {
            fd_store::store_log_and_pipes(core, &mut self.table, pool, number);
        }
        if let Some((key, guest)) = ended {
            self.closing_pipes.close(core, key, guest);
        }
        if let Some((client, result)) = answer {
            core.answer(client, result);
        }
        self.advance(core, number);
        if let Some(queue) = self.table.get_mut(number) {
            suspects::fetch_after_task(core, queue, number);
        }
    }

    /// Takes a fetch's result.
    pub(crate) fn fetch_ended(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
        guest: u64,
        fetched: Fetched,
    ) {
        let Some(queue) = self.table.get_mut(number) else { return };
        if suspects::fetch_ended(core, queue, number, guest, fetched) {
            fd_store::store_log_and_pipes(core, &mut self.table, self.workspaces.pool(), number);
            self.advance(core, number);
        }
    }

    /// Checks the guest of a job that takes long.
    pub(crate) fn job_stalled(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(queue) = self.table.get_mut(number) {
            queue.set_stalled();
            Self::check_guest(core, queue, number);
            self.fetch_stalled(core, number);
        }
    }

    /// Notes the storage of a job's file.
    pub(crate) fn set_place(&mut self, number: u64, place: StorageId) {
        if let Some(queue) = self.table.get_mut(number) {
            queue.place = Some(place);
        }
    }

    /// Closes the pipe of a job's guest, so that it does not wait for ever: the job is not waited
    /// for any more.
    pub(crate) fn job_abandoned(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(queue) = self.table.get_mut(number) {
            queue.guest.iter().for_each(|guest| guest.pipe().lose_unstored());
            fd_store::store_log(core, &mut self.table, number);
        }
        if let Some(queue) = self.table.get_mut(number) {
            queue.close_guest_pipe(core, number);
        }
    }

    /// Describes a job.
    pub(crate) fn describe_job(&self, number: u64) -> Option<String> {
        let queue = self.table.get(number).map(LogQueue::to_string);
        queue.or_else(|| self.closing_pipes.describe(number))
    }

    /// Stores everything that waits, and sees which files can be opened: libvirt's daemons reopen
    /// all.
    pub(crate) fn flush_for_handover(&mut self, core: &mut Core<Outcome>) {
        let logs = self.table.iter().filter(|(_, queue)| queue.guest.is_some());
        for number in logs.map(|(number, _)| number).collect::<Vec<_>>() {
            self.enqueue_at(core, number, Task::FlushForHandover);
        }
    }

    /// Adds a task to a queue.
    pub(crate) fn enqueue_at(&mut self, core: &mut Core<Outcome>, number: u64, task: Task) {
        if let Some(queue) = self.table.get_mut(number) {
            queue.waiting.push(task);
        }
        self.advance(core, number);
    }

    /// Starts the queue's next task if it can be started; forgets a queue in which nothing is left.
    fn advance(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(queue) = self.table.get_mut(number).filter(|queue| !queue.busy) else { return };
        if !queue.has_task() {
            if queue.writer.is_none() {
                self.forget(core, number);
            }
            return;
        }
        if queue.waiting.are_none() && queue.place.is_some_and(|place| core.holds_back(place)) {
            return;
        }
        let (task, left) = match suspects::before_task(core, queue, number) {
            Prerequisite::None => queue.next_task(core.is_crowded()),
            Prerequisite::Turn => (Task::Turn { flush: true, retry: true, is_short: true }, None),
            Prerequisite::Fetch => return,
        };
        queue.busy = true;
        let (path, writer) = (Arc::clone(&queue.path), queue.writer.take());
        let workspaces = self.workspaces.clone();
        let is_at_slow_place = queue.place.is_some_and(|place| core.is_slow(place));
        let haste = core.haste();
        queue.submit(core, number, move || {
            let result = match is_at_slow_place && task.can_wait() && haste.is_needed() {
                true => TaskResult::postponed(writer),
                false => task.run(&path, writer, &workspaces, left),
            };
            Outcome(JobResult::Task(number, result))
        });
    }

    /// Takes back the log of a task, if the path is one. Returns the guest of one that has ended, and its
    /// key in the fd store.
    fn take_back(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
        writer: Option<Box<LogWriter>>,
        outcome: Option<WriteOutcome>,
        unfinished: Option<(Task, u64)>,
    ) -> Option<(Option<u64>, Arc<Guest>)> {
        let queue = self.table.get_mut(number)?;
        let guest = writer.as_ref().map(|writer| writer.guest());
        let is_new = guest.is_some_and(|guest| !queue.is_log_of(guest));
        self.opened_logs += u64::from(is_new);
        self.open_logs += usize::from(writer.is_some());
        self.open_logs -= usize::from(queue.guest.is_some());
        let key = queue.key;
        let ended = queue.task_ended(core, number, writer).map(|guest| (key, guest));
        self.failing_logs -= usize::from(queue.is_failing);
        queue.is_failing = matches!(outcome, Some(WriteOutcome::Failed));
        self.failing_logs += usize::from(queue.is_failing);
        if let Some((task, left)) = unfinished {
            queue.waiting.put_back(task, left);
        }
        match outcome {
            Some(WriteOutcome::Again | WriteOutcome::Racing) => core.again(number),
            Some(WriteOutcome::Rest(time)) => queue.rest(core, time, number),
            Some(WriteOutcome::Held) => queue.flush_after(core, HOLD, number),
            Some(WriteOutcome::Failed) => queue.flush_after(core, RETRY, number),
            Some(WriteOutcome::Large) => queue.flush_after(core, rate::LARGE, number),
            Some(WriteOutcome::Quiet | WriteOutcome::End) | None => {}
        }
        queue.tell_of_excess_later(core, number);
        ended
    }

    fn forget(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(queue) = self.table.remove(number) {
            self.failing_logs -= usize::from(queue.is_failing);
            self.stops.ended(number);
            queue.timers.iter().for_each(|timer| core.cancel_timer(timer));
        }
    }

    /// Checks the guest of a task that takes long.
    fn check_guest(core: &mut Core<Outcome>, queue: &mut LogQueue, number: u64) {
        if queue.watch_guest(core, number) {
            suspects::fetch(core, queue, number);
        }
    }

    fn fetch(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(queue) = self.table.get_mut(number) {
            suspects::fetch(core, queue, number);
        }
    }

    /// Notes that a fetch takes long, so that no task waits for it any longer.
    fn fetch_stalled(&mut self, core: &mut Core<Outcome>, number: u64) {
        if self.table.get_mut(number).is_some_and(|queue| queue.fetch.set_stalled()) {
            self.advance(core, number);
        }
    }
}
