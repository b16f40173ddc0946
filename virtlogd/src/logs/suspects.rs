//! Guests that hold up whoever touches their pipes, or may do so: see [`crate::guest::access`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::handover::stored::Kind;
use common::server::{Core, Progress};
use common::sys::pipe::{self, State};

use crate::guest::access::{Fetched, Guest};
use crate::handler::{Ended, Handler, Outcome};
use crate::logs::queue::Lane;

/// How long what a suspect has written is waited for before what is to be done behind it, and how often
/// it is looked whether it can be fetched.
pub(crate) const FETCH_PERIOD: Duration = Duration::from_millis(50);

/// A job that touches a guest's pipe and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    /// Of one that is under way.
    progress: Option<Progress>,
    /// It was begun after the first task came.
    is_for_task: bool,
    /// Nobody waits for it any longer.
    is_late: bool,
    /// What the guest had written when the first task came was fetched, or is not waited for.
    is_done: bool,
    /// How many bytes of that are left, once that is known.
    left: Option<u64>,
}

/// What has to be done before the next task of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Nothing,
    /// What was fetched is to be written, so that there is room for more.
    Turn,
    /// More is to be fetched, which is under way.
    Fetch,
}

/// Guests whose logs have ended, until their pipes are closed.
#[derive(Debug, Default)]
pub(crate) struct Closings {
    /// Those that the fd store may have still, by their keys there.
    stored: BTreeMap<u64, Arc<Guest>>,
    /// Those that are being closed, by their numbers, in words.
    under_way: BTreeMap<u64, String>,
}

impl Fetch {
    /// One has ended. What was begun before a task came says nothing of what was written before that.
    fn end(&mut self, Fetched { waiting, taken }: Fetched) {
        let left = self.left.or_else(|| self.is_for_task.then_some(waiting));
        let left = left.map(|left| left.saturating_sub(taken));
        let is_done = left.is_some_and(|left| left == 0 || taken == 0);
        *self = Self { is_done, left, ..Self::default() };
    }

    /// Whether the guest holds it up.
    pub(crate) fn is_held_up(&self) -> bool {
        self.progress.as_ref().is_some_and(Progress::is_at_peer)
    }

    /// Forgets what was fetched for the task that is taken up.
    pub(crate) fn forget(&mut self) {
        (self.is_done, self.left) = (false, None);
    }
}

impl Closings {
    /// The one with this number, in words.
    pub(crate) fn describe(&self, number: u64) -> Option<String> {
        self.under_way.get(&number).map(|guest| format!("closing the pipe of {guest}"))
    }

    /// It is closed.
    pub(crate) fn ended(&mut self, number: u64) {
        self.under_way.remove(&number);
    }
}

/// Whether the jobs of a lane must not touch its guest's pipe, which they are told.
pub(crate) fn is_suspect(core: &Core<Outcome>, lane: &Lane) -> bool {
    lane.guest.as_ref().is_some_and(|guest| {
        let is_suspect = core.is_peer_suspect(guest.number);
        guest.set_direct(!is_suspect);
        is_suspect
    })
}

impl Handler {
    /// What has to be done before the next task, so that all comes first that a suspect guest has written
    /// before.
    pub(crate) fn before_task_of_suspect(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
    ) -> Before {
        let Some(lane) = self.lane_mut(number) else { return Before::Nothing };
        if !is_suspect(core, lane)
            || lane.pump.is_none()
            || lane.waiting.is_empty()
            || lane.fetch.is_done
            || lane.fetch.is_late
        {
            return Before::Nothing;
        }
        let has_kept = lane.guest.as_ref().is_some_and(|guest| guest.intake().has_kept());
        if has_kept && !lane.is_failing && lane.fetch.progress.is_none() {
            return Before::Turn;
        }
        self.fetch_for(core, number, true);
        if let Some(lane) = self.lane_mut(number) {
            lane.relieve_after(core, FETCH_PERIOD, number);
        }
        Before::Fetch
    }

    /// Has fetched what a guest has written, or if its log cannot be written as much as is necessary.
    pub(crate) fn fetch(&mut self, core: &mut Core<Outcome>, number: u64) {
        self.fetch_for(core, number, false);
    }

    fn fetch_for(&mut self, core: &mut Core<Outcome>, number: u64, is_for_task: bool) {
        let Some(lane) = self.lane_mut(number) else { return };
        let Some(guest) = lane.guest.clone().filter(|_| lane.fetch.progress.is_none()) else {
            return;
        };
        let left = lane.fetch.left;
        let progress = guest.new_progress();
        lane.fetch =
            Fetch { progress: Some(progress.clone()), is_for_task, left, ..Fetch::default() };
        let (reason, path) = (lane.relief_reason(core), Arc::clone(&lane.path));
        core.submit_at_peer(number, progress.clone(), move || {
            let fetched = match reason {
                Some(reason) => guest.relieve_beside(&progress, &reason, &path),
                None => guest.fetch(&progress),
            };
            Outcome(Ended::Fetch { number, guest: guest.number, fetched })
        });
    }

    /// A fetch has ended.
    pub(crate) fn fetch_ended(
        &mut self,
        core: &mut Core<Outcome>,
        number: u64,
        guest: u64,
        fetched: Fetched,
    ) {
        let Some(lane) = self.lane_mut(number) else { return };
        if lane.guest.as_ref().is_none_or(|now| now.number != guest) {
            return;
        }
        let Fetched { waiting, taken } = fetched;
        lane.fetch.end(fetched);
        lane.end_relief_timer(core);
        if waiting > 0 && taken == 0 {
            lane.relieve_after(core, FETCH_PERIOD, number);
        }
        lane.ready |= is_suspect(core, lane);
        self.keep_log_with_pipes(core, number);
        self.advance(core, number);
    }

    /// A fetch takes long: nobody waits for it any longer.
    pub(crate) fn fetch_is_late(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lane_mut(number) else { return };
        if lane.fetch.progress.is_some() {
            lane.fetch.is_late = true;
            self.advance(core, number);
        }
    }

    /// A task of a suspect's log has ended: what it has written meanwhile is not told of by its pipe.
    pub(crate) fn see_to_suspect(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lane(number).filter(|lane| is_suspect(core, lane)) else { return };
        let Some(guest) = &lane.guest else { return };
        let is_to_fetch = lane.relief_timer.is_none() && {
            let intake = guest.intake();
            let is_waiting = matches!(pipe::state(&intake.pipe), Ok(State::Waiting));
            is_waiting && (lane.is_failing || !intake.has_kept())
        };
        if is_to_fetch {
            self.fetch(core, number);
        }
    }

    /// A guest's log has ended. Its pipe stays open as long as the fd store may have it, whose supervisor
    /// is never to close the last fd of it.
    pub(crate) fn close(&mut self, core: &mut Core<Outcome>, key: Option<u64>, guest: Arc<Guest>) {
        match key.filter(|key| core.watch_removal(Kind::Log, *key)) {
            Some(key) => drop(self.closings.stored.insert(key, guest)),
            None => self.close_now(core, guest),
        }
    }

    /// The fd store has this log no more.
    pub(crate) fn close_stored(&mut self, core: &mut Core<Outcome>, key: u64) {
        if let Some(guest) = self.closings.stored.remove(&key) {
            self.close_now(core, guest);
        }
    }

    fn close_now(&mut self, core: &mut Core<Outcome>, guest: Arc<Guest>) {
        let (number, progress) = (guest.number, guest.new_progress());
        self.closings.under_way.insert(number, guest.domain.to_string());
        core.submit_at_peer(number, progress.clone(), move || {
            let closed = progress.at_peer(|| {
                drop(guest);
                Ok(())
            });
            // It is closed all the same.
            closed.ok();
            Outcome(Ended::Closing(number))
        });
    }
}
