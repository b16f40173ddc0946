//! A log that is followed.
//!
//! Nothing of it is kept in memory but a place: that of the first byte that was not passed on. What
//! cannot be passed on yet, as half a line, is read again.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use common::query::Log;
use common::tool::Failure;

use super::guest::{Guest, remark};
use super::lines::{Ending, Piece};
use super::missed::{Count, Missed};
use super::output::{Output, Sent};
use super::place::{Found, Place};
use super::source::{Gathered, Rest, Source};

/// Lines that are passed on in a turn.
const TURN_LINES_MAX: usize = 512;

/// Time for which half a line waits for its newline.
const HALF_LINE_PERIOD: Duration = Duration::from_secs(5);

/// The same, when the log has ended.
const LAST_LINE_PERIOD: Duration = Duration::from_secs(2);

/// Where a log is begun.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// At its end.
    End,
    /// At its oldest part that was changed since then, or else at its newest.
    Since(SystemTime),
}

/// What has come of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There was nothing new.
    Idle,
    /// Everything was passed on.
    Done,
    /// There is more.
    More,
    /// There is more, and nobody takes it for so long.
    Later(Duration),
}

/// A log that is followed.
#[derive(Debug)]
pub(super) struct FollowedLog {
    pub(super) guest: Guest,
    pub(super) source: Source,
    begin: Begin,
    /// First byte that was not passed on; `None` as long as there is no file.
    pub(super) place: Option<Place>,
    /// Nothing was read yet, so that there may be another file by then.
    is_first: bool,
    pub(super) count: Count,
    part_bytes: u64,
    /// Since when there is half a line.
    half_since: Option<Instant>,
    /// Since when the daemon does not list it.
    unlisted_since: Option<Instant>,
    /// Why it cannot be read.
    refusal: String,
}

impl FollowedLog {
    /// Makes one that begins there.
    pub(super) fn new(guest: Guest, begin: Begin) -> Self {
        Self {
            source: Source::new(guest.path.clone()),
            guest,
            begin,
            place: None,
            is_first: true,
            count: Count::default(),
            part_bytes: 0,
            half_since: None,
            unlisted_since: None,
            refusal: String::new(),
        }
    }

    /// Makes one that goes on at a place.
    pub(super) fn resume(guest: Guest, place: Place, count: Count) -> Self {
        let begin = Begin::Since(SystemTime::now());
        Self { place: Some(place), is_first: false, count, ..Self::new(guest, begin) }
    }

    /// Takes what the daemon tells of it. Returns what is known now to have been missed.
    pub(super) fn list(&mut self, log: &Log, is_same_daemon: bool) -> Option<Missed> {
        (self.part_bytes, self.source.backups_max) = (log.size_bytes_max, log.backups_max);
        self.unlisted_since = None;
        self.count.list(log.place.parse().ok(), is_same_daemon);
        if !self.count.is_unsettled() {
            return None;
        }
        self.place = self.place.or_else(|| self.first_place(Found::at(&self.guest.path, None)));
        let file = self.place?.file;
        let newer = self.source.all().iter().position(|found| found.file == file)?;
        self.count.settle(log.rotations.checked_sub(newer as u64), self.part_bytes)
    }

    /// Notes that the daemon does not list it. Returns what was missed.
    pub(super) fn unlist(&mut self, now: Instant) -> Option<Missed> {
        self.unlisted_since.get_or_insert(now);
        self.count.settle(None, self.part_bytes)
    }

    /// Returns for how long the daemon does not list it.
    pub(super) fn unlisted_period(&self, now: Instant) -> Option<Duration> {
        self.unlisted_since.map(|since| now.saturating_duration_since(since))
    }

    /// Passes on what is new, up to the limits of a turn.
    ///
    /// # Errors
    /// What is passed on cannot be written.
    pub(super) fn turn<W: Write>(
        &mut self,
        bytes: &mut Vec<u8>,
        output: &mut Output<W>,
    ) -> Result<Turn, Failure> {
        let (now, newest) = (Instant::now(), Found::at(&self.guest.path, None));
        let Some(place) = self.place.or_else(|| self.first_place(newest)) else {
            return Ok(Turn::Idle);
        };
        if self.source.is_read(newest) && self.overdue(now).is_none() {
            return Ok(Turn::Idle);
        }
        self.place = Some(place);
        if newest.is_some_and(|newest| newest.file == place.file && newest.len < place.offset) {
            output
                .remark(&self.guest, "the log was truncated, and may have been read in part only");
            (self.place, self.half_since) = (Some(place.file.start()), None);
            return Ok(Turn::More);
        }
        match self.source.gather(place, newest, bytes) {
            Ok(Some(gathered)) => {
                (self.is_first, self.refusal) = (false, String::new());
                self.pass_on(&gathered, bytes, output, now)
            }
            Ok(None) => Ok(self.jump(place, self.part_bytes.saturating_sub(place.offset))),
            Err(text) => {
                self.place = self.place.filter(|_| !self.is_first);
                Ok(self.refuse(text))
            }
        }
    }

    /// Returns the place at which it begins.
    fn first_place(&mut self, newest: Option<Found>) -> Option<Place> {
        let Some(newest) = newest else {
            // What there will be is new.
            self.begin = Begin::Since(SystemTime::now());
            return None;
        };
        let Begin::Since(time) = self.begin else { return Some(newest.end()) };
        let all = self.source.all();
        let changed = all.iter().take_while(|found| found.is_changed_since(time));
        Some(changed.last().unwrap_or(&newest).file.start())
    }

    /// Returns why half a line is not waited for any longer.
    fn overdue(&self, now: Instant) -> Option<Ending> {
        let period = now.saturating_duration_since(self.half_since?);
        let has_ended = self.unlisted_period(now).is_some_and(|it| it >= LAST_LINE_PERIOD);
        match has_ended {
            true if period >= LAST_LINE_PERIOD => Some(Ending::End),
            _ => (period >= HALF_LINE_PERIOD).then_some(Ending::Time),
        }
    }

    /// Passes on what was read.
    fn pass_on<W: Write>(
        &mut self,
        gathered: &Gathered,
        bytes: &[u8],
        output: &mut Output<W>,
        now: Instant,
    ) -> Result<Turn, Failure> {
        let (mut passed, mut count) = (0, 0);
        let turn = loop {
            let left = bytes.get(passed..).unwrap_or_default();
            let Some(piece) = self.piece(left, gathered.rest, now) else { break Turn::Done };
            if count == TURN_LINES_MAX {
                break Turn::More;
            }
            match output.line(&self.guest, &piece)? {
                Sent::Now => (passed, count) = (passed + piece.len, count + 1),
                Sent::Later(time) => break Turn::Later(time),
            }
            self.half_since = None;
        };
        let Some((place, parts)) = gathered.place(passed) else { return Ok(Turn::Idle) };
        self.count.step(parts);
        self.place = Some(place);
        self.source.note_passed(place, turn != Turn::Done);
        Ok(match (turn, gathered.rest) {
            (Turn::Done, Rest::Gap) => self.jump(place, 0),
            (Turn::Done, Rest::Bytes) => Turn::More,
            (Turn::Done, Rest::Nothing) => {
                let is_half = passed < bytes.len();
                self.half_since = is_half.then(|| self.half_since.unwrap_or(now));
                if count > 0 { Turn::Done } else { Turn::Idle }
            }
            (other, _) => other,
        })
    }

    /// Returns the first piece of bytes that can be passed on.
    fn piece<'a>(&self, bytes: &'a [u8], rest: Rest, now: Instant) -> Option<Piece<'a>> {
        if let Some(piece) = Piece::first(bytes) {
            return Some(piece);
        }
        let ending = match rest {
            Rest::Bytes => None,
            Rest::Gap => Some(Ending::End),
            Rest::Nothing => self.overdue(now),
        };
        ending.filter(|_| !bytes.is_empty()).map(|ending| Piece::half(bytes, ending))
    }

    /// Goes on with the oldest part that is left, as the place's is gone, with so many bytes.
    fn jump(&mut self, from: Place, rest_bytes: u64) -> Turn {
        match self.source.oldest_behind(from.file) {
            Ok(Some(oldest)) => {
                self.count.jump(rest_bytes);
                (self.place, self.half_since) = (Some(oldest.start()), None);
                Turn::More
            }
            // It may be back later.
            Ok(None) => Turn::Idle,
            Err(text) => self.refuse(text),
        }
    }

    /// Says why it cannot be read, once.
    fn refuse(&mut self, text: String) -> Turn {
        if text != self.refusal {
            remark(&self.guest.path, &text);
            self.refusal = text;
        }
        Turn::Idle
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use common::query::Bytes;

    use super::super::super::parts::backup;
    use super::super::output::Form;
    use super::super::place::Identity;
    use super::*;

    fn log(path: PathBuf) -> FollowedLog {
        let domain = Bytes(b"web1".to_vec());
        let guest = Guest { domain, uuid: String::new(), path };
        FollowedLog::new(guest, Begin::Since(SystemTime::UNIX_EPOCH))
    }

    /// What it passes on until there is nothing more.
    fn passed_on(log: &mut FollowedLog) -> String {
        let mut text = Vec::new();
        let mut output = Output::new(Form::Text(&mut text), None);
        for _ in 0..100 {
            log.turn(&mut Vec::new(), &mut output).unwrap();
        }
        String::from_utf8(text).unwrap()
    }

    fn start_of(path: &Path) -> Place {
        Identity::of(&fs::metadata(path).unwrap()).start()
    }

    #[test]
    fn a_line_goes_on_in_the_next_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest.log");
        for (number, text) in [(2, "one\ntw"), (1, ""), (0, "o\nthr")] {
            fs::write(backup(&path, number), text).unwrap();
        }
        fs::write(&path, "ee\nfour\nha").unwrap();
        let mut followed = log(path.clone());
        assert_eq!(passed_on(&mut followed), "web1: one\nweb1: two\nweb1: three\nweb1: four\n");
        assert_eq!(followed.place, Some(Place { offset: 8, ..start_of(&path) }));
        assert_eq!(followed.count, Count::default());
        // Half a line is not passed on twice, and is the first thing after a restart.
        let mut next =
            FollowedLog::resume(followed.guest.clone(), followed.place.unwrap(), followed.count);
        fs::rename(&path, backup(&path, 0)).unwrap();
        fs::write(&path, "lf\n").unwrap();
        for log in [&mut followed, &mut next] {
            assert_eq!(passed_on(log), "web1: half\n");
        }
    }

    #[test]
    fn a_part_that_was_removed_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest.log");
        fs::write(&path, "one\n").unwrap();
        let mut followed = log(path.clone());
        passed_on(&mut followed);
        fs::write(&path, "one\ntwo\nha").unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(passed_on(&mut followed), "web1: two\n", "what is behind it may come yet");
        fs::write(&path, "three\n").unwrap();
        assert_eq!(passed_on(&mut followed), "web1: ha\\\nweb1: three\n");
        assert_eq!(followed.count.settle(None, 1000), Some(Missed::AtLeast(0)));
    }

    #[test]
    fn a_file_that_has_the_inode_number_of_another_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest.log");
        fs::write(&path, "old\n").unwrap();
        let mut followed = log(path.clone());
        passed_on(&mut followed);
        followed.source.close();
        fs::remove_file(&path).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, "new\nline\n").unwrap();
        assert_eq!(passed_on(&mut followed), "web1: new\nweb1: line\n");
    }

    #[test]
    fn a_log_that_was_truncated_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest.log");
        fs::write(&path, "one\ntwo\n").unwrap();
        let mut followed = log(path.clone());
        passed_on(&mut followed);
        fs::write(&path, "cut\n").unwrap();
        assert_eq!(passed_on(&mut followed), "web1: cut\n");
    }
}
