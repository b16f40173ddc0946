//! System calls of a program that the kernel refuses it, or that somebody else decides on: filters of
//! seccomp, which outlive what is executed behind them.

mod calls;
mod engine;
mod filter;
mod notified;

pub use calls::{Call, name, named};
pub use engine::engine_calls;
pub use filter::{ask, refuse};
pub use notified::{Decision, Notified, Notifier};
