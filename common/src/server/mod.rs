//! Where [`crate::rpc`], [`crate::event`] and [`crate::sys`] meet: two servers with their
//! listeners and clients, and the loop that drives them and a daemon.
//!
//! - One thread at a time holds all state and changes it. Work that touches files is a [job](jobs):
//!   its outcome comes back to the daemon on the loop, and a call may be answered only then
//!   ([`Answer::Later`]). A job that takes long is [left behind](baton) by the loop.
//! - The daemon implements [`Daemon`] and reaches everything else through [`Core`]. It sees
//!   neither sockets nor mio.
//! - A client has one call in flight. While it has, nothing is read from it.

mod administration;
mod baton;
mod client;
mod errand;
mod haste;
mod idle;
pub mod jobs;
mod keeping;
mod listener;
mod memory;
mod overrides;
mod own_log;
mod place;
mod progress;
mod run;
mod save;
mod serve;
mod servers;
mod supervision;
mod token;
mod unit;
mod upgrade;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub use client::ClientId;
pub use errand::PathWork;
pub use haste::Haste;
pub use jobs::InFlight;
pub use listener::Listener;
pub use own_log::OPEN_PERIOD;
pub use place::Place;
pub use progress::{Progress, is_left_behind};
pub use run::run;
pub use save::adopt_listeners;
pub use servers::Limits;
pub use unit::StoreNews;
pub use upgrade::Lineage;

use crate::admin;
use crate::event::{Interest, Reactor, Registered, TimerId, Waker};
use crate::handover::check::Check;
use crate::handover::document::Document;
use crate::handover::stored::Kind;
use crate::handover::{Passing, Reader};
use crate::logging::{self, Logger, Opened, Opening};
use crate::rpc::{self, Call, Program, Reply};
use crate::sys::process;
use crate::sys::signal::Signals;
use crate::sys::socket::Peer;
use crate::systemd::{AskError, Notify, Unit};
use administration::{Names, Numbers};
use errand::Errand;
use idle::Idle;
use jobs::Jobs;
use keeping::Keeping;
use overrides::Overrides;
use place::Mounts;
use servers::{Server, Servers};
use supervision::Supervision;
use token::Token;
use unit::Asking;
use upgrade::Upgrade;

/// What a handler has to say to a call.
#[derive(Debug)]
pub enum Answer {
    /// The result is there.
    Now(Result<Reply, rpc::Error>),
    /// It will be given to [`Core::answer`] when a job has ended.
    Later,
}

/// A client as a handler sees it.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Names the client for as long as the daemon runs.
    pub client: ClientId,
    /// Who it is.
    pub peer: Peer,
}

/// What a daemon does; all of it on the loop, none of it waiting for anything.
pub trait Daemon: Send + Sized + 'static {
    /// What its jobs bring back.
    type Outcome: Send + 'static;

    /// Handles a call of its program, from a client that was admitted.
    fn call(&mut self, core: &mut Core<Self::Outcome>, from: Caller, call: Call) -> Answer;

    /// A client has gone. Its call in flight, if any, needs no answer.
    fn disconnected(&mut self, core: &mut Core<Self::Outcome>, caller: Caller);

    /// A client was let go of, for a reason that is not its own. Its call in flight, if any, needs
    /// no answer.
    fn dropped(&mut self, core: &mut Core<Self::Outcome>, caller: Caller) {
        self.disconnected(core, caller);
    }

    /// Something that the daemon watches under `source` is ready.
    fn ready(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// A timer that the daemon set for `source` has fired.
    fn timer(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// A job has ended.
    fn job_ended(&mut self, core: &mut Core<Self::Outcome>, outcome: Self::Outcome);

    /// A job for `source` has not ended and will not soon, or it waits for one that does not. Said
    /// once of each such job.
    fn job_is_late(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// A job that was [submitted by a path](Core::submit_at_path) for `source` is done at this place.
    fn job_goes_on_at(&mut self, _source: u64, _place: Place) {}

    /// What is under way for `source`, for the log.
    fn describe_job(&self, source: u64) -> String;

    /// The process exits although a job for `source` has not ended. Whatever others wait for is to
    /// be let go of now: the kernel does not do that before the job has ended.
    fn job_given_up(&mut self, core: &mut Core<Self::Outcome>, source: u64);

    /// Whether anybody depends on the daemon beside its clients, so that it must not exit idle.
    fn is_in_use(&self) -> bool;

    /// Puts its own part into a state document for `reader`.
    fn save<'a>(&'a self, document: &mut Document<'a>, passing: &'a Passing, reader: Reader);

    /// Puts into the beginning of the journal what has no key in the fd store and is to outlive the
    /// process all the same.
    fn save_header(&self, _: &mut Document<'_>) {}

    /// An upgrade is near: bring everything into a form that `reader` understands. Jobs for that
    /// are waited for, within a bound.
    fn settle(&mut self, core: &mut Core<Self::Outcome>, reader: Reader);

    /// How things are, in a few words without clients, for `systemctl status`. It is asked for once
    /// a second and must not cost more with more guests.
    fn status(&self) -> String;

    /// What a crash, a restart or a stop costs without an fd store, in a few words; `None` when that
    /// is nothing. As cheap as [`Self::status`].
    fn at_stake(&self) -> Option<String>;

    /// There is an fd store: has [marks](Core::essential_marks) kept, if it makes any. Once in the
    /// life of the process at the most.
    fn keep_essentials(&mut self, _: &mut Core<Self::Outcome>) {}

    /// There is an fd store: has everything kept, what has a key [under that](Core::keep_as).
    fn keep_all(&mut self, core: &mut Core<Self::Outcome>);

    /// There is room in the fd store: has kept what did not fit, until something does not.
    fn keep_more(&mut self, core: &mut Core<Self::Outcome>);

    /// The supervisor has heard that it is to remove the item with this key, of which that
    /// [was to be told](Core::watch_removal).
    fn has_left_store(&mut self, _: &mut Core<Self::Outcome>, _key: u64) {}

    /// An item that was sent did not fit, and has no key any more.
    fn is_not_stored(&mut self, kind: Kind, key: u64);

    /// The connection of a client did not fit.
    fn client_is_not_stored(&mut self, client: ClientId);

    /// The fd store was emptied: nothing has a key any more.
    fn keep_no_more(&mut self);

    /// The upgrade came to nothing: work that was [held back](Core::holds_back) goes on.
    fn resume(&mut self, core: &mut Core<Self::Outcome>);

    /// The daemon is about to exit: store what can be stored. What needs no time may be served on.
    fn stop(&mut self, core: &mut Core<Self::Outcome>);

    /// The daemon exits now, but for jobs that end soon.
    fn stop_rest(&mut self, _: &mut Core<Self::Outcome>) {}

    /// Whether all that is waited for has been done since the last of these two calls.
    fn has_stopped(&self, core: &Core<Self::Outcome>) -> bool {
        core.jobs_in_flight().next().is_none()
    }
}

/// Everything of a running process but the daemon's own state.
#[derive(Debug)]
pub struct Core<O> {
    reactor: Reactor<Token>,
    servers: Servers,
    jobs: Jobs<Done<O>>,
    mounts: Mounts,
    waker: Option<Waker>,
    /// Names for the call that is being handled.
    names: Option<Names>,
    /// Whose names it lacks.
    unnamed: Cell<Option<Numbers>>,
    /// Log outputs for the call that is being handled.
    opened: Option<Result<Opened, logging::Error>>,
    /// Those that it lacks, and where they are.
    unopened: Option<(Place, Opening)>,
    /// Clients that were answered and can go on.
    answered: VecDeque<ClientId>,
    /// Clients that have gone, or were let go of, and that the daemon was not told of yet.
    gone: VecDeque<(Caller, Gone)>,
    /// How many more calls may be taken up on the present event.
    calls_left: usize,
    idle: Idle,
    stopping: bool,
    /// What clients ask for from now on is left unread.
    takes_no_calls: bool,
    signals: Registered<Signals>,
    /// As process 1: children of others, which it has inherited, may have ended.
    orphans_may_have_ended: bool,
    supervision: Supervision,
    keeping: Keeping,
    asking: Asking,
    logger: Logger,
    lineage: Lineage,
    overrides: Overrides,
    upgrade: Upgrade,
    /// An upgrade waits for jobs.
    haste: Haste,
    /// When the log is looked at for it.
    looking_again: Option<TimerId>,
    /// The thread of an upgrade that could not ask its target.
    unanswered: Option<Check>,
    /// An upgrade has come to nothing, and the daemon was not told yet.
    has_resumed: bool,
}

/// What a job brings back.
#[derive(Debug)]
enum Done<O> {
    Daemons(O),
    /// Nothing yet, as it has to be done elsewhere.
    Elsewhere(Errand<O>),
    /// Names that an admin call waits for.
    Names(ClientId, Call, Names),
    /// Log outputs that an admin call waits for.
    Outputs(ClientId, Call, Result<Opened, logging::Error>),
    /// What systemd says of our unit.
    Unit(Result<Option<Unit>, AskError>),
}

/// By whom a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    ByClient,
    ByUs,
}

/// The source of jobs that are not the daemon's.
const NOT_THE_DAEMONS: u64 = u64::MAX;

/// What a process is made of.
#[derive(Debug)]
pub struct Parts {
    /// Name of the daemon and its main server.
    pub name: &'static str,
    /// The program of its main server.
    pub program: Program,
    /// Sockets of the main server.
    pub main_listeners: Vec<Listener>,
    /// Sockets of the admin server.
    pub admin_listeners: Vec<Listener>,
    /// Limits of the main server.
    pub main_limits: Limits,
    /// Limits of the admin server.
    pub admin_limits: Limits,
    /// Exit after so long without clients and use; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// Signal handlers, installed.
    pub signals: Signals,
    /// The supervisor, if there is one.
    pub notify: Notify,
    /// What is known of the supervisor's fd store.
    pub store: StoreNews,
    /// How often the supervisor wants to hear that the loop has not hung.
    pub ping_period: Option<Duration>,
    /// The daemon's own log.
    pub logger: Logger,
    /// What an upgrade needs to know.
    pub lineage: Lineage,
}

impl<O> Core<O> {
    /// Puts a process together; clients are accepted once it [runs](run()).
    ///
    /// # Errors
    /// As `epoll_create1(2)` and `epoll_ctl(2)`.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let waker = reactor.waker(Token::Jobs)?;
        let signals = reactor.register(parts.signals, Token::Signals, Interest::Read)?;
        let listeners = parts.main_listeners;
        let main = Server::new(
            parts.name,
            parts.program,
            parts.main_limits,
            listeners,
            |index| Token::Listener(admin::Server::Main, index),
            &reactor,
        )?;
        let listeners = parts.admin_listeners;
        let name = admin::ADMIN_SERVER_NAME;
        let admin = Server::new(
            name,
            admin::PROGRAM,
            parts.admin_limits,
            listeners,
            |index| Token::Listener(admin::Server::Admin, index),
            &reactor,
        )?;
        Ok(Self {
            reactor,
            servers: Servers { main, admin },
            jobs: Jobs::new(),
            haste: Haste::default(),
            mounts: Mounts::open(),
            waker: Some(waker),
            names: None,
            unnamed: Cell::new(None),
            opened: None,
            unopened: None,
            answered: VecDeque::new(),
            gone: VecDeque::new(),
            calls_left: 0,
            idle: Idle::new(parts.idle_timeout),
            stopping: false,
            takes_no_calls: false,
            signals,
            orphans_may_have_ended: process::is_first(),
            supervision: Supervision::new(parts.notify, parts.ping_period),
            keeping: Keeping::default(),
            asking: Asking::new(parts.store),
            logger: parts.logger,
            lineage: parts.lineage,
            overrides: Overrides::default(),
            upgrade: Upgrade::None,
            looking_again: None,
            unanswered: None,
            has_resumed: false,
        })
    }

    /// Watches `fd` for data; [`Daemon::ready`] is told `source`, a number that the daemon never
    /// uses again for something else.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The fd is closed.
    pub fn watch<F: AsFd>(&self, fd: F, source: u64) -> io::Result<Registered<F>> {
        self.reactor.register(fd, Token::Daemon(source), Interest::Read)
    }

    /// Calls [`Daemon::ready`] once more in the next turn: for work stopped at its budget.
    pub fn again(&mut self, source: u64) {
        self.reactor.again(Token::Daemon(source));
    }

    /// Calls [`Daemon::timer`] once, `after` from now.
    pub fn set_timer(&mut self, after: Duration, source: u64) -> TimerId {
        self.reactor.set_timer(after, Token::DaemonTimer(source))
    }

    /// Forgets a timer.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.reactor.cancel_timer(timer);
    }

    /// Hands out a piece of work that touches files at `place`; [`Daemon::job_ended`] gets its
    /// outcome. `source` is a number of the daemon's own.
    pub fn submit(&mut self, place: Place, source: u64, work: impl FnOnce() -> O + Send + 'static) {
        self.jobs.submit(place, source, || Done::Daemons(work()));
    }

    /// [`Self::submit`] of work that [tells](Progress::note) how far it has got, so that a place that is
    /// slow is not taken for one that hangs.
    pub fn submit_with_progress(
        &mut self,
        place: Place,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_with_progress(place, source, progress, || Done::Daemons(work()));
    }

    /// [`Self::submit`] of something for which no client waits, so that those for which one does need
    /// not wait for all of its kind.
    pub fn submit_unhurried(
        &mut self,
        place: Place,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_unhurried(place, source, || Done::Daemons(work()));
    }

    /// [`Self::submit`] of something that does nothing but touch what its peer can hold, as `progress`
    /// says. `source` is told to [`Daemon::job_is_late`] if the peer does.
    pub fn submit_at_peer(
        &mut self,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_at_peer(source, progress, || Done::Daemons(work()));
    }

    /// Whether a peer has held up a job, or may do so, as another one has a moment ago: what it can hold
    /// is to be touched by jobs [of its own](Self::submit_at_peer) alone.
    pub fn is_peer_suspect(&self, peer: u64) -> bool {
        self.jobs.is_peer_suspect(peer)
    }

    /// Tells jobs that have not begun whether an upgrade waits for them.
    pub fn haste(&self) -> Haste {
        self.haste.clone()
    }

    /// Whether jobs at a place take long.
    pub fn is_slow(&self, place: Place) -> bool {
        self.jobs.is_slow(place)
    }

    /// Whether a place does not even get on slowly with its jobs.
    pub fn hangs(&mut self, place: Place) -> bool {
        self.jobs.hangs(place)
    }

    /// Whether others wait for their turn, so that one should be short.
    pub fn is_crowded(&self) -> bool {
        self.reactor.has_again() || self.jobs.are_waiting()
    }

    /// Jobs that have not ended, those included that have not begun.
    pub fn jobs_in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.jobs.in_flight()
    }

    /// A pidfd of the process that a client connected from.
    ///
    /// # Errors
    /// As `getsockopt(2)`; `NotFound` when the client has gone.
    pub fn peer_pidfd(&mut self, client: ClientId) -> io::Result<OwnedFd> {
        match self.servers.client(client) {
            Some(client) => client.peer_pidfd(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a client has ended its connection, also when it has sent something before.
    pub fn has_hung_up(&mut self, client: ClientId) -> bool {
        self.servers.client(client).is_none_or(|client| client.has_hung_up())
    }

    /// Answers a call that was to be answered later. A client that has gone needs none.
    ///
    /// What is not in the fd store yet is not promised to anybody: the answer waits for that.
    pub fn answer(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        if self.is_to_hold_back() {
            return self.hold_back(client, result);
        }
        self.answer_now(client, result);
    }

    fn answer_now(&mut self, client: ClientId, result: Result<Reply, rpc::Error>) {
        if let Some(client) = self.servers.client(client) {
            client.answer(result);
            self.answered.push_back(client.id());
        }
    }
}
