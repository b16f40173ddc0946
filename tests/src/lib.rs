//! Conformance tests: one suite, run against libvirt's daemons and against ours.
//!
//! [`wire`] is a client of libvirt's RPC written apart from the daemons' own codec, so that an error
//! in that codec cannot hide itself. [`harness`] starts a daemon where it can touch nothing of the
//! machine and says loudly what it had to leave out; [`machine`] has a real systemd do so.

pub mod blocks;
pub mod guest;
pub mod harness;
pub mod holder;
pub mod interop;
pub mod load;
pub mod machine;
mod named;
mod random;
pub mod seccomp;
pub mod sequences;
mod shortest;
mod steps;
pub mod supervisor;
pub mod walks;
pub mod wire;
