//! A daemon, as far as starting it is concerned.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::config;
use crate::handover::InheritedFds;
use crate::handover::document::{Document, Session};
use crate::rpc::Program;
use crate::server::{Caller, Core, Daemon};
use crate::sys::calls::Call;

/// A daemon, as far as starting it is concerned.
pub trait Service: Daemon {
    /// Its name, from which its paths are made.
    const NAME: &'static str;
    /// One line on what it does, for `--help`.
    const ABOUT: &'static str;
    /// Its version.
    const VERSION: &'static str;
    /// The program on its main socket.
    const PROGRAM: Program;
    /// Keys of its configuration file beside [`config::Common::KEYS`].
    const CONFIG_KEYS: &'static [&'static str];
    /// System calls that need not be there, and what it costs to do without.
    const COSTS: &'static [(Call, &'static str)];
    /// What those keys say.
    type Settings;

    /// Reads its own keys.
    ///
    /// # Errors
    /// As the getters of [`config::Document`].
    fn configure(document: &config::Document) -> Result<Self::Settings, config::Error>;

    /// Makes its state, with nothing in it.
    ///
    /// # Errors
    /// Whatever the kernel reports.
    fn create(settings: Self::Settings, core: &mut Core<Self::Outcome>) -> io::Result<Self>;

    /// Takes over its part of what an earlier image of this process has left; `clients` of its
    /// own server are there already. What cannot be used is said and costs only itself.
    fn adopt(
        &mut self,
        core: &mut Core<Self::Outcome>,
        document: Document<'static>,
        clients: Vec<(Caller, Session)>,
        inherited: &mut InheritedFds,
    );

    /// Lets go of fds that came out of the fd store, where they still are for a moment, and that the
    /// journal says nothing of any more.
    fn let_go(&mut self, _: &mut Core<Self::Outcome>, useless: Vec<OwnedFd>) {
        drop(useless);
    }

    /// Looks at fds that were inherited without a word that could be understood: nobody must
    /// suffer from their being left alone.
    fn adopt_unclaimed(&mut self, core: &mut Core<Self::Outcome>, inherited: &mut InheritedFds);

    /// Whether closing an fd would do harm to what was adopted.
    fn must_stay_open(&self, _: BorrowedFd<'_>) -> bool {
        false
    }
}
