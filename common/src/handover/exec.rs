//! The exec, the only place that leaves fds open across it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::execve;
use thiserror::Error;

use super::document::Document;
use super::fds::FdSet;
use super::state::{self, Successor, VARIABLE, WriteError};
use super::target::{self, Target};
use crate::sys::errno::io_text;
use crate::sys::signal::Held;

/// Reason why no successor was executed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error(transparent)]
    State(#[from] WriteError),
    #[error("unable to keep an fd open: {}", io_text(.0))]
    Fd(io::Error),
    #[error("unable to prepare signals: {}", io_text(.0))]
    Signals(io::Error),
    #[error("unable to execute {target}: {}", io_text(error))]
    Exec { target: String, error: io::Error },
}

/// Executes the target in place of this program. Signals that arrive meanwhile stay pending for a
/// successor of ours. libvirt's daemons could not unblock them, and start with SIGUSR1 and SIGHUP
/// ignored until they have handlers.
///
/// # Errors
/// [`enum@Error`]; everything is restored: no fd stays open across an exec, the state file is
/// removed, and signals are handled once `signals` is dropped.
pub fn exec(
    target: &Target,
    successor: Successor,
    document: Document<'_>,
    state_file: &Path,
    fd_set: &FdSet,
    signals: &Held<'_>,
) -> Result<Infallible, Error> {
    target.check_unchanged()?;
    let written = state::write(document, successor, state_file, fd_set)?;
    let path = c_string(target.path.as_os_str())?;
    let arguments = target.arguments.iter().map(|argument| c_string(argument));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let environment = environment(written.memfd)?;
    let _kept_open = fd_set.keep_open().map_err(Error::Fd)?;
    let undo = match successor {
        Successor::Ours => None,
        Successor::Libvirt => Some(signals.release_for_stranger().map_err(Error::Signals)?),
    };
    let Err(errno) = execve(&path, &arguments, &environment);
    if let Some(undo) = undo {
        undo().map_err(Error::Signals)?;
    }
    Err(Error::Exec { target: target.path.display().to_string(), error: errno.into() })
}

/// Returns this process's environment, with the successor's variable.
fn environment(memfd: Option<i32>) -> Result<Vec<CString>, Error> {
    let ours = memfd.map(|number| (VARIABLE.into(), number.to_string().into()));
    let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    others
        .chain(ours)
        .map(|(name, value)| {
            c_string(OsStr::from_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        })
        .collect()
}

/// Converts an argument or environment entry. Those from the kernel never contain a NUL.
fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|error| Error::Exec {
        target: text.to_string_lossy().into_owned(),
        error: io::Error::other(error),
    })
}
