//! A directory that is kept open: what is done in it stays there, whatever becomes of its name.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use common::sys::calls;
use common::sys::file_id::FileId;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// Symbolic links that are followed in one path; Linux's value.
pub(super) const LINKS_MAX: usize = 40;

/// Permission bits; with an access list, the group's are the most that it gives to anybody.
const WRITABLE_TO_OTHERS: u32 = 0o022;

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    file: File,
    pub(super) id: FileId,
    /// Time of birth, where the file system knows that: inode numbers are reused.
    pub(super) born_unix_ns: Option<u64>,
    /// Owner.
    pub(super) uid: u32,
    /// Others may change its entries.
    is_open_to_others: bool,
}

/// End of a path, and the makers of the symbolic links on the way.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) directory: Directory,
    makers: Vec<u32>,
}

impl Directory {
    /// Opens a directory. Follows symbolic links.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
        Self::of(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
    }

    /// Opens a directory, if every link on the way was made by a user who could have put there what
    /// it leads to.
    ///
    /// # Errors
    /// As `open(2)`, and `ELOOP` where one was not.
    pub fn reach(path: &Path) -> io::Result<Self> {
        let walk = Self::open(Path::new("."))?.walk(path)?;
        if walk.is_trusted(None) { Ok(walk.directory) } else { Err(Errno::ELOOP.into()) }
    }

    /// Opens a directory in this one. No symbolic link is followed.
    ///
    /// # Errors
    /// As `openat(2)`.
    pub fn nested(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        Self::of(self.open_at(name, flags, 0)?)
    }

    /// Returns the names in it, each with whether it is a directory's.
    ///
    /// # Errors
    /// As `openat(2)`, and for each name as `readdir(3)`.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<(OsString, bool)>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let entries = Dir::openat(&self.file, ".", flags, Mode::empty())?.into_iter();
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                let is_directory = || match entry.file_type() {
                    Some(kind) => kind == Type::Directory,
                    None => self.look_at(name, false).is_ok_and(|found| is_directory(&found)),
                };
                let is_itself = name == "." || name == "..";
                (!is_itself).then(|| Ok((name.to_owned(), is_directory())))
            }
            Err(error) => Some(Err(error.into())),
        }))
    }

    fn of(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            file,
            id: FileId::of(&metadata),
            born_unix_ns: born_unix_ns(&metadata),
            uid: metadata.uid(),
            is_open_to_others: metadata.mode() & WRITABLE_TO_OTHERS != 0,
        })
    }

    /// Opens the entry of this name, close-on-exec.
    ///
    /// # Errors
    /// As `openat(2)`.
    pub(super) fn open_at(&self, name: &OsStr, flags: OFlag, mode: u32) -> io::Result<File> {
        let mode = Mode::from_bits_truncate(mode);
        Ok(openat(&self.file, name, flags | OFlag::O_CLOEXEC, mode)?.into())
    }

    /// Returns the status of the entry of this name.
    ///
    /// # Errors
    /// As `fstatat(2)`.
    pub fn look_at(&self, name: &OsStr, follows: bool) -> io::Result<FileStat> {
        let flags = if follows { AtFlags::empty() } else { AtFlags::AT_SYMLINK_NOFOLLOW };
        Ok(fstatat(&self.file, name, flags)?)
    }

    /// Returns the maker and the target of a symbolic link; `None` for anything else.
    ///
    /// # Errors
    /// As `openat(2)` and `readlinkat(2)`.
    pub(super) fn read_link(&self, name: &OsStr) -> io::Result<Option<(u32, PathBuf)>> {
        Ok(match step(&self.file, name)? {
            PathStep::Link(maker, target) => Some((maker, target)),
            PathStep::Other(_) => None,
        })
    }

    /// Opens the entry of this name, to look at it alone. A symbolic link is not followed.
    ///
    /// # Errors
    /// As `openat(2)`.
    pub fn glance(&self, name: &OsStr) -> io::Result<File> {
        self.open_at(name, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0)
    }

    /// Returns the number of bytes that its file system has free for this process.
    ///
    /// # Errors
    /// As `statvfs(2)`.
    pub fn available_bytes(&self) -> io::Result<u64> {
        fs2::available_space(by_number(&self.file))
    }

    /// Renames a file or a link.
    ///
    /// # Errors
    /// As `renameat(2)`.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let renamed = renameat(&self.file, from, &self.file, to).map_err(io::Error::from);
        let path = |name| by_number(&self.file).join(name);
        calls::or_else(renamed, || fs::rename(path(from), path(to)))
    }

    /// Removes the name of a file or a link.
    ///
    /// # Errors
    /// As `unlinkat(2)`.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let removed = unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir);
        calls::or_else(removed.map_err(io::Error::from), || {
            fs::remove_file(by_number(&self.file).join(name))
        })
    }

    /// Returns whether only root and this process can change its entries.
    pub(super) fn is_trusted(&self) -> bool {
        is_trusted(self.uid) && !self.is_open_to_others
    }

    /// Follows a path from here, one name after the other.
    ///
    /// # Errors
    /// As `openat(2)`.
    pub(super) fn walk(&self, path: &Path) -> io::Result<Walk> {
        let (mut at, mut makers) = (self.file.as_fd().try_clone_to_owned()?, Vec::new());
        let mut left = VecDeque::new();
        lead(&mut at, &mut left, path)?;
        while let Some(name) = left.pop_front() {
            match step(&at, &name)? {
                PathStep::Other(next) => at = next,
                PathStep::Link(..) if makers.len() == LINKS_MAX => return Err(Errno::ELOOP.into()),
                PathStep::Link(maker, target) => {
                    makers.push(maker);
                    lead(&mut at, &mut left, &target)?;
                }
            }
        }
        let directory = Self::of(at.into())?;
        match directory.file.metadata()?.is_dir() {
            true => Ok(Walk { directory, makers }),
            false => Err(Errno::ENOTDIR.into()),
        }
    }
}

impl Walk {
    /// Returns whether each link on the way, and one more, was made by a user who could have put
    /// there what the link leads to.
    pub(super) fn is_trusted(&self, maker: Option<u32>) -> bool {
        let mut makers = self.makers.iter().copied().chain(maker);
        makers.all(|uid| is_trusted(uid) || uid == self.directory.uid)
    }
}

/// Kind of an entry.
enum PathStep {
    /// A symbolic link: its maker and its target.
    Link(u32, PathBuf),
    Other(OwnedFd),
}

/// Opens the entry of a name. The link that is read is the one whose maker is seen.
fn step(at: impl AsFd, name: &OsStr) -> io::Result<PathStep> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let next = openat(&at, name, flags, Mode::empty())?;
    let found = fstat(&next)?;
    if !is_link(&found) {
        return Ok(PathStep::Other(next));
    }
    let target = readlinkat(&next, "").map(PathBuf::from).map_err(io::Error::from);
    let target = calls::or_else(target, || fs::read_link(by_number(&at).join(name)))?;
    Ok(PathStep::Link(found.st_uid, target))
}

/// Returns a path to an fd, for calls that take none.
pub(super) fn by_number(fd: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// Puts `path` in front of the rest of a path.
fn lead(at: &mut OwnedFd, left: &mut VecDeque<OsString>, path: &Path) -> io::Result<()> {
    if path.is_absolute() {
        *at = Directory::open(Path::new("/"))?.file.into();
    }
    let names =
        path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    for name in names.rev() {
        left.push_front(name.as_os_str().into());
    }
    Ok(())
}

/// Returns whether it is a symbolic link.
pub(super) fn is_link(found: &FileStat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFLNK
}

fn is_directory(found: &FileStat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Splits a path into its directory and the name there. An empty path has an empty name, which no file has.
pub(super) fn split(path: &Path) -> (&Path, &OsStr) {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, name) = bytes.split_at(start);
    let name = if name.is_empty() && !bytes.is_empty() { b"." } else { name };
    (Path::new(OsStr::from_bytes(directory)), OsStr::from_bytes(name))
}

/// Takes what is not there for removed.
pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

fn born_unix_ns(metadata: &Metadata) -> Option<u64> {
    let since = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}
