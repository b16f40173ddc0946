//! Connection to a client: its registration and its rights.

use common::server::Caller;

use crate::error::lock::LockError;
use crate::owner::registration::Registration;
use crate::protocol::{Guest, Request};

/// Connection that has made a call.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// Owner and guest that it is registered for.
    pub(crate) registration: Option<Registration>,
    pub(crate) is_restricted: bool,
    pub(crate) has_call_in_flight: bool,
    /// Whether it is the guest's own connection, which closes with the guest.
    pub(crate) is_own: bool,
    /// Whether it had been closed before this process got it.
    pub(crate) was_closed: bool,
    /// End of the connection, which takes effect after the call in flight.
    pub(crate) disconnect: Option<Disconnect>,
}

/// Reason for the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disconnect {
    /// The client has closed it.
    Closed,
    /// This daemon has dropped it.
    Dropped,
}

impl Session {
    pub(crate) fn new(caller: Caller) -> Self {
        Self {
            caller,
            registration: None,
            is_restricted: false,
            has_call_in_flight: false,
            is_own: false,
            was_closed: false,
            disconnect: None,
        }
    }

    /// Checks whether a request is allowed, in the order of libvirt's checks.
    pub(crate) fn check(&self, request: &Request) -> Result<(), LockError> {
        if self.is_restricted {
            return Err(LockError::Restricted);
        }
        let is_registered = match request {
            Request::CreateLockspace { .. } => true,
            Request::Register { guest, .. } => guest.id != 0,
            Request::Restrict { .. } | Request::New { .. } | Request::Resource { .. } => {
                self.registration.is_some()
            }
        };
        if is_registered { Ok(()) } else { Err(LockError::Unregistered) }
    }

    /// Returns the guest that it is registered for, if it is.
    pub(crate) fn guest(&self) -> Option<&Guest> {
        self.registration.as_ref().map(|registration| &*registration.guest)
    }

    /// Describes the requester, for the log.
    pub(crate) fn requester(&self) -> String {
        let pid = self.caller.peer.pid;
        match self.guest() {
            Some(guest) => format!("process {pid} for {guest}"),
            None => format!("process {pid}, which is not registered"),
        }
    }
}
