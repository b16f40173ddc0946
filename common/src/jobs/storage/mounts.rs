//! The mount table, which gives the file system of a path without touching one.
//!
//! A path's text tells where it begins. Symbolic links may lead to another file system. A job
//! follows them within its file system, and continues on the other one where they leave it. So a
//! job blocks on no file system but its own.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::makedev;

use super::StorageId;
use super::remote::{self, RemoteMount};

/// The mount table of this process. `poll(2)` reports a change as `POLLERR` and `POLLPRI`.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Maximum of bytes read; a host with 10,000 mounts has 2 MiB.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// Symbolic links that are followed, the kernel's limit.
const LINKS_MAX: u32 = 40;

/// The mount table, reread when it has changed.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    file: Option<File>,
    table: Arc<Table>,
}

/// Snapshot of the mount table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// File systems by mount point, the last of several at one point.
    points: HashMap<Vec<u8>, StorageId>,
    /// Device numbers of all file systems, in order.
    devices: Box<[u64]>,
    /// Those among them that other hosts may have mounted as well.
    remote: Vec<Arc<RemoteMount>>,
}

/// File system that a path begins on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) place: StorageId,
    /// Bytes of the path up to the mount point; `None` where no mount is known.
    point_bytes: Option<usize>,
}

impl Mounts {
    /// Opens the table early: later there may be no descriptor for it.
    pub(crate) fn open() -> Self {
        let mut mounts = Self::default();
        mounts.table();
        mounts
    }

    /// Returns the current table; an empty one without `/proc`.
    pub(crate) fn table(&mut self) -> Arc<Table> {
        if self.has_changed() {
            let text = self.read().unwrap_or_default();
            self.table = Arc::new(Table::parse(&text));
        }
        Arc::clone(&self.table)
    }

    /// Returns the mount of a file system that other hosts may have mounted as well. One that is not
    /// in the last snapshot is looked for in a new one.
    pub(crate) fn remote(&mut self, device: u64) -> Option<Arc<RemoteMount>> {
        if self.table.devices.binary_search(&device).is_err() {
            self.table();
        }
        self.table.remote.iter().find(|mount| mount.device == device).cloned()
    }

    /// Returns whether the last snapshot has such a file system.
    pub(crate) fn has_remote(&self) -> bool {
        !self.table.remote.is_empty()
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
        let lines = || text.split(|&byte| byte == b'\n');
        let mut devices: Vec<u64> =
            lines().filter_map(parse_mount).map(|(device, _)| device).collect();
        devices.sort_unstable();
        devices.dedup();
        let points = lines().filter_map(parse_mount);
        Self {
            points: points.map(|(device, point)| (point, StorageId::device(device))).collect(),
            devices: devices.into(),
            remote: lines().filter_map(parse_remote).map(Arc::new).collect(),
        }
    }

    /// Returns where a [plain] path begins, by its text alone.
    pub(crate) fn start_of(&self, path: &Path) -> Start {
        let found = self.mount_of(path.as_os_str().as_bytes());
        let place = found.map_or_else(|| StorageId::directory_of(path), |(_, place)| place);
        Start { place, point_bytes: found.map(|(point_bytes, _)| point_bytes) }
    }

    /// Follows the symbolic links of a [plain] path on its first file system, which may hang.
    /// Returns the path on the other file system that they lead to, if any.
    pub(crate) fn elsewhere(&self, path: &Path, start: Start) -> Option<PathBuf> {
        let mut target = plain(&follow_first(path, start.point_bytes?)?);
        for _ in 1..LINKS_MAX {
            let next = self.start_of(&target);
            if next.place != start.place {
                return Some(target);
            }
            target = plain(&follow_first(&target, next.point_bytes?)?);
        }
        None
    }

    /// Returns the innermost mount, with the length of its mount point. Takes time in the path's
    /// depth, not in the number of mounts.
    fn mount_of(&self, path: &[u8]) -> Option<(usize, StorageId)> {
        let mut point = path;
        loop {
            if let Some(&place) = self.points.get(point) {
                return Some((point.len(), place));
            }
            let end = point.iter().rposition(|&byte| byte == b'/')?;
            point = match end {
                0 if point.len() > 1 => b"/",
                _ => point.get(..end)?,
            };
        }
    }
}

/// Normalizes a path like mount points: no superfluous slash or `.`.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let is_plain =
        !bytes.ends_with(b"/") && !bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."));
    if is_plain { path.to_owned() } else { path.components().collect() }
}

/// Parses device number and mount point of a line such as `36 35 98:0 /root /mount/point rw - ext4
/// /dev/root rw`.
fn parse_mount(line: &[u8]) -> Option<(u64, Vec<u8>)> {
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    let (device, point) = (str::from_utf8(words.next()?).ok()?, words.nth(1)?);
    let (major, minor) = device.split_once(':')?;
    let device = makedev(major.parse().ok()?, minor.parse().ok()?);
    Some((device, unescape(point)))
}

/// Parses a line of a file system that other hosts may have mounted as well.
fn parse_remote(line: &[u8]) -> Option<RemoteMount> {
    let mut words = line.split(|&byte| byte == b' ').skip_while(|word| *word != b"-").skip(1);
    let kind = str::from_utf8(words.next()?).ok().filter(|kind| remote::is_remote(kind))?;
    let (device, point) = parse_mount(line)?;
    let options = words.nth(1).unwrap_or_default();
    Some(RemoteMount {
        device,
        point: OsString::from_vec(point).into(),
        kind: kind.into(),
        options: String::from_utf8_lossy(options).into(),
    })
}

/// Resolves the first symbolic link or `..` behind the mount point.
fn follow_first(path: &Path, point_bytes: usize) -> Option<PathBuf> {
    let (point, rest) = path.as_os_str().as_bytes().split_at_checked(point_bytes)?;
    let mut known = PathBuf::from(OsStr::from_bytes(point));
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let mut components = Path::new(OsStr::from_bytes(rest)).components();
    while let Some(component) = components.next() {
        let target = match component {
            Component::Normal(name) => {
                known.push(name);
                fs::read_link(&known).ok()
            }
            Component::ParentDir => Some(PathBuf::new()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
        };
        if let Some(target) = target {
            known.pop();
            return Some(known.join(target).join(components.as_path()));
        }
    }
    None
}

/// Decodes escapes such as `\040` for a space.
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
mod tests;
