//! Names in the fd store and their total length.

use std::collections::HashMap;

/// Number of fds of each name.
#[derive(Debug, Default)]
pub(super) struct Names {
    counts: HashMap<Box<str>, usize>,
    bytes: usize,
    fds: usize,
}

impl Names {
    /// Bytes of all names with a separator each. Linux refuses to execute a program with an
    /// environment variable of 128 KiB (`MAX_ARG_STRLEN`). In `LISTEN_FDNAMES` the sockets' names
    /// come first; 1 KiB is for those and the variable's own name.
    pub(super) const BYTES_MAX: usize = 131_072 - 1024;

    /// Returns whether systemd accepts a name as it is: 255 printable ASCII characters except `:`,
    /// and no name of a socket.
    pub(super) fn is_valid(name: &str) -> bool {
        let printable = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
        (1..=255).contains(&name.len()) && name.bytes().all(printable) && !name.ends_with(".socket")
    }

    /// Returns the number of fds.
    pub(super) fn fds(&self) -> usize {
        self.fds
    }

    /// Returns whether there is room for so many more bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= Self::BYTES_MAX
    }

    /// Adds fds; adds nothing and returns `false` when their names do not fit.
    pub(super) fn add(&mut self, name: &str, count: usize) -> bool {
        let bytes = bytes_of(name, count);
        if !self.has_room(bytes) {
            return false;
        }
        self.bytes += bytes;
        self.fds += count;
        *self.counts.entry(name.into()).or_default() += count;
        true
    }

    /// Returns whether there are fds of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.counts.contains_key(name)
    }

    /// Returns the number of fds of this name.
    pub(super) fn count(&self, name: &str) -> usize {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Returns all names with their number of fds.
    pub(super) fn all(&self) -> Vec<(String, usize)> {
        self.counts.iter().map(|(name, &count)| (name.to_string(), count)).collect()
    }

    /// Adds an fd that is stored already.
    pub(super) fn add_stored(&mut self, name: &str) {
        self.bytes += bytes_of(name, 1);
        self.fds += 1;
        *self.counts.entry(name.into()).or_default() += 1;
    }

    /// Removes fds of a name.
    pub(super) fn take(&mut self, name: &str, count: usize) {
        let Some(present) = self.counts.get_mut(name) else { return };
        let taken = count.min(*present);
        *present -= taken;
        if *present == 0 {
            self.counts.remove(name);
        }
        self.bytes -= bytes_of(name, taken);
        self.fds -= taken;
    }

    /// Removes all fds of a name. Returns whether there were any.
    pub(super) fn take_all(&mut self, name: &str) -> bool {
        let Some(count) = self.counts.remove(name) else { return false };
        self.bytes -= bytes_of(name, count);
        self.fds -= count;
        true
    }
}

fn bytes_of(name: &str, count: usize) -> usize {
    (name.len() + 1).saturating_mul(count)
}

#[cfg(test)]
mod tests;
