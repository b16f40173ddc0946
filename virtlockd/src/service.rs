//! Start of the daemon.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use common::config::{Document, Error, Toml};
use common::handover::{InheritedFds, document};
use common::rpc::Program;
use common::server::Caller;
use common::startup::Service;
use common::sys::calls::Call;
use common::sys::file_id::FileId;

use crate::connections::handle_deferred_ends;
use crate::handler::Handler;
use crate::outcome::Core;
use crate::persist::fd_store::unlock_all;
use crate::persist::restore::{adopt_unclaimed, restore};
use crate::proof::policy::Policy;
use crate::protocol::{self, NAME};

/// Settings of the daemon's own.
#[derive(Debug, Default)]
pub struct Settings {
    policy: Policy,
}

/// Cost of doing without a system call; see `common/SYSTEM_CALLS.md`.
const COSTS: [(Call, &str); 3] = [
    (
        Call::OfdLock,
        "leases are POSIX locks, as libvirt's: they end with this process, and an image that is leased \
         cannot be leased under another name, not even shared",
    ),
    (
        Call::PidfdOpen,
        "a guest's end is looked for in /proc and noticed 250 ms late, and a guest that /proc hides \
         is not watched",
    ),
    (
        Call::PidfdSendSignal,
        "a guest that must end is signalled by its pid, right after a check that the pid is still its own",
    ),
];

impl Service for Handler {
    const NAME: &'static str = NAME;
    const ABOUT: &'static str = "Holds the disk leases of virtual machines for libvirt";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PROGRAM: Program = protocol::PROGRAM;
    const CONFIG_KEYS: &'static [&'static str] = &[];
    const HAS_TOML: bool = true;
    const COSTS: &'static [(Call, &'static str)] = &COSTS;
    type Settings = Settings;

    fn configure(_: &Document) -> Result<Settings, Error> {
        Ok(Settings::default())
    }

    fn configure_toml(settings: &mut Settings, toml: &Toml<'_>) -> Result<(), Error> {
        settings.policy = Policy::read(toml)?;
        Ok(())
    }

    fn create(settings: Settings, _: &mut Core) -> io::Result<Self> {
        Ok(Self::new(settings.policy))
    }

    fn adopt(
        &mut self,
        core: &mut Core,
        document: document::Document<'static>,
        clients: Vec<(Caller, document::Session)>,
        inherited: &mut InheritedFds,
    ) {
        restore(&mut self.state, core, document, clients, inherited);
        handle_deferred_ends(&mut self.state, core);
    }

    fn let_go(&mut self, core: &mut Core, useless: Vec<OwnedFd>) {
        unlock_all(core, useless);
    }

    /// Protects fds that nobody claimed. They stay open without this daemon's doing, but their
    /// files must not be opened again.
    fn adopt_unclaimed(&mut self, _: &mut Core, inherited: &mut InheritedFds) {
        adopt_unclaimed(&self.state, inherited);
    }

    fn must_stay_open(&self, fd: BorrowedFd<'_>) -> bool {
        FileId::of_open(fd).is_ok_and(|file_id| self.state.local_locks.posix.contains(file_id))
    }
}
