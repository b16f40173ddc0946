//! virtlockd: holds leases on disk images for guests, so that two guests never have one disk.
//!
//! A call is checked by the [`handler`] and becomes a task for a [resource](lockspace::resource) of a
//! [lockspace](lockspace::table); what touches files is a [job](lease::job) in between. Leases belong to [owners](owner::owners),
//! processes that are [watched](owner::lifecycle) for their [end](owner::signals).
//!
//! Five journeys through the code, and a glossary, are in the documentation of [`common`]; behaviour and
//! settings are in `virtlockd/README.md`.
//!
//! Invariants, because they are absences that nobody can see in the code:
//! - Only [`lease::job`] opens, closes, makes or removes a path that a client named, and [`lease::directory`]
//!   makes those of lockspaces, and only in jobs. One job at a time works on a resource.
//! - Whether two names are one file is never decided here: each name has a lock of its own on an
//!   open file description of its own, and the kernel knows. So closing one name's file never
//!   harms another's lock, and no table can be wrong about it. What the kernel does not know is which
//!   nodes are one block [device](lease::devices), and that we must not open what has a [POSIX lock](lease::posix_locks) of
//!   ours.
//! - No process is ever signalled by its number, only by its pidfd, and where there is none, nothing
//!   is done. (Where the kernel has no pidfds `sys` makes do with numbers and start times.) One is taken for dead when its pidfd says so; when no process had its number as it
//!   was registered (and one could have it: made-up pids of no process are left alone); or when the
//!   number that it was [known by](owner::identity) is another process's, or nobody's, later.
//! - A file's content is never read or written.

mod error;
mod handler;
mod lease;
mod lockspace;
mod owner;
mod persist;
mod protocol;
mod session;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use common::config::{Document, Error};
use common::handover::{Inherited, document};
use common::rpc::Program;
use common::server::{Caller, Core};
use common::startup::Service;
use common::sys::calls::Call;

pub use handler::{Handler, Outcome};
use lease::inode::Inode;

/// The name of the daemon and its server.
const NAME: &str = "virtlockd";

/// See `common/SYSTEM_CALLS.md`.
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
        "a guest that must end is signalled by its number, right after a look at whose that is",
    ),
];

impl Service for Handler {
    const NAME: &'static str = NAME;
    const ABOUT: &'static str = "Holds the disk leases of virtual machines for libvirt";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PROGRAM: Program = protocol::PROGRAM;
    const CONFIG_KEYS: &'static [&'static str] = &[];
    const COSTS: &'static [(Call, &'static str)] = &COSTS;
    type Settings = ();

    fn configure(_: &Document) -> Result<(), Error> {
        Ok(())
    }

    fn create((): (), _: &mut Core<Outcome>) -> io::Result<Self> {
        Ok(Self::new())
    }

    fn adopt(
        &mut self,
        core: &mut Core<Outcome>,
        document: document::Document<'static>,
        clients: Vec<(Caller, document::Session)>,
        inherited: &mut Inherited,
    ) {
        self.adopt_from(core, document, clients, inherited);
    }

    fn let_go(&mut self, core: &mut Core<Outcome>, useless: Vec<OwnedFd>) {
        self.unlock_all(core, useless);
    }

    /// Whatever may be locked stays open without our doing, but it must not be opened again.
    fn salvage(&mut self, _: &mut Core<Outcome>, inherited: &mut Inherited) {
        self.protect_unknown(inherited);
    }

    fn must_stay_open(&self, fd: BorrowedFd<'_>) -> bool {
        Inode::of_open(fd).is_ok_and(|inode| self.files.posix.has(inode))
    }
}
