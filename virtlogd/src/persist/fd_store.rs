//! Logs in the supervisor's fd store, so that they outlive this process.
//!
//! The journal has the state of each log. The state of staging pipes changes with every turn, so it
//! is in [`crash_records`](crate::guest::crash_records).

use std::os::fd::AsFd;
use std::sync::Arc;

use common::fd_store::names::Kind;
use common::handover::document::Change;
use common::server::Core;

use crate::guest::access::Guest;
use crate::guest::staging::{StagingPipe, StagingPool};
use crate::logs::outcome::Outcome;
use crate::logs::queue::LogQueue;
use crate::logs::table::LogTable;
use crate::persist::save;
use crate::persist::staging_store;

/// Begins the records of whose bytes are in which staging pipe, behind those of the process before this
/// one.
pub(crate) fn begin(core: &mut Core<Outcome>, table: &LogTable, pool: &StagingPool) {
    if pool.records().have_begun() {
        return;
    }
    match core.essential_marks(Kind::StagingOwners, "virt-rs-marks") {
        Ok(slot_file) => pool.records().begin(slot_file),
        Err(error) => {
            return tracing::error!(
                target: "logging.log_handler",
                "Unable to record which logs staging pipes belong to: {error}"
            );
        }
    }
    for (key, staging) in backlog_stagings(table) {
        staging.set_owner(key);
    }
}

/// Stores everything, even what is in the store.
pub(crate) fn store_all(core: &mut Core<Outcome>, table: &mut LogTable, pool: &StagingPool) {
    for number in table.numbers() {
        if let Some(queue) = table.get_mut(number) {
            queue.journaled = None;
        }
        store_log(core, table, number);
    }
    staging_store::store_all(core, pool);
    staging_store::store_new(core, pool);
    staging_store::forget_ended(core, pool);
}

/// Stores what the store had no room for, until it has none for something.
pub(crate) fn store_unstored(core: &mut Core<Outcome>, table: &mut LogTable, pool: &StagingPool) {
    while let Some(number) = table.unstored.pop_first() {
        store_log(core, table, number);
        if table.unstored.contains(&number) {
            return;
        }
    }
    staging_store::store_new(core, pool);
    if pool.take_lacks_pipes() {
        staging_store::store_in_use(core, pool);
        // Bytes in pipes that are in the store now are safe from now on.
        for number in table.numbers() {
            store_log(core, table, number);
        }
    }
}

/// Stores a log, and the pipes that its bytes have come into or gone out of. In this order: what is
/// recorded of a pipe is true while it is there.
pub(crate) fn store_log_and_pipes(
    core: &mut Core<Outcome>,
    table: &mut LogTable,
    pool: &StagingPool,
    number: u64,
) {
    staging_store::store_new(core, pool);
    store_log(core, table, number);
    staging_store::forget_ended(core, pool);
}

/// Stores a log, or its state if that has changed, or forgets it if it has ended.
pub(crate) fn store_log(core: &mut Core<Outcome>, table: &mut LogTable, number: u64) {
    let is_stopping = table.is_stopping;
    if !core.has_store() {
        return;
    }
    let Some(queue) = table.get_mut(number) else { return };
    let guest = queue.guest.clone();
    if guest.is_none() && is_stopping {
        // It was stopped, and goes on in another process.
        return;
    }
    let guests_key = guest.as_ref().map(|guest| guest.pipe().key);
    if let Some(key) = queue.key.take_if(|key| guests_key != Some(Some(*key))) {
        core.remove_stored(Kind::Log, key);
    }
    let Some(guest) = guest else { return };
    let state = guest.pipe().journal_state();
    if queue.key.is_some() && queue.journaled.as_deref() == Some(&state) {
        return;
    }
    let had_key = queue.key;
    queue.key = send_log(core, queue, &guest);
    queue.journaled = Some(Box::new(state));
    if queue.key != had_key {
        guest.pipe().set_key(queue.key);
    }
    if queue.key.is_none() {
        table.unstored.insert(number);
    }
}

/// Forgets the key of a log or staging pipe that is not in the store after all.
pub(crate) fn remove_key(table: &mut LogTable, pool: &StagingPool, kind: Kind, key: u64) {
    match kind {
        Kind::Log => remove_log_key(table, key),
        _ => staging_store::remove_key(pool, key),
    }
}

/// Forgets all keys: nothing is in the store any more.
pub(crate) fn clear_keys(table: &mut LogTable, pool: &StagingPool) {
    for queue in table.iter_mut() {
        queue.key = None;
        queue.guest.iter().for_each(|guest| guest.pipe().set_key(None));
    }
    table.unstored.clear();
    staging_store::clear(pool);
}

/// Returns whether a log goes on in another process. Pipes with its bytes that are not in the store for
/// certain count as if they were not there at all.
pub(crate) fn goes_on(core: &Core<Outcome>, queue: &LogQueue) -> bool {
    if let Some(guest) = &queue.guest {
        let pipe = guest.pipe();
        let is_stored = |key: Option<u64>| key.is_some_and(|key| core.is_stored(Kind::Pipe, key));
        let doubtful = pipe.stagings().filter(|staging| !is_stored(staging.key()));
        doubtful.for_each(|staging| staging.set_key(None));
    }
    queue.key.is_some_and(|key| core.is_stored(Kind::Log, key))
}

fn send_log(core: &mut Core<Outcome>, queue: &LogQueue, guest: &Guest) -> Option<u64> {
    let change = Change { log: save::record(queue), ..Change::default() };
    let pipe = guest.pipe();
    let fds = [pipe.fd.as_fd()];
    match queue.key {
        Some(key) => core.store_as(key, Kind::Log, &fds, change).then_some(key),
        None => core.store(Kind::Log, &fds, change),
    }
}

fn remove_log_key(table: &mut LogTable, key: u64) {
    let number = table.iter().find(|(_, queue)| queue.key == Some(key)).map(|(number, _)| number);
    if let Some(queue) = number.and_then(|number| table.get_mut(number)) {
        queue.key = None;
        queue.guest.iter().for_each(|guest| guest.pipe().set_key(None));
    }
    table.unstored.extend(number);
}

/// Returns the staging pipes of backlogs, in the order of each log, with the log's key.
fn backlog_stagings(table: &LogTable) -> Vec<(Option<u64>, StagingPipe)> {
    let guests = table.iter().filter_map(|(_, queue)| queue.guest.as_ref());
    let staged = |guest: &Arc<Guest>| {
        let pipe = guest.pipe();
        let staged: Vec<_> =
            pipe.backlog().map(|backlog| backlog.staged.clone().into()).unwrap_or_default();
        staged.into_iter().map(move |staging| (pipe.key, staging)).collect::<Vec<_>>()
    };
    guests.flat_map(staged).collect()
}
