//! Changes of names: older parts move up, the file itself makes way, a log is begun anew.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use common::handover::document::LogDirectory;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::directory::absent_is_fine;
use super::location::{Location, Trust};
use super::parts::is_too_long;
use super::{BACKUPS_MAX, Error, Limits};

/// Rotations of this process.
static ROTATIONS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of rotations of all logs since the start.
pub fn rotations() -> u64 {
    ROTATIONS.load(Ordering::Relaxed)
}

/// Counts a rotation.
pub(super) fn count() {
    ROTATIONS.fetch_add(1, Ordering::Relaxed);
}

/// Returns the steps that are left of a rotation that was cut off between two of its renames, as a
/// gap in the numbers shows.
pub fn steps_left(path: &Path, known: Option<LogDirectory>, limits: Limits) -> Option<u64> {
    let parts = limits.backups_max.min(BACKUPS_MAX);
    let location = Location::at(path, Trust::in_known(known, Trust::Full)).ok()?;
    let is_there = |part| location.directory().look_at(&location.name(part), false).is_ok();
    let gap = (0..parts).find(|&index| !is_there(Some(index)))?;
    let has_more = (gap + 1..parts).any(|index| is_there(Some(index)));
    (has_more && is_there(None)).then_some(gap + 1)
}

/// Unlinks a log and its older parts.
pub(super) fn delete(log: &Location<'_>, backups_max: u64) -> Result<(), Error> {
    log.refuse_special()?;
    let failed = |part, source| Error::Delete { path: log.path(part), source };
    absent_is_fine(log.directory().remove(&log.name(None)))
        .map_err(|source| failed(None, source))?;
    for part in (0..backups_max).map(Some) {
        remove_part(log, part).map_err(|source| failed(part, source))?;
    }
    Ok(())
}

/// Checks before anything is moved that a log can be: an append-only file cannot be renamed.
///
/// # Errors
/// As the last step of the rotation would report it.
pub(super) fn check(log: &Location<'_>) -> Result<(), Error> {
    match log.open(None, OFlag::O_WRONLY, 0) {
        Err(Error::Open { source, .. }) if is_append_only(&source) => {
            Err(Error::Rename { from: log.path(None), to: log.path(Some(0)), source })
        }
        _ => Ok(()),
    }
}

/// Fills slot `slot` from the one in front of it; the highest slot comes first. A part whose name
/// would be too long is dropped, like one that leaves the last slot. Returns whether one was.
pub(super) fn step(log: &Location<'_>, backups_max: u64, slot: u64) -> Result<bool, Error> {
    if backups_max == 0 {
        return remove(log).map(|()| false);
    }
    let (from, to) = (slot.checked_sub(1), Some(slot));
    match log.directory().rename(&log.name(from), &log.name(to)) {
        Err(error) if is_too_long(&error) => {
            remove_part(log, from).map_err(|source| Error::Remove { path: log.path(from), source })
        }
        result => absent_is_fine(result).map(|()| false).map_err(|source| Error::Rename {
            from: log.path(from),
            to: log.path(to),
            source,
        }),
    }
}

/// Unlinks a full log of which no older parts are kept.
pub(super) fn remove(log: &Location<'_>) -> Result<(), Error> {
    absent_is_fine(log.directory().remove(&log.name(None)))
        .map_err(|source| Error::Remove { path: log.path(None), source })
}

/// Returns whether the error is the one of opening an append-only file for other writes.
pub(super) fn is_append_only(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EPERM as i32)
}

/// Unlinks a part. Returns whether it was there.
fn remove_part(log: &Location<'_>, part: Option<u64>) -> io::Result<bool> {
    match log.directory().remove(&log.name(part)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_too_long(&error) => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Returns the steps left of a log that has these parts, and itself.
    fn steps_left_of(parts: &[u64], has_log: bool, backups_max: u64) -> Option<u64> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let names = parts.iter().map(|part| format!("log.{part}"));
        for name in names.chain(has_log.then(|| "log".to_owned())) {
            File::create(directory.path().join(name)).unwrap();
        }
        steps_left(&path, None, Limits { size_bytes_max: 1000, backups_max })
    }

    #[test]
    fn a_gap_below_another_part_is_where_a_rotation_was_cut_off() {
        assert_eq!(steps_left_of(&[1], true, 3), Some(1));
        assert_eq!(steps_left_of(&[0, 2], true, 3), Some(2));
        assert_eq!(steps_left_of(&[0, 1, 3], true, 4), Some(3));
        assert_eq!(steps_left_of(&[2], true, 3), Some(1));
    }

    #[test]
    fn where_nothing_was_cut_off_no_step_is_left() {
        for parts in [&[][..], &[0], &[0, 1], &[0, 1, 2]] {
            assert_eq!(steps_left_of(parts, true, 3), None, "{parts:?}");
        }
        assert_eq!(steps_left_of(&[1], false, 3), None, "the log itself has moved");
        assert_eq!(steps_left_of(&[0, 2], true, 2), None, "a part beyond the last is nobody's");
        assert_eq!(steps_left_of(&[1], true, 0), None);
    }
}
