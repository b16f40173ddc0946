//! Lanes by their numbers and paths.

use std::path::Path;
use std::sync::Arc;

use common::server::Core;

use crate::handler::{Handler, Outcome};
use crate::logs::queue::{Lane, PathBytes};

impl Handler {
    /// Whether something is done with this path, or it is a log.
    pub(crate) fn has_lane(&self, path: &Path) -> bool {
        self.by_path.contains_key(path.as_os_str())
    }

    /// Lanes by their numbers.
    pub(crate) fn lane_numbers(&self) -> impl Iterator<Item = u64> {
        self.lanes.keys().copied()
    }

    /// Whether there is a lane of this number.
    pub(crate) fn has_lane_number(&self, number: u64) -> bool {
        self.lanes.contains_key(&number)
    }

    /// A lane.
    pub(crate) fn lane_mut(&mut self, number: u64) -> Option<&mut Lane> {
        self.lanes.get_mut(&number).map(Box::as_mut)
    }

    /// A lane, to be looked at.
    pub(crate) fn lane(&self, number: u64) -> Option<&Lane> {
        self.lanes.get(&number).map(Box::as_ref)
    }

    /// All lanes, to be changed.
    pub(crate) fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.values_mut().map(Box::as_mut)
    }

    /// Everything that is done with paths, logs among it.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values().map(Box::as_ref)
    }

    /// The lane of a path, a new one if it has none.
    pub(crate) fn lane_of(&mut self, path: &Path) -> u64 {
        if let Some(&number) = self.by_path.get(path.as_os_str()) {
            return number;
        }
        self.last_number += 1;
        let path = Arc::from(path);
        self.by_path.insert(PathBytes(Arc::clone(&path)), self.last_number);
        self.lanes.insert(self.last_number, Box::new(Lane::new(path)));
        self.last_number
    }

    /// Forgets a lane in which nothing is left.
    pub(crate) fn forget(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lanes.remove(&number) else { return };
        self.unstored.remove(&number);
        self.stops.ended(number);
        self.by_path.remove(lane.path.as_os_str());
        lane.timers().for_each(|timer| core.cancel_timer(timer));
    }
}
