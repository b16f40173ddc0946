//! All queues, by path and by the number they are watched under.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::logs::path_bytes::PathBytes;
use crate::logs::queue::LogQueue;

/// The queues. Guests and unclaimed pipes get their numbers here too, as all share one range.
#[derive(Debug, Default)]
pub(crate) struct LogTable {
    /// In the order in which they were made, and so in memory: all of them are gone through at an
    /// upgrade. Boxed, since a map leaves places empty.
    queues: BTreeMap<u64, Box<LogQueue>>,
    by_path: HashMap<PathBytes, u64>,
    last_number: u64,
    /// Logs that the fd store had no room for, by the numbers of their queues.
    pub(crate) unstored: BTreeSet<u64>,
    /// The daemon is about to exit. A log that was stopped goes on in another process.
    pub(crate) is_stopping: bool,
}

impl LogTable {
    /// Returns a number that was not given out before.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Returns whether a path has a queue.
    pub(crate) fn has_path(&self, path: &Path) -> bool {
        self.by_path.contains_key(path.as_os_str())
    }

    /// Returns all paths that have a queue.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.by_path.keys().map(|path| path.0.to_path_buf())
    }

    /// Returns the numbers of all queues.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.queues.keys().copied().collect()
    }

    /// Returns whether there is a queue of this number.
    pub(crate) fn has_number(&self, number: u64) -> bool {
        self.queues.contains_key(&number)
    }

    /// Returns a queue.
    pub(crate) fn get(&self, number: u64) -> Option<&LogQueue> {
        self.queues.get(&number).map(Box::as_ref)
    }

    /// Returns a queue, to be changed.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut LogQueue> {
        self.queues.get_mut(&number).map(Box::as_mut)
    }

    /// Returns all queues with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &LogQueue)> {
        self.queues.iter().map(|(&number, queue)| (number, queue.as_ref()))
    }

    /// Returns the queues with numbers above this one.
    pub(crate) fn above(&self, number: u64) -> impl Iterator<Item = (u64, &LogQueue)> {
        let queues = self.queues.range((Bound::Excluded(number), Bound::Unbounded));
        queues.map(|(&number, queue)| (number, queue.as_ref()))
    }

    /// Returns all queues, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LogQueue> {
        self.queues.values_mut().map(Box::as_mut)
    }

    /// Returns the number of a path's queue, a new one if it has none.
    pub(crate) fn number_of(&mut self, path: &Path) -> u64 {
        if let Some(&number) = self.by_path.get(path.as_os_str()) {
            return number;
        }
        let number = self.next_number();
        let path = Arc::from(path);
        self.by_path.insert(PathBytes(Arc::clone(&path)), number);
        self.queues.insert(number, Box::new(LogQueue::new(path)));
        number
    }

    /// Removes a queue.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Box<LogQueue>> {
        let queue = self.queues.remove(&number)?;
        self.unstored.remove(&number);
        self.by_path.remove(queue.path.as_os_str());
        Some(queue)
    }
}
