//! Pipes of the daemon's own, between a guest's pipe and a file: bytes go from the one into a staging
//! pipe, and from there into the file, and are never read into memory on the way.
//!
//! A file system that hangs while it takes bytes holds the pipe that they come from, and with it
//! whoever writes into that pipe. So it never gets to see the guest's. And `splice` consumes
//! exactly what was stored: the rest is still in a pipe.
//!
//! If `splice` or `tee` are refused bytes do go through memory, in pieces so small that few are
//! lost with the process. Bytes that were read and could not be passed on are kept in front of the pipe.

pub(crate) mod pool;
mod pushback_pipe;
mod scratch;
mod staging_pipe;
mod store_entry;
mod workspace;

pub(crate) use pool::StagingPool;
pub(crate) use scratch::Scratch;
pub(crate) use staging_pipe::{MOVE_BYTES_MAX, StagingPipe};
pub(crate) use workspace::{Workspace, Workspaces};
