//! Connections: whom they speak for and what they may do.

use common::server::Caller;

use crate::error::lock::LockError;
use crate::owner::registration::Registration;
use crate::protocol::Request;

/// A connection that has made a call.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// Whom it speaks for, once it is registered.
    pub(crate) registration: Option<Registration>,
    pub(crate) is_restricted: bool,
    pub(crate) has_call_in_flight: bool,
    /// Whether it is the guest's own connection, and closes with it.
    pub(crate) is_own: bool,
    /// It had been closed before this process had it.
    pub(crate) was_closed: bool,
    /// It has come to its end. That takes effect after its call in flight, as if the call had ended
    /// before.
    pub(crate) disconnect: Option<Disconnect>,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disconnect {
    /// The client has closed it.
    Closed,
    /// We have let go of it.
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

    /// What libvirt checks before the call itself, in its order.
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

    /// Who makes its calls, for the log.
    pub(crate) fn requester(&self) -> String {
        let pid = self.caller.peer.pid;
        match &self.registration {
            Some(Registration { guest, .. }) => format!("process {pid} for {guest}"),
            None => format!("process {pid}, for nobody"),
        }
    }
}
