//! The holder's own log: lines on stderr, a limited number of them.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use common::systemd::Pace;

/// Lines in a row, and the time for each further one: daemons can cause them. Ours.
const LINES_IN_A_ROW_MAX: u32 = 50;
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// The log.
#[derive(Debug)]
pub(crate) struct Log(RefCell<Pace>);

impl Log {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(Pace::new(LINES_IN_A_ROW_MAX, LINE_PERIOD)))
    }

    /// Writes a line, unless there were too many.
    pub(crate) fn say(&self, line: &str) {
        let (now, mut pace) = (Instant::now(), self.0.borrow_mut());
        if pace.is_due(now) {
            pace.step(now);
            eprintln!("virtfdhold: {line}");
        }
    }
}
