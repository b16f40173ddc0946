//! Refused call, and its error on the wire.

use common::rpc;
use common::rpc::error::{Code, Domain};

use crate::error::file::{FileError, text};
use crate::lockspace::holders::HolderSummary;

/// Refused call. Names and paths are bytes as clients gave them.
#[derive(Debug)]
pub(crate) enum LockError {
    /// The connection has given up its rights.
    Restricted,
    /// The connection is not registered.
    Unregistered,
    /// The lockspace does not exist.
    NoLockspace(Box<[u8]>),
    /// NEW of the default lockspace.
    DefaultLockspace,
    /// NEW of a lockspace that exists.
    LockspaceExists(Box<[u8]>),
    /// The table of lockspaces is full.
    TooManyLockspaces,
    /// A lease excludes the requested one.
    Locked {
        /// Requested name.
        name: Box<[u8]>,
        /// Holders of the lease.
        holders: HolderSummary,
    },
    /// The resource has no lease to release.
    NotLocked(Box<[u8]>),
    /// The caller has no lease to release, but others have.
    NotHolder {
        /// Pid of the caller, as registered.
        pid: u32,
        /// Holders of the lease.
        holders: HolderSummary,
    },
    /// An operation on the file failed.
    File(FileError),
}

impl LockError {
    /// Returns the holders that the call was refused for, if any.
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
                // libvirt's number has a sign.
                format!("owner {} does not hold the resource lock", pid.cast_signed()).into(),
            ),
            LockError::File(error) => error.to_rpc(),
        }
    }
}
