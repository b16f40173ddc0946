//! Everything of a running process but the daemon's own state.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

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
use crate::rpc::{Call, Program};
use crate::sys::process;
use crate::sys::signal::Signals;
use crate::systemd::{AskError, Notify, Unit};

/// Everything of a running process but the daemon's own state.
#[derive(Debug)]
pub struct Core<O> {
    pub(super) reactor: Reactor<Token>,
    pub(super) servers: Servers,
    pub(super) jobs: Jobs<Done<O>>,
    pub(super) mounts: Mounts,
    pub(super) waker: Option<Waker>,
    /// Names for the call that is being handled.
    pub(super) names: Option<Names>,
    /// Whose names it lacks.
    pub(super) unnamed: Cell<Option<Numbers>>,
    /// Log outputs for the call that is being handled.
    pub(super) opened: Option<Result<Opened, logging::Error>>,
    /// Those that it lacks, and where they are.
    pub(super) unopened: Option<(StorageId, Opening)>,
    /// Clients that were answered and can go on.
    pub(super) answered: VecDeque<ClientId>,
    /// Clients that have gone, or were let go of, and that the daemon was not told of yet.
    pub(super) gone: VecDeque<(Caller, Gone)>,
    /// How many more calls may be taken up on the present event.
    pub(super) calls_left: usize,
    pub(super) idle: Idle,
    pub(super) stopping: bool,
    /// What clients ask for from now on is left unread.
    pub(super) takes_no_calls: bool,
    pub(super) signals: Registered<Signals>,
    /// As process 1: children of others, which it has inherited, may have ended.
    pub(super) orphans_may_have_ended: bool,
    pub(super) supervision: Supervision,
    pub(super) store: StoreState,
    pub(super) asking: Asking,
    pub(super) logger: Logger,
    pub(super) process_info: ProcessInfo,
    pub(super) overrides: AdminOverrides,
    pub(super) upgrade: Upgrade,
    /// An upgrade waits for jobs.
    pub(super) haste: Haste,
    /// When the log is looked at for it.
    pub(super) looking_again: Option<TimerId>,
    /// The thread of an upgrade that could not ask its target.
    pub(super) unanswered: Option<Check>,
    /// An upgrade has come to nothing, and the daemon was not told yet.
    pub(super) has_resumed: bool,
}

/// What a job brings back.
#[derive(Debug)]
pub(super) enum Done<O> {
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

/// The source of jobs that are not the daemon's.
pub(crate) const NOT_THE_DAEMONS: u64 = u64::MAX;

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
    pub process_info: ProcessInfo,
}

impl<O> Core<O> {
    /// Puts a process together; clients are accepted once it [runs](super::run).
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
            store: StoreState::default(),
            asking: Asking::new(parts.store),
            logger: parts.logger,
            process_info: parts.process_info,
            overrides: AdminOverrides::default(),
            upgrade: Upgrade::None,
            looking_again: None,
            unanswered: None,
            has_resumed: false,
        })
    }
}
