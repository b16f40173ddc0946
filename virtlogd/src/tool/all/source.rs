//! Reading of a log from a place on, through its parts.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::rotating_file::{Error, open_part};
use common::sys::errno::{errno_text, io_text};
use common::sys::fd::read_behind;

use super::place::{BACKUPS_MAX, Found, Identity, Place};

/// Bytes that are read in a turn.
pub(super) const TURN_BYTES: usize = 65_536;

/// Attempts to open a part before another rotation.
const ATTEMPTS_MAX: usize = 20;

/// The parts of a log.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    pub(super) backups_max: u64,
    /// Parts that are kept open, so that what is in them can be read when they are removed: that of
    /// the first byte that was not passed on, and the last that was read.
    open: Vec<(Identity, File)>,
    /// Place up to which it was read.
    end: Option<Place>,
}

/// Bytes that were read.
#[derive(Debug)]
pub(super) struct Gathered {
    /// The places of bytes, by their number, the first of each part.
    places: Vec<(usize, Place)>,
    pub(super) rest: Rest,
}

/// What is behind bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing yet.
    Nothing,
    /// More bytes.
    Bytes,
    /// The part behind them is gone.
    Gap,
}

/// Next part.
enum Next {
    Part(Identity, File),
    /// There is none yet.
    None,
    /// It is not known, as the part in front of it is gone.
    Gone,
}

impl Gathered {
    /// Returns the place of a byte, or of the end, and the number of parts in front of it.
    pub(super) fn place(&self, byte: usize) -> Option<(Place, u64)> {
        let index = self.places.iter().rposition(|(start, _)| *start <= byte)?;
        let (start, place) = self.places.get(index)?;
        let offset = place.offset + (byte - start) as u64;
        Some((Place { offset, ..*place }, index as u64))
    }
}

impl Source {
    /// Makes one of the log at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, backups_max: BACKUPS_MAX, open: Vec::new(), end: None }
    }

    /// Returns whether there is nothing behind what was read, as far as the newest part tells.
    pub(super) fn is_read(&self, newest: Option<Found>) -> bool {
        newest.is_some() && newest.map(|newest| newest.end()) == self.end
    }

    /// Returns whether it has files open.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Closes its files.
    pub(super) fn close(&mut self) {
        self.open = Vec::new();
    }

    /// Notes that everything in front of `place` was passed on, and whether what was read behind that
    /// has to be read again although nothing may have been added.
    pub(super) fn note_passed(&mut self, place: Place, is_read_again: bool) {
        let end = self.end.map(|end| end.file);
        self.open.retain(|(file, _)| *file == place.file || Some(*file) == end);
        self.end = self.end.filter(|_| !is_read_again);
    }

    /// Returns all parts, the newest first.
    pub(super) fn all(&self) -> Vec<Found> {
        Found::all(&self.path, self.backups_max)
    }

    /// Reads from a place on, through newer parts if need be. `None`: the place's part is gone.
    ///
    /// # Errors
    /// Why a part cannot be read, as text.
    pub(super) fn gather(
        &mut self,
        mut at: Place,
        newest: Option<Found>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Gathered>, String> {
        bytes.clear();
        let (mut places, mut open) = (Vec::new(), Vec::new());
        let Some(mut file) = self.opened(at.file)? else { return Ok(None) };
        let rest = loop {
            places.push((bytes.len(), at));
            at.offset += fill(&file, at.offset, bytes)?;
            if bytes.len() >= TURN_BYTES {
                break Rest::Bytes;
            }
            // It was looked at before, so nothing was added to a part that is not the newest.
            if newest.is_some_and(|newest| newest.file == at.file) {
                break Rest::Nothing;
            }
            match self.next(at.file)? {
                Next::None => break Rest::Nothing,
                Next::Gone => break Rest::Gap,
                Next::Part(next, opened) => {
                    open.push((at.file, std::mem::replace(&mut file, opened)));
                    at = next.start();
                }
            }
        };
        open.push((at.file, file));
        (self.open, self.end) = (open, Some(at));
        Ok(Some(Gathered { places, rest }))
    }

    /// Opens the oldest part that is left of those that may be newer than a part that is gone. `None`:
    /// there is none, or that part is back.
    ///
    /// # Errors
    /// Why it cannot be opened, as text.
    pub(super) fn oldest_behind(&mut self, gone: Identity) -> Result<Option<Identity>, String> {
        let all = self.all();
        if all.iter().any(|found| found.file == gone) {
            return Ok(None);
        }
        let mut newer = all.iter().filter(|found| found.file.may_follow(&gone));
        let Some(oldest) = newer.next_back() else { return Ok(None) };
        let opened = self.open(oldest)?;
        let oldest = opened.is_some().then_some(oldest.file);
        self.open = oldest.into_iter().zip(opened).collect();
        Ok(oldest)
    }

    /// Returns the file of a part; `None` if it is gone.
    fn opened(&mut self, file: Identity) -> Result<Option<File>, String> {
        if let Some(index) = self.open.iter().position(|(open, _)| *open == file) {
            return Ok(Some(self.open.swap_remove(index).1));
        }
        for _ in 0..ATTEMPTS_MAX {
            let all = self.all();
            let Some(found) = all.iter().find(|found| found.file == file) else {
                return Ok(None);
            };
            if let Some(opened) = self.open(found)? {
                return Ok(Some(opened));
            }
        }
        Err("it is rotated faster than it can be opened".to_owned())
    }

    /// Opens the part behind another one.
    fn next(&self, file: Identity) -> Result<Next, String> {
        for _ in 0..ATTEMPTS_MAX {
            let all = self.all();
            let Some(index) = all.iter().position(|found| found.file == file) else {
                return Ok(if all.is_empty() { Next::None } else { Next::Gone });
            };
            let Some(next) = index.checked_sub(1).and_then(|index| all.get(index)) else {
                return Ok(Next::None);
            };
            if let Some(opened) = self.open(next)? {
                return Ok(Next::Part(next.file, opened));
            }
        }
        Ok(Next::None)
    }

    /// Opens a part that was found; `None` if it has another name meanwhile.
    fn open(&self, found: &Found) -> Result<Option<File>, String> {
        let (file, metadata) = match open_part(&self.path, found.index) {
            Err(Error::Open { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            opened => opened.map_err(|error| {
                let reason = error.errno().map(errno_text).unwrap_or_default();
                format!("{error}: {reason}")
            })?,
        };
        match metadata.is_file() {
            true => Ok((Identity::of(&metadata) == found.file).then_some(file)),
            false => Err("it is no regular file".to_owned()),
        }
    }
}

/// Reads a file from an offset to its end, as long as there is room. Returns the number of bytes.
fn fill(file: &File, mut offset: u64, bytes: &mut Vec<u8>) -> Result<u64, String> {
    let start = bytes.len();
    while bytes.len() < TURN_BYTES {
        match read_behind(file, offset, bytes, TURN_BYTES - bytes.len()) {
            Ok(0) => break,
            Ok(count) => offset += count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(io_text(&error)),
        }
    }
    Ok((bytes.len() - start) as u64)
}
