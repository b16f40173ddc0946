//! Logs' pipes and staging pipes in the supervisor's fd store, so that they outlive this process.
//!
//! Whose bytes a staging pipe holds changes with every turn, so that is not in the journal but in
//! marks, which are made before the first byte goes into an empty pipe. Staging pipes are needed and
//! ended in jobs, on any thread; the loop stores some in advance, and forgets them afterwards.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use common::handover::document::Change;
use common::handover::marks::Marks;
use common::handover::stored::{Kind, Mark};
use common::server::Core;

use crate::handler::{Handler, Outcome};
use crate::lane::Lane;
use crate::staging::Staging;
use crate::state;

/// Staging pipes that are stored in advance: as many as jobs may need before the loop gets on.
const SPARE_MAX: usize = 8;

/// There is a store.
static STORE: OnceLock<Store> = OnceLock::new();

/// What jobs do to staging pipes that are kept.
#[derive(Debug)]
struct Store {
    marks: Marks,
    order: AtomicU64,
    pipes: Mutex<Pipes>,
    /// What goes from now on stays in the store.
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Pipes {
    /// In the store, and nobody's.
    spare: Vec<Staging>,
    /// On the way there.
    sent: Vec<Staging>,
    /// Made when there was no spare one; not in the store.
    made: Vec<Staging>,
    gone: Vec<u64>,
}

/// A staging pipe that is kept, if there is one.
pub(crate) fn spare() -> Option<Staging> {
    STORE.get()?.pipes().spare.pop()
}

/// A staging pipe was made.
pub(crate) fn made(staging: &Staging) {
    if let Some(store) = STORE.get() {
        store.pipes().made.push(staging.clone());
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

impl Store {
    fn pipes(&self) -> MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler {
    /// Everything that is not kept yet.
    pub(crate) fn keep_everything(&mut self, core: &mut Core<Outcome>) {
        if let Err(error) = self.keep_marks(core) {
            tracing::error!(target: "logging.log_handler", "Unable to mark pipes: {error}");
        }
        self.stagings().iter().filter(|staging| staging.key() == 0).for_each(made);
        let numbers: Vec<u64> = self.lane_numbers().collect();
        for number in numbers {
            self.keep_log(core, number);
        }
        keep_pipes(core);
    }

    /// Nothing has a key any more.
    pub(crate) fn forget_keys(&mut self) {
        self.forget_keys_of_lanes();
        self.stagings().iter().for_each(|staging| staging.is_kept_as(0));
        if let Some(store) = STORE.get() {
            let Pipes { spare, sent, .. } = std::mem::take(&mut *store.pipes());
            spare.iter().chain(&sent).for_each(|staging| staging.is_kept_as(0));
        }
    }

    /// What is known of a log may have changed: that it is there, or what it is owed.
    pub(crate) fn keep_log(&mut self, core: &mut Core<Outcome>, number: u64) {
        let Some(lane) = self.lane_mut(number).filter(|_| core.has_store()) else { return };
        let guest = lane.guest.clone();
        let guests_key = guest.as_ref().map(|guest| guest.intake().key);
        if let Some(key) = lane.key.take_if(|key| guests_key != Some(*key)) {
            core.forget(Kind::Log, key);
        }
        let Some(guest) = guest else { return };
        let owed = guest.intake().signature();
        match lane.key {
            Some(_) if owed == lane.owed_noted => {}
            Some(key) => core.note(&Change { key: Some(key), ..change_of(lane) }),
            None => {
                let change = change_of(lane);
                lane.key = core.keep(Kind::Log, &[guest.intake().pipe.as_fd()], change);
                guest.intake().is_kept_as(lane.key.unwrap_or(0));
            }
        }
        lane.owed_noted = owed;
    }

    /// Marks of an image before this one are in a memfd of its own; until this one's are stored they
    /// count.
    fn keep_marks(&mut self, core: &mut Core<Outcome>) -> io::Result<()> {
        if STORE.get().is_none() {
            let marks = Marks::new("virt-rs-marks")?;
            // Behind that of any process before this one.
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let order = since_epoch.map_or(0, |since| since.as_nanos());
            let order = u64::try_from(order).unwrap_or(0);
            let (order, pipes) = (AtomicU64::new(order), Mutex::default());
            // Nobody else sets it.
            drop(STORE.set(Store { marks, order, pipes, is_closed: AtomicBool::new(false) }));
        }
        for (key, staging) in self.kept_stagings() {
            staging.belongs_to(key);
        }
        if let Some(store) = STORE.get() {
            core.keep(Kind::Marks, &[store.marks.as_fd()], Change::default());
        }
        Ok(())
    }
}

/// Stores the staging pipes that were made, and some in advance; forgets those that have ended.
pub(crate) fn keep_pipes(core: &mut Core<Outcome>) {
    let Some(store) = STORE.get() else { return };
    let (made, gone, missing) = {
        let mut pipes = store.pipes();
        if core.is_all_stored() {
            let Pipes { spare, sent, .. } = &mut *pipes;
            spare.append(sent);
        }
        let missing = SPARE_MAX.saturating_sub(pipes.spare.len() + pipes.sent.len());
        (std::mem::take(&mut pipes.made), std::mem::take(&mut pipes.gone), missing)
    };
    for key in gone {
        core.forget(Kind::Pipe, key);
    }
    for staging in made {
        keep_pipe(core, &staging);
    }
    for _ in 0..missing {
        let Some(staging) = Staging::make().ok().filter(|staging| keep_pipe(core, staging)) else {
            return;
        };
        store.pipes().sent.push(staging);
    }
}

/// Gives whether it is kept.
fn keep_pipe(core: &mut Core<Outcome>, staging: &Staging) -> bool {
    let (reader, writer) = staging.ends();
    let key = core.keep(Kind::Pipe, &[reader, writer], Change::default());
    key.into_iter().for_each(|key| staging.is_kept_as(key));
    key.is_some()
}

fn change_of(lane: &Lane) -> Change {
    Change { log: state::record(lane), ..Change::default() }
}
