//! What the supervisor hears while the loop runs: that it runs at all, and how things are.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use super::token::Token;
use super::{Core, Daemon};
use crate::event::Reactor;
use crate::logging::timestamp;
use crate::systemd::Notify;

/// How often the status is looked at, if anything happens at all. So it costs the same however
/// many guests there are, and nothing while none does anything.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// How soon a supervisor is tried again whose queue was full, and how late at the most: twice as
/// late each time that it has taken nothing at all.
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How soon it is tried again to store what the store had no room for.
const STORE_PERIOD: Duration = Duration::from_secs(5);

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Say that the loop has not hung.
    Ping,
    /// Look whether the status has changed.
    Status,
    /// Send what the supervisor could not take.
    Retry,
    /// See whether the fd store takes what it has not.
    Store,
    /// Ask systemd about our unit.
    Unit,
}

#[derive(Debug)]
pub(super) struct Supervision {
    pub(super) notify: Notify,
    ping_period: Option<Duration>,
    /// How the daemon was when that was looked at last.
    status: String,
    /// What was said last.
    said: String,
    last_upgrade: Option<String>,
    /// Something has happened since the status was looked at.
    is_active: bool,
    has_status_timer: bool,
    has_retry_timer: bool,
    has_store_timer: bool,
    retry: Duration,
}

impl Supervision {
    pub(super) fn new(notify: Notify, ping_period: Option<Duration>) -> Self {
        Self {
            notify,
            ping_period,
            status: String::new(),
            said: String::new(),
            last_upgrade: None,
            is_active: false,
            has_status_timer: false,
            has_retry_timer: false,
            has_store_timer: false,
            retry: RETRY_MIN,
        }
    }

    /// Something has happened: the status may be another.
    pub(super) fn note_activity(&mut self) {
        self.is_active = true;
    }

    /// Before the loop waits: nothing that has to be done is forgotten.
    pub(super) fn before_wait(&mut self, reactor: &mut Reactor<Token>) {
        if self.notify.waiting() > 0 {
            self.try_again(reactor);
        }
        if self.is_active && !self.has_status_timer && self.notify.has_supervisor() {
            reactor.set_timer(STATUS_PERIOD, Token::Supervisor(Duty::Status));
            self.has_status_timer = true;
            self.is_active = false;
        }
    }

    /// Something is to be sent, or asked, a little later.
    pub(super) fn try_again(&mut self, reactor: &mut Reactor<Token>) {
        if !std::mem::replace(&mut self.has_retry_timer, true) {
            reactor.set_timer(self.retry, Token::Supervisor(Duty::Retry));
        }
    }

    /// The fd store lacks something.
    pub(super) fn store_is_to_be_seen_to(&mut self, reactor: &mut Reactor<Token>) {
        if !std::mem::replace(&mut self.has_store_timer, true) {
            reactor.set_timer(STORE_PERIOD, Token::Supervisor(Duty::Store));
        }
    }

    /// There is a supervisor after all, who has not heard anything yet.
    pub(super) fn found(&mut self, target: &OsStr) {
        self.notify = Notify::new(Some(target.to_owned()));
        self.said.clear();
        self.is_active = true;
    }

    /// Says how things are, unless that has been said.
    fn say(&mut self) {
        let mut status = self.status.clone();
        if let Some(outcome) = &self.last_upgrade {
            status = format!("{status}; last upgrade: {outcome}");
        }
        if status != self.said {
            self.notify.status(&status);
            self.said = status;
        }
    }

    fn retry(&mut self) {
        let before = self.notify.waiting();
        let is_done = self.notify.flush();
        let has_moved = is_done || self.notify.waiting() < before;
        self.retry = if has_moved { RETRY_MIN } else { (self.retry * 2).min(RETRY_MAX) };
        self.has_retry_timer = false;
    }

    fn ping(&mut self, reactor: &mut Reactor<Token>) {
        if let Some(period) = self.ping_period {
            self.notify.alive();
            reactor.set_timer(period, Token::Supervisor(Duty::Ping));
        }
    }
}

impl<O> Core<O> {
    /// The supervisor, to be told that something changes or to keep fds.
    pub fn supervisor(&mut self) -> &mut Notify {
        &mut self.supervision.notify
    }

    /// Says to the supervisor that the daemon serves and how things are; pings begin.
    pub fn announce<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.begin_keeping(daemon);
        self.supervision.notify.ready();
        self.tell_status(daemon);
        self.supervision.ping(&mut self.reactor);
        self.ask_at_start();
    }

    /// Keeps the outcome of an upgrade for the status, and says it.
    pub fn note_upgrade(&mut self, outcome: &str) {
        // The units' ExecReload= waits for another text than before.
        let time = timestamp(SystemTime::now());
        self.supervision.last_upgrade = Some(format!("{time}, {outcome}"));
        self.supervision.said.clear();
        self.supervision.say();
    }

    pub(super) fn perform<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, duty: Duty) {
        match duty {
            Duty::Ping => self.supervision.ping(&mut self.reactor),
            Duty::Status => {
                self.supervision.has_status_timer = false;
                self.tell_status(daemon);
            }
            Duty::Retry => self.supervision.retry(),
            Duty::Store => {
                self.supervision.has_store_timer = false;
                self.see_to_store(daemon);
            }
            Duty::Unit => self.unit_is_due(daemon),
        }
    }

    fn tell_status<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        let clients = self.servers.main.clients.len();
        if self.supervision.notify.is_blocked() {
            // There is more important news, and this may have changed when its turn comes.
            return self.supervision.note_activity();
        }
        let mut status = format!("{}, {clients} clients", daemon.status());
        if let Some(cost) = self.cost_without_store(daemon) {
            status = format!("{status}; no fd store: {cost}");
        }
        self.supervision.status = status;
        self.supervision.say();
    }
}
