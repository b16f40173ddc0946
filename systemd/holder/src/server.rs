//! The loop that serves all sets.

use std::io;
use std::time::{Duration, Instant};

use common::sys::pidfd;
use nix::sys::signal::Signal;

use crate::context::Context;
use crate::parent::Parent;
use crate::poller::{Interest, Token};
use crate::set::Set;
use crate::signals::Signals;

/// Pause before the supervisor is tried again, which could not take what it was sent. Ours.
const RETRY_PERIOD: Duration = Duration::from_millis(10);

/// Everything that is served.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) context: Context,
    pub(crate) sets: Vec<Set>,
    pub(crate) signals: Signals,
    /// Starts the daemon, if the holder does that.
    pub(crate) parent: Option<Parent>,
    /// Messages wait until the supervisor has taken what it was sent.
    pub(crate) is_paused: bool,
}

impl Server {
    /// Serves until a signal or the daemon's end, and returns the exit status.
    ///
    /// # Errors
    /// As `epoll_wait(2)` and `epoll_ctl(2)`.
    pub(crate) fn run(mut self) -> io::Result<u8> {
        self.context.poller.watch(&self.signals, Token::Signals, Interest::Read)?;
        for set in &mut self.sets {
            set.begin(&mut self.context)?;
        }
        if self.parent.is_none() {
            self.context.backing.ready();
        }
        loop {
            if let Some(status) = self.start_daemon() {
                return Ok(status);
            }
            for token in self.context.poller.wait(self.patience())? {
                if let Some(status) = self.see_to(token) {
                    self.context.backing.drain();
                    return Ok(status);
                }
            }
            self.context.backing.flush();
            if self.context.backing.take_loss() {
                self.sets.iter().for_each(|set| set.keep_all(&mut self.context));
            }
            self.sets.iter_mut().for_each(|set| set.tend(&mut self.context));
            self.pause_messages()?;
        }
    }

    /// Starts the daemon if that is due. Returns the exit status if it cannot be.
    fn start_daemon(&mut self) -> Option<u8> {
        let (parent, set) = (self.parent.as_mut()?, self.sets.first_mut()?);
        parent.start_if_due(set, &self.context.log)
    }

    fn see_to(&mut self, token: Token) -> Option<u8> {
        let index = match token {
            Token::Signals => return self.see_to_signals(),
            Token::Messages(index) | Token::Claims(index) | Token::Daemon(index) => index,
            Token::Claimant(index, _) | Token::Item(index, _) => index,
        };
        let (context, set) = (&mut self.context, self.sets.get_mut(usize::from(index))?);
        match token {
            Token::Signals => {}
            Token::Messages(_) => {
                set.take_messages(context);
            }
            Token::Claims(_) => set.accept(context),
            Token::Claimant(_, number) => set.see_to_claimant(number, context),
            Token::Item(_, number) => set.has_ended(number, context),
            Token::Daemon(_) => {
                if let Some(claim) = set.claim.as_mut().filter(|it| pidfd::has_ended(&it.pidfd)) {
                    claim.has_ended = true;
                    // It stays readable.
                    context.poller.forget(&claim.pidfd);
                }
            }
        }
        None
    }

    fn see_to_signals(&mut self) -> Option<u8> {
        let signals = self.signals.take();
        let Some(parent) = &mut self.parent else {
            let is_end = |signal: &Signal| matches!(signal, Signal::SIGTERM | Signal::SIGINT);
            return signals.iter().any(is_end).then(|| self.end());
        };
        for signal in signals {
            if signal != Signal::SIGCHLD
                && let Some(status) = parent.pass_on(signal)
            {
                return Some(status);
            }
        }
        let set = self.sets.first_mut()?;
        parent.has_been_ready |= std::mem::take(&mut self.context.was_ready);
        parent.reap(set, &self.context.log)
    }

    /// Says what becomes of the fds at an end that was asked for.
    fn end(&mut self) -> u8 {
        self.context.backing.stopping();
        if !self.context.backing.has_store() && self.context.fds > 0 {
            let line = format!("{} fds end with this process", self.context.fds);
            self.context.log.say(&line);
        }
        0
    }

    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let retry = self.context.backing.is_behind().then(|| now + RETRY_PERIOD);
        let is_ending = |set: &Set| set.claim.as_ref().is_some_and(|claim| claim.has_ended);
        // One that had ended when it was adopted.
        let ending = self.sets.iter().any(is_ending).then_some(now);
        let start = self.parent.as_ref().and_then(Parent::next_start);
        let sets = self.sets.iter().filter_map(Set::deadline);
        let next = sets.chain(retry).chain(ending).chain(start).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Lets messages wait in their sockets while the supervisor is behind, and so whoever sends
    /// them.
    fn pause_messages(&mut self) -> io::Result<()> {
        let is_paused = self.context.backing.is_behind();
        if std::mem::replace(&mut self.is_paused, is_paused) != is_paused {
            let interest = if is_paused { Interest::End } else { Interest::Read };
            for set in &self.sets {
                let token = Token::Messages(set.index);
                self.context.poller.change(&set.sockets.messages, token, interest)?;
            }
        }
        Ok(())
    }
}
