//! Lockspaces, their resources, the holders of each, and the work on them.

pub(crate) mod action;
mod audited;
pub(crate) mod execution;
pub(crate) mod holders;
pub(crate) mod incomplete_locks;
pub(crate) mod lease_break;
pub(crate) mod lock_check;
pub(crate) mod queue;
pub(crate) mod resource;
pub(crate) mod table;
