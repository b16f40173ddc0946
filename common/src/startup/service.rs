//! The interface between the start and a daemon.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::config;
use crate::handover::InheritedFds;
use crate::handover::document::{Document, Session};
use crate::rpc::Program;
use crate::server::{Caller, Core, Daemon};
use crate::sys::calls::Call;

/// A daemon, as its start sees it.
pub trait Service: Daemon {
    /// Name, from which its paths are made.
    const NAME: &'static str;
    /// Purpose, in one line for `--help`.
    const ABOUT: &'static str;
    /// Version.
    const VERSION: &'static str;
    /// Program on its main socket.
    const PROGRAM: Program;
    /// Keys of its configuration file besides [`config::Common::KEYS`].
    const CONFIG_KEYS: &'static [&'static str];
    /// It has a [file of our own settings](config::Toml).
    const HAS_TOML: bool = false;
    /// Optional system calls, with the cost of their lack.
    const COSTS: &'static [(Call, &'static str)];
    /// Values of these keys.
    type Settings;

    /// Reads its own keys.
    ///
    /// # Errors
    /// As the getters of [`config::Document`].
    fn configure(document: &config::Document) -> Result<Self::Settings, config::Error>;

    /// Adds what the file of our own settings says; an absent one is empty.
    ///
    /// # Errors
    /// [`config::Error::Toml`].
    fn configure_toml(_: &mut Self::Settings, _: &config::Toml<'_>) -> Result<(), config::Error> {
        Ok(())
    }

    /// Makes its state, empty.
    ///
    /// # Errors
    /// Any error of the system.
    fn create(settings: Self::Settings, core: &mut Core<Self::Outcome>) -> io::Result<Self>;

    /// Adopts its part of a predecessor's state; `clients` of the main server are adopted already.
    /// Unusable items are logged and left out.
    fn adopt(
        &mut self,
        core: &mut Core<Self::Outcome>,
        document: Document<'static>,
        clients: Vec<(Caller, Session)>,
        inherited: &mut InheritedFds,
    );

    /// Closes recovered fds that the journal no longer describes. They are still in the fd store
    /// for a moment.
    fn let_go(&mut self, _: &mut Core<Self::Outcome>, useless: Vec<OwnedFd>) {
        drop(useless);
    }

    /// Adopts inherited fds that no readable document describes, as guests depend on them.
    fn adopt_unclaimed(&mut self, core: &mut Core<Self::Outcome>, inherited: &mut InheritedFds);

    /// Returns whether closing an fd would harm an adopted item.
    fn must_stay_open(&self, _: BorrowedFd<'_>) -> bool {
        false
    }
}
