//! Answer to a predecessor that asks, in a child process, whether this program could take over.

use std::ffi::OsString;
use std::io::{self, Read};

use super::configuration::Configuration;
use super::service::Service;
use crate::cli::{self, Parsed, Paths};
use crate::handover::check::{OPTION, answer_text};
use crate::handover::document::{self, Daemon, Document};
use crate::sys::process;

/// Returns the arguments without the question, if it is asked. It has to come first and in full, so
/// that no abbreviated option is taken for it.
pub(super) fn asked(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (name, rest) = arguments.split_first()?;
    let (question, rest) = rest.split_first()?;
    let is_asked = question.to_str()?.strip_prefix("--") == Some(OPTION);
    is_asked.then(|| [std::slice::from_ref(name), rest].concat())
}

/// Reads everything that a successor would have to read. Returns the text for stdout, and whether
/// all is well.
pub(super) fn answer<S: Service>(arguments: Vec<OsString>) -> (String, bool) {
    let result = check::<S>(arguments);
    let is_well = result.is_ok();
    (answer_text(result), is_well)
}

fn check<S: Service>(arguments: Vec<OsString>) -> Result<(), String> {
    let program = cli::Program { name: S::NAME, about: S::ABOUT, version: S::VERSION };
    let Parsed::Run(options) = cli::parse(&program, arguments) else {
        return Err("it was started with options that this program does not run with".into());
    };
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).map_err(|error| format!("no document: {error}"))?;
    let document: Document<'_> = document::read(&bytes).map_err(|error| error.to_string())?;
    if document.magic.is_none() {
        return Err("the document names no process".into());
    }
    if let Some(other) = other_daemon(&document, S::NAME) {
        return Err(format!("it is {}, and the document is of {other}", S::NAME));
    }
    let paths = Paths::new(S::NAME, process::is_privileged(), |name| std::env::var_os(name));
    let paths = paths.map_err(|error| error.to_string())?;
    Configuration::<S>::check(&options, &paths).map_err(|failure| failure.to_string())
}

/// Returns the name of the daemon whose document this is, if not `name`. A daemon's main server has
/// its name.
fn other_daemon<'a>(document: &'a Document<'_>, name: &str) -> Option<&'a str> {
    let Some(Daemon::Named { servers }) = &document.daemon else { return None };
    servers.keys().map(String::as_str).find(|server| ![name, "admin"].contains(server))
}

#[cfg(test)]
mod tests;
