//! Errors of a call and of a file, and how the wire shows them.

pub(crate) mod file;
pub(crate) mod lock;
