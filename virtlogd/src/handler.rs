//! All logs, by path and by the number they are watched under.
//!
//! Whatever concerns one path goes through its lane: tasks run one at a time, in the order in
//! which they came, each as a job that takes the lane's log along and brings it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::handover::document::Document;
use common::handover::stored::Kind;
use common::handover::{Passing, Reader};
use common::rpc::{self, Call, error};
use common::server::{Answer, Caller, ClientId, Core, Daemon, Place};
use common::sys::pipe;

use crate::cleaner;
use crate::config::Settings;
use crate::guest::access::{Fetched, Guest};
use crate::guest::loss;
use crate::guest::rate;
use crate::guest::staging::Workspaces;
use crate::logs::queue::{Lane, PathBytes, Timer};
use crate::logs::stops::Stops;
use crate::logs::suspects::{Before, Closings, is_suspect};
use crate::logs::task::{Done, Task};
use crate::logs::writer::Turn;
use crate::persist::fd_store;
use crate::persist::restored_log::Legacy;
use crate::persist::unclaimed_pipes::Orphans;
use crate::protocol::{self, Domain, Request};

/// How long a partial line may wait for its end near the end of a file.
const HOLD: Duration = Duration::from_millis(50);

/// How long to wait before a log that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// How soon after the start old logs are looked for. libvirt waits for a whole period, and every
/// upgrade of it starts the period again.
const FIRST_CLEANING: Duration = Duration::from_secs(10);

/// How often old logs are looked for, libvirt's value.
const CLEANING_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of the cleaning timer; lanes are numbered behind it.
pub(crate) const CLEANER: u64 = 0;

/// virtlogd's state.
#[derive(Debug)]
pub struct Handler {
    settings: Settings,
    /// In the order in which they were made, and so in memory: all of them are gone through at an
    /// upgrade. Boxed, since a map leaves places empty.
    pub(crate) lanes: BTreeMap<u64, Box<Lane>>,
    pub(crate) by_path: HashMap<PathBytes, u64>,
    pub(crate) workspaces: Workspaces,
    pub(crate) last_number: u64,
    open_logs: usize,
    /// Logs that the fd store had no room for, by the numbers of their lanes.
    pub(crate) unstored: BTreeSet<u64>,
    pub(crate) orphans: Orphans,
    pub(crate) closings: Closings,
    pub(crate) stopping: bool,
    pub(crate) stops: Stops,
}

/// What a job brings back.
#[derive(Debug)]
pub struct Outcome(pub(crate) Ended);

#[derive(Debug)]
pub(crate) enum Ended {
    /// A task of the lane with this number.
    Task(u64, Done),
    /// What takes the bytes of a guest, by its number, beside the tasks of a lane.
    Fetch {
        number: u64,
        guest: u64,
        fetched: Fetched,
    },
    /// The pipe of a guest of this number is closed.
    Closing(u64),
    /// So far a pipe of nobody's was emptied; whether it is at its end.
    Orphan(u64, bool),
    Cleaning,
}

impl Handler {
    /// Without any log.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub fn new(settings: Settings, core: &mut Core<Outcome>) -> io::Result<Self> {
        if settings.age_days_max > 0 {
            core.set_timer(FIRST_CLEANING, Timer::Flush.of(CLEANER));
        }
        Ok(Self {
            settings,
            lanes: BTreeMap::new(),
            by_path: HashMap::new(),
            workspaces: Workspaces::new()?,
            last_number: CLEANER,
            open_logs: 0,
            unstored: BTreeSet::new(),
            orphans: Orphans::default(),
            closings: Closings::default(),
            stopping: false,
            stops: Stops::default(),
        })
    }

    fn start(
        &mut self,
        core: &mut Core<Outcome>,
        client: ClientId,
        request: Request,
    ) -> Result<(), rpc::Error> {
        protocol::check(&request)?;
        match request {
            Request::Open { domain, path, truncate } => {
                self.open(core, client, &path, domain, truncate)?;
            }
            Request::Position { path, .. } => self.enqueue(core, &path, Task::Position { client }),
            Request::Read { path, inode, offset, len_max, .. } => {
                self.enqueue(core, &path, Task::Read { client, inode, offset, len_max });
            }
            Request::Append { path, message, .. } => {
                self.enqueue(core, &path, Task::Append { client, message });
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        core: &mut Core<Outcome>,
        client: ClientId,
        path: &Path,
        domain: Domain,
        truncate: bool,
    ) -> Result<(), rpc::Error> {
        let failed = |error: io::Error| {
            let errno = error.raw_os_error().unwrap_or(nix::errno::Errno::EIO as i32);
            rpc::Error::system(error::Domain::None, "Unable to create pipes", errno)
        };
        let (reader, writer) = pipe::pipe().map_err(failed)?;
        let number = self.lane_of(path);
        self.last_number += 1;
        let guest = match core.watch(Arc::new(reader), number) {
            Ok(pipe) => Arc::new(Guest::new(self.last_number, domain, pipe)),
            Err(error) => {
                self.advance(core, number);
                return Err(failed(error));
            }
        };
        self.enqueue(core, path, Task::Open { client, truncate, guest, writer });
        Ok(())
    }

    /// Watches a pipe that an earlier image of this process had, and goes on with its log.
    pub(crate) fn adopt(
        &mut self,
        core: &mut Core<Outcome>,
        path: &Path,
        guest: OwnedFd,
        domain: Domain,
        legacy: Legacy,
    ) -> io::Result<()> {
        let pipe = core.watch(Arc::new(guest), self.last_number + 1)?;
        let number = self.lane_of(path);
        self.last_number += 1;
        let (guest, legacy) = legacy.with_guest(self.last_number, domain, pipe);
        let guest = Arc::new(guest);
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.guest = Some(Arc::clone(&guest));
            lane.key = legacy.key;
            self.open_logs += 1;
        }
        self.enqueue(core, path, Task::Adopt { guest, legacy: Box::new(legacy) });
        Ok(())
    }

    /// Keeps a pipe empty of which nobody knows whose it is.
    pub(crate) fn adopt_orphan(
        &mut self,
        core: &mut Core<Outcome>,
        pipe: OwnedFd,
    ) -> io::Result<()> {
        self.last_number += 1;
        self.orphans.add(core, self.last_number, pipe)
    }

    fn enqueue(&mut self, core: &mut Core<Outcome>, path: &Path, task: Task) {
        let number = self.lane_of(path);
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.waiting.push_back(task);
        }
        self.advance(core, number);
    }

    /// Starts the lane's next task if it can be started; forgets the lane if nothing is left of
    /// it.
    pub(crate) fn advance(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        if lane.busy {
            return;
        }
        if !lane.has_task() {
            if lane.pump.is_none() {
                self.forget(core, number);
            }
            return;
        }
        if lane.waiting.is_empty() && lane.place.is_some_and(|place| core.holds_back(place)) {
            return;
        }
        let before = self.before_task_of_suspect(core, number);
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let task = match before {
            Before::Nothing => lane.next_task(core.is_crowded()),
            Before::Turn => Some(Task::Turn { flush: true, retry: true, is_short: true }),
            Before::Fetch => None,
        };
        let Some(task) = task else { return };
        let left = lane.left.take_if(|_| before == Before::Nothing);
        lane.busy = true;
        let (path, pump, limits) = (Arc::clone(&lane.path), lane.pump.take(), self.settings.limits);
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

    /// Looks after the guest of a task that takes long.
    fn relieve(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        if lane.look_after_guest(core, number) {
            self.fetch(core, number);
        }
    }

    fn task_ended(&mut self, core: &mut Core<Outcome>, number: u64, done: Done) {
        let is_log = done.pump.is_some();
        if !is_log && self.stopping {
            self.stops.ended(number);
            // What it is owed, the last time.
            self.keep_log(core, number);
        }
        let mut ended = None;
        if let Some(lane) = self.lanes.get_mut(&number) {
            self.open_logs += usize::from(done.pump.is_some());
            self.open_logs -= usize::from(lane.guest.is_some());
            let key = lane.key;
            ended = lane.task_ended(core, number, done.pump).map(|guest| (key, guest));
            lane.is_failing = matches!(done.turn, Some(Turn::Trouble));
            if let Some((task, left)) = done.unfinished {
                lane.waiting.push_front(task);
                lane.left = Some(left);
            }
            match done.turn {
                Some(Turn::Again | Turn::Racing) => core.again(number),
                Some(Turn::Rest(time)) => lane.rest(core, time, number),
                Some(Turn::Held) => lane.flush_after(core, HOLD, number),
                Some(Turn::Trouble) => lane.flush_after(core, RETRY, number),
                Some(Turn::Large) => lane.flush_after(core, rate::LARGE, number),
                Some(Turn::Quiet | Turn::End) | None => {}
            }
        }
        // With an fd store a log that was stopped goes on in another process.
        if !self.stopping || is_log {
            self.keep_log_with_pipes(core, number);
        } else {
            fd_store::forget_pipes(core);
        }
        if let Some((key, guest)) = ended {
            self.close(core, key, guest);
        }
        if let Some((client, result)) = done.answer {
            core.answer(client, result);
        }
        self.advance(core, number);
        self.see_to_suspect(core, number);
    }

    fn clean(&self, core: &mut Core<Outcome>) {
        let open: Vec<_> = self.by_path.keys().map(|path| path.0.to_path_buf()).collect();
        let (root, age_days_max) = (self.settings.log_root.clone(), self.settings.age_days_max);
        let backups_max = self.settings.limits.backups_max;
        core.submit(Place::alone(&root), CLEANER, move || {
            cleaner::clean(&root, age_days_max, backups_max, SystemTime::now(), &open);
            Outcome(Ended::Cleaning)
        });
    }
}

impl Daemon for Handler {
    type Outcome = Outcome;

    fn call(&mut self, core: &mut Core<Outcome>, from: Caller, call: Call) -> Answer {
        let request = Request::decode(call.procedure, &call.arguments);
        match request.and_then(|request| self.start(core, from.client, request)) {
            Ok(()) => Answer::Later,
            Err(error) => Answer::Now(Err(error)),
        }
    }

    /// A log belongs to its pipe, not to the client that asked for it.
    fn disconnected(&mut self, _: &mut Core<Outcome>, _: Caller) {}

    fn ready(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            if is_suspect(core, lane) {
                return self.fetch(core, number);
            }
            lane.ready = true;
            self.relieve(core, number);
            self.advance(core, number);
        } else {
            self.orphans.ready(core, number);
        }
    }

    fn timer(&mut self, core: &mut Core<Outcome>, source: u64) {
        let (timer, number) = Timer::from(source);
        if number == CLEANER {
            return self.clean(core);
        }
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        match timer {
            Timer::Rest => {
                lane.rest_timer = None;
                lane.ready = true;
            }
            Timer::Relief => {
                lane.relief_timer = None;
                if is_suspect(core, lane) {
                    self.fetch_is_late(core, number);
                    return self.fetch(core, number);
                }
                self.relieve(core, number);
            }
            Timer::Flush => {
                lane.flush_timer = None;
                lane.waiting.push_back(Task::Turn { flush: true, retry: true, is_short: true });
            }
        }
        self.advance(core, number);
    }

    fn job_ended(&mut self, core: &mut Core<Outcome>, outcome: Outcome) {
        match outcome.0 {
            Ended::Task(number, done) => self.task_ended(core, number, done),
            Ended::Fetch { number, guest, fetched } => {
                self.fetch_ended(core, number, guest, fetched);
            }
            Ended::Closing(number) => self.closings.ended(number),
            Ended::Orphan(number, is_at_end) => self.orphans.emptied(core, number, is_at_end),
            Ended::Cleaning => {
                core.set_timer(CLEANING_PERIOD, Timer::Flush.of(CLEANER));
            }
        }
    }

    fn job_is_late(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.task_is_late();
            self.relieve(core, number);
            self.fetch_is_late(core, number);
        }
    }

    fn job_goes_on_at(&mut self, number: u64, place: Place) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.place = Some(place);
        }
    }

    fn describe_job(&self, number: u64) -> String {
        match self.lanes.get(&number) {
            Some(lane) => lane.to_string(),
            None if number == CLEANER => {
                format!("looking for old logs in {}", self.settings.log_root.display())
            }
            None => self.closings.describe(number).unwrap_or_else(Orphans::describe),
        }
    }

    /// The guest's pipe ends, so that it does not wait for ever in front of it.
    fn job_given_up(&mut self, core: &mut Core<Outcome>, number: u64) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.guest.iter().for_each(|guest| guest.intake().lose_unstored());
            self.keep_log(core, number);
        }
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.leave_guest(core, number);
        }
    }

    fn is_in_use(&self) -> bool {
        self.open_logs > 0 || !self.orphans.are_gone()
    }

    fn save<'a>(&'a self, document: &mut Document<'a>, passing: &'a Passing, reader: Reader) {
        self.save_into(document, passing, reader);
    }

    /// libvirt's daemons reopen all files, so it must be seen now which of them can be.
    fn settle(&mut self, core: &mut Core<Outcome>, reader: Reader) {
        if reader == Reader::Ours {
            return;
        }
        let logs = self.lanes.iter().filter(|(_, lane)| lane.guest.is_some());
        let logs = logs.map(|(&number, _)| number);
        for number in logs.collect::<Vec<_>>() {
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.waiting.push_back(Task::Settle);
            }
            self.advance(core, number);
        }
    }

    fn save_header(&self, document: &mut Document<'_>) {
        document.private.get_or_insert_default().at_risk_round = fd_store::round();
    }

    fn keep_essentials(&mut self, core: &mut Core<Outcome>) {
        self.keep_marks(core);
    }

    fn keep_all(&mut self, core: &mut Core<Outcome>) {
        self.keep_everything(core);
    }

    fn keep_more(&mut self, core: &mut Core<Outcome>) {
        self.keep_unstored(core);
    }

    fn has_left_store(&mut self, core: &mut Core<Outcome>, key: u64) {
        self.close_stored(core, key);
    }

    fn is_not_stored(&mut self, kind: Kind, key: u64) {
        self.forget_key(kind, key);
    }

    /// No client of virtlogd is kept.
    fn client_is_not_stored(&mut self, _: ClientId) {}

    fn keep_no_more(&mut self) {
        self.forget_keys();
    }

    fn resume(&mut self, core: &mut Core<Outcome>) {
        for number in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.advance(core, number);
        }
    }

    fn status(&self) -> String {
        format!("{} logs open, {} bytes dropped", self.open_logs, loss::dropped_bytes())
    }

    fn at_stake(&self) -> Option<String> {
        let logs = self.open_logs;
        (logs > 0).then(|| format!("a crash loses {logs} logs, a restart or a stop ends them"))
    }

    fn stop(&mut self, core: &mut Core<Outcome>) {
        self.begin_stop(core);
    }

    fn stop_rest(&mut self, core: &mut Core<Outcome>) {
        self.stop_served(core);
    }

    fn has_stopped(&self, core: &Core<Outcome>) -> bool {
        self.is_stopped(core)
    }
}
