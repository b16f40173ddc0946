//! One log: what its guests and managers have sent, and whether it has that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::guest::{Guest, Progress};
use super::judge::{Sent, Verdict, judge};
use super::others::{self, Written};
use super::stream::Stream;
use crate::harness::backup;
use crate::walks::disk::Place;

/// More older parts than a log ever has here.
const BACKUPS_MAX: u32 = 40;

/// What became of a manager's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// It must be there, once.
    Certainly,
    /// It may be there: nobody said.
    Perhaps,
}

/// A log and those who write to it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) name: String,
    pub(super) place: Place,
    /// Of the pipe of the guest that writes now.
    pub(super) inode: u64,
    pub(super) guest: Option<Guest>,
    /// Something was wrong at its place since it was opened.
    pub(super) was_wrong: bool,
    /// A kill may have what was written last written again: it is not spliced.
    pub(super) is_copied: bool,
    /// What others have appended.
    pub(super) others: Written,
    /// How many of their marks may be overwritten.
    pub(super) overwritten_max: usize,
    /// A system call has failed: losses may be told.
    pub(super) may_tell_losses: bool,
    /// A guest wrote much at once.
    pub(super) was_flooded: bool,
    stream: Stream,
    /// What its guests before this one have sent.
    sent: Sent,
    progress: Progress,
    appended: Vec<(u64, Appended)>,
    /// Bytes that it tells as lost.
    pub(super) lost: usize,
    /// The least and the most of these that it told when this process got it, or this guest began.
    pub(super) lost_before: (usize, usize),
    /// The most is not known yet.
    pub(super) is_beginning: bool,
    /// Whether it was complete when so much had been sent and it was so large.
    seen: Option<(Progress, u64)>,
}

impl Log {
    pub(super) fn new(name: &str, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            place,
            inode: 0,
            guest: None,
            was_wrong: false,
            is_copied: false,
            others: Written::default(),
            overwritten_max: 0,
            may_tell_losses: false,
            was_flooded: false,
            stream: Stream::of(0),
            sent: Sent::default(),
            progress: Progress::default(),
            appended: Vec::new(),
            lost: 0,
            lost_before: (0, 0),
            is_beginning: false,
            seen: None,
        }
    }

    /// Its losses are counted anew: by another process, or for another guest.
    pub(super) fn count_anew(&mut self) {
        (self.lost_before.0, self.is_beginning) = (self.lost, true);
    }

    /// Whether the daemon's tool may list so many bytes as lost: nothing is left to be told.
    pub(super) fn may_list_lost(&self, listed: u64) -> bool {
        let (least, most) = self.lost_before;
        let expected = self.lost.saturating_sub(most) as u64..=(self.lost - least) as u64;
        expected.contains(&listed)
    }

    /// Notes that it tells of as much as before.
    pub(super) fn note_unchanged(&mut self) {
        self.note_lost(self.lost);
    }

    fn note_lost(&mut self, lost: usize) {
        self.lost = lost;
        if std::mem::take(&mut self.is_beginning) {
            self.lost_before.1 = lost;
        }
    }

    /// Another guest writes from now on.
    pub(super) fn begin_guest(&mut self, number: u64, inode: u64, guest: Guest) {
        assert!(self.guest.is_none(), "one guest at a time");
        self.count_anew();
        (self.inode, self.guest, self.stream) = (inode, Some(guest), Stream::of(number));
        self.progress = Progress::default();
    }

    /// The guest is killed. What nobody knows of is its last write, if it was in the midst of one.
    pub(super) fn kill_guest(&mut self) {
        let Some(mut guest) = self.guest.take() else { return };
        self.progress = guest.kill();
        let start = self.sent.bytes.len();
        self.sent.bytes.extend(self.stream.beginning(self.progress.begun));
        if self.progress.written < self.progress.begun {
            let doubtful = start + self.progress.written..start + self.progress.begun;
            self.sent.doubtful.push(doubtful);
        }
        self.progress = Progress::default();
        self.seen = None;
    }

    pub(super) fn note_appended(&mut self, number: u64, appended: Appended) {
        self.appended.push((number, appended));
        self.seen = None;
    }

    /// How far its guest is.
    pub(super) fn progress(&self) -> Progress {
        self.guest.as_ref().map(Guest::progress).unwrap_or_default()
    }

    /// Whether its guest, if there is one, has written all that it was told to.
    pub(super) fn is_idle(&self) -> bool {
        self.guest.as_ref().is_none_or(Guest::is_idle)
    }

    /// Judges its files, the first of which is at `path`; `None` when they are being rotated.
    ///
    /// # Errors
    /// Says what does not fit.
    pub(super) fn judge(&mut self, path: &Path) -> Result<Option<Verdict>, String> {
        // Before the files: they have what was written by then.
        let others = self.others.certain();
        let Some(found) = content(path) else { return Ok(None) };
        let (found, marks) = others::split(&found);
        if !self.was_wrong {
            marks.expect(&others, self.overwritten_max)?;
        }
        // Behind the files: it may be further than they are, and never the other way round.
        self.progress = self.progress();
        let mut sent = self.sent.clone();
        sent.bytes.extend(self.stream.beginning(self.progress.begun));
        let verdict = judge(&found, &sent)?;
        // A disk of a process's making is slower than a flood.
        let may_lose = self.was_wrong
            || self.may_tell_losses
            || (self.was_flooded && self.place == Place::Sick);
        if verdict.losses > 0 && !may_lose {
            return Err(format!("{} bytes are lost on a sound disk", verdict.lost));
        }
        let mut there = verdict.appended.iter();
        for &(number, appended) in &self.appended {
            let is_next = there.as_slice().first() == Some(&number);
            if is_next {
                there.next();
            } else if appended == Appended::Certainly && !self.was_wrong {
                return Err(format!("what was appended as {number} is missing, or not in order"));
            }
        }
        match there.next() {
            Some(number) => Err(format!("what was appended as {number} is there too often")),
            None => {
                self.note_lost(verdict.lost);
                Ok(Some(verdict))
            }
        }
    }

    /// Whether it has everything that was sent, by its verdict.
    pub(super) fn is_complete(&self, verdict: &Verdict) -> bool {
        let before = self.sent.bytes.len();
        let wanted = before + self.progress.written..=before + self.progress.begun;
        verdict.ends.iter().any(|end| wanted.contains(end))
    }

    /// Whether it was complete the last time, and nothing has been written since.
    pub(super) fn is_as_seen(&self, path: &Path) -> bool {
        self.seen == Some((self.progress(), size(path)))
    }

    pub(super) fn note_seen(&mut self, path: &Path) {
        self.seen = Some((self.progress, size(path)));
    }

    /// How much was sent, for whoever reads of a failure.
    pub(super) fn describe(&self) -> String {
        let Self { name, place, progress, .. } = self;
        format!("{name} ({place:?}, {} sent before, {progress:?})", self.sent.bytes.len())
    }
}

/// A log's files, oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let older = (0..BACKUPS_MAX).map(|index| backup(path, index)).take_while(|file| file.exists());
    let mut files: Vec<_> = older.collect();
    files.reverse();
    files.push(path.to_path_buf());
    files
}

fn size(path: &Path) -> u64 {
    files(path).iter().filter_map(|file| fs::metadata(file).ok()).map(|found| found.len()).sum()
}

/// `None` when it is not the same files before and behind.
fn content(path: &Path) -> Option<Vec<u8>> {
    let inodes = || -> Vec<_> {
        files(path).iter().filter_map(|file| fs::metadata(file).ok()).map(|it| it.ino()).collect()
    };
    let before = inodes();
    let content = files(path).iter().flat_map(|file| fs::read(file).unwrap_or_default()).collect();
    (inodes() == before).then_some(content)
}
