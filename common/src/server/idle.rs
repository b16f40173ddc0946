//! Exiting when nobody has been there for a while.

use std::time::Duration;

use super::token::Token;
use crate::event::{Reactor, TimerId};

/// The timer runs while no client of any server is connected; a short visit restarts it.
#[derive(Debug)]
pub(super) struct Idle {
    timeout: Option<Duration>,
    timer: Option<TimerId>,
}

impl Idle {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, timer: None }
    }

    /// Changes the timeout; a period that is running starts again with the new length.
    pub(super) fn set_timeout(&mut self, reactor: &mut Reactor<Token>, timeout: Option<Duration>) {
        self.timeout = timeout;
        self.stop_timer(reactor);
    }

    /// Sees to it that the timer runs exactly while there are no clients.
    pub(super) fn update(&mut self, reactor: &mut Reactor<Token>, has_clients: bool) {
        match (self.timeout, self.timer) {
            (_, Some(_)) if has_clients => self.stop_timer(reactor),
            (Some(timeout), None) if !has_clients => {
                self.timer = Some(reactor.set_timer(timeout, Token::Idle));
            }
            _ => {}
        }
    }

    /// The timer has fired: the next [`Idle::update`] starts another period.
    pub(super) fn fired(&mut self) {
        self.timer = None;
    }

    fn stop_timer(&mut self, reactor: &mut Reactor<Token>) {
        if let Some(timer) = self.timer.take() {
            reactor.cancel_timer(timer);
        }
    }
}
