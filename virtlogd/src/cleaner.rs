//! Deletes the logs of guests that are long gone.
//!
//! A log and its older parts, NAME.log and NAME.log.N, are a chain, and live and die together: by
//! the newest of them. Only `log_root` and the directories directly in it are looked at.
//!
//! compat: as in libvirt, parts with a number above `max_backups` are deleted whatever their age.
//! Unlike there, nothing of an open log's chain is ever deleted, by whatever name it was opened,
//! and symbolic links to directories are not entered.
//!
//! Guests start and write meanwhile. So each file is looked at again right before it is deleted, and
//! the chain's log with it: one that has changed, or that a log is written to by now, is left for the
//! next pass.

mod chain;

use std::collections::HashSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chain::{Chains, Condemned, Entry, Policy, Seen, head_and_number};

use crate::rotating_file::{Deletion, FileId, is_open};

const DAY_S: u64 = 86_400;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Files deleted.
    pub deleted: u64,
    /// Files and directories that could not be looked at or deleted; each was logged.
    pub failed: u64,
    /// Files left for a later pass, since more chains were found than one pass keeps in mind, or
    /// because something was done to their chain.
    pub postponed: u64,
}

/// Makes one pass. `open` are the paths of the logs that were open when it was asked for, which are
/// logs also while they lead to no file, or to another one; `age_days_max` 0 means that nothing is
/// ever old, and nothing is done. It never fails: what cannot be looked at or deleted is logged and
/// skipped.
pub fn clean(
    log_root: &Path,
    age_days_max: u64,
    backups_max: u64,
    now: SystemTime,
    open: &[PathBuf],
) -> Report {
    let mut report = Report::default();
    if age_days_max == 0 {
        return report;
    }
    let age_s_max = i64::try_from(age_days_max.saturating_mul(DAY_S)).unwrap_or(i64::MAX);
    let policy = Policy { oldest_mtime_s: unix_time_s(now).saturating_sub(age_s_max), backups_max };
    match fs::canonicalize(log_root) {
        Ok(root) => Pass { policy, open: Heads::of(open), report: &mut report }.tree(&root),
        Err(error) => report.skip("look for old logs in", log_root, &error),
    }
    report
}

struct Pass<'a> {
    policy: Policy,
    /// Of the chains of open logs.
    open: Heads,
    report: &'a mut Report,
}

impl Pass<'_> {
    fn tree(&mut self, root: &Path) {
        for directory in self.directory(root) {
            self.directory(&directory);
        }
    }

    /// Cleans one directory and returns those directly in it.
    fn directory(&mut self, directory: &Path) -> Vec<PathBuf> {
        let (chains, nested) = self.look(directory);
        let policy = self.policy;
        for chain in chains.into_iter().flat_map(|chains| chains.condemned(policy)) {
            self.delete_chain(directory, &chain);
        }
        nested
    }

    /// The chains of a directory, and the directories in it. No chains if not all of it could be seen:
    /// what was not might be a chain's newest part.
    fn look(&mut self, directory: &Path) -> (Option<Chains>, Vec<PathBuf>) {
        let mut chains = Chains::default();
        let mut nested = Vec::new();
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.report.skip("read directory", directory, &error);
                return (None, nested);
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    nested.push(entry.path());
                }
                Ok(entry) => self.note(&mut chains, &entry),
                Err(error) => {
                    self.report.skip("read directory", directory, &error);
                    return (None, nested);
                }
            }
        }
        (Some(chains), nested)
    }

    fn note(&mut self, chains: &mut Chains, entry: &DirEntry) {
        let name = entry.file_name();
        let Some((head, number)) = head_and_number(&name) else {
            return;
        };
        let path = entry.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return,
            Err(error) => return self.report.skip("look at", &path, &error),
        };
        let seen = Seen::of(&metadata);
        let is_open = is_open(seen.id) || self.open.0.contains(&path.with_file_name(&head));
        let entry = Entry { name, head, number, seen, is_open };
        self.report.postponed += u64::from(!chains.add(entry));
    }

    fn delete_chain(&mut self, directory: &Path, chain: &Condemned) {
        let Condemned { head, head_seen, parts } = chain;
        let head = directory.join(head);
        for (name, seen) in parts {
            let path = directory.join(name);
            let _deletion = Deletion::begin(seen.id.dev);
            if is_untouched(&path, Some(*seen)) && is_untouched(&head, *head_seen) {
                self.delete(&path);
            } else {
                self.report.postponed += 1;
            }
        }
    }

    fn delete(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Ok(()) => {
                self.report.deleted += 1;
                tracing::info!(target: "logging.log_cleaner", "Deleted {}", path.display());
            }
            Err(error) => self.report.skip("delete", path, &error),
        }
    }
}

impl Report {
    fn skip(&mut self, what: &str, path: &Path, error: &io::Error) {
        self.failed += 1;
        tracing::warn!(
            target: "logging.log_cleaner", "Unable to {what} {}: {error}", path.display()
        );
    }
}

/// Paths of chains' logs.
struct Heads(HashSet<PathBuf>);

impl Heads {
    fn of(paths: &[PathBuf]) -> Self {
        let heads = paths.iter().flat_map(|path| true_paths(path)).filter_map(|path| {
            let (head, _) = head_and_number(path.file_name()?)?;
            Some(path.with_file_name(head))
        });
        Self(heads.collect())
    }
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self { id: FileId::of(metadata), mtime_s: metadata.mtime() }
    }
}

/// Whether a file, or none, is what it was before, and no log.
fn is_untouched(path: &Path, before: Option<Seen>) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => {
            let now = Seen::of(&metadata);
            before == Some(now) && !is_open(now.id)
        }
        Err(error) => before.is_none() && error.kind() == io::ErrorKind::NotFound,
    }
}

/// Where a path leads: the file may be a symbolic link, and its parts lie beside the link.
fn true_paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    let beside = path::absolute(path).ok().and_then(|path| {
        let directory = fs::canonicalize(path.parent()?).ok()?;
        Some(directory.join(path.file_name()?))
    });
    beside.into_iter().chain(fs::canonicalize(path))
}

fn unix_time_s(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
