//! Idle timeout.

use std::time::Duration;

use super::token::Token;
use crate::event::{Reactor, TimerId};

/// The idle timer. It runs while no client of any server is connected; a connection restarts it.
#[derive(Debug)]
pub(super) struct Idle {
    timeout: Option<Duration>,
    timer: Option<TimerId>,
}

impl Idle {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, timer: None }
    }

    /// Sets the timeout; a running period restarts with the new length.
    pub(super) fn set_timeout(&mut self, reactor: &mut Reactor<Token>, timeout: Option<Duration>) {
        self.timeout = timeout;
        self.stop_timer(reactor);
    }

    /// Starts or stops the timer, depending on whether there are clients.
    pub(super) fn update(&mut self, reactor: &mut Reactor<Token>, has_clients: bool) {
        match (self.timeout, self.timer) {
            (_, Some(_)) if has_clients => self.stop_timer(reactor),
            (Some(timeout), None) if !has_clients => {
                self.timer = Some(reactor.set_timer(timeout, Token::Idle));
            }
            _ => {}
        }
    }

    /// Clears the timer that has fired: the next [`Idle::update`] starts another period.
    pub(super) fn fired(&mut self) {
        self.timer = None;
    }

    fn stop_timer(&mut self, reactor: &mut Reactor<Token>) {
        if let Some(timer) = self.timer.take() {
            reactor.cancel_timer(timer);
        }
    }
}
