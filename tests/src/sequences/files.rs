//! The files of a sequence: how they are in the beginning, what others do to them, how they are found.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::operation::{Change, LockMode};
use crate::harness::Program;

/// Files by their names in the sequence's directory.
pub(super) type Tree = BTreeMap<String, Entry>;

/// A file, as both daemons should have left theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) content: Content,
    pub(super) mode: u32,
    pub(super) names: u64,
}

/// Kind and content of a file.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    File(Vec<u8>),
    Directory,
    Link(String),
    Device,
    Other,
}

/// Makes the files that a sequence begins with.
pub(super) fn furnish(directory: &Path, program: Program) -> io::Result<()> {
    fs::create_dir_all(directory.join("d"))?;
    symlink("nowhere", directory.join("dangling"))?;
    symlink("loop", directory.join("loop"))?;
    make_null(&directory.join("null"))?;
    if program == Program::Virtlogd {
        return symlink("b", directory.join("link"));
    }
    fs::create_dir(directory.join("space"))?;
    for name in ["a", "b", "c"] {
        fs::write(directory.join(name), name)?;
    }
    symlink("a", directory.join("link"))?;
    fs::hard_link(directory.join("b"), directory.join("hard"))
}

/// Does to a file what somebody else might; what cannot be done is not.
pub(super) fn change(directory: &Path, file: &str, change: &Change) -> io::Result<()> {
    let path = directory.join(file);
    match change {
        Change::Remove => remove(&path),
        Change::Rename(name) => fs::rename(path, directory.join(name)),
        Change::Truncate => File::options().write(true).truncate(true).open(path).map(drop),
        Change::Grow(bytes) => {
            File::options().append(true).open(path)?.write_all(&vec![b'+'; *bytes])
        }
        Change::Replace(bytes) => {
            let new = directory.join("new");
            fs::write(&new, vec![b'='; *bytes])?;
            fs::rename(&new, path).or_else(|_| fs::remove_file(new))
        }
        Change::Link(target) => remove(&path).and_then(|()| symlink(target, path)),
        Change::HardLink(name) => fs::hard_link(path, directory.join(name)),
        Change::Directory => remove(&path).and_then(|()| fs::create_dir(path)),
        Change::Device => remove(&path).and_then(|()| make_null(&path)),
        Change::Forbid => fs::set_permissions(path, Permissions::from_mode(0o000)),
        Change::Lock(_) | Change::Unlock => Ok(()),
    }
}

/// A stranger's lock on a file, for as long as it is open.
pub(super) fn lock(directory: &Path, file: &str, mode: LockMode) -> Option<File> {
    let file = open_for_lock(&directory.join(file))?;
    let (l_type, byte) = match mode {
        LockMode::Read => (libc::F_RDLCK, 0),
        LockMode::Write => (libc::F_WRLCK, 0),
        LockMode::Beside => (libc::F_WRLCK, 1),
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&one_byte(l_type, byte))).ok()?;
    Some(file)
}

/// Which lock keeps others from locking a file's first byte.
pub(super) fn lock_on(path: &Path) -> &'static str {
    let Some(file) = open_for_lock(path) else { return "cannot be opened" };
    let mut range = one_byte(libc::F_WRLCK, 0);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut range)).expect("asking for a lock");
    match i32::from(range.l_type) {
        libc::F_UNLCK => "free",
        libc::F_RDLCK => "shared",
        _ => "exclusive",
    }
}

/// All files below a directory, and each one's inode number.
pub(super) fn look(directory: &Path) -> (Tree, BTreeMap<u64, String>) {
    let (mut tree, mut inodes) = (Tree::new(), BTreeMap::new());
    look_below(directory, Path::new(""), &mut tree, &mut inodes);
    (tree, inodes)
}

fn look_below(top: &Path, below: &Path, tree: &mut Tree, inodes: &mut BTreeMap<u64, String>) {
    for entry in fs::read_dir(top.join(below)).into_iter().flatten().flatten() {
        let relative = below.join(entry.file_name());
        // A daemon may have removed it meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        let name = relative.to_string_lossy().into_owned();
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            Content::File(fs::read(entry.path()).unwrap_or_default())
        } else if kind.is_dir() {
            look_below(top, &relative, tree, inodes);
            Content::Directory
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap_or_else(|_| PathBuf::new());
            Content::Link(target.to_string_lossy().into_owned())
        } else if kind.is_char_device() {
            Content::Device
        } else {
            Content::Other
        };
        let names = if kind.is_dir() { 1 } else { metadata.nlink() };
        inodes.entry(metadata.ino()).or_insert_with(|| name.clone());
        tree.insert(name, Entry { content, mode: metadata.mode(), names });
    }
}

/// Removes a file, or a directory with what is in it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_null(path: &Path) -> io::Result<()> {
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).map_err(Errno::into)
}

/// What has nothing to lock is not opened; a link is not followed.
fn open_for_lock(path: &Path) -> Option<File> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let open = || File::options().read(true).write(true).open(path).ok();
    if is_file { open() } else { None }
}

fn one_byte(l_type: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: l_type.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(bytes) => {
                write!(formatter, "{} bytes {}", bytes.len(), Lines(bytes))
            }
            Self::Directory => write!(formatter, "a directory"),
            Self::Link(target) => write!(formatter, "a link to {target}"),
            Self::Device => write!(formatter, "a device"),
            Self::Other => write!(formatter, "something else"),
        }
    }
}

/// Bytes, with what comes many times in a row only once.
struct Lines<'a>(&'a [u8]);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for bytes in self.0.chunk_by(|one, next| one == next) {
            write!(formatter, "{}", bytes[..1].escape_ascii())?;
            if bytes.len() > 1 {
                write!(formatter, "({})", bytes.len())?;
            }
        }
        Ok(())
    }
}
