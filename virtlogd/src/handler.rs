//! The daemon as the event loop sees it: calls of clients, ready pipes, timers and ended jobs lead to
//! tasks of logs ([`Scheduler`]), to [unclaimed pipes](UnclaimedPipes) or to the [`cleaner`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::fd_store::names::Kind;
use common::handover::document::Document;
use common::handover::{FdSet, InheritedFds, Successor};
use common::query::{Counters, Page, Place, Status};
use common::rpc::{self, Call, error};
use common::server::{Answer, Caller, ClientId, Core, Daemon, StorageId};
use nix::errno::Errno;

use crate::budgets::Budgets;
use crate::cleaner;
use crate::config::Settings;
use crate::guest::loss;
use crate::logs::outcome::{JobResult, Outcome};
use crate::logs::task::Task;
use crate::logs::timer::Timer;
use crate::persist::fd_store;
use crate::persist::restore::{self, Restored};
use crate::persist::save;
use crate::persist::unclaimed_pipes::UnclaimedPipes;
use crate::protocol::{self, Request};
use crate::query;
use crate::rotating_file::Limits;
use crate::rules::Rules;
use crate::scheduler::Scheduler;
use crate::stop;

/// Time from the start to the first look for old logs. libvirt waits for a whole period, and every
/// upgrade of it starts the period again.
const FIRST_CLEANING: Duration = Duration::from_secs(10);

/// Time between two looks for old logs; libvirt's value.
const CLEANING_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// Number of the job that looks for old logs. Queues, guests and unclaimed pipes are numbered from 1 on.
const CLEANING_JOB: u64 = 0;

/// State of virtlogd.
#[derive(Debug)]
pub struct Handler {
    age_days_max: u64,
    log_root: PathBuf,
    rules: Arc<Rules>,
    scheduler: Scheduler,
    unclaimed: UnclaimedPipes,
    budgets: Budgets,
}

impl Handler {
    /// Makes a daemon without any log.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub fn new(settings: Settings, core: &mut Core<Outcome>) -> io::Result<Self> {
        if settings.age_days_max > 0 {
            core.set_timer(FIRST_CLEANING, Timer::Cleaning.to_source());
        }
        let rules = Arc::new(settings.rules);
        let mut scheduler = Scheduler::new(Arc::clone(&rules))?;
        let numbered = rules.directories().map(|rule| (rule, scheduler.table.next_number()));
        let budgets = Budgets::new(numbered, core);
        let Settings { age_days_max, log_root, .. } = settings;
        let unclaimed = UnclaimedPipes::default();
        Ok(Self { age_days_max, log_root, rules, scheduler, unclaimed, budgets })
    }

    /// Goes on with the logs of the process before this one.
    pub(crate) fn adopt_logs(
        &mut self,
        core: &mut Core<Outcome>,
        document: Document<'static>,
        inherited: &mut InheritedFds,
    ) {
        restore::each_log(document, inherited, |restored| {
            let unclaimed = match restored {
                Restored::Log(log) => self.scheduler.adopt(core, *log)?,
                Restored::Unclaimed(pipe) => Some(pipe),
            };
            unclaimed.map_or(Ok(()), |pipe| self.adopt_unclaimed(core, pipe))
        });
    }

    /// Keeps pipes empty that no document names.
    pub(crate) fn adopt_unnamed(&mut self, core: &mut Core<Outcome>, inherited: &mut InheritedFds) {
        restore::each_unnamed_pipe(inherited, |pipe| self.adopt_unclaimed(core, pipe));
    }

    fn adopt_unclaimed(&mut self, core: &Core<Outcome>, pipe: OwnedFd) -> io::Result<()> {
        self.unclaimed.add(core, self.scheduler.table.next_number(), pipe)
    }

    fn start(
        &mut self,
        core: &mut Core<Outcome>,
        client: ClientId,
        request: Request,
    ) -> Result<(), rpc::Error> {
        protocol::check(&request)?;
        let (path, task) = match request {
            Request::Open { identity, path, truncate } => {
                let opened = self.scheduler.open(core, client, &path, identity, truncate);
                return opened.map_err(|error| {
                    let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
                    rpc::Error::system(error::Domain::None, "Unable to create pipes", errno)
                });
            }
            Request::Position { path, .. } => (path, Task::Position { client }),
            Request::Read { path, inode, offset, len_max, .. } => {
                let Limits { size_bytes_max, .. } = self.rules.defaults();
                let limits = Limits { size_bytes_max, backups_max: self.rules.backups_max(&path) };
                (path, Task::Read { client, inode, offset, len_max, limits })
            }
            Request::Append { identity, path, message, .. } => {
                let limits = self.rules.limits(&path, identity.name());
                (path, Task::Append { client, message, limits })
            }
        };
        self.scheduler.enqueue(core, &path, task);
        Ok(())
    }

    fn clean(&self, core: &mut Core<Outcome>) {
        let open = self.scheduler.table.paths().collect::<Vec<_>>();
        let (root, age_days_max) = (self.log_root.clone(), self.age_days_max);
        let rules = Arc::clone(&self.rules);
        core.submit(StorageId::alone(&root), CLEANING_JOB, move || {
            let backups_max = |path: &Path| rules.backups_max(path);
            cleaner::clean(&root, age_days_max, &backups_max, SystemTime::now(), &open);
            Outcome(JobResult::Cleaning)
        });
    }
}

impl Daemon for Handler {
    const STAKE: &'static str = "a crash, a kill or a restart ends all logs";

    type Outcome = Outcome;

    fn call(&mut self, core: &mut Core<Outcome>, from: Caller, call: Call) -> Answer {
        let request = Request::decode(call.procedure, &call.arguments);
        match request.and_then(|request| self.start(core, from.client, request)) {
            Ok(()) => Answer::Later,
            Err(error) => Answer::Now(Err(error)),
        }
    }

    /// Does nothing: a log belongs to its pipe, not to the client that asked for it.
    fn disconnected(&mut self, _: &mut Core<Outcome>, _: Caller) {}

    fn ready(&mut self, core: &mut Core<Outcome>, number: u64) {
        if !self.scheduler.ready(core, number) {
            self.unclaimed.ready(core, number);
        }
    }

    fn timer(&mut self, core: &mut Core<Outcome>, source: u64) {
        match Timer::from_source(source) {
            Timer::Queue(timer, number) => self.scheduler.timer(core, timer, number),
            Timer::Cleaning => self.clean(core),
            Timer::Budgets => {
                let table = &self.scheduler.table;
                self.budgets.look(core, || table.paths().collect());
            }
        }
    }

    fn job_ended(&mut self, core: &mut Core<Outcome>, outcome: Outcome) {
        match outcome.0 {
            JobResult::Task(number, done) => self.scheduler.task_ended(core, number, done),
            JobResult::Fetch { number, guest, fetched } => {
                self.scheduler.fetch_ended(core, number, guest, fetched);
            }
            JobResult::Closing(number) => self.scheduler.closing_pipes.ended(number),
            JobResult::UnclaimedPipe { number, is_at_end } => {
                self.unclaimed.emptied(core, number, is_at_end);
            }
            JobResult::Budget(number, kept) => self.budgets.ended(number, kept),
            JobResult::Cleaning => {
                core.set_timer(CLEANING_PERIOD, Timer::Cleaning.to_source());
            }
        }
    }

    fn job_stalled(&mut self, core: &mut Core<Outcome>, number: u64) {
        self.scheduler.job_stalled(core, number);
    }

    fn job_moved_to(&mut self, number: u64, place: StorageId) {
        self.scheduler.set_place(number, place);
    }

    fn describe_job(&self, number: u64) -> String {
        match self.scheduler.describe_job(number) {
            Some(description) => description,
            None if number == CLEANING_JOB => {
                format!("looking for old logs in {}", self.log_root.display())
            }
            None => self.budgets.describe(number).unwrap_or_else(UnclaimedPipes::describe),
        }
    }

    fn job_abandoned(&mut self, core: &mut Core<Outcome>, number: u64) {
        self.scheduler.job_abandoned(core, number);
    }

    fn is_in_use(&self) -> bool {
        self.scheduler.open_logs() > 0 || !self.unclaimed.are_gone()
    }

    fn save<'a>(&'a self, document: &mut Document<'a>, fd_set: &'a FdSet, successor: Successor) {
        save::logs(&self.scheduler.table, &self.unclaimed, document, fd_set, successor);
    }

    fn prepare_handover(&mut self, core: &mut Core<Outcome>, successor: Successor) {
        if successor == Successor::Libvirt {
            self.scheduler.flush_for_handover(core);
            self.rules.log_end();
        }
    }

    fn save_header(&self, document: &mut Document<'_>) {
        let round = self.scheduler.workspaces.pool().records().round();
        document.private.get_or_insert_default().at_risk_round = round;
    }

    fn store_essentials(&mut self, core: &mut Core<Outcome>) {
        fd_store::begin(core, &self.scheduler.table, self.scheduler.workspaces.pool());
    }

    fn store_all(&mut self, core: &mut Core<Outcome>) {
        let Scheduler { table, workspaces, .. } = &mut self.scheduler;
        fd_store::store_all(core, table, workspaces.pool());
    }

    fn store_more(&mut self, core: &mut Core<Outcome>) {
        let Scheduler { table, workspaces, .. } = &mut self.scheduler;
        fd_store::store_unstored(core, table, workspaces.pool());
    }

    fn has_left_store(&mut self, core: &mut Core<Outcome>, key: u64) {
        self.scheduler.closing_pipes.close_removed(core, key);
    }

    fn not_stored(&mut self, kind: Kind, key: u64) {
        let Scheduler { table, workspaces, .. } = &mut self.scheduler;
        fd_store::remove_key(table, workspaces.pool(), kind, key);
    }

    /// Does nothing: no client of virtlogd is stored.
    fn client_not_stored(&mut self, _: ClientId) {}

    fn clear_store_keys(&mut self) {
        let Scheduler { table, workspaces, .. } = &mut self.scheduler;
        fd_store::clear_keys(table, workspaces.pool());
    }

    fn resume(&mut self, core: &mut Core<Outcome>) {
        self.scheduler.resume(core);
    }

    fn status(&self) -> String {
        let open_logs = self.scheduler.open_logs();
        format!("{open_logs} logs open, {} bytes dropped", loss::dropped_bytes())
    }

    fn at_stake(&self) -> Option<String> {
        let logs = self.scheduler.open_logs();
        (logs > 0).then(|| format!("a crash loses {logs} logs, a restart or a stop ends them"))
    }

    fn describe(&self, status: &mut Status) {
        status.logs = Some(self.scheduler.open_logs() as u64);
        status.lost_bytes = Some(loss::dropped_bytes());
    }

    fn count(&self, counters: &mut Counters) {
        counters.logs = Some(query::counters(&self.scheduler));
    }

    fn list(&self, core: &Core<Outcome>, after: Place, page: &mut Page) {
        query::list(core, &self.scheduler, after, page);
    }

    fn stop(&mut self, core: &mut Core<Outcome>) {
        stop::begin(&mut self.scheduler, core);
    }

    fn stop_rest(&mut self, core: &mut Core<Outcome>) {
        stop::stop_rest(&mut self.scheduler, core);
    }

    fn has_stopped(&self, core: &Core<Outcome>) -> bool {
        stop::is_complete(&self.scheduler, core, CLEANING_JOB)
    }
}
