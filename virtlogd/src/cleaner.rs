//! Deletes the logs of guests that are long gone.
//!
//! A log and its older parts, NAME.log and NAME.log.N, are a chain, and live and die together: by
//! the newest of them. Only `log_root` and the directories directly in it are looked at.
//!
//! compat: as in libvirt, parts with a number above `max_backups` are deleted whatever their age.
//! Unlike there, nothing of an open log's chain is ever deleted, by whatever name it was opened,
//! and symbolic links to directories are not entered.

mod chain;

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chain::{Chains, Entry, Policy, head_and_number};

use crate::rotating_file::FileId;

const DAY_S: u64 = 86_400;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Files deleted.
    pub deleted: u64,
    /// Files and directories that could not be looked at or deleted; each was logged.
    pub failed: u64,
    /// Files left for a later pass, since more chains were found than one pass keeps in mind.
    pub postponed: u64,
}

/// Makes one pass. `open` are the paths of the logs that are open now; `age_days_max` 0 means
/// that nothing is ever old, and nothing is done. It never fails: what cannot be looked at or
/// deleted is logged and skipped.
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
        Ok(root) => Pass { policy, open: OpenLogs::new(open), report: &mut report }.tree(&root),
        Err(error) => report.skip("look for old logs in", log_root, &error),
    }
    report
}

struct Pass<'a> {
    policy: Policy,
    open: OpenLogs,
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
        let mut chains = Chains::default();
        let mut nested = Vec::new();
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.report.skip("read directory", directory, &error);
                return nested;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                    nested.push(entry.path());
                }
                Ok(entry) => self.note(&mut chains, &entry),
                // What was not seen might be a chain's newest part.
                Err(error) => {
                    self.report.skip("read directory", directory, &error);
                    return nested;
                }
            }
        }
        for name in chains.condemned(self.policy) {
            self.delete(&directory.join(name));
        }
        nested
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
        let is_open = self.open.has(FileId::of(&metadata), &path.with_file_name(&head));
        let entry = Entry { name, head, number, mtime_s: metadata.mtime(), is_open };
        self.report.postponed += u64::from(!chains.add(entry));
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

/// What must not be touched.
struct OpenLogs {
    /// The files themselves, under whatever name they are found.
    ids: HashSet<FileId>,
    /// Their chains by the path of the head, for parts that have been rotated away.
    heads: HashSet<PathBuf>,
}

impl OpenLogs {
    fn new(paths: &[PathBuf]) -> Self {
        let ids = paths.iter().filter_map(|path| Some(FileId::of(&fs::metadata(path).ok()?)));
        let heads = paths.iter().flat_map(|path| true_paths(path)).filter_map(|path| {
            let (head, _) = head_and_number(path.file_name()?)?;
            Some(path.with_file_name(head))
        });
        Self { ids: ids.collect(), heads: heads.collect() }
    }

    fn has(&self, id: FileId, head: &Path) -> bool {
        self.ids.contains(&id) || self.heads.contains(head)
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
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    const AGE_DAYS_MAX: u64 = 10;

    /// A tree of logs, and a time to look at it.
    struct Tree {
        dir: TempDir,
        now: SystemTime,
    }

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("root/qemu/deeper")).unwrap();
            Self { dir, now: UNIX_EPOCH + Duration::from_secs(1_000 * DAY_S) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn file(&self, name: &str, age_days: u64) {
            let file = File::create(self.path(name)).unwrap();
            file.set_modified(self.now - Duration::from_secs(age_days * DAY_S)).unwrap();
        }

        fn clean(&self, open: &[PathBuf]) -> Report {
            clean(&self.path("root"), AGE_DAYS_MAX, 3, self.now, open)
        }

        fn has(&self, name: &str) -> bool {
            self.path(name).exists()
        }
    }

    #[test]
    fn old_chains_go_and_everything_else_stays() {
        let tree = Tree::new();
        for name in ["root/a.log", "root/qemu/b.log", "root/qemu/b.log.0", "root/qemu/c.log.0"] {
            tree.file(name, 20);
        }
        let kept = ["root/qemu/c.log", "root/a.txt", "root/qemu/deeper/d.log", "a.log"];
        tree.file("root/qemu/c.log", 9);
        for name in &kept[1..] {
            tree.file(name, 20);
        }
        assert_eq!(tree.clean(&[]), Report { deleted: 3, ..Report::default() });
        assert!(kept.iter().all(|name| tree.has(name)));
        assert!(tree.has("root/qemu/c.log.0") && !tree.has("root/qemu/b.log.0"));
    }

    #[test]
    fn without_an_age_nothing_is_done() {
        let tree = Tree::new();
        tree.file("root/a.log.9", 20);
        assert_eq!(clean(&tree.path("root"), 0, 3, tree.now, &[]), Report::default());
        assert!(tree.has("root/a.log.9"));
    }

    #[test]
    fn no_age_is_too_large() {
        let tree = Tree::new();
        tree.file("root/a.log", 900);
        assert_eq!(clean(&tree.path("root"), u64::MAX, 3, tree.now, &[]).deleted, 0);
    }

    #[test]
    fn open_logs_and_their_parts_stay_by_whatever_name_they_were_opened() {
        let ways: [fn(&Tree) -> PathBuf; 4] = [
            |tree| tree.path("root/qemu/a.log"),
            |tree| tree.path("root//qemu/./a.log"),
            |tree| {
                symlink(tree.path("root/qemu"), tree.path("alias")).unwrap();
                tree.path("alias/a.log")
            },
            |tree| {
                symlink(tree.path("root/qemu/a.log"), tree.path("link")).unwrap();
                tree.path("link")
            },
        ];
        for way in ways {
            let tree = Tree::new();
            for name in ["root/qemu/a.log", "root/qemu/a.log.0", "root/qemu/a.log.17"] {
                tree.file(name, 20);
            }
            assert_eq!(tree.clean(&[way(&tree)]), Report::default());
            assert!(tree.has("root/qemu/a.log.17"));
        }
    }

    #[test]
    fn parts_of_an_open_log_stay_while_its_file_is_missing() {
        let tree = Tree::new();
        tree.file("root/qemu/a.log.0", 20);
        assert_eq!(tree.clean(&[tree.path("root/qemu/a.log")]), Report::default());
    }

    #[test]
    fn a_hard_link_to_an_open_log_protects_its_chain() {
        let tree = Tree::new();
        tree.file("elsewhere", 20);
        fs::hard_link(tree.path("elsewhere"), tree.path("root/a.log")).unwrap();
        tree.file("root/a.log.1", 20);
        assert_eq!(tree.clean(&[tree.path("elsewhere")]), Report::default());
    }

    #[test]
    fn links_do_not_lead_out_of_the_tree() {
        let tree = Tree::new();
        fs::create_dir(tree.path("outside")).unwrap();
        tree.file("outside/a.log", 20);
        symlink(tree.path("outside"), tree.path("root/way-out")).unwrap();
        symlink(tree.path("outside/a.log"), tree.path("root/b.log")).unwrap();
        assert_eq!(tree.clean(&[]).deleted, 1);
        assert!(tree.has("outside/a.log") && !tree.has("root/b.log"));
    }

    #[test]
    fn what_cannot_be_looked_at_is_skipped() {
        let tree = Tree::new();
        symlink("nowhere", tree.path("root/a.log")).unwrap();
        tree.file("root/b.log", 20);
        assert_eq!(tree.clean(&[]), Report { deleted: 1, failed: 1, postponed: 0 });
        let missing = clean(&tree.path("missing"), AGE_DAYS_MAX, 3, tree.now, &[]);
        assert_eq!(missing, Report { failed: 1, ..Report::default() });
    }

    #[test]
    fn directories_that_look_like_logs_stay() {
        let tree = Tree::new();
        fs::create_dir(tree.path("root/a.log")).unwrap();
        fs::create_dir(tree.path("root/a.log.9")).unwrap();
        assert_eq!(tree.clean(&[]), Report::default());
    }
}
