//! Why a call is refused: the one place where that becomes an error of the wire.

use std::fmt;
use std::time::SystemTime;

use common::rpc::error::{Code, Domain};
use common::rpc::{self};

use crate::error::file::{FileError, text};
use crate::lockspace::holders::Holder;

/// How many holders of a lease are named in the log. Ours.
const HOLDERS_NAMED_MAX: usize = 8;

/// Why a call is refused. Names and paths are bytes as clients gave them.
#[derive(Debug)]
pub(crate) enum LockError {
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
        holders: HolderSummary,
    },
    /// There is no lease to give back.
    NotLocked(Box<[u8]>),
    /// The caller has no lease to give back, but others have.
    NotHolder {
        /// The caller's, as registered.
        pid: u32,
        /// Who they are.
        holders: HolderSummary,
    },
    /// Something went wrong with the file.
    File(FileError),
}

/// Those who have a lease on a file, for the log; nobody when it is none of our clients.
#[derive(Debug, Default)]
pub(crate) struct HolderSummary {
    pub(crate) named: Vec<Holder>,
    /// How many there are beside those.
    more: usize,
}

impl HolderSummary {
    pub(crate) fn new<'a>(mut holders: impl Iterator<Item = &'a Holder>) -> Self {
        let named = holders.by_ref().take(HOLDERS_NAMED_MAX).cloned().collect();
        Self { named, more: holders.count() }
    }
}

impl fmt::Display for HolderSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.is_empty() {
            return out.write_str("a process that is no client of this daemon has it");
        }
        for (number, Holder { guest, since, held_before, .. }) in self.named.iter().enumerate() {
            let held = SystemTime::now().duration_since(*since).unwrap_or_default();
            let comma = if number > 0 { ", " } else { "" };
            let at_least = if *held_before { "at least " } else { "" };
            write!(out, "{comma}{guest} has had it for {at_least}{} s", held.as_secs())?;
        }
        if self.more > 0 { write!(out, ", and {} more", self.more) } else { Ok(()) }
    }
}

impl LockError {
    /// Who else has it, for the log; `None` when that is not why.
    pub(crate) fn holders(&self) -> Option<&HolderSummary> {
        match self {
            Self::Locked { holders, .. } | Self::NotHolder { holders, .. } => Some(holders),
            _ => None,
        }
    }
}

impl From<&LockError> for rpc::Error {
    fn from(refusal: &LockError) -> Self {
        let rpc = |code, detail| Self::new(code, Domain::Rpc, detail);
        let lockspace = |code, detail| Self::new(code, Domain::Lockspace, detail);
        match refusal {
            LockError::Restricted => {
                rpc(Code::OperationDenied, text(&[b"lock manager connection has been restricted"]))
            }
            LockError::Unregistered => {
                rpc(Code::OperationInvalid, text(&[b"lock owner details have not been registered"]))
            }
            LockError::NoLockspace(path) => {
                rpc(Code::InternalError, text(&[b"Lockspace for path ", path, b" does not exist"]))
            }
            LockError::DefaultLockspace => {
                rpc(Code::OperationInvalid, text(&[b"the default lockspace already exists"]))
            }
            LockError::LockspaceExists(path) => {
                rpc(Code::InternalError, text(&[b"Lockspace for path ", path, b" already exists"]))
            }
            LockError::TooManyLockspaces => {
                lockspace(Code::InternalError, text(&[b"there are too many lockspaces"]))
            }
            LockError::Locked { name, .. } => lockspace(
                Code::ResourceBusy,
                text(&[b"Lockspace resource '", name, b"' is locked"]),
            ),
            LockError::NotLocked(name) => lockspace(
                Code::ResourceBusy,
                text(&[b"Lockspace resource '", name, b"' is not locked"]),
            ),
            LockError::NotHolder { pid, .. } => lockspace(
                Code::InternalError,
                // libvirt's is a number with a sign.
                format!("owner {} does not hold the resource lock", pid.cast_signed()).into(),
            ),
            LockError::File(error) => error.to_rpc(),
        }
    }
}
