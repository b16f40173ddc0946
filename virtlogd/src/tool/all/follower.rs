//! All logs that are followed, in fair turns.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use common::query::{Log, unix_s};
use common::sys::errno::io_text;
use common::tool::{Connect, Failure};

use super::guest::{Guest, remark};
use super::listing::{Listed, Listing};
use super::log::{Begin, FollowedLog, Turn};
use super::output::Output;
use super::schedule::{PERIOD_MIN, Schedule};
use super::source::TURN_BYTES;
use super::state::{LogState, State};

/// Logs that have ended and are remembered, as they may be opened again.
const ENDED_MAX: usize = 4_096;

/// Logs that have files open, two each at most.
const OPEN_MAX: usize = 256;

/// Time between two writes of the state.
const SAVE_PERIOD: Duration = Duration::from_secs(5);

/// Time of a pass, after which something else is done.
const PASS_PERIOD: Duration = Duration::from_millis(200);

/// Time of the last passes.
const LAST_PERIOD: Duration = Duration::from_secs(1);

/// Time for which a log that has ended is still looked at.
const ENDED_PERIOD: Duration = Duration::from_secs(10);

/// Time by which the clock of a file may be behind.
const CLOCK_PERIOD: Duration = Duration::from_secs(2);

/// All logs that are followed.
#[derive(Debug)]
pub(super) struct Follower {
    followed: Vec<Followed>,
    /// Whose turn it is.
    cursor: usize,
    /// Logs that have files open.
    open: usize,
    bytes: Vec<u8>,
    listing: Listing,
    is_unreachable: bool,
    state: Option<PathBuf>,
    is_changed: bool,
    save_due: Instant,
    is_unsaved: bool,
}

/// A log, and when it is looked at.
#[derive(Debug)]
struct Followed {
    log: FollowedLog,
    schedule: Schedule,
    /// It has ended, and is not looked at.
    is_asleep: bool,
}

impl Followed {
    fn new(log: FollowedLog, now: Instant) -> Self {
        Self { log, schedule: Schedule::new(now), is_asleep: false }
    }
}

impl Follower {
    /// Makes one that follows what the daemon lists, and goes on where the state in a file says.
    ///
    /// # Errors
    /// The daemon cannot be asked; with a file it is asked again later.
    pub(super) fn start<W: Write>(
        connect: &Connect,
        state: Option<PathBuf>,
        output: &mut Output<W>,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        let mut follower = Self {
            followed: Vec::new(),
            cursor: 0,
            open: 0,
            bytes: Vec::with_capacity(2 * TURN_BYTES),
            listing: Listing::default(),
            is_unreachable: false,
            state,
            is_changed: true,
            save_due: now,
            is_unsaved: false,
        };
        follower.resume(now);
        match follower.list(connect, output) {
            Err(failure) if follower.state.is_none() => return Err(failure),
            Err(failure) => follower.note_unreachable(&failure),
            Ok(()) => {}
        }
        Ok(follower)
    }

    /// Gives each log a turn that is due. Returns the time until the next pass.
    ///
    /// # Errors
    /// What is passed on cannot be written.
    pub(super) fn pass<W: Write>(&mut self, output: &mut Output<W>) -> Result<Duration, Failure> {
        let (start, mut pause) = (Instant::now(), PERIOD_MIN);
        for _ in 0..self.followed.len() {
            let index = if self.cursor < self.followed.len() { self.cursor } else { 0 };
            self.cursor = index + 1;
            match self.turn(index, start, output)? {
                // The next one begins the next pass.
                Turn::Later(time) => return Ok(time),
                Turn::More => pause = Duration::ZERO,
                Turn::Idle | Turn::Done => {}
            }
            if start.elapsed() >= PASS_PERIOD {
                return Ok(Duration::ZERO);
            }
        }
        Ok(pause)
    }

    /// Looks once more at all logs, also at those that are not due, for a while at most.
    ///
    /// # Errors
    /// What is passed on cannot be written.
    pub(super) fn last_pass<W: Write>(&mut self, output: &mut Output<W>) -> Result<(), Failure> {
        let start = Instant::now();
        self.followed.iter_mut().for_each(|followed| followed.schedule = Schedule::new(start));
        while start.elapsed() < LAST_PERIOD {
            let pause = self.pass(output)?;
            if pause >= PERIOD_MIN {
                break;
            }
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn turn<W: Write>(
        &mut self,
        index: usize,
        now: Instant,
        output: &mut Output<W>,
    ) -> Result<Turn, Failure> {
        let Some(Followed { log, schedule, is_asleep }) = self.followed.get_mut(index) else {
            return Ok(Turn::Idle);
        };
        if *is_asleep || !schedule.is_due(now) {
            return Ok(Turn::Idle);
        }
        self.open -= usize::from(log.source.has_open());
        let turn = log.turn(&mut self.bytes, output)?;
        schedule.note(turn, now);
        self.is_changed |= turn != Turn::Idle;
        if schedule.is_quiet() {
            *is_asleep = log.unlisted_period(now).is_some_and(|period| period >= ENDED_PERIOD);
        }
        if schedule.is_quiet() || self.open >= OPEN_MAX {
            log.source.close();
        }
        self.open += usize::from(log.source.has_open());
        Ok(turn)
    }

    /// Asks the daemon for its logs, when that is due.
    pub(super) fn list_again<W: Write>(&mut self, connect: &Connect, output: &mut Output<W>) {
        if self.listing.is_due(Instant::now())
            && let Err(failure) = self.list(connect, output)
        {
            self.note_unreachable(&failure);
        }
    }

    fn list<W: Write>(&mut self, connect: &Connect, output: &mut Output<W>) -> Result<(), Failure> {
        let (now, before) = (Instant::now(), self.listing.time);
        let Listed { logs, is_all, is_same_daemon } = self.listing.ask(connect)?;
        self.is_unreachable = false;
        if logs.is_empty() && !is_all {
            return Ok(());
        }
        let paths = self.followed.iter().enumerate();
        let mut unlisted: HashMap<PathBuf, usize> =
            paths.map(|(index, followed)| (followed.log.guest.path.clone(), index)).collect();
        for log in &logs {
            let guest = Guest::of(log);
            let index = match unlisted.remove(&guest.path) {
                Some(index) => index,
                None => self.add(guest.clone(), before, now),
            };
            self.take(log, guest, index, is_same_daemon, now, output);
        }
        if is_all {
            for index in unlisted.into_values() {
                self.unlist(index, now, output);
            }
            self.forget();
        }
        Ok(())
    }

    /// Adds a log that was not listed at that time. Returns its number.
    fn add(&mut self, guest: Guest, before: Option<SystemTime>, now: Instant) -> usize {
        let begin = match before {
            Some(time) => Begin::Since(time.checked_sub(CLOCK_PERIOD).unwrap_or(time)),
            None => Begin::End,
        };
        self.followed.push(Followed::new(FollowedLog::new(guest, begin), now));
        self.is_changed = true;
        self.followed.len() - 1
    }

    fn unlist<W: Write>(&mut self, index: usize, now: Instant, output: &mut Output<W>) {
        if let Some(Followed { log, .. }) = self.followed.get_mut(index)
            && let Some(missed) = log.unlist(now)
        {
            output.missed(&log.guest, missed);
        }
    }

    /// Takes what the daemon tells of a log.
    fn take<W: Write>(
        &mut self,
        log: &Log,
        guest: Guest,
        index: usize,
        is_same_daemon: bool,
        now: Instant,
        output: &mut Output<W>,
    ) {
        let Some(followed) = self.followed.get_mut(index) else { return };
        followed.log.guest = guest;
        if std::mem::replace(&mut followed.is_asleep, false) {
            followed.schedule = Schedule::new(now);
        }
        if let Some(missed) = followed.log.list(log, is_same_daemon) {
            output.missed(&followed.log.guest, missed);
        }
    }

    /// Forgets logs that have ended, if there are too many.
    fn forget(&mut self) {
        let ended = self.followed.iter().filter(|followed| followed.is_asleep).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.followed.retain(|followed| {
            let is_surplus = surplus > 0 && followed.is_asleep;
            surplus -= usize::from(is_surplus);
            !is_surplus
        });
    }

    fn note_unreachable(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.is_unreachable, true) {
            // A failure here cannot be reported anywhere.
            writeln!(
                std::io::stderr(),
                "virtlogctl: {failure}; the logs that are known are followed, and it is asked again"
            )
            .ok();
        }
    }

    /// Goes on where the state says.
    fn resume(&mut self, now: Instant) {
        let Some(path) = &self.state else { return };
        let state = match State::read(path) {
            Ok(Some(state)) => state,
            Ok(None) => return,
            Err(error) => {
                let text = format!(
                    "{}; all logs are begun at their ends, and what they got before is missed",
                    io_text(&error)
                );
                return remark(path, &text);
            }
        };
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(state.listed_unix_s));
        (self.listing.daemon, self.listing.time) = (state.daemon, time);
        for log in state.logs {
            let log = FollowedLog::resume(log.guest(), log.place, log.count);
            self.followed.push(Followed::new(log, now));
        }
    }

    /// Writes the state, when that is due.
    pub(super) fn save_again(&mut self) {
        if self.is_changed && Instant::now() >= self.save_due {
            self.save();
        }
    }

    /// Writes the state. What was passed on has to be written before.
    pub(super) fn save(&mut self) {
        let (Some(path), Some(listed)) = (&self.state, self.listing.time) else { return };
        let mut state = State::new(unix_s(listed), self.listing.daemon);
        state.logs.extend(self.followed.iter().filter_map(|Followed { log, .. }| {
            log.place.map(|place| LogState::new(&log.guest, place, log.count))
        }));
        let written = state.write(path);
        if let (Err(error), false) = (&written, self.is_unsaved) {
            remark(path, &format!("the state is not kept: {}", io_text(error)));
        }
        self.is_unsaved = written.is_err();
        self.is_changed = written.is_err();
        self.save_due = Instant::now() + SAVE_PERIOD;
    }
}
