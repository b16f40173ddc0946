//! Tasks of all logs: each path has a queue, whose tasks run one at a time, in the order in which they
//! came. Each is a job that takes the queue's log along and brings it back.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::handover::stored::Kind;
use common::server::{ClientId, Core, Place};
use common::sys::pipe;

use crate::guest::access::{Fetched, Guest};
use crate::guest::rate;
use crate::guest::staging::Workspaces;
use crate::logs::closings::Closings;
use crate::logs::outcome::{Ended, Outcome};
use crate::logs::queue::Lane;
use crate::logs::stops::Stops;
use crate::logs::suspects::{self, Before};
use crate::logs::table::LogTable;
use crate::logs::task::{Done, Task};
use crate::logs::timer::QueueTimer;
use crate::logs::writer::{Pump, Turn};
use crate::persist::fd_store;
use crate::persist::restored_log::RestoredLog;
use crate::persist::staging_store;
use crate::protocol::Domain;
use crate::rotating_file::Limits;

/// Time that a partial line may wait for its end near the end of a file.
const HOLD: Duration = Duration::from_millis(50);

/// Time before a log that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// All queues, and what their tasks need.
#[derive(Debug)]
pub(crate) struct Scheduler {
    table: LogTable,
    workspaces: Workspaces,
    limits: Limits,
    open_logs: usize,
    closings: Closings,
    stops: Stops,
}

impl Scheduler {
    /// Makes one without any log.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn new(limits: Limits) -> io::Result<Self> {
        Ok(Self {
            table: LogTable::default(),
            workspaces: Workspaces::new()?,
            limits,
            open_logs: 0,
            closings: Closings::default(),
            stops: Stops::default(),
        })
    }

    /// Returns the queues.
    pub(crate) fn table(&self) -> &LogTable {
        &self.table
    }

    /// Returns a number for what is watched beside the queues.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.table.next_number()
    }

    /// Returns the number of open logs.
    pub(crate) fn open_logs(&self) -> usize {
        self.open_logs
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
        domain: Domain,
        truncate: bool,
    ) -> io::Result<()> {
        let (reader, writer) = pipe::pipe()?;
        let number = self.table.number_of(path);
        let guest = self.table.next_number();
        let pipe = match core.watch(Arc::new(reader), number) {
            Ok(pipe) => pipe,
            Err(error) => {
                self.advance(core, number);
                return Err(error);
            }
        };
        let guest = Arc::new(Guest::new(guest, domain, pipe, self.workspaces.pool()));
        self.enqueue(core, path, Task::Open { client, truncate, guest, writer });
        Ok(())
    }

    /// Goes on with a log of the process before this one. Gives the pipe of one that there is already
    /// back.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The pipe is closed.
    pub(crate) fn adopt(
        &mut self,
        core: &mut Core<Outcome>,
        log: RestoredLog,
    ) -> io::Result<Option<OwnedFd>> {
        let RestoredLog { path, domain, pipe, state, file } = log;
        if self.table.has_path(&path) {
            tracing::error!(
                target: "logging.log_handler",
                "{} was handed over twice; what {domain} writes into the second is dropped",
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
        let (guest, key) = (self.table.next_number(), state.key);
        let guest = Arc::new(state.into_guest(guest, domain, pipe, self.workspaces.pool()));
        if let Some(lane) = self.table.get_mut(number) {
            lane.guest = Some(Arc::clone(&guest));
            lane.key = key;
            self.open_logs += 1;
        }
        self.enqueue(core, &path, Task::Adopt { guest, file: Box::new(file) });
        Ok(None)
    }

    /// Adds a task to the queue of a path.
    pub(crate) fn enqueue(&mut self, core: &mut Core<Outcome>, path: &Path, task: Task) {
        let number = self.table.number_of(path);
        self.enqueue_at(core, number, task);
    }

    /// Starts what can be started.
    pub(crate) fn resume(&mut self, core: &mut Core<Outcome>) {
        for number in self.table.numbers() {
            self.advance(core, number);
        }
    }

    /// Takes note that the pipe of a queue's guest is ready. Returns whether there is such a queue.
    pub(crate) fn ready(&mut self, core: &mut Core<Outcome>, number: u64) -> bool {
        let Some(lane) = self.table.get_mut(number) else { return false };
        if suspects::is_suspect(core, lane) {
            suspects::fetch(core, lane, number);
        } else {
            lane.ready = true;
            Self::relieve(core, lane, number);
            self.advance(core, number);
        }
        true
    }

    /// Does what a queue's timer was set for.
    pub(crate) fn timer(&mut self, core: &mut Core<Outcome>, timer: QueueTimer, number: u64) {
        let Some(lane) = self.table.get_mut(number) else { return };
        match timer {
            QueueTimer::Rest => {
                lane.rest_timer = None;
                lane.ready = true;
            }
            QueueTimer::Relief => {
                lane.relief_timer = None;
                if suspects::is_suspect(core, lane) {
                    self.fetch_is_late(core, number);
                    return self.fetch(core, number);
                }
                Self::relieve(core, lane, number);
            }
            QueueTimer::Flush => {
                lane.flush_timer = None;
                lane.waiting.push_back(Task::Turn { flush: true, retry: true, is_short: true });
            }
        }
        self.advance(core, number);
    }

    /// Takes a task's result.
    pub(crate) fn task_ended(&mut self, core: &mut Core<Outcome>, number: u64, done: Done) {
        let is_log = done.pump.is_some();
        let goes_on_elsewhere = self.table.is_stopping && !is_log;
        if goes_on_elsewhere {
            self.stops.ended(number);
            // Its backlog, the last time.
            fd_store::store_log(core, &mut self.table, number);
        }
        let Done { pump, answer, turn, unfinished } = done;
        let ended = self.take_back(core, number, pump, turn, unfinished);
        let pool = self.workspaces.pool();
        if goes_on_elsewhere {
            staging_store::forget_ended(core, pool);
        } else {
            fd_store::store_log_and_pipes(core, &mut self.table, pool, number);
        }
        if let Some((key, guest)) = ended {
            self.closings.close(core, key, guest);
        }
        if let Some((client, result)) = answer {
            core.answer(client, result);
        }
        self.advance(core, number);
        if let Some(lane) = self.table.get_mut(number) {
            suspects::fetch_after_task(core, lane, number);
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
        let Some(lane) = self.table.get_mut(number) else { return };
        if suspects::fetch_ended(core, lane, number, guest, fetched) {
            fd_store::store_log_and_pipes(core, &mut self.table, self.workspaces.pool(), number);
            self.advance(core, number);
        }
    }

    /// Notes that the pipe of the guest with this number is closed.
    pub(crate) fn closing_ended(&mut self, number: u64) {
        self.closings.ended(number);
    }

    /// Looks after the guest of a job that takes long.
    pub(crate) fn job_is_late(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.table.get_mut(number) {
            lane.task_is_late();
            Self::relieve(core, lane, number);
            self.fetch_is_late(core, number);
        }
    }

    /// Notes where a job's file is.
    pub(crate) fn job_goes_on_at(&mut self, number: u64, place: Place) {
        if let Some(lane) = self.table.get_mut(number) {
            lane.place = Some(place);
        }
    }

    /// Ends the pipe of a job's guest, so that it does not wait for ever in front of it: the job is not
    /// waited for any more.
    pub(crate) fn job_given_up(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.table.get_mut(number) {
            lane.guest.iter().for_each(|guest| guest.intake().lose_unstored());
            fd_store::store_log(core, &mut self.table, number);
        }
        if let Some(lane) = self.table.get_mut(number) {
            lane.leave_guest(core, number);
        }
    }

    /// Describes a job.
    pub(crate) fn describe_job(&self, number: u64) -> Option<String> {
        let lane = self.table.get(number).map(Lane::to_string);
        lane.or_else(|| self.closings.describe(number))
    }

    /// Stores all that waits, and sees which files can be opened: libvirt's daemons reopen all.
    pub(crate) fn settle(&mut self, core: &mut Core<Outcome>) {
        let logs = self.table.iter().filter(|(_, lane)| lane.guest.is_some());
        for number in logs.map(|(number, _)| number).collect::<Vec<_>>() {
            self.enqueue_at(core, number, Task::Settle);
        }
    }

    /// Stops the logs whose disks are slow, or whose tasks take long.
    pub(crate) fn begin_stop(&mut self, core: &mut Core<Outcome>) {
        self.table.is_stopping = true;
        if core.has_store() {
            self.workspaces.pool().records().close();
        }
        for number in self.table.numbers() {
            let Some(lane) = self.table.get(number) else { continue };
            if lane.busy || lane.place.is_none_or(|place| core.is_slow(place)) {
                self.stop_log(core, number);
            }
        }
    }

    /// Stops all other logs.
    pub(crate) fn stop_rest(&mut self, core: &mut Core<Outcome>) {
        self.stops.give_up();
        let is_served = |number: &u64| !self.stops.is_under_way(*number);
        for number in self.table.numbers().into_iter().filter(is_served).collect::<Vec<_>>() {
            self.stop_log(core, number);
        }
    }

    /// Returns whether everything was stopped that was to be, but for what takes too long. Jobs of
    /// `other_source` are waited for as well.
    pub(crate) fn has_stopped(&self, core: &Core<Outcome>, other_source: u64) -> bool {
        let Some(given_up) = self.stops.given_up() else { return self.stops.are_over() };
        let is_awaited = |number: &u64| *number == other_source || self.table.has_number(*number);
        let mut jobs = core.jobs_in_flight().map(|job| job.source).filter(is_awaited);
        self.stops.are_over() && jobs.all(|number| given_up.contains(&number))
    }

    /// Begins the records for the process after a crash.
    pub(crate) fn begin_records(&self, core: &mut Core<Outcome>) {
        fd_store::begin(core, &self.table, self.workspaces.pool());
    }

    /// Returns the round in which bytes at risk are recorded.
    pub(crate) fn at_risk_round(&self) -> Option<u32> {
        self.workspaces.pool().records().round()
    }

    /// Sends everything to the fd store.
    pub(crate) fn store_all(&mut self, core: &mut Core<Outcome>) {
        fd_store::store_all(core, &mut self.table, &self.workspaces);
    }

    /// Sends to the fd store what it had no room for.
    pub(crate) fn store_unstored(&mut self, core: &mut Core<Outcome>) {
        fd_store::store_unstored(core, &mut self.table, &self.workspaces);
    }

    /// Takes note that the fd store has a log no more.
    pub(crate) fn has_left_store(&mut self, core: &mut Core<Outcome>, key: u64) {
        self.closings.close_removed(core, key);
    }

    /// Takes note that a log or staging pipe is not in the fd store after all.
    pub(crate) fn remove_store_key(&mut self, kind: Kind, key: u64) {
        fd_store::remove_key(&mut self.table, &self.workspaces, kind, key);
    }

    /// Takes note that nothing is in the fd store any more.
    pub(crate) fn clear_store_keys(&mut self) {
        fd_store::clear_keys(&mut self.table, &self.workspaces);
    }

    /// Returns the paths that have a queue.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.table.paths().collect()
    }

    fn enqueue_at(&mut self, core: &mut Core<Outcome>, number: u64, task: Task) {
        if let Some(lane) = self.table.get_mut(number) {
            lane.waiting.push_back(task);
        }
        self.advance(core, number);
    }

    /// Starts the queue's next task if it can be started; forgets a queue in which nothing is left.
    fn advance(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.table.get_mut(number).filter(|lane| !lane.busy) else { return };
        if !lane.has_task() {
            if lane.pump.is_none() {
                self.forget(core, number);
            }
            return;
        }
        if lane.waiting.is_empty() && lane.place.is_some_and(|place| core.holds_back(place)) {
            return;
        }
        let before = suspects::before_task(core, lane, number);
        let task = match before {
            Before::Nothing => lane.next_task(core.is_crowded()),
            Before::Turn => Some(Task::Turn { flush: true, retry: true, is_short: true }),
            Before::Fetch => None,
        };
        let Some(task) = task else { return };
        let left = lane.left.take_if(|_| before == Before::Nothing);
        lane.busy = true;
        let (path, pump, limits) = (Arc::clone(&lane.path), lane.pump.take(), self.limits);
        let workspaces = self.workspaces.clone();
        let is_at_slow_place = lane.place.is_some_and(|place| core.is_slow(place));
        let haste = core.haste();
        lane.submit(core, number, move || {
            let done = match is_at_slow_place && task.can_wait() && haste.is_needed() {
                true => Done::put_off(pump),
                false => task.run(&path, pump, &workspaces, limits, left),
            };
            Outcome(Ended::Task(number, done))
        });
    }

    /// Takes back the log of a task, if the path is one. Returns the guest of one that has ended, and its
    /// key in the fd store.
    fn take_back(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
        pump: Option<Box<Pump>>,
        turn: Option<Turn>,
        unfinished: Option<(Task, u64)>,
    ) -> Option<(Option<u64>, Arc<Guest>)> {
        let lane = self.table.get_mut(number)?;
        self.open_logs += usize::from(pump.is_some());
        self.open_logs -= usize::from(lane.guest.is_some());
        let key = lane.key;
        let ended = lane.task_ended(core, number, pump).map(|guest| (key, guest));
        lane.is_failing = matches!(turn, Some(Turn::Trouble));
        if let Some((task, left)) = unfinished {
            lane.waiting.push_front(task);
            lane.left = Some(left);
        }
        match turn {
            Some(Turn::Again | Turn::Racing) => core.again(number),
            Some(Turn::Rest(time)) => lane.rest(core, time, number),
            Some(Turn::Held) => lane.flush_after(core, HOLD, number),
            Some(Turn::Trouble) => lane.flush_after(core, RETRY, number),
            Some(Turn::Large) => lane.flush_after(core, rate::LARGE, number),
            Some(Turn::Quiet | Turn::End) | None => {}
        }
        ended
    }

    fn forget(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.table.remove(number) {
            self.stops.ended(number);
            lane.timers().for_each(|timer| core.cancel_timer(timer));
        }
    }

    /// Looks after the guest of a task that takes long.
    fn relieve(core: &mut Core<Outcome>, lane: &mut Lane, number: u64) {
        if lane.look_after_guest(core, number) {
            suspects::fetch(core, lane, number);
        }
    }

    fn fetch(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.table.get_mut(number) {
            suspects::fetch(core, lane, number);
        }
    }

    /// A fetch takes long: no task waits for it any longer.
    fn fetch_is_late(&mut self, core: &mut Core<Outcome>, number: u64) {
        if self.table.get_mut(number).is_some_and(|lane| lane.fetch.set_late()) {
            self.advance(core, number);
        }
    }

    /// Stops a log. One that is in the fd store only pauses: its pipe stays there.
    fn stop_log(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.table.get_mut(number) else { return };
        let is_kept = fd_store::goes_on(core, lane);
        lane.waiting.push_back(Task::Stop { is_kept });
        self.stops.begin(number);
        self.advance(core, number);
    }
}
