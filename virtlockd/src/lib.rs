//! virtlockd: holds leases on disk images for guests, so that two guests never have one disk.
//!
//! A call is checked by the [`handler`] and becomes a task for a [resource](resource) of a
//! [`lockspace`]; what touches files is a [job](file) in between. Leases belong to [owners](owner),
//! processes whose death is [watched](ending).
//!
//! Invariants, because they are absences that nobody can see in the code:
//! - Only [`file`] opens, closes, makes or removes a path that a client named, and only in jobs.
//!   One job at a time works on a resource.
//! - Whether two names are one file is never decided here: each name has a lock of its own on an
//!   open file description of its own, and the kernel knows. So closing one name's file never
//!   harms another's lock, and no table can be wrong about it.
//! - No process is ever signalled by its number, nor taken for dead because of it: both go by
//!   pidfd, and where there is none, nothing is done.
//! - A file's content is never read or written.

mod ending;
mod file;
mod handler;
mod lockspace;
mod owner;
mod protocol;
mod refusal;
mod resource;
mod session;

use std::io;

use common::config::{Document, Error};
use common::rpc::Program;
use common::server::Core;
use common::startup::Service;

pub use handler::{Handler, Outcome};

impl Service for Handler {
    const NAME: &'static str = "virtlockd";
    const ABOUT: &'static str = "Holds the disk leases of virtual machines for libvirt";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PROGRAM: Program = protocol::PROGRAM;
    const CONFIG_KEYS: &'static [&'static str] = &[];
    type Settings = ();

    fn configure(_: &Document) -> Result<(), Error> {
        Ok(())
    }

    fn create((): (), _: &mut Core<Outcome>) -> io::Result<Self> {
        Ok(Self::new())
    }
}
