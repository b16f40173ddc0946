//! Logs as part of a state document, and as records of the fd store's journal.

use std::os::unix::ffi::OsStrExt;

use common::handover::document::{Document, Items, Log, LogHandler, PrivateLog};
use common::handover::text::{hex, text, uuid};
use common::handover::{Passing, Reader};
use common::sys::fd;

use crate::guest::pipe::Intake;
use crate::guest::staging::Staging;
use crate::logs::queue::Lane;
use crate::logs::table::LogTable;
use crate::logs::writer::Pump;
use crate::persist::unclaimed_pipes::Orphans;

/// Why a log cannot go on with libvirt's daemon.
const NO_TEXT: &str = "its path is no UTF-8";

/// Puts all logs into `document`.
pub(crate) fn logs<'a>(
    table: &'a LogTable,
    orphans: &'a Orphans,
    document: &mut Document<'a>,
    passing: &'a Passing,
    reader: Reader,
) {
    let files = Items::shown(move |sink| {
        // libvirt's daemons would die of an entry without a name.
        if reader == Reader::Ours {
            orphans.iter().map(|pipe| orphan(passing.fd(pipe))).for_each(&mut *sink);
        }
        table.iter().filter_map(|(_, lane)| save(lane, passing, reader)).for_each(sink);
    });
    document.handler = Some(LogHandler { files: Some(files) });
}

/// A log for the journal.
pub(crate) fn record(lane: &Lane) -> Option<Log> {
    save(lane, &Passing::default(), Reader::Ours)
}

/// `None` for one that the reader could not take.
fn save(lane: &Lane, passing: &Passing, reader: Reader) -> Option<Log> {
    let guest = lane.guest.as_ref()?;
    let path = &lane.path;
    let domain = &guest.domain;
    let intake = guest.intake();
    let is_text = path.to_str().is_some();
    if reader == Reader::Libvirts {
        let pump = lane.pump.as_deref();
        let trouble = if is_text { pump.and_then(Pump::not_to_be_opened) } else { Some(NO_TEXT) };
        if let Some(reason) = trouble {
            tracing::error!(
                target: "logging.log_handler",
                "The log of {domain}, {}, ends, as libvirt's daemon could not go on with it: {reason}",
                path.display()
            );
            return None;
        }
        if let Some(arrears) = intake.arrears() {
            tracing::error!(
                target: "logging.log_handler",
                "{} bytes of {domain} are lost, which could not be written into its log {}",
                arrears.bytes(), path.display()
            );
        }
        // It takes EAGAIN for the end of the log. On a pipe of ours this cannot fail.
        fd::set_blocking(&intake.pipe).ok();
    }
    Some(Log {
        pipefd: Some(passing.fd(&intake.pipe)),
        path: Some(text(path.as_os_str().as_bytes())),
        driver: Some(text(&domain.driver)),
        domname: Some(text(&domain.name)),
        domuuid: Some(uuid(&domain.uuid)),
        private: match reader {
            Reader::Ours => Some(PrivateLog {
                path: (!is_text).then(|| hex(path.as_os_str().as_bytes())),
                ..save_private(lane, &intake, passing)
            }),
            Reader::Libvirts => None,
        },
    })
}

fn orphan(pipefd: i32) -> Log {
    Log { pipefd: Some(pipefd), ..Log::default() }
}

fn save_private(lane: &Lane, intake: &Intake, passing: &Passing) -> PrivateLog {
    let (file, rotation_steps_left) =
        lane.pump.as_ref().map(|pump| pump.file()).unwrap_or_default();
    let arrears = intake.arrears();
    // Nothing is in hand while everything is at rest, but for a crash.
    let staged = intake.in_hand.iter().chain(arrears.iter().flat_map(|arrears| &arrears.kept));
    let mut pass = |staging: &Staging| {
        let (reader, writer) = staging.ends();
        (passing.fd(reader), passing.fd(writer))
    };
    PrivateLog {
        key: lane.key,
        staged_keys: Some(staged.clone().map(|staging| staging.key().unwrap_or(0)).collect()),
        staged_bytes: None,
        after_crash: None,
        staged: Some(staged.map(&mut pass).collect()),
        file: file.map(|file| passing.fd(file)),
        rotation_steps_left,
        unfinished_line: arrears.map(|arrears| hex(&arrears.line)),
        line_target: arrears.and_then(|arrears| arrears.line_target),
        line_order: intake.line_order,
        loss: arrears.and_then(|arrears| arrears.loss).map(|loss| loss.save()),
        reason: arrears.map(|arrears| arrears.reason.clone()),
        in_writing: intake.in_writing.as_deref().copied(),
        directory: intake.directory,
        pipe_bytes: intake.flow.enlarged_bytes(),
        path: None,
    }
}
