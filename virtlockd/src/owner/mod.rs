//! Owners of leases: their identity, the watch for their end, and their termination.

pub(crate) mod entry;
pub(crate) mod identity;
pub(crate) mod lifecycle;
pub(crate) mod lookup;
pub(crate) mod owners;
pub(crate) mod registrant;
pub(crate) mod registration;
pub(crate) mod signals;
pub(crate) mod termination;
pub(crate) mod watch_retry;
