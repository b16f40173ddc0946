//! Why a call is refused: the one place where that becomes an error of the wire.

use std::time::SystemTime;

use common::rpc::error::{Code, Domain};
use common::rpc::{self};

use crate::file::Failure;
use crate::resource::Holding;

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
        /// Who it is; `None` when it is none of our clients.
        holder: Option<Holding>,
    },
    /// There is no lease to give back.
    NotLocked(Box<[u8]>),
    /// The caller, an owner with this pid, has no lease to give back.
    NotHolder(u32),
    /// Something went wrong with the file.
    File(Failure),
}

impl Refusal {
    /// Who else has it, for the log; `None` when that is not why.
    pub(crate) fn holder(&self) -> Option<String> {
        let Self::Locked { holder, .. } = self else {
            return None;
        };
        Some(match holder {
            None => "a process that is no client of this daemon has it".to_owned(),
            Some(Holding { guest, since, .. }) => {
                let held = SystemTime::now().duration_since(*since).unwrap_or_default();
                format!("{guest} has had it for {} s", held.as_secs())
            }
        })
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
            Refusal::NotHolder(pid) => lockspace(
                Code::InternalError,
                format!("owner {pid} does not hold the resource lock").into(),
            ),
            Refusal::File(failure) => failure.to_rpc(),
        }
    }
}

/// Joins the parts of a text.
pub(crate) fn text(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
