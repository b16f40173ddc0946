//! Errors: a refused call, and a failed operation on a file.

pub(crate) mod file;
pub(crate) mod lock;
