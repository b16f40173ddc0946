//! Wrappers of the kernel's interfaces: the only place of the project where `unsafe` is allowed.
//!
//! Knows nothing of RPC, JSON or libvirt, and never logs. Raw fd numbers enter and leave the
//! project here; everywhere else an fd is an `OwnedFd` with one owner.
#![allow(unsafe_code, reason = "this is the module that `unsafe` is confined to")]
#![expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "fds are adopted, the environment is changed and the process ended here only"
)]

pub mod alarm;
pub mod calls;
pub mod errno;
pub mod fd;
pub mod file;
pub mod file_id;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod pid_namespace;
pub mod pidfd;
pub mod pipe;
pub mod process;
pub mod shortage;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod timeout;
pub mod watch;
