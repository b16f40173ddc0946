//! virtlogd: owns the pipes that guests write their logs into, and keeps the files.
//!
//! A call or a ready pipe becomes a [task](logs::task) in its path's [queue](logs::queue), which
//! the [`scheduler`] starts. A task works on a log's [writer](logs::writer): guest's pipe ->
//! [staging pipe](guest::staging) -> [`rotating_file`]. A job and the loop share the [guest's
//! pipe](guest::pipe), so that the guest does not wait while the job hangs.
//!
//! Five journeys through the code, and a glossary, are in the documentation of [`common`]; behaviour and
//! settings are in `virtlogd/README.md`.
//!
//! Invariants; they are absences that no code shows:
//! - A guest's bytes are taken out of a pipe by a read only when they are stored already, or can
//!   only be dropped. Bytes that have to be looked at are copied. The exception is where `splice` or
//!   `tee` are refused ([staging pipes](guest::staging)).
//! - The only text in a log that no guest or client has sent is the line of [`guest::loss`].
//! - Nothing beside the log and its numbered older parts is created.

mod budgets;
pub mod cleaner;
pub mod config;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guest;
mod handler;
mod logs;
mod message;
mod persist;
mod protocol;
mod query;
pub mod rotating_file;
pub mod rules;
mod scheduler;
mod stop;
pub mod tool;

use std::io;
// Named through the crate where the models in `tests/models` put another in its place.
use std::sync;

use common::config::{Document, Error, Toml};
use common::handover::{InheritedFds, document};
use common::rpc::Program;
use common::server::{Caller, Core};
use common::startup::Service;
use common::sys::calls::Call;

pub use handler::Handler;
pub use logs::outcome::Outcome;

use crate::config::Settings;
use crate::rules::Rules;

/// See `common/SYSTEM_CALLS.md`.
const COSTS: [(Call, &str); 2] = [
    (
        Call::Splice,
        "a guest's output goes through memory, and a kill -9 may lose up to 4 KiB of it",
    ),
    (
        Call::Tee,
        "where a log is near its full size a kill -9 may lose the last 80 bytes of output, and up to \
         4 KiB on a file system that cannot splice",
    ),
];

impl Service for Handler {
    const NAME: &'static str = "virtlogd";
    const ABOUT: &'static str = "Keeps the logs of virtual machines for libvirt";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PROGRAM: Program = protocol::PROGRAM;
    const CONFIG_KEYS: &'static [&'static str] = &config::KEYS;
    const HAS_TOML: bool = true;
    const COSTS: &'static [(Call, &'static str)] = &COSTS;
    type Settings = Settings;

    fn configure(document: &Document) -> Result<Settings, Error> {
        Settings::read(document)
    }

    fn configure_toml(settings: &mut Settings, toml: &Toml<'_>) -> Result<(), Error> {
        settings.rules = Rules::read(toml, settings.rules.defaults())?;
        Ok(())
    }

    fn create(settings: Settings, core: &mut Core<Outcome>) -> io::Result<Self> {
        Self::new(settings, core)
    }

    fn adopt(
        &mut self,
        core: &mut Core<Outcome>,
        document: document::Document<'static>,
        _: Vec<(Caller, document::Session)>,
        inherited: &mut InheritedFds,
    ) {
        self.adopt_logs(core, document, inherited);
    }

    fn adopt_unclaimed(&mut self, core: &mut Core<Outcome>, inherited: &mut InheritedFds) {
        self.adopt_unnamed(core, inherited);
    }
}
