//! The mount table, which tells where a path leads without a look at any file system.
//!
//! A path's own text tells where it begins. Symbolic links on the way may lead elsewhere: they are
//! followed by a job, as far as they stay on one file system. Where they leave it, the job goes on at
//! the other one. So no job ever waits for a file system but that of its place.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::makedev;

use super::Place;

/// The mount table of this process. What waits for a change of it sees `POLLERR` and `POLLPRI`.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Bytes of the table that are read; a host with 10,000 mounts has 2 MiB.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// Symbolic links that are followed, the kernel's limit.
const LINKS_MAX: u32 = 40;

/// The mount table, read anew when it has changed.
#[derive(Debug, Default)]
pub(in super::super) struct Mounts {
    file: Option<File>,
    table: Arc<Table>,
}

/// Where everything was mounted at one time.
#[derive(Debug, Default)]
pub(in super::super) struct Table(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    place: Place,
}

impl Mounts {
    /// With the table open: later there may be no descriptor for it.
    pub(in super::super) fn open() -> Self {
        let mut mounts = Self::default();
        mounts.table();
        mounts
    }

    /// The table as it is now; an empty one where there is no `/proc`.
    pub(in super::super) fn table(&mut self) -> Arc<Table> {
        if self.has_changed() {
            let text = self.read().unwrap_or_default();
            self.table = Arc::new(Table::parse(&text));
        }
        Arc::clone(&self.table)
    }

    fn has_changed(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut polled, PollTimeout::ZERO).is_ok_and(|changed| changed > 0)
    }

    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(MOUNTS)?),
        };
        file.rewind()?;
        let mut text = Vec::new();
        file.take(TABLE_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    }
}

impl Table {
    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|&byte| byte == b'\n');
        Self(lines.filter_map(Mount::parse).collect())
    }

    /// Where a path begins, by its text alone.
    pub(in super::super) fn place_of(&self, path: &Path) -> Place {
        self.mount_of(path).map_or_else(|| Place::directory_of(path), |mount| mount.place)
    }

    /// Follows the symbolic links of a path on the file system where it begins, which may hang. Gives
    /// where it leads to when that is another.
    pub(in super::super) fn elsewhere(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        let start = self.mount_of(&path)?;
        for _ in 0..LINKS_MAX {
            let target = follow_first(&path, &start.point)?;
            if self.mount_of(&target).map(|mount| mount.place) != Some(start.place) {
                return Some(target);
            }
            path = target;
        }
        None
    }

    /// The innermost mount; of several at one point, the last one.
    fn mount_of(&self, path: &Path) -> Option<&Mount> {
        let around = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        around.max_by_key(|mount| mount.point.as_os_str().len())
    }
}

impl Mount {
    /// A line such as `36 35 98:0 /root /mount/point rw - ext4 /dev/root rw`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ').skip(2);
        let (device, point) = (str::from_utf8(words.next()?).ok()?, words.nth(1)?);
        let (major, minor) = device.split_once(':')?;
        let device = makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = PathBuf::from(OsString::from_vec(unescape(point)));
        Some(Self { point, place: Place::device(device) })
    }
}

/// The path with the first symbolic link, or `..`, behind `start` replaced by what it stands for.
fn follow_first(path: &Path, start: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(start).ok()?;
    let mut known = start.to_owned();
    let mut components = rest.components();
    while let Some(component) = components.next() {
        let target = match component {
            Component::Normal(name) => fs::read_link(known.join(name)).ok(),
            Component::ParentDir => Some(known.parent().unwrap_or(&known).to_owned()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
        };
        match target {
            Some(target) => return Some(known.join(target).join(components.as_path())),
            None => known.push(component),
        }
    }
    None
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| first == b'\\');
        let escaped = digits.and_then(|digits| str::from_utf8(digits).ok());
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn table(root: &Path) -> Table {
        let line = |number: u32, point: PathBuf| {
            format!("36 35 0:{number} / {} rw shared:1 - ext4 /dev/x rw\n", point.display())
        };
        let lines =
            [(1, root.to_owned()), (2, root.join("nfs")), (3, root.join("nfs/in\\040side"))];
        Table::parse(lines.map(|(number, point)| line(number, point)).concat().as_bytes())
    }

    fn device(number: u64) -> Place {
        Place::device(makedev(0, number))
    }

    #[test]
    fn the_innermost_mount_counts() {
        let table = table(Path::new("/r"));
        assert_eq!(table.place_of(Path::new("/r/nfs/a.log")), device(2));
        assert_eq!(table.place_of(Path::new("/r/nfsother/a.log")), device(1));
        assert_eq!(table.place_of(Path::new("/r/nfs/in side/a.log")), device(3));
        let (a, b) = (Path::new("/x/a"), Path::new("/x/b"));
        assert_eq!(table.place_of(a), table.place_of(b), "one directory");
    }

    #[test]
    fn links_are_followed_to_where_they_leave_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let table = table(&root);
        fs::create_dir_all(root.join("lib/inner")).unwrap();
        symlink(root.join("nfs"), root.join("lib/absolute")).unwrap();
        symlink("../lib/absolute/deep", root.join("lib/relative")).unwrap();
        symlink("inner", root.join("lib/same")).unwrap();
        symlink("circle", root.join("lib/circle")).unwrap();
        let elsewhere = |path: &str| table.elsewhere(&root.join(path));
        assert_eq!(elsewhere("lib/absolute/x.log"), Some(root.join("nfs/x.log")));
        assert_eq!(elsewhere("lib/relative/x.log"), Some(root.join("nfs/deep/x.log")));
        assert_eq!(elsewhere("lib/same/../../lib/relative"), Some(root.join("nfs/deep")));
        for path in ["lib/same/x.log", "lib/inner/x.log", "lib/circle/x", "absent/x.log"] {
            assert_eq!(elsewhere(path), None, "{path}");
        }
        assert_eq!(elsewhere("nfs/../lib/same/x"), Some(root.join("lib/same/x")));
    }

    #[test]
    fn the_real_table_knows_devices() {
        let table = Mounts::default().table();
        let proc = fs::metadata("/proc").unwrap().dev();
        assert_eq!(table.place_of(Path::new("/proc/self")), Place::device(proc));
    }
}
