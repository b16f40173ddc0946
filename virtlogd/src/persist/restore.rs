//! Logs that a process before this one has handed over, from its state document or the fd store.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::iter;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use common::handover::InheritedFds;
use common::handover::document::{Document, Items, Log, PrivateLog};
use common::handover::text::{parse_uuid, unhex};
use common::sys::{fd, pipe};
use nix::errno::Errno;

use crate::logs::restored_file::RestoredFile;
use crate::message::log_about;
use crate::persist::restored_log::{RestoredLog, RestoredPipe};
use crate::protocol::GuestIdentity;

/// An item that was handed over.
#[derive(Debug)]
pub(crate) enum Restored {
    /// A log.
    Log(Box<RestoredLog>),
    /// A guest's pipe without a path.
    Unclaimed(OwnedFd),
}

/// Passes each log in `document` to `adopt`; logs which of them cannot be adopted.
pub(crate) fn each_log(
    document: Document<'static>,
    inherited: &mut InheritedFds,
    mut adopt: impl FnMut(Restored) -> io::Result<()>,
) {
    let logs = document.handler.and_then(|handler| handler.files);
    for log in logs.into_iter().flat_map(Items::into_vec) {
        let shown = log.path.clone().unwrap_or_default();
        if let Err(error) = restored(log, inherited).and_then(&mut adopt) {
            tracing::error!(
                target: "logging.log_handler",
                "Unable to adopt the log '{shown}' that was handed over: {error}"
            );
        }
    }
}

/// Passes each guest's pipe that no document names to `adopt`.
pub(crate) fn each_unnamed_pipe(
    inherited: &mut InheritedFds,
    mut adopt: impl FnMut(OwnedFd) -> io::Result<()>,
) {
    while let Some(guest) = inherited.take_if(|fd| pipe::is_pipe(fd) && fd::is_readable(fd)) {
        tracing::error!(
            target: "logging.log_handler",
            "A pipe was handed over that no state document names; its output is dropped"
        );
        if let Err(error) = adopt(guest) {
            tracing::error!(
                target: "logging.log_handler", "Unable to adopt an inherited pipe: {error}"
            );
        }
    }
}

fn restored(from: Log, inherited: &mut InheritedFds) -> io::Result<Restored> {
    let pipe = inherited.take_as(from.pipefd, Errno::EINVAL, |fd| pipe::is_pipe(fd))?;
    let private = from.private.unwrap_or_default();
    let path = private.path.as_deref().and_then(unhex).map(OsString::from_vec);
    let Some(path) = path.or(from.path.map(OsString::from)).map(PathBuf::from) else {
        tracing::error!(
            target: "logging.log_handler",
            "A guest's pipe was handed over without a path; its output is dropped"
        );
        return Ok(Restored::Unclaimed(pipe));
    };
    let uuid = from.domuuid.as_deref().and_then(parse_uuid).unwrap_or_default();
    let [driver, name] = [from.driver, from.domname].map(Option::unwrap_or_default);
    let identity = GuestIdentity::new(driver.as_bytes(), uuid, name.as_bytes());
    let (state, file) = restored_state(private, (&identity, &path), inherited);
    Ok(Restored::Log(Box::new(RestoredLog { path, identity, pipe, state, file })))
}

fn restored_state(
    from: PrivateLog,
    (identity, path): (&GuestIdentity, &Path),
    inherited: &mut InheritedFds,
) -> (RestoredPipe, RestoredFile) {
    let file = inherited.take_as(from.file, Errno::EINVAL, |fd| fd::is_regular_file(fd));
    let mut take = |ends| {
        let say = |error: &io::Error| {
            log_about!(
                error,
                identity,
                path,
                "Unable to adopt bytes of {identity} that were handed over: {error}"
            );
        };
        inherited.take_pipe(ends).inspect_err(say).ok()
    };
    let keys = from.staged_keys.into_iter().flatten().map(|key| Some(key).filter(|&key| key != 0));
    let staged = from.staged.into_iter().flatten().zip(keys.chain(iter::repeat(None)));
    let state = RestoredPipe {
        key: from.key,
        staged: staged.filter_map(|(ends, key)| Some((take(ends)?, key))).collect(),
        directory: from.directory,
        pipe_bytes: from.pipe_bytes,
        unfinished_line: from.unfinished_line.as_deref().and_then(unhex).unwrap_or_default(),
        line_target: from.line_target,
        line_order: from.line_order.and_then(NonZeroU64::new),
        in_writing: from.in_writing,
        loss: from.loss.map(|loss| (loss, from.reason.unwrap_or_default())),
    };
    let file = RestoredFile {
        file: file.ok().map(File::from),
        directory: from.directory,
        rotation_steps_left: from.rotation_steps_left,
        after_crash: from.after_crash == Some(true),
    };
    (state, file)
}

#[cfg(test)]
mod tests;
