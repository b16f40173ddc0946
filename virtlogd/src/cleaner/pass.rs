//! A pass over all directories of logs.
//!
//! A log and its older parts, NAME.log and NAME.log.N, are a chain. A chain is deleted as a whole,
//! by the age of its newest file. Only `log_root` and the directories directly in it are looked at.
//!
//! compat: as in libvirt, parts with a number above `max_backups` are deleted whatever their age.
//! Unlike there, nothing of an open log's chain is ever deleted, by whatever name it was opened,
//! symbolic links to directories are not entered, `log_root` is not reached through links of users
//! who may not change where they lead, and each directory is kept open while it is cleaned, so that
//! no other one can be put in its place.
//!
//! Guests start and write meanwhile. So each file is looked at again right before it is deleted, and
//! the chain's log with it: one that has changed, or that a log is written to by now, is left for the
//! next pass.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use common::sys::file_id::FileId;

use super::chain::{Chains, Condemned, Entry, Policy, Seen, head_and_number};
use super::heads::Heads;
use nix::libc;
use nix::sys::stat::FileStat;

use crate::rotating_file::{Deletion, Directory, is_open};

const DAY_S: u64 = 86_400;

/// Result of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files deleted.
    pub deleted: u64,
    /// Files and directories that could not be looked at or deleted; each was logged.
    pub failed: u64,
    /// Files left for a later pass, since more chains were found than one pass remembers, or
    /// because their chain has changed.
    pub postponed: u64,
}

/// Makes one pass. `open` are the paths of the logs that were open when it was asked for, which are
/// logs also while they lead to no file, or to another one; `age_days_max` 0 means that nothing is
/// ever old, and nothing is done; `backups_max` returns the number of older parts that the log at a
/// path may have. It never fails: what cannot be looked at or deleted is logged and
/// skipped.
pub fn clean(
    log_root: &Path,
    age_days_max: u64,
    backups_max: &dyn Fn(&Path) -> u64,
    now: SystemTime,
    open: &[PathBuf],
) -> Summary {
    let mut summary = Summary::default();
    if age_days_max == 0 {
        return summary;
    }
    let age_s_max = i64::try_from(age_days_max.saturating_mul(DAY_S)).unwrap_or(i64::MAX);
    let oldest_mtime_s = unix_time_s(now).saturating_sub(age_s_max);
    let root = fs::canonicalize(log_root);
    match root.and_then(|path| Ok((Directory::reach(log_root)?, path))) {
        Ok((root, path)) => {
            let open = Heads::of(open);
            Pass { oldest_mtime_s, backups_max, open, summary: &mut summary }.tree(&root, &path);
        }
        Err(error) => summary.skip("look for old logs in", log_root, &error),
    }
    summary
}

struct Pass<'a> {
    oldest_mtime_s: i64,
    backups_max: &'a dyn Fn(&Path) -> u64,
    /// Logs of the chains of open logs.
    open: Heads,
    summary: &'a mut Summary,
}

impl Pass<'_> {
    fn tree(&mut self, root: &Directory, path: &Path) {
        for name in self.directory(root, path) {
            let path = path.join(&name);
            match root.nested(&name) {
                Ok(nested) => drop(self.directory(&nested, &path)),
                Err(error) => self.summary.skip("read directory", &path, &error),
            }
        }
    }

    /// Cleans one directory and returns the names of those directly in it.
    fn directory(&mut self, directory: &Directory, path: &Path) -> Vec<OsString> {
        let (chains, nested) = self.look(directory, path);
        let Self { oldest_mtime_s, backups_max, .. } = *self;
        let policy_of =
            |head: &OsStr| Policy { oldest_mtime_s, backups_max: backups_max(&path.join(head)) };
        for chain in chains.into_iter().flat_map(|chains| chains.condemned(policy_of)) {
            self.delete_chain(directory, path, &chain);
        }
        nested
    }

    /// Returns the chains of a directory, and the directories in it. No chains if not all of it
    /// could be seen: an unseen file might be a chain's newest part.
    fn look(&mut self, directory: &Directory, path: &Path) -> (Option<Chains>, Vec<OsString>) {
        let mut chains = Chains::default();
        let mut nested = Vec::new();
        let names = match directory.names() {
            Ok(names) => names,
            Err(error) => {
                self.summary.skip("read directory", path, &error);
                return (None, nested);
            }
        };
        for name in names {
            match name {
                Ok((name, true)) => nested.push(name),
                Ok((name, false)) => self.note(&mut chains, directory, path, name),
                Err(error) => {
                    self.summary.skip("read directory", path, &error);
                    return (None, nested);
                }
            }
        }
        (Some(chains), nested)
    }

    fn note(&mut self, chains: &mut Chains, directory: &Directory, path: &Path, name: OsString) {
        let Some((head, number)) = head_and_number(&name) else {
            return;
        };
        let found = match directory.look_at(&name, true) {
            Ok(found) if found.st_mode & libc::S_IFMT == libc::S_IFREG => found,
            Ok(_) => return,
            Err(error) => return self.summary.skip("look at", &path.join(&name), &error),
        };
        let seen = Seen::of(&found);
        let is_open = is_open(seen.id) || self.open.contains(&path.join(&head));
        let entry = Entry { name, head, number, seen, is_open };
        self.summary.postponed += u64::from(!chains.add(entry));
    }

    fn delete_chain(&mut self, directory: &Directory, path: &Path, chain: &Condemned) {
        let Condemned { head, head_seen, parts } = chain;
        for (name, seen) in parts {
            let _deletion = Deletion::begin(seen.id.device);
            if is_untouched(directory, name, Some(*seen))
                && is_untouched(directory, head, *head_seen)
            {
                self.delete(directory, name, &path.join(name));
            } else {
                self.summary.postponed += 1;
            }
        }
    }

    fn delete(&mut self, directory: &Directory, name: &OsStr, path: &Path) {
        match directory.remove(name) {
            Ok(()) => {
                self.summary.deleted += 1;
                tracing::info!(target: "logging.log_cleaner", "Deleted {}", path.display());
            }
            Err(error) => self.summary.skip("delete", path, &error),
        }
    }
}

impl Summary {
    fn skip(&mut self, what: &str, path: &Path, error: &io::Error) {
        self.failed += 1;
        tracing::warn!(
            target: "logging.log_cleaner", "Unable to {what} {}: {error}", path.display()
        );
    }
}

impl Seen {
    fn of(found: &FileStat) -> Self {
        let id = FileId::of_stat(found);
        Self { id, mtime_s: found.st_mtime }
    }
}

/// Returns whether a file, or none, is as it was before, and no log.
fn is_untouched(directory: &Directory, name: &OsStr, before: Option<Seen>) -> bool {
    match directory.look_at(name, true) {
        Ok(found) => {
            let now = Seen::of(&found);
            before == Some(now) && !is_open(now.id)
        }
        Err(error) => before.is_none() && error.kind() == io::ErrorKind::NotFound,
    }
}

fn unix_time_s(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
