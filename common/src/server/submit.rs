//! Fds that a daemon watches, timers, and jobs.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Done};
use super::token::Token;
use crate::event::{Interest, Registered, TimerId};
use crate::jobs::haste::Haste;
use crate::jobs::job::InFlight;
use crate::jobs::path_work::{Errand, PathWork, Step};
use crate::jobs::progress::Progress;
use crate::jobs::storage::{RemoteMount, StorageId};

impl<O> Core<O> {
    /// Watches `fd` for input; [`Daemon::ready`](super::Daemon::ready) is called with `source`, a
    /// number that the daemon never reuses.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`. The fd is closed.
    pub fn watch<F: AsFd>(&self, fd: F, source: u64) -> io::Result<Registered<F>> {
        self.reactor.register(fd, Token::Daemon(source), Interest::Read)
    }

    /// Calls [`Daemon::ready`](super::Daemon::ready) once more in the next turn, for work that has
    /// spent its budget.
    pub fn again(&mut self, source: u64) {
        self.reactor.again(Token::Daemon(source));
    }

    /// Calls [`Daemon::timer`](super::Daemon::timer) once, `after` from now.
    pub fn set_timer(&mut self, after: Duration, source: u64) -> TimerId {
        self.reactor.set_timer(after, Token::DaemonTimer(source))
    }

    /// Cancels a timer.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.reactor.cancel_timer(timer);
    }

    /// Submits work on files at `place`; [`Daemon::job_ended`](super::Daemon::job_ended) gets its
    /// result. `source` is a number of the daemon's own.
    pub fn submit(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit(place, source, || Done::Daemons(work()));
    }

    /// Like [`Self::submit`], for work that [reports](Progress::note) its progress, so that a slow
    /// file system is not taken for one that hangs.
    pub fn submit_with_progress(
        &mut self,
        place: StorageId,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_with_progress(place, source, progress, || Done::Daemons(work()));
    }

    /// Like [`Self::submit`], for work that no client waits for. It does not delay work that a
    /// client waits for.
    pub fn submit_unhurried(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_unhurried(place, source, || Done::Daemons(work()));
    }

    /// Like [`Self::submit`], for work that only touches what its peer can block, as `progress`
    /// says. If the peer does, [`Daemon::job_stalled`](super::Daemon::job_stalled) gets `source`.
    pub fn submit_at_peer(
        &mut self,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.jobs.submit_at_peer(source, progress, || Done::Daemons(work()));
    }

    /// Returns whether a peer has blocked a job, or may do so after another peer has. Its pipes are
    /// then touched only by [jobs of their own](Self::submit_at_peer).
    pub fn is_peer_suspect(&self, peer: u64) -> bool {
        self.jobs.is_peer_suspect(peer)
    }

    /// Returns the flag that tells queued jobs that an upgrade waits for them.
    pub fn haste(&self) -> Haste {
        self.haste.clone()
    }

    /// Returns whether jobs on a file system take long.
    pub fn is_slow(&self, place: StorageId) -> bool {
        self.jobs.is_slow(place)
    }

    /// Returns whether a file system makes no progress with its jobs.
    pub fn hangs(&mut self, place: StorageId) -> bool {
        self.jobs.hangs(place)
    }

    /// Returns whether other jobs wait for their turn, so that a turn should be short.
    pub fn is_crowded(&self) -> bool {
        self.reactor.has_again() || self.jobs.are_waiting()
    }

    /// Returns the mount of a file system that other hosts may have mounted as well, by the device
    /// number of its files. No file system is asked.
    pub fn remote_mount(&mut self, device: u64) -> Option<Arc<RemoteMount>> {
        self.mounts.remote(device)
    }

    /// Returns whether there was such a file system when the mount table was last read.
    pub fn has_remote_mounts(&self) -> bool {
        self.mounts.has_remote()
    }

    /// Returns the jobs that have not ended, including queued ones.
    pub fn jobs_in_flight(&self) -> impl Iterator<Item = InFlight> {
        self.jobs.in_flight()
    }
}

impl<O: 'static> Core<O> {
    /// Like [`Self::submit`], for work on a path, on whichever file system that is. Returns the
    /// first one; [`Daemon::job_moved_to`](super::Daemon::job_moved_to) tells of further ones.
    pub fn submit_at_path(
        &mut self,
        path: &Path,
        source: u64,
        progress: Progress,
        work: impl PathWork<Outcome = O>,
    ) -> StorageId {
        self.send_on(Errand::new(path, source, progress, work))
    }

    pub(super) fn send_on(&mut self, errand: Errand<O>) -> StorageId {
        let table = self.mounts.table();
        let start = table.start_of(&errand.path);
        let (source, progress) = (errand.source, errand.progress.clone());
        let work = move || match errand.run(&table, start) {
            Step::Done(outcome) => Done::Daemons(outcome),
            Step::Elsewhere(errand) => Done::Elsewhere(errand),
        };
        self.jobs.submit_with_progress(start.place, source, progress, work);
        start.place
    }
}
