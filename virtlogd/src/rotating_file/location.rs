//! Location of a log, and the users who may change where its path leads.
//!
//! At OPEN a path is followed wherever it leads, as in libvirt: the client says where a log is.
//! From then on a name counts only as far as those users can change it who could from the start.
//! The daemon writes as root, and the owner of a log's directory may put a symbolic link to another
//! user's file in the log's place, another name of that file, or another directory.
//!
//! Therefore everything is done in a directory that is opened first, and looked at. It may be another one
//! than at OPEN if it has the same owner, and every symbolic link on the way there was made by
//! root, by the daemon's user, or by the directory's own owner. In it no symbolic link is followed,
//! unless the log was one at OPEN, and no file is used that has a second name.
//!
//! The directory itself is not kept open: one more fd for each log would be a third of all that it
//! costs, and would have to be in the supervisor's fd store too. Device, inode number and time of birth
//! tell it from all others.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::handover::document::LogDirectory;
use common::startup::is_pid_file;
use common::sys::file_id::FileId;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::blocking::{is_special, open_soon, special};
use super::directory::{Directory, LINKS_MAX, absent_is_fine, is_link, split};
use super::parts::backup;

use super::{Error, Refusal};

/// Rule by which a path is followed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trust {
    /// It is followed wherever it leads.
    Full,
    /// No link is followed whose maker could not go there himself: nothing is known of the log from
    /// before.
    Careful,
    /// It is followed as a log may be that was opened there.
    Known(LogDirectory),
}

/// Directory of a log, and its name there.
#[derive(Debug)]
pub(super) struct Location<'a> {
    path: &'a Path,
    name: &'a OsStr,
    directory: Directory,
    trust: Trust,
    /// File that the log is being written to, which may have any number of names.
    current: Option<FileId>,
}

/// End of a name's symbolic links.
struct End {
    /// Another directory, behind symbolic links.
    beyond: Option<Directory>,
    name: OsString,
}

/// Refuses a path that ends in a slash, as the kernel does: no file has such a name, so nothing is
/// removed or made here.
pub(super) fn refuse_slash(path: &Path, truncate: bool) -> Result<(), Error> {
    if !path.as_os_str().as_bytes().ends_with(b"/") {
        return Ok(());
    }
    if truncate {
        absent_is_fine(fs::remove_file(path))
            .map_err(|source| Error::Delete { path: path.into(), source })?;
    }
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|source| Error::Open { path: path.into(), source })
}

impl Trust {
    /// Returns the rule for a log that was opened in `known`, or `otherwise` if that is not known.
    pub(super) fn in_known(known: Option<LogDirectory>, otherwise: Self) -> Self {
        known.map_or(otherwise, Self::Known)
    }
}

impl<'a> Location<'a> {
    /// Opens the directory of `path`.
    ///
    /// # Errors
    /// As `open(2)`, and what the rule refuses.
    pub(super) fn at(path: &'a Path, trust: Trust) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.into(), source };
        let (parent, name) = split(path);
        let directory = Directory::open(parent).map_err(failed)?;
        let location = Self { path, name, directory, trust, current: None };
        match trust {
            Trust::Full => {}
            Trust::Known(known) if location.is_still(known) => {}
            Trust::Known(LogDirectory { uid, .. }) if uid != location.directory.uid => {
                let found = location.directory.uid;
                return Err(location.refused(Refusal::Owner { found, before: uid }));
            }
            Trust::Known(_) | Trust::Careful => location.check_way(parent)?,
        }
        Ok(location)
    }

    /// Allows the file with this identity any number of names.
    pub(super) fn with_current(self, current: FileId) -> Self {
        Self { current: Some(current), ..self }
    }

    /// Returns the path of the log, or of an older part.
    pub(super) fn path(&self, part: Option<u64>) -> PathBuf {
        part.map_or_else(|| self.path.into(), |index| backup(self.path, index))
    }

    /// Returns the name in the directory.
    pub(super) fn name(&self, part: Option<u64>) -> OsString {
        match part {
            None => self.name.into(),
            Some(index) => split(&backup(self.path, index)).1.into(),
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the directory for the state of a log that was opened here as this file.
    pub(super) fn log_directory(&self, file: FileId) -> LogDirectory {
        let Directory { id, born_unix_ns, uid, .. } = self.directory;
        let is_link = self.directory.look_at(self.name, false).is_ok_and(|found| is_link(&found));
        let target = || {
            let end = self.walk_links(self.name).ok()?;
            let directory = end.0.beyond?;
            let found = directory.look_at(&end.0.name, false).ok()?;
            (id_of(&found) == file).then_some(directory.uid)
        };
        let target_uid = is_link.then(target).flatten();
        LogDirectory { dev: id.device, inode: id.number, born_unix_ns, uid, target_uid }
    }

    /// Opens the log or an older part of it; never anything but a file or a directory.
    ///
    /// # Errors
    /// As `openat(2)`; EINVAL for a FIFO, a socket, a device or our pid file; what the rule refuses.
    pub(super) fn open(
        &self,
        part: Option<u64>,
        flags: OFlag,
        mode: u32,
    ) -> Result<(File, Metadata), Error> {
        let name = self.name(part);
        if matches!(self.trust, Trust::Full) {
            return self.open_in(&self.directory, &name, part, flags, mode);
        }
        let End { beyond, name } = self.follow(&name, part)?;
        let directory = beyond.as_ref().unwrap_or(&self.directory);
        let opened = self.open_in(directory, &name, part, flags | OFlag::O_NOFOLLOW, mode)?;
        let is_for_writing = flags.intersects(OFlag::O_WRONLY | OFlag::O_RDWR);
        let is_known = matches!(self.trust, Trust::Known(_));
        let matters = !directory.is_trusted() || is_for_writing && is_known;
        let names_count = if opened.1.is_file() { opened.1.nlink() } else { 1 };
        if matters && names_count > 1 && self.current != Some(FileId::of(&opened.1)) {
            return Err(self.refused_part(part, Refusal::Names { count: names_count }));
        }
        Ok(opened)
    }

    /// Returns whether the log's name, or that of its target, leads to this file.
    pub(super) fn leads_to(&self, id: FileId) -> bool {
        self.directory.look_at(self.name, true).is_ok_and(|found| id_of(&found) == id)
    }

    /// Refuses a FIFO, a socket, a device and the pid file, which would block, or act, when opened.
    /// Other failures are left to the call that follows, which reports them in libvirt's words.
    pub(super) fn refuse_special(&self) -> Result<(), Error> {
        refuse_special(&self.directory, self.name, true, self.path)
    }

    fn is_still(&self, known: LogDirectory) -> bool {
        let Directory { id, born_unix_ns, uid, .. } = self.directory;
        let is_same = id == FileId { device: known.dev, number: known.inode };
        // Without the time of birth it may be another one that has the number now.
        let is_certain = born_unix_ns.is_some() || uid == known.uid;
        is_same && born_unix_ns == known.born_unix_ns && is_certain
    }

    /// Checks the makers of the links that have led to the directory.
    fn check_way(&self, parent: &Path) -> Result<(), Error> {
        match Directory::reach(parent) {
            Ok(reached) if reached.id == self.directory.id => Ok(()),
            Err(source) if source.raw_os_error() != Some(Errno::ELOOP as i32) => {
                Err(Error::Open { path: self.path.into(), source })
            }
            _ => Err(self.refused(Refusal::Way)),
        }
    }

    /// Follows a name, if it may lead there.
    fn follow(&self, name: &OsStr, part: Option<u64>) -> Result<End, Error> {
        let failed = |source| Error::Open { path: self.path(part), source };
        let (end, is_trusted) = self.walk_links(name).map_err(failed)?;
        let is_allowed = match (&end.beyond, self.trust) {
            (None, _) | (_, Trust::Full) => true,
            (Some(_), Trust::Careful) => is_trusted,
            (Some(beyond), Trust::Known(known)) => {
                is_trusted && known.target_uid == Some(beyond.uid)
            }
        };
        if is_allowed { Ok(end) } else { Err(self.refused_part(part, Refusal::Link)) }
    }

    /// Follows a name through all symbolic links. Returns also whether those may be followed.
    fn walk_links(&self, name: &OsStr) -> io::Result<(End, bool)> {
        let (mut end, mut is_trusted) = (End { beyond: None, name: name.into() }, true);
        for _ in 0..LINKS_MAX {
            let directory = end.beyond.as_ref().unwrap_or(&self.directory);
            let Ok(Some((maker, target))) = directory.read_link(&end.name) else {
                return Ok((end, is_trusted));
            };
            let (parent, name) = split(&target);
            let walk = directory.walk(parent)?;
            is_trusted &= walk.is_trusted(Some(maker));
            end = End { name: name.into(), beyond: Some(walk.directory) };
        }
        Err(Errno::ELOOP.into())
    }

    fn open_in(
        &self,
        directory: &Directory,
        name: &OsStr,
        part: Option<u64>,
        flags: OFlag,
        mode: u32,
    ) -> Result<(File, Metadata), Error> {
        let path = self.path(part);
        refuse_special(directory, name, !flags.contains(OFlag::O_NOFOLLOW), &path)?;
        let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = open_soon(|| directory.open_at(name, flags, mode))
            .map_err(|source| Error::Open { path: path.clone(), source })?;
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| Error::Inspect { path: path.clone(), source })?;
        if is_pid_file(metadata.dev(), metadata.ino()) {
            // It has taken the name a moment ago. To close it would free its lock.
            std::mem::forget(file);
            return Err(special(&path));
        }
        if is_special(metadata.mode(), FileId::of(&metadata)) {
            return Err(special(&path));
        }
        Ok((file, metadata))
    }

    fn refused(&self, why: Refusal) -> Error {
        self.refused_part(None, why)
    }

    fn refused_part(&self, part: Option<u64>, why: Refusal) -> Error {
        Error::Refused { path: self.path(part), why }
    }
}

fn refuse_special(
    directory: &Directory,
    name: &OsStr,
    follows: bool,
    path: &Path,
) -> Result<(), Error> {
    match directory.look_at(name, follows) {
        Ok(found) if !is_link(&found) && is_special(found.st_mode, id_of(&found)) => {
            Err(special(path))
        }
        _ => Ok(()),
    }
}

fn id_of(found: &FileStat) -> FileId {
    FileId::of_stat(found)
}
