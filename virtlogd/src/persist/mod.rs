//! State that outlives the process: in the document for its successor, and in the supervisor's fd store.

pub(crate) mod fd_store;
pub(crate) mod restore;
pub(crate) mod restored_log;
pub(crate) mod save;
pub(crate) mod staging_store;
pub(crate) mod unclaimed_pipes;
