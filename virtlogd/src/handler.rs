//! All logs, by path and by the number they are watched under.
//!
//! Whatever concerns one path goes through its lane: tasks run one at a time, in the order in
//! which they came, each as a job that takes the lane's log along and brings it back.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::event::{Registered, TimerId};
use common::handover::document::Document;
use common::handover::{Passing, Reader};
use common::rpc::{self, Call, error};
use common::server::{Answer, Caller, ClientId, Core, Daemon};
use common::sys::pipe;

use crate::cleaner;
use crate::config::Settings;
use crate::flow;
use crate::orphan::Orphans;
use crate::loss;
use crate::protocol::{Domain, READ_BYTES_MAX, Request};
use crate::pump::{Pump, Turn};
use crate::staging::Workspace;
use crate::task::{Done, Task};

/// Tasks that may run at the same time; each needs pipes of its own.
const WORKSPACES: usize = 1;

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
const CLEANER: u64 = 0;

/// virtlogd's state.
#[derive(Debug)]
pub struct Handler {
    settings: Settings,
    lanes: HashMap<u64, Lane>,
    /// By the bytes of the path: `Path` would take `a//b` for `a/b`, which are two logs in libvirt.
    by_path: HashMap<Arc<OsStr>, u64>,
    workspaces: Vec<Workspace>,
    /// Lanes that wait for a workspace.
    parked: VecDeque<u64>,
    last_number: u64,
    open_logs: usize,
    pub(crate) orphans: Orphans,
}

/// One path and what is to be done with it.
#[derive(Debug)]
struct Lane {
    path: Arc<OsStr>,
    /// Its log, unless a task has it.
    pump: Option<Box<Pump>>,
    /// A task is running.
    busy: bool,
    /// The path was a log when the last task ended.
    is_log: bool,
    /// The pipe has become ready since the last turn began.
    ready: bool,
    /// Bounded by the clients, of whom each has one call in flight.
    waiting: VecDeque<Task>,
    /// Waits for a workspace.
    parked: bool,
    flush_timer: Option<TimerId>,
    rest_timer: Option<TimerId>,
}

/// What a job brings back.
#[derive(Debug)]
pub struct Outcome(Ended);

#[derive(Debug)]
enum Ended {
    /// A task of the lane with this number.
    Task(u64, Done),
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
            lanes: HashMap::new(),
            by_path: HashMap::new(),
            workspaces: (0..WORKSPACES).map(|_| Workspace::new()).collect::<io::Result<_>>()?,
            parked: VecDeque::new(),
            last_number: CLEANER,
            open_logs: 0,
            orphans: Orphans::default(),
        })
    }

    fn start(
        &mut self,
        core: &mut Core<Outcome>,
        client: ClientId,
        request: Request,
    ) -> Result<(), rpc::Error> {
        check(&request)?;
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
        let guest = match core.watch(reader, number) {
            Ok(guest) => guest,
            Err(error) => {
                self.advance(core, number);
                return Err(failed(error));
            }
        };
        self.enqueue(core, path, Task::Open { client, domain, truncate, guest, writer });
        Ok(())
    }

    /// Whether something is done with this path, or it is a log.
    pub(crate) fn has_lane(&self, path: &Path) -> bool {
        self.by_path.contains_key(path.as_os_str())
    }

    /// Watches a pipe that an earlier image of this process had, and makes the task that takes it
    /// from there.
    pub(crate) fn adopt(
        &mut self,
        core: &mut Core<Outcome>,
        path: &Path,
        guest: OwnedFd,
        task: impl FnOnce(Registered<OwnedFd>) -> Task,
    ) -> io::Result<()> {
        let guest = core.watch(guest, self.last_number + 1)?;
        self.enqueue(core, path, task(guest));
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

    /// All logs with their paths.
    pub(crate) fn pumps(&self) -> impl Iterator<Item = (&Path, &Pump)> {
        self.lanes.values().filter_map(|lane| Some((Path::new(&*lane.path), lane.pump.as_deref()?)))
    }

    fn enqueue(&mut self, core: &mut Core<Outcome>, path: &Path, task: Task) {
        let number = self.lane_of(path);
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.waiting.push_back(task);
        }
        self.advance(core, number);
    }

    /// The lane of a path, a new one if it has none.
    fn lane_of(&mut self, path: &Path) -> u64 {
        if let Some(&number) = self.by_path.get(path.as_os_str()) {
            return number;
        }
        self.last_number += 1;
        let path = Arc::from(path.as_os_str());
        self.by_path.insert(Arc::clone(&path), self.last_number);
        self.lanes.insert(self.last_number, Lane::new(path));
        self.last_number
    }

    /// Starts the lane's next task if it can be started; forgets the lane if nothing is left of
    /// it.
    fn advance(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        if lane.busy || lane.parked {
            return;
        }
        if !lane.has_task() {
            if lane.pump.is_none() {
                self.forget(core, number);
            }
            return;
        }
        let Some(workspace) = self.workspaces.pop() else {
            lane.parked = true;
            return self.parked.push_back(number);
        };
        let Some(task) = lane.next_task() else { return };
        lane.busy = true;
        let (path, pump, limits) = (Arc::clone(&lane.path), lane.pump.take(), self.settings.limits);
        core.submit(move || {
            Outcome(Ended::Task(number, task.run(Path::new(&*path), pump, workspace, limits)))
        });
    }

    fn forget(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lanes.remove(&number) else { return };
        self.by_path.remove(&lane.path);
        for timer in [lane.flush_timer, lane.rest_timer].into_iter().flatten() {
            core.cancel_timer(timer);
        }
    }

    fn task_ended(&mut self, core: &mut Core<Outcome>, number: u64, done: Done) {
        self.workspaces.push(done.workspace);
        if let Some(lane) = self.lanes.get_mut(&number) {
            self.open_logs += usize::from(done.pump.is_some());
            self.open_logs -= usize::from(lane.is_log);
            lane.is_log = done.pump.is_some();
            lane.pump = done.pump;
            lane.busy = false;
            match done.turn {
                Some(Turn::Again | Turn::Racing) => core.again(number),
                Some(Turn::Rest) => lane.rest(core, number),
                Some(Turn::Held) => lane.flush_after(core, HOLD, number),
                Some(Turn::Trouble) => lane.flush_after(core, RETRY, number),
                Some(Turn::Large) => lane.flush_after(core, flow::LARGE, number),
                Some(Turn::Quiet | Turn::End) | None => {}
            }
        }
        if let Some((client, result)) = done.answer {
            core.answer(client, result);
        }
        if let Some(parked) = self.parked.pop_front() {
            if let Some(lane) = self.lanes.get_mut(&parked) {
                lane.parked = false;
            }
            self.advance(core, parked);
        }
        self.advance(core, number);
    }

    fn clean(&self, core: &mut Core<Outcome>) {
        let open: Vec<_> = self.by_path.keys().map(PathBuf::from).collect();
        let (root, age_days_max) = (self.settings.log_root.clone(), self.settings.age_days_max);
        let backups_max = self.settings.limits.backups_max;
        core.submit(move || {
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
            lane.ready = true;
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
            Timer::Flush => {
                lane.flush_timer = None;
                lane.waiting.push_back(Task::Turn { flush: true, retry: true });
            }
        }
        self.advance(core, number);
    }

    fn job_ended(&mut self, core: &mut Core<Outcome>, outcome: Outcome) {
        match outcome.0 {
            Ended::Task(number, done) => self.task_ended(core, number, done),
            Ended::Cleaning => {
                core.set_timer(CLEANING_PERIOD, Timer::Flush.of(CLEANER));
            }
        }
    }

    fn is_in_use(&self) -> bool {
        self.open_logs > 0 || !self.orphans.are_gone()
    }

    fn save<'a>(
        &'a self,
        document: &mut Document,
        passing: &mut Passing<'a>,
        reader: Reader,
    ) -> io::Result<()> {
        self.save_into(document, passing, reader);
        Ok(())
    }

    /// libvirt's daemons reopen all files, so it must be seen now which of them can be.
    fn settle(&mut self, core: &mut Core<Outcome>, reader: Reader) {
        if reader == Reader::Ours {
            return;
        }
        let logs = self.lanes.iter().filter(|(_, lane)| lane.is_log).map(|(&number, _)| number);
        for number in logs.collect::<Vec<_>>() {
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.waiting.push_back(Task::Settle);
            }
            self.advance(core, number);
        }
    }

    fn status(&self) -> String {
        format!("{} logs open, {} bytes dropped", self.open_logs, loss::dropped_bytes())
    }

    fn stop(&mut self, core: &mut Core<Outcome>) {
        let numbers: Vec<u64> = self.lanes.keys().copied().collect();
        for number in numbers {
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.waiting.push_back(Task::Stop);
                self.advance(core, number);
            }
        }
    }
}

/// What a lane's timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// Store partial lines, try again what failed.
    Flush,
    /// The pipe has rested long enough.
    Rest,
}

impl Timer {
    fn of(self, number: u64) -> u64 {
        number << 1 | u64::from(self == Self::Rest)
    }

    fn from(source: u64) -> (Self, u64) {
        let timer = if source & 1 == 0 { Self::Flush } else { Self::Rest };
        (timer, source >> 1)
    }
}

impl Lane {
    fn new(path: Arc<OsStr>) -> Self {
        Self {
            path,
            pump: None,
            busy: false,
            is_log: false,
            ready: false,
            waiting: VecDeque::new(),
            parked: false,
            flush_timer: None,
            rest_timer: None,
        }
    }

    fn has_task(&self) -> bool {
        !self.waiting.is_empty() || (self.ready && self.pump.is_some())
    }

    fn next_task(&mut self) -> Option<Task> {
        if let Some(task) = self.waiting.pop_front() {
            return Some(task);
        }
        self.ready = false;
        Some(Task::Turn { flush: false, retry: false })
    }

    fn rest(&mut self, core: &mut Core<Outcome>, number: u64) {
        if self.rest_timer.is_none() {
            self.rest_timer = Some(core.set_timer(flow::REST, Timer::Rest.of(number)));
        }
    }

    /// A timer that fires earlier stays.
    fn flush_after(&mut self, core: &mut Core<Outcome>, after: Duration, number: u64) {
        if let Some(timer) = self.flush_timer {
            if timer.due() <= Instant::now() + after {
                return;
            }
            core.cancel_timer(timer);
        }
        self.flush_timer = Some(core.set_timer(after, Timer::Flush.of(number)));
    }
}

/// What libvirt checks before it looks at the path, in its order.
fn check(request: &Request) -> Result<(), rpc::Error> {
    let (flags, function) = match request {
        Request::Open { .. } => return Ok(()),
        Request::Position { flags, .. } => (*flags, "virLogHandlerDomainGetLogFilePosition"),
        Request::Append { flags, .. } => (*flags, "virLogHandlerDomainAppendLogFile"),
        Request::Read { len_max, flags, .. } => {
            if *len_max > READ_BYTES_MAX {
                let detail =
                    format!("Requested data len {len_max} is larger than maximum {READ_BYTES_MAX}");
                let code = error::Code::InternalError;
                return Err(rpc::Error::new(code, error::Domain::Rpc, detail));
            }
            (*flags, "virLogHandlerDomainReadLogFile")
        }
    };
    if flags == 0 {
        return Ok(());
    }
    Err(rpc::Error::unsupported_flags(error::Domain::Logging, flags, function))
}
