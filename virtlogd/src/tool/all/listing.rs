//! What the daemon is asked, and when.

use std::time::{Duration, Instant, SystemTime};

use common::query::{Log, Status};
use common::tool::{Connect, Failure};

use super::super::subject::{DAEMON, SUBJECT};

/// Logs that are listed at once.
const LOGS_MAX: usize = 65_536;

/// Time between two questions for new logs.
const NEW_PERIOD: Duration = Duration::from_millis(250);

/// Time between two questions for all logs, and how many times longer it is than the answer takes.
const ALL_PERIOD: Duration = Duration::from_secs(2);
const ALL_SHARE: u32 = 50;

/// What the daemon has been asked.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The daemon's process, and since when it serves.
    pub(super) daemon: Option<(u32, u64)>,
    /// When it was last asked, with success.
    pub(super) time: Option<SystemTime>,
    /// Place of the last log that it has listed.
    last: Option<String>,
    new_due: Option<Instant>,
    all_due: Option<Instant>,
}

/// Logs that were listed.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) logs: Vec<Log>,
    /// These are all, not only new ones.
    pub(super) is_all: bool,
    /// The daemon is the process that it was, which counts rotations on.
    pub(super) is_same_daemon: bool,
}

impl Listing {
    /// Returns whether the daemon is to be asked.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.new_due.is_none_or(|due| due <= now)
    }

    /// Asks the daemon for new logs, or for all, if that is due or it is another process.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) fn ask(&mut self, connect: &Connect) -> Result<Listed, Failure> {
        let (start, time) = (Instant::now(), SystemTime::now());
        self.new_due = Some(start + NEW_PERIOD);
        let is_all_due = self.all_due.is_none_or(|due| due <= start);
        let (listed, status) = connect.ask(DAEMON, SUBJECT, |daemon| {
            let status = daemon.status()?;
            let status: Status = daemon.decode(status)?;
            let is_same_daemon = self.daemon == Some(identity(&status));
            let is_all = is_all_due || !is_same_daemon;
            let (mut logs, last) = (Vec::new(), self.last.clone().filter(|_| !is_all));
            daemon.each_behind(last, |log: Log| {
                if logs.len() < LOGS_MAX {
                    logs.push(log);
                }
                Ok::<_, Failure>(())
            })?;
            Ok((Listed { logs, is_all, is_same_daemon }, status))
        })?;
        (self.daemon, self.time) = (Some(identity(&status)), Some(time));
        let last = listed.logs.last().map(|log| log.place.clone());
        if listed.is_all {
            self.last = last;
            let end = Instant::now();
            self.all_due = Some(end + ALL_PERIOD.max(end.duration_since(start) * ALL_SHARE));
        } else {
            self.last = last.or(self.last.take());
        }
        Ok(listed)
    }
}

fn identity(status: &Status) -> (u32, u64) {
    (status.pid, status.since_unix_s)
}
