//! Staging pipes in the supervisor's fd store. Nothing is done without one.

use std::time::Duration;

use common::fd_store::names::Kind;
use common::handover::document::Change;
use common::server::Core;

use crate::guest::staging::pool::Pipes;
use crate::guest::staging::{StagingPipe, StagingPool};
use crate::logs::outcome::Outcome;

/// Time after a shortage of descriptors in which none are copied for a slow supervisor: longer than a log
/// that could not be written is left alone.
const NO_COPIES_PERIOD: Duration = Duration::from_secs(1);

/// Stores all pipes, those in use first.
pub(crate) fn store_all(core: &mut Core<Outcome>, pool: &StagingPool) {
    let (in_use, unused) = pool.take_unused();
    store_used(core, pool, &in_use);
    let sent = unused.into_iter().filter(|staging| store(core, pool, staging)).collect::<Vec<_>>();
    pool.pipes().sent.extend(sent);
}

/// Stores the pipes that are in use.
pub(crate) fn store_in_use(core: &mut Core<Outcome>, pool: &StagingPool) {
    store_used(core, pool, &pool.in_use());
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
        let missing = if are_short || !core.is_all_sent() { 0 } else { pipes.missing() };
        (std::mem::take(&mut pipes.made), missing)
    };
    store_used(core, pool, &made);
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

/// Forgets the key of a pipe that is not in the store after all.
pub(crate) fn remove_key(pool: &StagingPool, key: u64) {
    let is_it = |staging: &StagingPipe| staging.key() == Some(key);
    let ended: Vec<_> = {
        let mut pipes = pool.pipes();
        let Pipes { spare, sent, .. } = &mut *pipes;
        let spare = spare.extract_if(.., |staging| is_it(staging));
        spare.chain(sent.extract_if(.., |staging| is_it(staging))).collect()
    };
    pool.all().iter().filter(|staging| is_it(staging)).for_each(|staging| staging.set_key(None));
    drop(ended);
}

/// Forgets all keys, and ends the pipes that were made in advance: nothing is in the store any more.
pub(crate) fn clear(pool: &StagingPool) {
    let pipes = std::mem::take(&mut *pool.pipes());
    pool.records().take_ended();
    pool.all().iter().for_each(|staging| staging.set_key(None));
    drop(pipes);
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

fn store_used(core: &mut Core<Outcome>, pool: &StagingPool, stagings: &[StagingPipe]) {
    for staging in stagings {
        let is_stored = store(core, pool, staging);
        pool.note_in_use(is_stored);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_a_jobs_hands_loses_its_key_too() {
        let pool = StagingPool::default();
        for key in 3..6 {
            let pipe = pool.make().unwrap();
            pipe.set_key(Some(key));
            pool.pipes().spare.push(pipe);
        }
        let in_hand = pool.take().unwrap();
        let key = in_hand.key().unwrap();
        remove_key(&pool, key);
        assert_eq!(in_hand.key(), None, "the key goes to another pipe now");
        remove_key(&pool, key - 1);
        assert_eq!(pool.pipes().unused().filter_map(StagingPipe::key).collect::<Vec<_>>(), [3]);
        let last = pool.take().unwrap();
        clear(&pool);
        assert_eq!(last.key(), None);
    }
}
