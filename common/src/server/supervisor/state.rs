//! What the supervisor has heard, and is to hear.

use std::ffi::OsStr;
use std::time::Duration;

use crate::event::Reactor;
use crate::server::duty::Duty;
use crate::server::token::Token;
use crate::systemd::Notify;

/// How often the status is looked at, if anything happens at all. So it costs the same however
/// many guests there are, and nothing while none does anything.
pub(crate) const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// How soon a supervisor is tried again whose queue was full, and how late at the most: twice as
/// late each time that it has taken nothing at all.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(5);

pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);

/// How soon it is tried again to store what the store had no room for.
pub(crate) const STORE_PERIOD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) notify: Notify,
    pub(crate) ping_period: Option<Duration>,
    /// How the daemon was when that was looked at last.
    pub(crate) status: String,
    /// What was said last.
    pub(crate) said: String,
    pub(crate) last_upgrade: Option<String>,
    /// Something has happened since the status was looked at.
    pub(crate) is_active: bool,
    pub(crate) has_status_timer: bool,
    pub(crate) has_retry_timer: bool,
    pub(crate) has_store_timer: bool,
    pub(crate) retry: Duration,
}

impl Supervision {
    pub(crate) fn new(notify: Notify, ping_period: Option<Duration>) -> Self {
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
    pub(crate) fn note_activity(&mut self) {
        self.is_active = true;
    }

    /// Before the loop waits: nothing that has to be done is forgotten.
    pub(crate) fn before_wait(&mut self, reactor: &mut Reactor<Token>) {
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
    pub(crate) fn try_again(&mut self, reactor: &mut Reactor<Token>) {
        if !std::mem::replace(&mut self.has_retry_timer, true) {
            reactor.set_timer(self.retry, Token::Supervisor(Duty::Retry));
        }
    }

    /// The fd store lacks something.
    pub(crate) fn store_is_to_be_seen_to(&mut self, reactor: &mut Reactor<Token>) {
        if !std::mem::replace(&mut self.has_store_timer, true) {
            reactor.set_timer(STORE_PERIOD, Token::Supervisor(Duty::Store));
        }
    }

    /// There is a supervisor after all, who has not heard anything yet.
    pub(crate) fn found(&mut self, target: &OsStr) {
        self.notify = Notify::new(Some(target.to_owned()));
        self.said.clear();
        self.is_active = true;
    }

    /// Says how things are, unless that has been said.
    pub(crate) fn say(&mut self) {
        let mut status = self.status.clone();
        if let Some(outcome) = &self.last_upgrade {
            status = format!("{status}; last upgrade: {outcome}");
        }
        if status != self.said {
            self.notify.status(&status);
            self.said = status;
        }
    }

    pub(crate) fn retry(&mut self) {
        let before = self.notify.waiting();
        let is_done = self.notify.flush();
        let has_moved = is_done || self.notify.waiting() < before;
        self.retry = if has_moved { RETRY_MIN } else { (self.retry * 2).min(RETRY_MAX) };
        self.has_retry_timer = false;
    }

    pub(crate) fn ping(&mut self, reactor: &mut Reactor<Token>) {
        if let Some(period) = self.ping_period {
            self.notify.alive();
            reactor.set_timer(period, Token::Supervisor(Duty::Ping));
        }
    }
}
