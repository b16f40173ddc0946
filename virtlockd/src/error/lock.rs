//! Why a call is refused: the one place where that becomes an error of the wire.

use std::fmt;
use std::time::SystemTime;

use common::rpc::error::{Code, Domain};
use common::rpc::{self};

use crate::error::file::{Failure, text};
use crate::lockspace::holders::Holding;

/// How many holders of a lease are named in the log. Ours.
const HOLDERS_NAMED_MAX: usize = 8;

/// Why a call is refused. Names and paths are bytes as clients gave them.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The connection gave up its rights.
    Restricted,
    /// The connection speaks for nobody.
    Unregistered,
    /// There is no such lockspace.
    NoLockspace(Box<[u8]>),
    /// NEW of the default lockspace.
    DefaultLockspace,
    /// NEW of a lockspace that is there.
    LockspaceExists(Box<[u8]>),
    /// The table of lockspaces is full.
    TooManyLockspaces,
    /// Somebody has a lease that excludes what is asked for.
    Locked {
        /// The name that was asked for.
        name: Box<[u8]>,
        /// Who it is.
        holders: Holders,
    },
    /// There is no lease to give back.
    NotLocked(Box<[u8]>),
    /// The caller has no lease to give back, but others have.
    NotHolder {
        /// The caller's, as registered.
        pid: u32,
        /// Who they are.
        holders: Holders,
    },
    /// Something went wrong with the file.
    File(Failure),
}

/// Those who have a lease on a file, for the log; nobody when it is none of our clients.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    pub(crate) named: Vec<Holding>,
    /// How many there are beside those.
    more: usize,
}

impl Holders {
    pub(crate) fn new<'a>(mut holders: impl Iterator<Item = &'a Holding>) -> Self {
        let named = holders.by_ref().take(HOLDERS_NAMED_MAX).cloned().collect();
        Self { named, more: holders.count() }
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.is_empty() {
            return out.write_str("a process that is no client of this daemon has it");
        }
        for (number, Holding { guest, since, was_had_before, .. }) in self.named.iter().enumerate()
        {
            let held = SystemTime::now().duration_since(*since).unwrap_or_default();
            let comma = if number > 0 { ", " } else { "" };
            let at_least = if *was_had_before { "at least " } else { "" };
            write!(out, "{comma}{guest} has had it for {at_least}{} s", held.as_secs())?;
        }
        if self.more > 0 { write!(out, ", and {} more", self.more) } else { Ok(()) }
    }
}

impl Refusal {
    /// Who else has it, for the log; `None` when that is not why.
    pub(crate) fn holders(&self) -> Option<&Holders> {
        match self {
            Self::Locked { holders, .. } | Self::NotHolder { holders, .. } => Some(holders),
            _ => None,
        }
    }
}

impl From<&Refusal> for rpc::Error {
    fn from(refusal: &Refusal) -> Self {
        let rpc = |code, detail| Self::new(code, Domain::Rpc, detail);
        let lockspace = |code, detail| Self::new(code, Domain::Lockspace, detail);
        match refusal {
            Refusal::Restricted => {
                rpc(Code::OperationDenied, text(&[b"lock manager connection has been restricted"]))
            }
            Refusal::Unregistered => {
                rpc(Code::OperationInvalid, text(&[b"lock owner details have not been registered"]))
            }
            Refusal::NoLockspace(path) => {
                rpc(Code::InternalError, text(&[b"Lockspace for path ", path, b" does not exist"]))
            }
            Refusal::DefaultLockspace => {
                rpc(Code::OperationInvalid, text(&[b"the default lockspace already exists"]))
            }
            Refusal::LockspaceExists(path) => {
                rpc(Code::InternalError, text(&[b"Lockspace for path ", path, b" already exists"]))
            }
            Refusal::TooManyLockspaces => {
                lockspace(Code::InternalError, text(&[b"there are too many lockspaces"]))
            }
            Refusal::Locked { name, .. } => lockspace(
                Code::ResourceBusy,
                text(&[b"Lockspace resource '", name, b"' is locked"]),
            ),
            Refusal::NotLocked(name) => lockspace(
                Code::ResourceBusy,
                text(&[b"Lockspace resource '", name, b"' is not locked"]),
            ),
            Refusal::NotHolder { pid, .. } => lockspace(
                Code::InternalError,
                // libvirt's is a number with a sign.
                format!("owner {} does not hold the resource lock", pid.cast_signed()).into(),
            ),
            Refusal::File(failure) => failure.to_rpc(),
        }
    }
}
