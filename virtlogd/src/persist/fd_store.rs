//! Logs' pipes and staging pipes in the supervisor's fd store, so that they outlive this process.
//!
//! Whose bytes a staging pipe holds changes with every turn, so that is not in the journal but in
//! marks, which are made before the first byte goes into an empty pipe. Staging pipes are needed and
//! ended in jobs, on any thread; the loop stores some in advance, and forgets them afterwards.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use common::handover::document::Change;
use common::handover::marks::{self, Marks, Target};
use common::handover::stored::{Kind, Mark};
use common::server::Core;

use crate::guest::access::Guest;
use crate::guest::staging::{Staging, WeakStaging};
use crate::handler::{Handler, Outcome};
use crate::logs::queue::Lane;
use crate::persist::save;

/// Staging pipes that are stored in advance: as many as jobs may need before the loop gets on.
const SPARE_MAX: usize = 8;

/// How long after a shortage of descriptors no spare pipes are made.
const SHORTAGE_PERIOD: Duration = Duration::from_secs(10);

/// There is a store.
static STORE: OnceLock<Store> = OnceLock::new();

/// What jobs do to staging pipes that are kept.
#[derive(Debug)]
struct Store {
    marks: Marks,
    order: AtomicU64,
    /// See [`marks::AtRisk`].
    round: u32,
    /// How many bytes are noted to be at risk, by the key where that is.
    at_risk: Mutex<HashMap<u64, u64>>,
    pipes: Mutex<Pipes>,
    /// What goes from now on stays in the store.
    is_closed: AtomicBool,
    /// Some that are in use are not in the store.
    lacks_pipes: AtomicBool,
}

/// Bytes in one staging pipe that would be lost with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtRisk {
    /// Where that is noted: with the pipe's own key, or with the log's.
    pub(crate) key: u64,
    /// The log's key.
    pub(crate) owner: u64,
    pub(crate) bytes: u64,
    /// Where they are being written to.
    pub(crate) target: Option<Target>,
}

#[derive(Debug, Default)]
struct Pipes {
    /// In the store, and nobody's.
    spare: Vec<Staging>,
    /// On the way there.
    sent: Vec<Staging>,
    /// Made when there was no spare one; not in the store.
    made: Vec<Staging>,
    /// Sent under these keys, and not known to be in the store.
    unproved: Vec<(u64, WeakStaging)>,
    gone: Vec<u64>,
    /// When descriptors were short last.
    freed_at: Option<Instant>,
}

/// A staging pipe that is kept, or on its way to the store, if there is one.
pub(crate) fn spare() -> Option<Staging> {
    let mut pipes = STORE.get()?.pipes();
    let Pipes { spare, sent, .. } = &mut *pipes;
    spare.pop().or_else(|| sent.pop())
}

/// A staging pipe was made.
pub(crate) fn made(staging: &Staging) {
    if let Some(store) = STORE.get() {
        store.pipes().made.push(staging.clone());
    }
}

/// There are no descriptors left for a log: those of spare staging pipes are free again, for a while.
pub(crate) fn free_descriptors() {
    if let Some(store) = STORE.get() {
        let mut pipes = store.pipes();
        let freed = (std::mem::take(&mut pipes.spare), std::mem::take(&mut pipes.sent));
        pipes.freed_at = Some(Instant::now());
        // Whatever ends takes the lock.
        drop(pipes);
        drop(freed);
    }
}

/// The staging pipe with this key in the store has ended.
pub(crate) fn gone(key: u64) {
    if let Some(store) = STORE.get()
        && !store.is_closed.load(Ordering::Relaxed)
    {
        store.pipes().gone.push(key);
    }
}

/// The process is about to exit: what is in the store stays there.
pub(crate) fn close() {
    if let Some(store) = STORE.get() {
        store.is_closed.store(true, Ordering::Relaxed);
    }
}

/// The staging pipe `key` gets bytes of the log `owner` now. Both are keys in the store, or 0.
pub(crate) fn mark(key: u64, owner: u64) {
    if let (Some(store), true) = (STORE.get(), key != 0) {
        let order = store.order.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(error) = store.marks.set(key, Mark { owner, order }.to_bytes()) {
            tracing::error!(target: "logging.log_handler", "Unable to mark a pipe: {error}");
        }
    }
}

/// Notes how many bytes of a log would be lost with this process, instead of what was noted `before`.
pub(crate) fn note_at_risk(before: Option<AtRisk>, now: Option<AtRisk>) {
    let Some(store) = STORE.get() else { return };
    let mut noted = store.at_risk.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(AtRisk { key, bytes, .. }) = before {
        noted.entry(key).and_modify(|sum| *sum = sum.saturating_sub(bytes));
    }
    if let Some(AtRisk { key, bytes, .. }) = now {
        let sum = noted.entry(key).or_default();
        *sum = sum.saturating_add(bytes);
    }
    // What has become more first: a kill in between tells of more than is lost, never of less.
    let before = before.map(|before| AtRisk { target: None, ..before });
    let before = before.filter(|before| now.is_none_or(|now| now.key != before.key));
    for AtRisk { key, owner, target, .. } in now.into_iter().chain(before) {
        let bytes = noted.get(&key).copied().unwrap_or(0);
        let owner = u32::try_from(owner).unwrap_or(0);
        store.mark_at_risk(key, marks::AtRisk { round: store.round, owner, bytes, target });
    }
    noted.retain(|_, sum| *sum > 0);
}

/// Notes the line of the log with this key, with an order behind the one that it has, and gives that.
/// It is not noted if it is too long, or there is no store.
pub(crate) fn note_line(key: u64, line: marks::Line) -> Option<u64> {
    let store = STORE.get().filter(|_| key != 0)?;
    let order = store.order.fetch_add(1, Ordering::Relaxed).max(line.order) + 1;
    store.marks.set_line(key, &marks::Line { order, ..line }).ok().map(|()| order)
}

impl Store {
    fn pipes(&self) -> MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_at_risk(&self, key: u64, at_risk: marks::AtRisk) {
        if let Err(error) = self.marks.set_at_risk(key, at_risk) {
            tracing::error!(target: "logging.log_handler", "Unable to mark a pipe: {error}");
        }
    }
}

/// In which round this process notes bytes at risk.
pub(crate) fn round() -> Option<u32> {
    STORE.get().map(|store| store.round)
}

impl Handler {
    /// Makes the marks that say whose bytes are in which staging pipe, or takes over those of the
    /// process before this one.
    pub(crate) fn keep_marks(&mut self, core: &mut Core<Outcome>) {
        if STORE.get().is_some() {
            // They were made when keeping was begun before.
            return;
        }
        let marks = match core.essential_marks(Kind::Marks, "virt-rs-marks") {
            Ok(marks) => marks,
            Err(error) => {
                return tracing::error!(
                    target: "logging.log_handler", "Unable to mark pipes: {error}"
                );
            }
        };
        // Behind that of any process before this one.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let order = since_epoch.map_or(0, |since| since.as_nanos());
        let order = AtomicU64::new(u64::try_from(order).unwrap_or(0));
        let (pipes, is_closed) = (Mutex::default(), AtomicBool::new(false));
        let lacks_pipes = AtomicBool::new(false);
        let at_risk = marks.at_risk().unwrap_or_default();
        let last_round = at_risk.iter().map(|(_, at_risk)| at_risk.round).max().unwrap_or(0);
        let (round, at_risk) = (last_round.saturating_add(1), Mutex::default());
        // Nobody else sets it.
        drop(STORE.set(Store { marks, order, round, at_risk, pipes, is_closed, lacks_pipes }));
        for (key, staging) in self.kept_stagings() {
            staging.belongs_to(key);
        }
    }

    /// Everything, whether it is kept already or not.
    pub(crate) fn keep_everything(&mut self, core: &mut Core<Outcome>) {
        let numbers: Vec<u64> = self.lane_numbers().collect();
        for number in numbers {
            if let Some(lane) = self.lane_mut(number) {
                lane.owed_noted = None;
            }
            self.keep_log(core, number);
        }
        self.keep_stagings(core);
        if let Some(store) = STORE.get() {
            let pipes = std::mem::take(&mut *store.pipes());
            let Pipes { spare, sent, made, unproved, gone, freed_at } = pipes;
            let spare = spare.into_iter().chain(sent);
            let kept: Vec<_> = spare.filter(|staging| keep_pipe(core, staging)).collect();
            let mut pipes = store.pipes();
            pipes.sent.extend(kept);
            pipes.made.extend(made);
            pipes.unproved.extend(unproved);
            pipes.gone.extend(gone);
            pipes.freed_at = freed_at;
        }
        store_pipes(core);
        forget_pipes(core);
    }

    /// What the store had no room for, until it has none for something.
    pub(crate) fn keep_unstored(&mut self, core: &mut Core<Outcome>) {
        while let Some(number) = self.unstored.pop_first() {
            self.keep_log(core, number);
            if self.unstored.contains(&number) {
                return;
            }
        }
        store_pipes(core);
        if STORE.get().is_some_and(|store| store.lacks_pipes.swap(false, Ordering::Relaxed)) {
            self.keep_stagings(core);
            // What was kept in pipes that are in the store now is safe from now on.
            for number in self.lane_numbers().collect::<Vec<_>>() {
                self.keep_log(core, number);
            }
        }
    }

    /// The log or staging pipe with this key is not in the store after all.
    pub(crate) fn forget_key(&mut self, kind: Kind, key: u64) {
        if kind == Kind::Log {
            let is_it = |number: &u64| self.key_of_lane(*number) == Some(key);
            let number = self.lane_numbers().find(is_it);
            let lane = number.and_then(|number| self.lane_mut(number));
            if let Some(lane) = lane {
                lane.key = None;
                lane.guest.iter().for_each(|guest| guest.intake().is_kept_as(0));
            }
            self.unstored.extend(number);
            return;
        }
        let is_it = |staging: &Staging| staging.key() == key;
        let mut stagings = self.stagings();
        if let Some(store) = STORE.get() {
            let mut pipes = store.pipes();
            let Pipes { spare, sent, .. } = &mut *pipes;
            // They end here, but not before the lock is released: whatever ends takes it.
            for kept in [spare, sent] {
                stagings.extend(kept.extract_if(.., |staging| is_it(staging)));
            }
        }
        stagings.iter().filter(|staging| is_it(staging)).for_each(|staging| {
            staging.is_kept_as(0);
        });
    }

    /// Staging pipes that are in use.
    fn keep_stagings(&self, core: &mut Core<Outcome>) {
        for staging in self.stagings() {
            let is_kept = keep_pipe(core, &staging);
            let store = STORE.get();
            store.into_iter().for_each(|store| {
                store.lacks_pipes.fetch_or(!is_kept, Ordering::Relaxed);
            });
        }
    }

    /// Nothing has a key any more.
    pub(crate) fn forget_keys(&mut self) {
        self.forget_keys_of_lanes();
        self.unstored.clear();
        self.stagings().iter().for_each(|staging| staging.is_kept_as(0));
        if let Some(store) = STORE.get() {
            let pipes = std::mem::take(&mut *store.pipes());
            let Pipes { spare, sent, .. } = &pipes;
            spare.iter().chain(sent).for_each(|staging| staging.is_kept_as(0));
        }
    }

    /// As [`Self::keep_log`], with pipes that its bytes have come into or gone out of. In this order:
    /// what is noted of a pipe is true while it is there.
    pub(crate) fn keep_log_with_pipes(&mut self, core: &mut Core<Outcome>, number: u64) {
        store_pipes(core);
        self.keep_log(core, number);
        forget_pipes(core);
    }

    /// What is known of a log may have changed: that it is there, or what it is owed.
    pub(crate) fn keep_log(&mut self, core: &mut Core<Outcome>, number: u64) {
        let is_stopping = self.stopping;
        let Some(lane) = self.lane_mut(number).filter(|_| core.has_store()) else { return };
        let guest = lane.guest.clone();
        if guest.is_none() && is_stopping {
            // It was stopped, and goes on in another process.
            return;
        }
        let guests_key = guest.as_ref().map(|guest| guest.intake().key);
        if let Some(key) = lane.key.take_if(|key| guests_key != Some(*key)) {
            core.forget(Kind::Log, key);
        }
        let Some(guest) = guest else { return };
        let owed = guest.intake().signature();
        if lane.key.is_some() && lane.owed_noted.as_deref() == Some(&owed) {
            return;
        }
        let change = change_of(lane);
        let had_key = lane.key;
        {
            let intake = guest.intake();
            let fds = [intake.pipe.as_fd()];
            lane.key = match lane.key {
                Some(key) => core.keep_as(key, Kind::Log, &fds, change).then_some(key),
                None => core.keep(Kind::Log, &fds, change),
            };
        }
        lane.owed_noted = Some(Box::new(owed));
        if lane.key != had_key {
            guest.intake().is_kept_as(lane.key.unwrap_or(0));
        }
        if lane.key.is_none() {
            self.unstored.insert(number);
        }
    }

    /// Staging pipes that are there: those that no job uses, those that jobs have in hand, and those
    /// with kept bytes.
    pub(crate) fn stagings(&self) -> Vec<Staging> {
        let mut stagings = self.workspaces.stagings();
        for guest in self.lanes().filter_map(|lane| lane.guest.as_ref()) {
            let intake = guest.intake();
            stagings.extend(intake.stagings().cloned());
        }
        stagings
    }

    /// The key of a lane's log in the fd store.
    pub(crate) fn key_of_lane(&self, number: u64) -> Option<u64> {
        self.lane(number)?.key
    }

    /// Staging pipes with kept bytes, in the order of each log, and the log's key in the fd store.
    pub(crate) fn kept_stagings(&self) -> Vec<(u64, Staging)> {
        let guests = self.lanes().filter_map(|lane| lane.guest.as_ref());
        let kept = |guest: &Arc<Guest>| {
            let intake = guest.intake();
            let kept: Vec<_> =
                intake.arrears().map(|arrears| arrears.kept.clone().into()).unwrap_or_default();
            kept.into_iter().map(move |staging| (intake.key, staging)).collect::<Vec<_>>()
        };
        guests.flat_map(kept).collect()
    }

    /// Nothing is in the fd store any more.
    pub(crate) fn forget_keys_of_lanes(&mut self) {
        for lane in self.lanes_mut() {
            lane.key = None;
            lane.guest.iter().for_each(|guest| guest.intake().is_kept_as(0));
        }
    }

    /// Whether a log goes on in another process. Pipes with its bytes that are not in the store for
    /// certain count as if they were not there at all.
    pub(crate) fn goes_on(core: &Core<Outcome>, lane: &Lane) -> bool {
        if let Some(guest) = &lane.guest {
            let intake = guest.intake();
            let doubtful = intake.stagings().filter(|it| !core.is_stored(Kind::Pipe, it.key()));
            doubtful.for_each(|staging| staging.is_kept_as(0));
        }
        lane.key.is_some_and(|key| core.is_stored(Kind::Log, key))
    }
}

/// Stores the staging pipes that were made, and some in advance.
fn store_pipes(core: &mut Core<Outcome>) {
    let Some(store) = STORE.get() else { return };
    note_proved(core, store);
    let (made, missing) = {
        let mut pipes = store.pipes();
        if core.is_all_sent() {
            let Pipes { spare, sent, .. } = &mut *pipes;
            spare.append(sent);
        }
        // What waits for a supervisor has copies of its descriptors there.
        let is_short = pipes.freed_at.is_some_and(|at| at.elapsed() < SHORTAGE_PERIOD);
        if !is_short && !core.is_all_sent() {
            core.has_more_to_store();
        }
        let spare_max = if is_short || !core.is_all_sent() { 0 } else { SPARE_MAX };
        let missing = spare_max.saturating_sub(pipes.spare.len() + pipes.sent.len());
        (std::mem::take(&mut pipes.made), missing)
    };
    for staging in made {
        let is_kept = keep_pipe(core, &staging);
        store.lacks_pipes.fetch_or(!is_kept, Ordering::Relaxed);
    }
    for _ in 0..missing {
        let Some(staging) = Staging::make().ok().filter(|staging| keep_pipe(core, staging)) else {
            return;
        };
        store.pipes().sent.push(staging);
    }
}

/// Sees which pipes the store has by now.
fn note_proved(core: &Core<Outcome>, store: &Store) {
    let unproved = std::mem::take(&mut store.pipes().unproved);
    let unproved = unproved.into_iter().filter(|(key, pipe)| {
        // It may end here, which takes the lock.
        let Some(pipe) = pipe.upgrade().filter(|pipe| pipe.key() == *key) else { return false };
        let is_proved = core.is_stored(Kind::Pipe, *key);
        if is_proved {
            pipe.is_proved_as(*key);
        }
        !is_proved
    });
    let unproved: Vec<_> = unproved.collect();
    store.pipes().unproved.extend(unproved);
}

/// Forgets the staging pipes that have ended.
pub(crate) fn forget_pipes(core: &mut Core<Outcome>) {
    let Some(store) = STORE.get() else { return };
    let gone = std::mem::take(&mut store.pipes().gone);
    for key in gone {
        core.forget(Kind::Pipe, key);
    }
}

/// Gives whether it is kept.
fn keep_pipe(core: &mut Core<Outcome>, staging: &Staging) -> bool {
    let (reader, writer) = staging.ends();
    let (fds, change) = ([reader, writer], Change::default());
    let key = match staging.key() {
        0 => core.keep(Kind::Pipe, &fds, change),
        key => core.keep_as(key, Kind::Pipe, &fds, change).then_some(key),
    };
    staging.is_kept_as(key.unwrap_or(0));
    if let (Some(key), Some(store)) = (key, STORE.get()) {
        store.pipes().unproved.push((key, staging.downgrade()));
    }
    key.is_some()
}

fn change_of(lane: &Lane) -> Change {
    Change { log: save::record(lane), ..Change::default() }
}
