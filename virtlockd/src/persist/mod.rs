//! Leases, owners and connections in the state document and in the supervisor's fd store.

pub(crate) mod fd_store;
pub(crate) mod records;
pub(crate) mod restore;
pub(crate) mod save;
