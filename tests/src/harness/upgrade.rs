//! A running daemon whose executable is replaced: `SIGUSR1` and what comes of it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::wait::eventually;
use super::{Daemon, Subject, Whose};

/// How often it is checked, while waiting for a word of the daemon, that it still runs.
const CHECK_PERIOD: Duration = Duration::from_millis(50);

/// An upgrade that is under way tells of itself within this time.
const QUIET: Duration = Duration::from_millis(300);

/// Only for daemons set up as [`replaceable`](super::Setup::replaceable).
impl Daemon {
    /// Puts the executable of `whose` daemon where this one's own lies. A fresh copy each time:
    /// the kernel's word on which file runs then tells one generation from the next.
    pub fn put(&self, whose: Whose) {
        self.host().put(Subject { whose, ..self.subject() });
    }

    /// Puts that executable in place and changes over to it.
    pub fn change_to(&mut self, whose: Whose) {
        self.put(whose);
        self.upgrade();
    }

    /// Sends SIGUSR1 and waits until the executable that now lies in place serves.
    #[track_caller]
    pub fn upgrade(&mut self) {
        self.forget_notifications();
        self.signal(Signal::SIGUSR1);
        self.wait_until_upgraded();
    }

    /// Waits until the executable that now lies in place serves.
    #[track_caller]
    pub fn wait_until_upgraded(&mut self) {
        self.wait_for_notification("it is ready again", "READY=1");
        assert!(self.is_current(), "it says it is ready but was not replaced: {}", self.stderr());
    }

    /// Sends SIGUSR1, which must leave the daemon as it is; returns the status it reports.
    #[track_caller]
    pub fn upgrade_is_refused(&mut self) -> String {
        let before = self.running_file();
        self.forget_notifications();
        self.signal(Signal::SIGUSR1);
        let status = self.wait_for_outcome();
        assert_eq!(self.running_file(), before, "it was replaced");
        status
    }

    /// Whether the executable that lies in place is the one that runs.
    pub fn is_current(&self) -> bool {
        let path = self.host().executable(self.subject().program);
        self.running_file() == identity(&path).ok()
    }

    /// Fails unless the process is there; unlike [`Self::is_running`] also for one in the background.
    #[track_caller]
    pub fn expect_alive(&self) {
        let state = self.status_field("State");
        assert!(!state.is_empty() && !state.starts_with('Z'), "it has ended: {}", self.stderr());
    }

    /// Drops what it has told systemd until now.
    pub fn forget_notifications(&self) {
        while self.notification(Duration::from_millis(1)).is_some() {}
    }

    /// Waits until it has told systemd nothing for a while: no upgrade is under way.
    pub fn wait_until_quiet(&self) {
        while self.notification(QUIET).is_some() {}
    }

    /// Waits until a notification has a line with this beginning; returns the line's rest.
    #[track_caller]
    pub fn wait_for_notification(&mut self, what: &str, beginning: &str) -> String {
        let mut rest = None;
        eventually(what, || {
            self.expect_alive();
            let text = self.notification(CHECK_PERIOD).unwrap_or_default();
            rest = text.lines().find_map(|line| Some(line.strip_prefix(beginning)?.to_owned()));
            rest.is_some()
        });
        rest.unwrap_or_default()
    }

    /// Waits for a status with the outcome of an upgrade. The one of its start may come before.
    #[track_caller]
    fn wait_for_outcome(&mut self) -> String {
        loop {
            let status = self.wait_for_notification("it says why not", "STATUS=");
            if status.contains("; last upgrade: ") {
                return status;
            }
        }
    }

    fn running_file(&self) -> Option<(u64, u64)> {
        identity(&self.proc("exe")).ok()
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
