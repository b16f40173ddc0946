//! Logs as part of a state document, and as records of the fd store's journal.

use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;

use common::handover::document::{Document, Items, Log, LogHandler, PrivateLog};
use common::handover::text::{hex, text, uuid};
use common::handover::{FdSet, Successor};
use common::sys::fd;

use crate::guest::pipe::GuestPipe;
use crate::guest::staging::StagingPipe;
use crate::logs::queue::LogQueue;
use crate::logs::table::LogTable;
use crate::logs::writer::LogWriter;
use crate::persist::unclaimed_pipes::UnclaimedPipes;
use crate::rotating_file::SharedDirectory;

/// Puts all logs into `document`.
pub(crate) fn logs<'a>(
    table: &'a LogTable,
    unclaimed: &'a UnclaimedPipes,
    document: &mut Document<'a>,
    fd_set: &'a FdSet,
    successor: Successor,
) {
    let files = Items::lazy(move |sink| {
        // libvirt's daemons would die of an entry without a name.
        if successor == Successor::Ours {
            unclaimed.iter().map(|pipe| unclaimed_log(fd_set.fd(pipe))).for_each(&mut *sink);
        }
        table.iter().filter_map(|(_, queue)| save(queue, fd_set, successor)).for_each(sink);
    });
    document.handler = Some(LogHandler { files: Some(files) });
}

/// Returns the record of a log for the journal.
pub(crate) fn record(queue: &LogQueue) -> Option<Log> {
    save(queue, &FdSet::default(), Successor::Ours)
}

/// Returns the entry of a log; `None` for one that the reader could not take.
fn save(queue: &LogQueue, fd_set: &FdSet, successor: Successor) -> Option<Log> {
    let guest = queue.guest.as_ref()?;
    let path = &queue.path;
    let identity = &guest.identity;
    let pipe = guest.pipe();
    let is_text = path.to_str().is_some();
    if successor == Successor::Libvirt {
        let writer = queue.writer.as_deref();
        if !is_text || writer.and_then(LogWriter::not_to_be_opened).is_some() {
            return None;
        }
        // It takes EAGAIN for the end of the log. On a pipe of ours this cannot fail.
        fd::set_blocking(&pipe.fd).ok();
    }
    Some(Log {
        pipefd: Some(fd_set.fd(&pipe.fd)),
        path: Some(text(path.as_os_str().as_bytes())),
        driver: Some(text(identity.driver())),
        domname: Some(text(identity.name())),
        domuuid: Some(uuid(identity.uuid())),
        private: match successor {
            Successor::Ours => Some(PrivateLog {
                path: (!is_text).then(|| hex(path.as_os_str().as_bytes())),
                ..save_private(queue, &pipe, fd_set)
            }),
            Successor::Libvirt => None,
        },
    })
}

fn unclaimed_log(pipefd: i32) -> Log {
    Log { pipefd: Some(pipefd), ..Log::default() }
}

fn save_private(queue: &LogQueue, pipe: &GuestPipe, fd_set: &FdSet) -> PrivateLog {
    let (file, rotation_steps_left) =
        queue.writer.as_ref().map(|writer| writer.file()).unwrap_or_default();
    let backlog = pipe.backlog();
    // Nothing is in hand while everything is at rest, but for a crash.
    let staged = pipe.in_hand.iter().chain(backlog.iter().flat_map(|backlog| &backlog.staged));
    let mut pass = |staging: &StagingPipe| {
        let (reader, writer) = staging.ends();
        (fd_set.fd(reader), fd_set.fd(writer))
    };
    PrivateLog {
        key: queue.key,
        staged_keys: Some(staged.clone().map(|staging| staging.key().unwrap_or(0)).collect()),
        staged_bytes: None,
        after_crash: None,
        staged: Some(staged.map(&mut pass).collect()),
        file: file.map(|file| fd_set.fd(file)),
        rotation_steps_left,
        unfinished_line: backlog.map(|backlog| hex(&backlog.line)),
        line_target: backlog.and_then(|backlog| backlog.line_target),
        line_order: pipe.line_order().map(NonZeroU64::get),
        loss: backlog.and_then(|backlog| backlog.loss).map(|loss| loss.save()),
        reason: backlog.map(|backlog| backlog.reason.text.clone()),
        in_writing: pipe.in_writing.as_deref().copied(),
        directory: pipe.directory.as_ref().map(SharedDirectory::get),
        pipe_bytes: pipe.rate.enlarged_bytes(),
        path: None,
    }
}
