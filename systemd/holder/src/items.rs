//! The fds of one set, by systemd's rules.
//!
//! Searches are linear, as in systemd: with 4,000 fds one takes some 10 µs.

use std::os::fd::{AsFd, OwnedFd};

use common::sys::{fd, pipe};

/// One fd that is held.
#[derive(Debug)]
pub(crate) struct Item {
    /// Place in the order of arrival.
    pub(crate) number: u64,
    /// Its name, which others may have too.
    pub(crate) name: Box<str>,
    pub(crate) fd: OwnedFd,
    /// It is dropped when its other end is closed.
    pub(crate) is_watched: bool,
    /// Device and inode; `None` if unknown.
    file: Option<(u64, u64)>,
}

/// All of them, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Items {
    all: Vec<Item>,
    last_number: u64,
    /// Bytes of all names with a separator each.
    name_bytes: usize,
}

impl Items {
    /// Adds an fd, and returns it; `None` when its open file is there already, whatever its name.
    pub(crate) fn add(&mut self, name: &str, fd: OwnedFd, is_watched: bool) -> Option<&Item> {
        let file = fd::device_and_inode(&fd).ok();
        let is_it = |item: &Item| item.file == file && is_same(&item.fd, &fd);
        if self.all.iter().any(is_it) {
            return None;
        }
        self.last_number += 1;
        self.name_bytes += name.len() + 1;
        let number = self.last_number;
        self.all.push(Item { number, name: name.into(), fd, is_watched, file });
        self.all.last()
    }

    /// Takes out all fds of this name.
    pub(crate) fn remove(&mut self, name: &str) -> Vec<Item> {
        let removed: Vec<_> = self.all.extract_if(.., |item| *item.name == *name).collect();
        self.name_bytes -= removed.len() * (name.len() + 1);
        removed
    }

    /// Takes out one fd.
    pub(crate) fn take(&mut self, number: u64) -> Option<Item> {
        let index = self.all.binary_search_by_key(&number, |item| item.number).ok()?;
        let item = self.all.remove(index);
        self.name_bytes -= item.name.len() + 1;
        Some(item)
    }

    /// Returns those before this number, the newest first: systemd's order at a start.
    pub(crate) fn before(&self, number: u64) -> impl Iterator<Item = &Item> {
        let end = self.all.partition_point(|item| item.number < number);
        self.all.get(..end).unwrap_or_default().iter().rev()
    }

    /// Returns all of them, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.all.iter()
    }

    /// Returns the bytes of all names, with a separator each.
    pub(crate) fn name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

/// Returns whether both are of one open file description. Where the kernel does not tell, the ends
/// of pipes and sockets are compared: other files are often opened more than once.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    fd::is_same_description(one, other).unwrap_or_else(|| {
        let is_stream = pipe::is_pipe(one) || fd::is_socket(one);
        is_stream && fd::is_readable(one.as_fd()) == fd::is_readable(other.as_fd())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn names(items: &Items) -> Vec<&str> {
        items.before(u64::MAX).map(|item| &*item.name).collect()
    }

    #[test]
    fn the_newest_comes_first_and_no_open_file_twice() {
        let mut items = Items::default();
        let one = file();
        assert!(items.add("a", one.try_clone().unwrap(), false).is_some());
        assert!(items.add("b", file(), false).is_some());
        assert!(items.add("c", one, false).is_none());
        assert_eq!(names(&items), ["b", "a"]);
    }

    #[test]
    fn those_of_one_name_go_together() {
        let mut items = Items::default();
        for name in ["a", "b", "a", "c"] {
            items.add(name, file(), false);
        }
        assert_eq!(items.remove("a").len(), 2);
        assert_eq!(names(&items), ["c", "b"]);
        assert_eq!(items.take(2).map(|item| item.name), Some("b".into()));
        assert!(items.take(2).is_none());
        assert_eq!(items.before(4).count(), 0);
        assert_eq!((items.len(), items.iter().count(), items.name_bytes()), (1, 1, 2));
    }

    #[test]
    fn both_ends_of_a_pipe_are_two_files() {
        let mut items = Items::default();
        let (reader, writer) = pipe::pipe().unwrap();
        assert!(items.add("p", reader, false).is_some());
        assert!(items.add("p", writer, false).is_some());
    }
}
