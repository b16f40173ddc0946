//! State of a running process, except the daemon's own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, SystemTime};

use super::admin_overrides::AdminOverrides;
use super::caller::{Caller, ClientId, Gone};
use super::fd_store::StoreState;
use super::idle::Idle;
use super::listener::Listener;
use super::names::{Names, Numbers};
use super::servers::{Limits, Server, Servers};
use super::supervisor::Supervision;
use super::token::Token;
use super::unit::{Asking, StoreNews};
use super::upgrade::{ProcessInfo, Upgrade};
use crate::admin;
use crate::event::{Interest, Reactor, Registered, TimerId, Waker};
use crate::handover::check::Check;
use crate::jobs::haste::Haste;
use crate::jobs::path_work::Errand;
use crate::jobs::scheduler::Jobs;
use crate::jobs::storage::{Mounts, StorageId};
use crate::logging::{self, Logger, Opened, Opening};
use crate::query;
use crate::rpc::{Call, Program};
use crate::sys::process;
use crate::sys::signal::Signals;
use crate::systemd::{AskError, Notify, Unit};

/// State of a running process, except the daemon's own.
#[derive(Debug)]
pub struct Core<O> {
    pub(super) reactor: Reactor<Token>,
    pub(super) servers: Servers,
    pub(super) jobs: Jobs<Done<O>>,
    pub(super) mounts: Mounts,
    pub(super) waker: Option<Waker>,
    /// User and group names for the call in progress.
    pub(super) names: Option<Names>,
    /// User and group ids whose names the call lacks.
    pub(super) unnamed: Cell<Option<Numbers>>,
    /// Opened log outputs for the call in progress.
    pub(super) opened: Option<Result<Opened, logging::Error>>,
    /// Log outputs that the call lacks, with the file system they are on.
    pub(super) unopened: Option<(StorageId, Opening)>,
    /// Clients that were answered and can continue.
    pub(super) answered: VecDeque<ClientId>,
    /// Clients that are closed, of which the daemon is not notified yet.
    pub(super) gone: VecDeque<(Caller, Gone)>,
    /// Number of calls that may still be started on the present event.
    pub(super) calls_left: usize,
    pub(super) idle: Idle,
    pub(super) stopping: bool,
    /// New calls are left unread.
    pub(super) takes_no_calls: bool,
    pub(super) signals: Registered<Signals>,
    /// As process 1: inherited children may have ended.
    pub(super) orphans_may_have_ended: bool,
    pub(super) supervision: Supervision,
    pub(super) store: StoreState,
    pub(super) asking: Asking,
    pub(super) logger: Logger,
    pub(super) process_info: ProcessInfo,
    pub(super) overrides: AdminOverrides,
    pub(super) upgrade: Upgrade,
    /// Since this program began.
    pub(super) failed_upgrades: u64,
    /// Tells jobs that an upgrade waits for them.
    pub(super) haste: Haste,
    /// Timer of the next check of the log for an upgrade.
    pub(super) looking_again: Option<TimerId>,
    /// Thread of an upgrade check that got no answer from its target.
    pub(super) unanswered: Option<Check>,
    /// An upgrade has failed, and the daemon is not notified yet.
    pub(super) has_resumed: bool,
    /// Time since which this process serves.
    pub(super) since: SystemTime,
}

/// Result of a job.
#[derive(Debug)]
pub(super) enum Done<O> {
    Daemons(O),
    /// No result: the job continues on another file system.
    Elsewhere(Errand<O>),
    /// Names that an admin call waits for.
    Names(ClientId, Call, Names),
    /// Log outputs that an admin call waits for.
    Outputs(ClientId, Call, Result<Opened, logging::Error>),
    /// systemd's answer about our unit.
    Unit(Result<Option<Unit>, AskError>),
}

/// Programs of the admin server.
const ADMIN_PROGRAMS: &[Program] = &[admin::PROGRAM, query::PROGRAM];

/// Source of jobs that are not the daemon's.
pub(crate) const NOT_THE_DAEMONS: u64 = u64::MAX;

/// Parts that a process is made of.
#[derive(Debug)]
pub struct Parts {
    /// Name of the daemon and of its main server.
    pub name: &'static str,
    /// Programs of the main server.
    pub programs: &'static [Program],
    /// Sockets of the main server.
    pub main_listeners: Vec<Listener>,
    /// Sockets of the admin server.
    pub admin_listeners: Vec<Listener>,
    /// Limits of the main server.
    pub main_limits: Limits,
    /// Limits of the admin server.
    pub admin_limits: Limits,
    /// Idle time without clients and use before exit; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// Installed signal handlers.
    pub signals: Signals,
    /// Connection to the supervisor, if there is one.
    pub notify: Notify,
    /// Initial knowledge of the supervisor's fd store.
    pub store: StoreNews,
    /// Period of the supervisor's watchdog pings.
    pub ping_period: Option<Duration>,
    /// The daemon's own log.
    pub logger: Logger,
    /// Facts about this process that an upgrade needs.
    pub process_info: ProcessInfo,
}

impl<O> Core<O> {
    /// Assembles a process; clients are accepted once it [runs](super::run).
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
            parts.programs,
            parts.main_limits,
            listeners,
            |index| Token::Listener(admin::Server::Main, index),
            &reactor,
        )?;
        let listeners = parts.admin_listeners;
        let name = admin::ADMIN_SERVER_NAME;
        let admin = Server::new(
            name,
            ADMIN_PROGRAMS,
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
            store: StoreState::default(),
            asking: Asking::new(parts.store),
            logger: parts.logger,
            process_info: parts.process_info,
            overrides: AdminOverrides::default(),
            upgrade: Upgrade::None,
            failed_upgrades: 0,
            looking_again: None,
            unanswered: None,
            has_resumed: false,
            since: SystemTime::now(),
        })
    }
}
