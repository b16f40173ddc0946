//! A log file that is written at its end and goes on in a new file when it is full.

mod refresh;

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use common::handover::document::LogDirectory;
use common::sys::errno::errno_text;
use common::sys::fd;
use common::sys::file_id::FileId;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::cut::{Cut, CutStep};
use super::location::{Location, Trust, refuse_slash};
use super::open_files::{OpenFile, Renaming};
use super::parts::check_backups;
use super::rotation;
use super::shared_directory::SharedDirectory;
use super::source::{Offset, Source};

use super::limits::BACKUPS_MAX;
use super::{Error, Limits};

/// Identity of no file.
const NONE: FileId = FileId { device: 0, number: 0 };

/// What has become of a log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Bytes stored, 4 GiB at most.
    pub bytes: u32,
    /// Rotations.
    pub rotations: u32,
}

impl Growth {
    fn add(&mut self, stored: u64) {
        self.bytes = self.bytes.saturating_add(u32::try_from(stored).unwrap_or(u32::MAX));
    }
}

/// A log file open for writing. It owns its fd and keeps it through every failure.
#[derive(Debug)]
pub struct RotatingFile {
    path: Arc<Path>,
    limits: Limits,
    /// The open file; `None` until it could be opened the first time.
    file: Option<OpenFile>,
    /// Directory in which it was opened; `None` until that is known.
    directory: Option<SharedDirectory>,
    cut: Cut,
    /// Steps left of a rotation that failed half-way; with 0 only the new file is missing.
    /// A retry goes on there, since renaming anew would push one part too many out of the end.
    rotation_steps_left: Option<u8>,
    /// It could not be rotated. That is tried again when it has grown by its maximum size.
    is_rotation_postponed: bool,
    /// The daemon's log has the warning about its parts.
    is_warned: bool,
    /// Others write to it as well. So it is written at its end only, as long as it is a log.
    is_shared: bool,
    /// Its directory is out of reach, and it goes on in the open file.
    is_detached: bool,
    /// As when that was asked for last.
    was_detached: bool,
    /// Since that was taken last.
    growth: Growth,
}

impl RotatingFile {
    /// Opens or creates PATH to go on at its end. With `truncate` PATH and its older parts are
    /// unlinked first, so that whoever has them open keeps them.
    ///
    /// # Errors
    ///
    /// A FIFO, a socket or a device is refused with EINVAL before anything is touched, a directory
    /// with EISDIR. Where the open fails after the unlinks, the old files are gone, as in libvirt.
    pub fn open(path: impl Into<Arc<Path>>, limits: Limits, truncate: bool) -> Result<Self, Error> {
        let path = path.into();
        check_backups(limits.backups_max)?;
        refuse_slash(&path, truncate)?;
        let location = Location::at(&path, Trust::Full).map_err(|error| match error {
            Error::Open { path, source } if truncate && source.kind() != ErrorKind::NotFound => {
                Error::Delete { path, source }
            }
            error => error,
        })?;
        if truncate {
            rotation::delete(&location, limits.backups_max)?;
        }
        let (file, size_bytes) = OpenFile::at(&location, false)?;
        let directory = Some(location.log_directory(file.id()));
        drop(location);
        let opened = Self::with(path, limits, Some(file), size_bytes, None);
        Ok(opened.opened_in(directory))
    }

    /// Opens or creates PATH, to add to a file that others may write as well.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`Error::Refused`] for what others have put there.
    pub fn open_shared(path: impl Into<Arc<Path>>, limits: Limits) -> Result<Self, Error> {
        let path = path.into();
        check_backups(limits.backups_max)?;
        refuse_slash(&path, false)?;
        let location = Location::at(&path, Trust::Careful)?;
        let (file, size_bytes) = OpenFile::at(&location, true)?;
        let directory = Some(location.log_directory(file.id()));
        drop(location);
        let opened = Self::with(path, limits, Some(file), size_bytes, None);
        Ok(Self { is_shared: true, ..opened }.opened_in(directory))
    }

    /// Makes a log that is opened, or created, by the first [`Self::refresh`], and then goes on
    /// with the steps left of a rotation.
    pub fn unopened(path: Arc<Path>, limits: Limits, rotation_steps_left: Option<u64>) -> Self {
        Self::with(path, limits, None, 0, rotation_steps_left)
    }

    /// Resumes a log that the process before this one had open, with the steps that were left of a
    /// rotation. The first [`Self::refresh`] sees whether it is still the file at PATH.
    ///
    /// # Errors
    ///
    /// As `stat(2)`, and EINVAL for what is no regular file. The fd is closed.
    pub fn resume(
        path: Arc<Path>,
        limits: Limits,
        file: File,
        rotation_steps_left: Option<u64>,
    ) -> Result<Self, Error> {
        let inspect = |source| Error::Inspect { path: path.to_path_buf(), source };
        let metadata = file.metadata().map_err(inspect)?;
        if !metadata.is_file() {
            return Err(inspect(Errno::EINVAL.into()));
        }
        let is_shared = fd::appends(&file);
        let file = OpenFile::new(file, FileId::of(&metadata), is_shared);
        // A configuration with fewer parts has fewer steps.
        let rotation_steps_left = rotation_steps_left.map(|left| left.min(limits.backups_max));
        let resumed = Self::with(path, limits, Some(file), metadata.len(), rotation_steps_left);
        Ok(Self { is_shared, ..resumed })
    }

    /// Sets the directory in which the process before this one has opened it.
    #[must_use]
    pub fn opened_in(self, directory: Option<LogDirectory>) -> Self {
        Self { directory: directory.map(SharedDirectory::from), ..self }
    }

    /// Returns the directory in which it was opened, once that is known.
    pub fn directory(&self) -> Option<&SharedDirectory> {
        self.directory.as_ref()
    }

    pub(super) fn known_directory(&self) -> Option<LogDirectory> {
        self.directory.as_ref().map(SharedDirectory::get)
    }

    /// Returns the open file, and the steps left of a rotation that has failed half-way.
    pub fn state(&self) -> (Option<BorrowedFd<'_>>, Option<u64>) {
        (self.file.as_ref().map(|open| open.file.as_fd()), self.rotation_steps_left.map(u64::from))
    }

    /// Returns the path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns whether it is open, its directory is known, and it is not in the middle of a
    /// rotation, so that PATH leads to it if nothing else has changed that.
    pub fn is_in_place(&self) -> bool {
        self.file.is_some() && self.directory.is_some() && !self.is_half_rotated()
    }

    /// Returns the identity of the file being written.
    pub fn id(&self) -> FileId {
        self.file.as_ref().map_or(NONE, OpenFile::id)
    }

    /// Returns the inode of the file being written, and the offset in bytes of the next byte.
    pub fn position(&self) -> (u64, u64) {
        (self.id().number, self.cut.pos())
    }

    /// Returns what has become of it since the last call.
    pub fn take_growth(&mut self) -> Growth {
        std::mem::take(&mut self.growth)
    }

    /// Stores what waits in `source`, rotating as needed, and returns the bytes stored. Without
    /// `flush` up to 79 bytes of a partial line stay in the source where the file may have to be
    /// cut in front of them.
    ///
    /// # Errors
    ///
    /// On failure what is stored is counted in [`Self::position`] and consumed from the source,
    /// the rest stays there, and a later call goes on where this one stopped, also half-way in a
    /// rotation.
    pub fn append(&mut self, source: &mut impl Source, flush: bool) -> Result<u64, Error> {
        let (mut stored_total, mut flush) = (0, flush);
        loop {
            match self.next_step(source, flush)? {
                CutStep::Hold => return Ok(stored_total),
                CutStep::Rotate => self.rotate(source)?,
                CutStep::Write { len, ends_line } => {
                    if self.of_source(retry(|| source.prepare(len)))? == 0 {
                        return Ok(stored_total);
                    }
                    // Right before they are stored: see `is_shared`.
                    if self.has_changed()? {
                        // What is at hand must not be held back.
                        flush = true;
                        continue;
                    }
                    let stored = self.store(source, len)?;
                    if stored == 0 {
                        return Ok(stored_total);
                    }
                    self.cut.stored(stored, ends_line && stored == len);
                    stored_total += stored;
                    self.growth.add(stored);
                }
            }
        }
    }

    /// Converts an error of the bytes' source into one that names the log.
    ///
    /// # Errors
    /// [`Error::Source`].
    pub fn of_source<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|source| Error::Source { path: self.path.to_path_buf(), source })
    }

    /// Compares the file's size with the known one. Returns whether the next step has to be decided
    /// anew.
    fn has_changed(&mut self) -> Result<bool, Error> {
        let Some(open) = &self.file else { return Ok(false) };
        let inspect =
            |errno: Errno| Error::Inspect { path: self.path.to_path_buf(), source: errno.into() };
        let size_bytes = fstat(&open.file).map_err(inspect)?.st_size;
        self.recount(u64::try_from(size_bytes).unwrap_or(0))
    }

    /// Sets the file's size. Returns whether the next step has to be decided anew.
    fn recount(&mut self, size_bytes: u64) -> Result<bool, Error> {
        match size_bytes.cmp(&self.cut.pos()) {
            Ordering::Equal => Ok(false),
            Ordering::Less => {
                self.cut = Cut::new(size_bytes, self.limits.size_bytes_max);
                Ok(true)
            }
            Ordering::Greater => {
                self.cut = self.cut.recounted(size_bytes);
                self.share()
            }
        }
    }

    /// Makes all writes go to the end of the file: others write to it, too, and a write at the
    /// known size might meet their bytes. Returns whether it is the first time.
    fn share(&mut self) -> Result<bool, Error> {
        let Some(open) = self.file.as_mut().filter(|open| !open.appends()) else {
            return Ok(false);
        };
        let failed = |source| Error::Write { path: self.path.to_path_buf(), source };
        open.append_only().map_err(failed)?;
        self.is_shared = true;
        tracing::info!(
            target: "logging.log_handler",
            LIBVIRT_LOG_PATH = %self.path.display(),
            "Others write to the log {}, too; its bytes are copied from now on", self.path.display()
        );
        Ok(true)
    }

    fn with(
        path: Arc<Path>,
        limits: Limits,
        file: Option<OpenFile>,
        size_bytes: u64,
        rotation_steps_left: Option<u64>,
    ) -> Self {
        let cut = Cut::new(size_bytes, limits.size_bytes_max);
        Self {
            path,
            limits,
            file,
            directory: None,
            cut,
            rotation_steps_left: rotation_steps_left.map(to_steps),
            is_rotation_postponed: false,
            is_warned: false,
            is_shared: false,
            is_detached: false,
            was_detached: false,
            growth: Growth::default(),
        }
    }

    pub(super) fn location(&self) -> Result<Location<'_>, Error> {
        self.location_of(&self.path)
    }

    /// Follows the path, as it may lead by now.
    fn location_of<'a>(&self, path: &'a Path) -> Result<Location<'a>, Error> {
        let location = Location::at(path, Trust::in_known(self.known_directory(), Trust::Full))?;
        Ok(location.with_current(self.id()))
    }

    fn is_half_rotated(&self) -> bool {
        self.rotation_steps_left.is_some() && !self.is_rotation_postponed
    }

    fn next_step(&self, source: &mut impl Source, flush: bool) -> Result<CutStep, Error> {
        if !self.is_half_rotated()
            && let Some(len) = self.cut.unseen()
        {
            return Ok(CutStep::Write { len, ends_line: false });
        }
        let available = self.of_source(retry(|| source.available()))?;
        if available > 0 && self.is_half_rotated() {
            return Ok(CutStep::Rotate);
        }
        self.of_source(self.cut.step(available, flush, |len| source.peek(len)))
    }

    fn store(&mut self, source: &mut impl Source, len: u64) -> Result<u64, Error> {
        let failed = |source| Error::Write { path: self.path.to_path_buf(), source };
        let open = self.file.as_ref().ok_or_else(|| failed(Errno::EBADF.into()))?;
        let pos = self.cut.pos();
        let offset = if open.appends() { Offset::End(pos) } else { Offset::At(pos) };
        retry(|| source.write_to(open.file.as_fd(), offset, len)).map_err(failed)
    }

    /// Rotates the file. One that cannot be rotated for a lasting reason goes on growing.
    fn rotate(&mut self, source: &impl Source) -> Result<(), Error> {
        if self.is_detached {
            self.postpone_rotation();
            return Ok(());
        }
        match self.rotate_now(source) {
            Err(error) if error.is_about_names_for_good() => {
                self.postpone_rotation();
                let reason = error.errno().map(errno_text).unwrap_or_default();
                self.warn_once(&format!(
                    "cannot be rotated and goes on growing: {error}: {reason}"
                ));
                Ok(())
            }
            result => result,
        }
    }

    /// Lets it grow by its maximum size first.
    fn postpone_rotation(&mut self) {
        let size_bytes_max = self.cut.pos().saturating_add(self.limits.size_bytes_max);
        self.cut = Cut::new(self.cut.pos(), size_bytes_max);
        self.is_rotation_postponed = true;
    }

    fn rotate_now(&mut self, source: &impl Source) -> Result<(), Error> {
        let (full, path) = (self.id(), Arc::clone(&self.path));
        let location = self.location_of(&path)?;
        let mut left = match self.rotation_steps_left {
            Some(left) => left.into(),
            None => {
                rotation::check(&location)?;
                self.limits.backups_max.max(1)
            }
        };
        let mut has_dropped = false;
        let renaming = Renaming::begin(full.device);
        while left > 0 {
            self.rotation_steps_left = Some(to_steps(left));
            has_dropped |= rotation::step(&location, self.limits.backups_max, left - 1)?;
            left -= 1;
            source.note_progress();
        }
        drop(renaming);
        rotation::count();
        self.rotation_steps_left = Some(0);
        if has_dropped {
            self.warn_once("has a name too long for all its older parts; they are dropped");
        }
        self.reopen_at(&location)?;
        if self.id() == full {
            // Renaming does nothing between two names of one file: PATH.0 was PATH already.
            rotation::remove(&location)?;
            self.reopen_at(&location)?;
        }
        self.growth.rotations = self.growth.rotations.saturating_add(1);
        Ok(())
    }

    fn warn_once(&mut self, what: &str) {
        if !std::mem::replace(&mut self.is_warned, true) {
            let path = self.path.display();
            tracing::warn!(
                target: "logging.log_handler", LIBVIRT_LOG_PATH = %path, "The log {path} {what}"
            );
        }
    }

    fn reopen(&mut self) -> Result<(), Error> {
        let path = Arc::clone(&self.path);
        self.reopen_at(&self.location_of(&path)?)
    }

    fn reopen_at(&mut self, location: &Location<'_>) -> Result<(), Error> {
        let (file, size_bytes) = OpenFile::at(location, self.is_shared)?;
        self.directory.get_or_insert_with(|| location.log_directory(file.id()).into());
        self.file = Some(file);
        self.cut = Cut::new(size_bytes, self.limits.size_bytes_max);
        (self.rotation_steps_left, self.is_rotation_postponed) = (None, false);
        self.is_detached = false;
        Ok(())
    }
}

/// Steps are as many as parts at the most.
fn to_steps(left: u64) -> u8 {
    u8::try_from(left.min(BACKUPS_MAX)).unwrap_or(u8::MAX)
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
