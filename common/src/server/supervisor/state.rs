//! State of the notifications to the supervisor.

use std::ffi::OsStr;
use std::time::Duration;

use crate::event::Reactor;
use crate::server::duty::Duty;
use crate::server::token::Token;
use crate::systemd::Notify;

/// Interval of status checks while there is activity. It bounds their cost, however many guests
/// there are; an idle daemon makes none.
pub(crate) const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// First retry after the supervisor's queue was full, and the longest. The interval doubles each
/// time that the supervisor takes nothing.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(5);

pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);

/// Interval of offers to a store that had no room.
pub(crate) const STORE_PERIOD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) notify: Notify,
    pub(crate) ping_period: Option<Duration>,
    /// Status at the last check.
    pub(crate) status: String,
    /// Status that was sent last.
    pub(crate) sent_status: String,
    pub(crate) last_upgrade: Option<String>,
    /// There was activity since the last check.
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
            sent_status: String::new(),
            last_upgrade: None,
            is_active: false,
            has_status_timer: false,
            has_retry_timer: false,
            has_store_timer: false,
            retry: RETRY_MIN,
        }
    }

    /// Notes activity: the status may have changed.
    pub(crate) fn note_activity(&mut self) {
        self.is_active = true;
    }

    /// Schedules pending work before the loop waits.
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

    /// Schedules a retry of pending messages.
    pub(crate) fn try_again(&mut self, reactor: &mut Reactor<Token>) {
        if !std::mem::replace(&mut self.has_retry_timer, true) {
            reactor.set_timer(self.retry, Token::Supervisor(Duty::Retry));
        }
    }

    /// Schedules an offer to the fd store, which lacks something.
    pub(crate) fn schedule_store_offer(&mut self, reactor: &mut Reactor<Token>) {
        if !std::mem::replace(&mut self.has_store_timer, true) {
            reactor.set_timer(STORE_PERIOD, Token::Supervisor(Duty::Store));
        }
    }

    /// Connects to a supervisor that was found later, and has received nothing yet.
    pub(crate) fn connect(&mut self, target: &OsStr) {
        self.notify = Notify::new(Some(target.to_owned()));
        self.sent_status.clear();
        self.is_active = true;
    }

    /// Sends the status, unless it is unchanged.
    pub(crate) fn say(&mut self) {
        let mut status = self.status.clone();
        if let Some(outcome) = &self.last_upgrade {
            status = format!("{status}; last upgrade: {outcome}");
        }
        if status != self.sent_status {
            self.notify.status(&status);
            self.sent_status = status;
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
