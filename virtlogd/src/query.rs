//! Logs in the answers of our read-only program. Nothing here waits, neither for a guest nor for a file.

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use common::fd_store::names::Kind;
use common::handover::text;
use common::query::{Bytes, Log, LogCounters, LogState, Page, Place, unix_s};
use common::server::Core;
use common::sys::file_id::FileId;
use common::sys::process;

use crate::guest::access::Guest;
use crate::guest::loss;
use crate::guest::pipe::GuestPipe;
use crate::guest::tally;
use crate::logs::outcome::Outcome;
use crate::logs::queue::LogQueue;
use crate::scheduler::Scheduler;

/// Puts the logs behind `after` on a page. A log's place is the number of its queue.
pub(crate) fn list(core: &Core<Outcome>, scheduler: &Scheduler, after: Place, page: &mut Page) {
    for (number, queue) in scheduler.table.above(after.number) {
        let Some(guest) = &queue.guest else { continue };
        let place = Place { number, holder: 0 };
        let limits = scheduler.rules.limits(&queue.path, guest.identity.name());
        let log = Log {
            place: place.to_string(),
            size_bytes_max: limits.size_bytes_max,
            backups_max: limits.backups_max,
            in_fd_store: queue.key.is_some_and(|key| core.is_stored(Kind::Log, key)),
            ..log(queue, guest)
        };
        if page.push(place, &log).is_break() {
            return;
        }
    }
}

/// Returns the counts of all logs, at the cost of a few additions.
pub(crate) fn counters(scheduler: &Scheduler) -> LogCounters {
    let tally = scheduler.workspaces.tally();
    let lost = loss::dropped_bytes_by_cause;
    let dropped = lost().filter(|(cause, _)| cause.is_at_pipe()).map(|(_, bytes)| bytes);
    let beside = dropped.fold(tally::buffered_bytes(), u64::wrapping_add);
    LogCounters {
        open: scheduler.open_logs() as u64,
        failing: scheduler.failing_logs() as u64,
        opened: scheduler.opened_logs(),
        read_bytes: tally.taken_bytes.wrapping_add(beside),
        written_bytes: tally.written_bytes,
        lost_bytes: lost().map(|(cause, bytes)| (cause.name().to_owned(), bytes)).collect(),
        loss_lines: tally.loss_lines,
        rotations: tally.rotations,
        write_errors: tally.write_errors,
        turns: tally.durations(),
    }
}

fn log(queue: &LogQueue, guest: &Guest) -> Log {
    let identity = &guest.identity;
    let pipe = guest.pipe();
    let state = state(queue, &pipe);
    let since = if state == LogState::Ok { None } else { since(queue, guest, &pipe) };
    Log {
        domain: Bytes::from(identity.name()),
        uuid: text::uuid(identity.uuid()),
        driver: Bytes::from(identity.driver()),
        path: Bytes::from(queue.path.as_os_str().as_bytes()),
        // This is no access that a guest can hold up.
        pipe_inode: FileId::of_open(&pipe.fd).ok().map(|id| id.number),
        size_bytes: pipe.activity.size_bytes(),
        last_minute_bytes: pipe.activity.last_minute_bytes(process::boot_time_ms()),
        rotations: pipe.activity.rotations().into(),
        lost_bytes: pipe.lost_bytes(),
        state,
        reason: (state != LogState::Ok).then(|| reason(queue, guest, &pipe)),
        since_unix_s: since.map(unix_s),
        ..Log::default()
    }
}

fn state(queue: &LogQueue, pipe: &GuestPipe) -> LogState {
    match pipe.backlog() {
        Some(backlog) if backlog.loss.is_some() => LogState::Losing,
        _ if queue.is_failing || queue.is_stalled() || queue.fetch.is_held_up() => {
            LogState::HeldBack
        }
        _ => LogState::Ok,
    }
}

fn reason(queue: &LogQueue, guest: &Guest, pipe: &GuestPipe) -> String {
    if guest.progress.is_at_peer() || queue.fetch.is_held_up() {
        return "the guest keeps its pipe locked".to_owned();
    }
    match pipe.backlog() {
        Some(backlog) if !backlog.reason.text.is_empty() => backlog.reason.text.clone(),
        _ => "the file system does not answer".to_owned(),
    }
}

fn since(queue: &LogQueue, guest: &Guest, pipe: &GuestPipe) -> Option<SystemTime> {
    let stalled = queue.is_stalled().then(|| guest.progress.pause());
    let stalled = stalled.and_then(|pause| SystemTime::now().checked_sub(pause));
    let backlog = pipe.backlog().map(|backlog| backlog.since());
    [stalled, backlog].into_iter().flatten().min()
}
