//! Staging pipes in the supervisor's fd store. Nothing is done without one.

use std::time::Duration;

use common::fd_store::names::Kind;
use common::handover::document::Change;
use common::server::Core;

use crate::guest::staging::{StagingPipe, StagingPool};
use crate::logs::outcome::Outcome;

/// Staging pipes that are stored in advance: as many as jobs may need before the loop gets on.
const SPARE_MAX: usize = 8;

/// Time after a shortage of descriptors in which none are copied for a slow supervisor: longer than a log
/// that could not be written is left alone.
const NO_COPIES_PERIOD: Duration = Duration::from_secs(1);

/// Stores pipes that are in use.
pub(crate) fn store_in_use(core: &mut Core<Outcome>, pool: &StagingPool, stagings: &[StagingPipe]) {
    for staging in stagings {
        let is_stored = store(core, pool, staging);
        pool.note_in_use(is_stored);
    }
}

/// Stores again the pipes that were made in advance.
pub(crate) fn store_unused(core: &mut Core<Outcome>, pool: &StagingPool) {
    let mut pipes = std::mem::take(&mut *pool.pipes());
    let unused = std::mem::take(&mut pipes.spare).into_iter().chain(pipes.sent);
    pipes.sent = unused.filter(|staging| store(core, pool, staging)).collect();
    pool.pipes().restore(pipes);
}

/// Stores the pipes that were made for jobs, and some in advance.
pub(crate) fn store_new(core: &mut Core<Outcome>, pool: &StagingPool) {
    if !pool.records().have_begun() {
        return;
    }
    if pool.take_is_short() {
        core.supervisor().free_descriptors(NO_COPIES_PERIOD);
    }
    note_proved(core, pool);
    let (made, missing) = {
        let mut pipes = pool.pipes();
        if core.is_all_sent() {
            let sent = std::mem::take(&mut pipes.sent);
            pipes.spare.extend(sent);
        }
        // What waits for a supervisor has copies of its descriptors there.
        let are_short = pipes.are_short();
        if !are_short && !core.is_all_sent() {
            core.note_unstored();
        }
        let spare_max = if are_short || !core.is_all_sent() { 0 } else { SPARE_MAX };
        let missing = spare_max.saturating_sub(pipes.unused().count());
        (std::mem::take(&mut pipes.made), missing)
    };
    store_in_use(core, pool, &made);
    for _ in 0..missing {
        let Some(staging) = pool.make().ok().filter(|staging| store(core, pool, staging)) else {
            return;
        };
        pool.pipes().sent.push(staging);
    }
}

/// Forgets the pipes that have ended.
pub(crate) fn forget_ended(core: &mut Core<Outcome>, pool: &StagingPool) {
    for key in pool.records().take_ended() {
        core.remove_stored(Kind::Pipe, key);
    }
}

/// Ends the pipes that were made in advance: nothing is in the store any more.
pub(crate) fn clear(pool: &StagingPool) {
    let pipes = std::mem::take(&mut *pool.pipes());
    pool.records().take_ended();
    pipes.unused().for_each(|staging| staging.set_key(None));
}

/// Notes which pipes the store has by now.
fn note_proved(core: &Core<Outcome>, pool: &StagingPool) {
    let mut unproved = std::mem::take(&mut pool.pipes().unproved);
    unproved.retain(|(key, pipe)| {
        let Some(pipe) = pipe.upgrade().filter(|pipe| pipe.key() == Some(*key)) else {
            return false;
        };
        let is_proved = core.is_stored(Kind::Pipe, *key);
        if is_proved {
            pipe.set_proved(*key);
        }
        !is_proved
    });
    pool.pipes().unproved.extend(unproved);
}

/// Returns whether it is stored, or will be.
fn store(core: &mut Core<Outcome>, pool: &StagingPool, staging: &StagingPipe) -> bool {
    let (reader, writer) = staging.ends();
    let (fds, change) = ([reader, writer], Change::default());
    let key = match staging.key() {
        None => core.store(Kind::Pipe, &fds, change),
        Some(key) => core.store_as(key, Kind::Pipe, &fds, change).then_some(key),
    };
    staging.set_key(key);
    if let Some(key) = key.filter(|_| pool.records().have_begun()) {
        pool.pipes().unproved.push((key, staging.downgrade()));
    }
    key.is_some()
}
