//! Directories in which logs were opened. Most logs are in a few, which they share in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use common::handover::document::LogDirectory;

/// Directories of the last logs that were opened, which the next one is compared with. Ours.
const RECENT_MAX: usize = 16;

static RECENT: Mutex<VecDeque<Weak<LogDirectory>>> = Mutex::new(VecDeque::new());

/// A directory in which logs were opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedDirectory(Arc<LogDirectory>);

impl SharedDirectory {
    /// Returns the directory as it is in the state document.
    pub fn get(&self) -> LogDirectory {
        *self.0
    }
}

impl From<LogDirectory> for SharedDirectory {
    fn from(directory: LogDirectory) -> Self {
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = recent.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.find(|known| **known == directory) {
            return Self(known);
        }
        let directory = Arc::new(directory);
        recent.truncate(RECENT_MAX - 1);
        recent.push_front(Arc::downgrade(&directory));
        Self(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_one_directory_share_it() {
        let directory =
            |inode| LogDirectory { dev: 1, inode, born_unix_ns: None, uid: 0, target_uid: None };
        let [first, second, other] = [1, 1, 2].map(|inode| SharedDirectory::from(directory(inode)));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert_ne!(first, other);
        for inode in 3..100 {
            assert_eq!(SharedDirectory::from(directory(inode)).get(), directory(inode));
        }
        assert!(RECENT.lock().unwrap().len() <= RECENT_MAX);
    }
}
