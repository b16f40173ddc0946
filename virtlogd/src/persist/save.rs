//! Logs as part of a state document, and back.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use common::handover::document::{Document, Items, Log, LogHandler, PrivateLog};
use common::handover::text::{hex, parse_uuid, text, unhex, uuid};
use common::handover::{Inherited, Passing, Reader};
use common::server::Core;
use common::sys::{fd, pipe};
use nix::errno::Errno;

use crate::guest::pipe::Intake;
use crate::guest::staging::Staging;
use crate::handler::{Handler, Outcome};
use crate::logs::queue::Lane;
use crate::logs::writer::Pump;
use crate::persist::restored_log::Legacy;
use crate::protocol::Domain;

/// Why a log cannot go on with libvirt's daemon.
const NO_TEXT: &str = "its path is no UTF-8";

impl Handler {
    /// Puts all logs into `document`.
    pub(crate) fn save_into<'a>(
        &'a self,
        document: &mut Document<'a>,
        passing: &'a Passing,
        reader: Reader,
    ) {
        let files = Items::shown(move |sink| {
            // libvirt's daemons would die of an entry without a name.
            if reader == Reader::Ours {
                self.orphans.iter().map(|pipe| orphan(passing.fd(pipe))).for_each(&mut *sink);
            }
            self.lanes().filter_map(|lane| save(lane, passing, reader)).for_each(sink);
        });
        document.handler = Some(LogHandler { files: Some(files) });
    }

    /// Takes over logs.
    pub(crate) fn adopt_from(
        &mut self,
        core: &mut Core<Outcome>,
        document: Document<'static>,
        inherited: &mut Inherited,
    ) {
        let logs = document.handler.and_then(|handler| handler.files);
        for log in logs.into_iter().flat_map(Items::into_vec) {
            let shown = log.path.clone().unwrap_or_default();
            if let Err(error) = self.adopt_log(core, log, inherited) {
                tracing::error!(
                    target: "logging.log_handler",
                    "The log '{shown}' that was handed over is lost: {error}"
                );
            }
        }
    }

    fn adopt_log(
        &mut self,
        core: &mut Core<Outcome>,
        from: Log,
        inherited: &mut Inherited,
    ) -> io::Result<()> {
        let guest = inherited.take_as(from.pipefd, Errno::EINVAL, |fd| pipe::is_pipe(fd))?;
        let private = from.private.unwrap_or_default();
        let path = private.path.as_deref().and_then(unhex).map(OsString::from_vec);
        let Some(path) = path.or(from.path.map(OsString::from)).map(PathBuf::from) else {
            tracing::error!(
                target: "logging.log_handler",
                "A guest's pipe was handed over without a path; its output is dropped"
            );
            return self.adopt_orphan(core, guest);
        };
        let domain = Domain {
            driver: from.driver.unwrap_or_default().into_bytes().into(),
            uuid: from.domuuid.as_deref().and_then(parse_uuid).unwrap_or_default(),
            name: from.domname.unwrap_or_default().into_bytes().into(),
        };
        if self.has_lane(&path) {
            tracing::error!(
                target: "logging.log_handler",
                "{} was handed over twice; what {domain} writes into the second is dropped",
                path.display()
            );
            return self.adopt_orphan(core, guest);
        }
        self.adopt(core, &path, guest, domain, legacy(private, inherited))
    }

    /// Pipes that were left without a word.
    pub(crate) fn salvage_from(&mut self, core: &mut Core<Outcome>, inherited: &mut Inherited) {
        while let Some(guest) = inherited.take_if(|fd| pipe::is_pipe(fd) && fd::is_readable(fd)) {
            tracing::error!(
                target: "logging.log_handler",
                "A pipe was handed over without a word; what is written into it is dropped"
            );
            if let Err(error) = self.adopt_orphan(core, guest) {
                tracing::error!(target: "logging.log_handler", "It is lost: {error}");
            }
        }
    }
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
        drop(fd::set_blocking(&intake.pipe));
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
        staged_keys: Some(staged.clone().map(Staging::key).collect()),
        staged_bytes: None,
        after_crash: None,
        staged: Some(staged.map(&mut pass).collect()),
        file: file.map(|file| passing.fd(file)),
        rotation_steps_left,
        unfinished_line: arrears.map(|arrears| hex(&arrears.line)),
        line_target: arrears.and_then(|arrears| arrears.line_target),
        line_order: (intake.line_order > 0).then_some(intake.line_order),
        loss: arrears.and_then(|arrears| arrears.loss).map(|loss| loss.save()),
        reason: arrears.map(|arrears| arrears.reason.clone()),
        in_writing: intake.in_writing.as_deref().copied(),
        directory: intake.directory,
        pipe_bytes: intake.flow.enlarged_bytes(),
        path: None,
    }
}

fn legacy(from: PrivateLog, inherited: &mut Inherited) -> Legacy {
    let file = inherited.take_as(from.file, Errno::EINVAL, |fd| fd::is_regular_file(fd));
    let mut take =
        |number| inherited.take_as(Some(number), Errno::EINVAL, |fd| pipe::is_pipe(fd)).ok();
    let keys = from.staged_keys.into_iter().flatten().chain(std::iter::repeat(0));
    let staged = from.staged.into_iter().flatten().zip(keys);
    Legacy {
        key: from.key,
        after_crash: from.after_crash == Some(true),
        staged: staged
            .filter_map(|((reader, writer), key)| Some(((take(reader)?, take(writer)?), key)))
            .collect(),
        file: file.ok().map(File::from),
        rotation_steps_left: from.rotation_steps_left,
        directory: from.directory,
        pipe_bytes: from.pipe_bytes,
        unfinished_line: from.unfinished_line.as_deref().and_then(unhex).unwrap_or_default(),
        line_target: from.line_target,
        line_order: from.line_order.unwrap_or(0),
        in_writing: from.in_writing,
        loss: from.loss.map(|loss| (loss, from.reason.unwrap_or_default())),
    }
}
