//! The daemon's end: logs on disks that take long are stopped first, and the others are served until
//! nothing else is waited for, so that no guest waits for another's disk.

use std::collections::BTreeSet;

use common::server::Core;

use crate::handler::{CLEANER, Handler, Outcome};
use crate::logs::task::Task;
use crate::persist::fd_store;

/// Lanes that are being stopped, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    under_way: BTreeSet<u64>,
    /// They have taken too long: nobody waits for them any more.
    given_up: Option<BTreeSet<u64>>,
}

impl Stops {
    /// The lane's log is stopped.
    pub(crate) fn ended(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    fn are_over(&self) -> bool {
        match &self.given_up {
            Some(given_up) => self.under_way.is_subset(given_up),
            None => self.under_way.is_empty(),
        }
    }
}

impl Handler {
    /// Stops the logs whose disks are slow, or whose tasks take long.
    pub(crate) fn begin_stop(&mut self, core: &mut Core<Outcome>) {
        self.stopping = true;
        if core.has_store() {
            fd_store::close();
        }
        let numbers: Vec<u64> = self.lane_numbers().collect();
        for number in numbers {
            let lane = self.lane_mut(number);
            let place = lane.as_deref().and_then(|lane| lane.place);
            let is_slow = place.is_none_or(|place| core.is_slow(place));
            if is_slow || lane.is_some_and(|lane| lane.busy) {
                self.stop_log(core, number);
            }
        }
    }

    /// Stops all other logs.
    pub(crate) fn stop_served(&mut self, core: &mut Core<Outcome>) {
        self.stops.given_up = Some(self.stops.under_way.clone());
        let served = self.lane_numbers().filter(|number| !self.stops.under_way.contains(number));
        for number in served.collect::<Vec<_>>() {
            self.stop_log(core, number);
        }
    }

    /// Whether everything was stopped that was to be, but for what takes too long.
    pub(crate) fn is_stopped(&self, core: &Core<Outcome>) -> bool {
        let Some(given_up) = &self.stops.given_up else { return self.stops.are_over() };
        let is_awaited = |number: &u64| *number == CLEANER || self.has_lane_number(*number);
        let mut jobs = core.jobs_in_flight().map(|job| job.source).filter(is_awaited);
        self.stops.are_over() && jobs.all(|number| given_up.contains(&number))
    }

    /// A log that is in the fd store only pauses: its pipe stays there.
    fn stop_log(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lane_mut(number) else { return };
        let is_kept = Self::goes_on(core, lane);
        lane.waiting.push_back(Task::Stop { is_kept });
        self.stops.under_way.insert(number);
        self.advance(core, number);
    }
}
