//! Jobs on other threads: those of slow file systems, and those that block on peers.

use std::time::{Duration, Instant};

use super::Jobs;
use crate::jobs::job::{InFlight, Job, Returned};
use crate::jobs::progress::Progress;
use crate::jobs::slow::Slow;
use crate::jobs::storage::StorageId;

/// Jobs on threads of their own, as long as enough threads are left for other file systems.
const AWAY_MAX: usize = 48;

/// Threads that may block on peers, besides those for file systems. Each costs some 20 KiB.
const PEERS_MAX: usize = 128;

/// Time during which all peers are suspect after one has blocked a thread: there may be more of its
/// kind.
const ALARM_PERIOD: Duration = Duration::from_secs(10);

impl<O> Jobs<O> {
    /// Returns whether jobs on what a peer can block must be submitted as such, apart from all
    /// others.
    pub(crate) fn is_peer_suspect(&self, peer: u64) -> bool {
        self.at_peers >= PEERS_MAX
            || self.alarm_until.is_some_and(|until| Instant::now() < until)
            || self.slow.get(&StorageId::peer(peer)).is_some_and(|slow| slow.is_peers)
    }

    /// Notes that the loop continues on another thread, because its own is in a job.
    pub(crate) fn thread_changed(&mut self) {
        let Some((id, job, progress)) = self.running.take() else { return };
        self.slow.retain(|_, slow| slow.is_in_use() || slow.seen.elapsed() < slow.memory());
        self.late.push_back(job.source);
        self.away.insert(id, job);
        let is_at_peer = progress.as_ref().is_some_and(|progress| self.blame_peer(id, progress));
        if !is_at_peer {
            let slow = self.slow.entry(job.place).or_insert_with(Slow::new);
            (slow.is_busy, slow.quick, slow.seen) = (true, 0, Instant::now());
            slow.progress = progress;
        }
        if !self.may_run_here() {
            let queued = self.queue.iter().chain(&self.unhurried);
            self.late.extend(queued.map(|job| job.source));
        }
    }

    /// Lets others continue in place of another thread's job if a peer blocks it. Returns whether
    /// one does.
    fn blame_peer(&mut self, id: u64, progress: &Progress) -> bool {
        let Some(job) = self.away.get_mut(&id).filter(|_| progress.leave_behind()) else {
            return false;
        };
        self.at_peers += usize::from(!std::mem::replace(&mut job.is_at_peer, true));
        job.place = StorageId::peer(progress.peer());
        self.alarm_until = Some(Instant::now() + ALARM_PERIOD);
        let slow = self.slow.entry(job.place).or_insert_with(Slow::of_peer);
        (slow.is_busy, slow.is_peers, slow.quick) = (true, true, 0);
        (slow.progress, slow.blamed_at) = (Some(progress.clone()), Some(Instant::now()));
        true
    }

    /// Lets others continue on a file system whose job a peer blocks.
    pub(super) fn go_on_without_peer(&mut self, place: StorageId) {
        let Some(slow) = self.slow.get(&place).filter(|slow| !slow.is_peers && slow.is_held_up())
        else {
            return;
        };
        let (Some(progress), Some(id)) = (slow.progress.clone(), self.job_away_at(place)) else {
            return;
        };
        if self.blame_peer(id, &progress) {
            if let Some(slow) = self.slow.get_mut(&place) {
                (slow.is_busy, slow.progress) = (false, None);
            }
            self.send_away(place);
        }
    }

    fn job_away_at(&self, place: StorageId) -> Option<u64> {
        self.away.iter().find(|(_, job)| job.place == place).map(|(id, _)| *id)
    }

    /// Handles the end of another thread's job.
    pub(crate) fn returned(&mut self, returned: Returned<O>) {
        let Returned { id, outcome, was_quick } = returned;
        self.ended.push_back(outcome);
        let Some(InFlight { place, is_at_peer, .. }) = self.away.remove(&id) else { return };
        self.at_peers -= usize::from(is_at_peer);
        if let Some(slow) = self.slow.get_mut(&place) {
            slow.job_ended(was_quick);
            if slow.is_over()
                && let Some(slow) = self.slow.remove(&place)
            {
                self.queue.extend(slow.waiting);
            }
        }
        self.send_away(place);
        if self.at_file_systems() + 1 == AWAY_MAX || self.at_peers + 1 == PEERS_MAX {
            let others: Vec<_> = self.slow.keys().copied().collect();
            others.into_iter().for_each(|place| self.send_away(place));
        }
    }

    pub(super) fn at_file_systems(&self) -> usize {
        self.away.len() - self.at_peers
    }

    pub(super) fn wait_at(&mut self, job: Job<O>) {
        let place = job.place;
        let slow = self.slow.entry(place).or_insert_with(Slow::new);
        if !slow.is_peers {
            self.late.push_back(job.source);
        }
        slow.waiting.push_back(job);
        self.go_on_without_peer(place);
        self.send_away(place);
    }

    fn send_away(&mut self, place: StorageId) {
        let (at_peers, at_file_systems) = (self.at_peers, self.at_file_systems());
        let Some(slow) = self.slow.get_mut(&place) else { return };
        let is_full =
            if slow.is_peers { at_peers >= PEERS_MAX } else { at_file_systems >= AWAY_MAX };
        if slow.is_busy || is_full {
            return;
        }
        if let Some(job) = slow.waiting.pop_front() {
            (slow.is_busy, slow.seen) = (true, Instant::now());
            job.progress.iter().for_each(Progress::hand_out);
            slow.progress.clone_from(&job.progress);
            self.at_peers += usize::from(slow.is_peers);
            self.away.insert(job.id, InFlight { is_at_peer: slow.is_peers, ..job.in_flight() });
            self.outgoing.push_back(job);
        }
    }
}
