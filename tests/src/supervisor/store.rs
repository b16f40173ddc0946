//! The fd store of a service, by systemd's rules.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::wire::is_same_description;

/// What systemd calls an fd without a name.
const NAMELESS: &str = "stored";

/// One fd that is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name, which others may have too.
    pub name: String,
    /// It.
    pub fd: Arc<OwnedFd>,
    /// It is taken out when its other end is closed.
    pub(super) is_watched: bool,
}

/// What is kept, the newest first.
#[derive(Debug)]
pub(super) struct Store {
    all: VecDeque<Stored>,
    limit: usize,
    refused: usize,
}

impl Store {
    pub(super) fn new(limit: usize) -> Self {
        Self { all: VecDeque::new(), limit, refused: 0 }
    }

    /// Keeps an fd, unless it is there already, or no more are kept: then it is closed, and nobody
    /// is told.
    pub(super) fn add(&mut self, name: Option<&str>, fd: OwnedFd, is_watched: bool) {
        if self.all.iter().any(|stored| is_same_description(stored.fd.as_fd(), fd.as_fd())) {
            return;
        }
        if self.all.len() >= self.limit {
            self.refused += 1;
            return;
        }
        let name = name.filter(|name| is_name(name)).unwrap_or(NAMELESS).to_owned();
        self.all.push_front(Stored { name, fd: Arc::new(fd), is_watched });
    }

    /// Keeps those of this name no more.
    pub(super) fn remove(&mut self, name: &str) {
        self.all.retain(|stored| stored.name != name);
    }

    /// Keeps this one no more.
    pub(super) fn drop_fd(&mut self, fd: &Arc<OwnedFd>) {
        self.all.retain(|stored| !Arc::ptr_eq(&stored.fd, fd));
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// What is in there beyond a smaller limit stays, as with systemd.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The oldest beyond a smaller limit go.
    pub(super) fn shrink(&mut self, limit: usize) {
        self.limit = limit;
        self.all.truncate(limit);
    }

    /// How many fds were closed as there was no room.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    pub(super) fn all(&self) -> Vec<Stored> {
        self.all.iter().cloned().collect()
    }
}

/// 255 printable ASCII characters but `:`.
fn is_name(name: &str) -> bool {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
    (1..=255).contains(&name.len()) && name.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn names(store: &Store) -> Vec<String> {
        store.all().into_iter().map(|stored| stored.name).collect()
    }

    #[test]
    fn the_newest_comes_first_and_no_description_twice() {
        let mut store = Store::new(9);
        let (one, two) = (file(), file());
        store.add(Some("a"), one.try_clone().unwrap(), false);
        store.add(Some("b"), two, false);
        store.add(Some("c"), one, false);
        store.add(Some("a:b"), file(), false);
        assert_eq!(names(&store), ["stored", "b", "a"]);
        store.remove("b");
        assert_eq!(names(&store), ["stored", "a"]);
    }

    #[test]
    fn what_there_is_no_room_for_is_refused_in_silence() {
        let mut store = Store::new(2);
        for name in ["a", "b", "c"] {
            store.add(Some(name), file(), false);
        }
        assert_eq!((names(&store), store.refused()), (vec!["b".to_owned(), "a".to_owned()], 1));
        store.set_limit(1);
        assert_eq!(names(&store).len(), 2);
    }
}
