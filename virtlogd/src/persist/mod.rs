//! State that outlives the process: in the document for the process after it ([`save`], [`restore`]), and in
//! the supervisor's fd store ([`fd_store`], [`staging_store`]). All are functions over the
//! [table of logs](crate::logs::table) and the store.

pub(crate) mod fd_store;
pub(crate) mod restore;
pub(crate) mod restored_log;
pub(crate) mod save;
pub(crate) mod staging_store;
pub(crate) mod unclaimed_pipes;
