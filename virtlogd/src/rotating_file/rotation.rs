//! What is done to names: older parts move up, the file itself makes way, a log is begun anew.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::{BACKUPS_MAX, Error, Limits, backup, open, refuse_special};

/// The steps that are left of a rotation that was cut off between two of its renames, as a gap in the
/// numbers shows.
pub fn steps_left(path: &Path, limits: Limits) -> Option<u64> {
    let parts = limits.backups_max.min(BACKUPS_MAX);
    let is_there = |index: u64| fs::symlink_metadata(backup(path, index)).is_ok();
    let gap = (0..parts).find(|&index| !is_there(index))?;
    let has_more = (gap + 1..parts).any(is_there);
    (has_more && fs::symlink_metadata(path).is_ok()).then_some(gap + 1)
}

/// Unlinks PATH and its older parts.
pub(super) fn delete(path: &Path, backups_max: u64) -> Result<(), Error> {
    refuse_special(path)?;
    let failed = |path: &Path, source| Error::Delete { path: path.into(), source };
    absent_is_fine(fs::remove_file(path)).map_err(|source| failed(path, source))?;
    for part in (0..backups_max).map(|index| backup(path, index)) {
        remove_part(&part).map_err(|source| failed(&part, source))?;
    }
    Ok(())
}

/// Looks before anything is moved whether PATH can be: nobody may rename an append-only file.
///
/// # Errors
/// As the last step of the rotation would report it.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    match open(path, OpenOptions::new().write(true)) {
        Err(Error::Open { source, .. }) if is_refused(&source) => {
            Err(Error::Rename { from: path.into(), to: backup(path, 0), source })
        }
        _ => Ok(()),
    }
}

/// Fills slot `slot` from the one in front of it, the highest slot first. What would get a name that
/// is too long is dropped, as what leaves the last slot is; gives whether something was.
pub(super) fn step(path: &Path, backups_max: u64, slot: u64) -> Result<bool, Error> {
    if backups_max == 0 {
        return remove(path).map(|()| false);
    }
    let from = slot.checked_sub(1).map_or_else(|| path.to_owned(), |newer| backup(path, newer));
    let to = backup(path, slot);
    match fs::rename(&from, &to) {
        Err(error) if is_too_long(&error) => {
            remove_part(&from).map_err(|source| Error::Remove { path: from, source })
        }
        result => absent_is_fine(result).map(|()| false).map_err(|source| Error::Rename {
            from,
            to,
            source,
        }),
    }
}

/// Unlinks a file that is given up.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    absent_is_fine(fs::remove_file(path))
        .map_err(|source| Error::Remove { path: path.into(), source })
}

/// Whether an older part's name cannot be had, so that there is no such part.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32)
}

/// What opening an append-only file for anything but appending reports.
pub(super) fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EPERM as i32)
}

/// Gives whether it was there.
fn remove_part(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_too_long(&error) => Ok(false),
        result => result.map(|()| true),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
