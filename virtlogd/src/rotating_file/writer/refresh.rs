//! A look at a log's path: what has become of the file that is open.

use std::fs;
use std::path::Path;

use common::sys::file_id::FileId;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::super::directory::split;
use super::{Cut, Error, RotatingFile};

impl RotatingFile {
    /// Looks at the file by its path, before each turn of writing. Truncated (`copytruncate`) or
    /// grown by others: goes on at its end. PATH removed or another file by now: goes on at the end
    /// of PATH, and leaves the old file as it is. PATH's directory out of reach: goes on in the old
    /// file if that has a name left.
    ///
    /// # Errors
    ///
    /// Where PATH cannot be opened otherwise, or leads where the log may not go, the old file stays
    /// in use. A caller that goes on may write into a file that cannot be found.
    pub fn refresh(&mut self) -> Result<(), Error> {
        if self.file.is_none() {
            let left = self.rotation_steps_left;
            self.reopen()?;
            self.rotation_steps_left = left;
            return Ok(());
        }
        match fs::metadata(&self.path) {
            Ok(metadata) if FileId::of(&metadata) == self.id() => {
                self.recount(metadata.len())?;
                self.learn_location();
                self.attach();
                Ok(())
            }
            _ => match self.size_if_detached() {
                Some(size_bytes) => {
                    self.is_detached = true;
                    self.recount(size_bytes).map(drop)
                }
                None => {
                    self.is_detached = false;
                    self.reopen()
                }
            },
        }
    }

    /// Returns whether its directory is out of reach, so that it goes on in the open file, wherever
    /// that is. It is not rotated then.
    pub fn is_detached(&self) -> bool {
        self.is_detached
    }

    /// Returns whether it [is detached](Self::is_detached), if that has changed since the last call.
    pub fn take_change_of_place(&mut self) -> Option<bool> {
        let was_detached = std::mem::replace(&mut self.was_detached, self.is_detached);
        (was_detached != self.is_detached).then_some(self.is_detached)
    }

    /// Goes on as before its directory was out of reach. A rotation that was due then is so now.
    fn attach(&mut self) {
        if std::mem::replace(&mut self.is_detached, false) {
            self.is_rotation_postponed = false;
            self.cut = Cut::new(self.cut.pos(), self.limits.size_bytes_max);
        }
    }

    /// Returns the open file's size if the path does not lead to its directory, because that was
    /// moved, a mount is gone or the way is barred, and the file has a name somewhere.
    fn size_if_detached(&self) -> Option<u64> {
        let open = self.file.as_ref().filter(|_| self.is_out_of_reach())?;
        let found = fstat(&open.file).ok().filter(|found| found.st_nlink > 0)?;
        u64::try_from(found.st_size).ok()
    }

    /// Takes no fd, as there may be none left.
    fn is_out_of_reach(&self) -> bool {
        let (parent, _) = split(&self.path);
        let was_link = self.known_directory().is_some_and(|known| known.target_uid.is_some());
        let target = || fs::read_link(&self.path).ok().filter(|_| was_link);
        is_lost(parent) || target().is_some_and(|target| is_lost(split(&parent.join(target)).0))
    }

    /// Learns the directory of a file that another process has opened. After a failure the next
    /// turn tries again.
    fn learn_location(&mut self) {
        if self.directory.is_none()
            && let Ok(location) = self.location()
        {
            self.directory = Some(location.log_directory(self.id()).into());
        }
    }
}

/// Returns whether names in a directory cannot be looked up, for a reason that may last.
fn is_lost(directory: &Path) -> bool {
    const LASTING: [Errno; 4] = [Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::ELOOP];
    // As a name in it, this needs a directory that may be searched.
    let looked_up = fs::metadata(directory.join("."));
    let errno = looked_up.err().and_then(|error| error.raw_os_error());
    errno.is_some_and(|errno| LASTING.contains(&Errno::from_raw(errno)))
}

#[cfg(test)]
mod tests;
