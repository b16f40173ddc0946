//! Readiness: a thin layer over mio.
//!
//! - A token is a typed value whose number is never reused, so that an event for a removed object
//!   finds nothing instead of its successor.
//! - A registration ([`Registered`]) owns its fd and deregisters before closing it: otherwise an fd
//!   with a duplicate elsewhere would stay registered.
//! - mio is edge-triggered. The handler of an event drains the fd to `WouldBlock`, or stops at its
//!   budget and asks to be called [again](Reactor::again).
//!
//! Knows nothing of messages.

mod reactor;
mod registered;
mod timers;
mod token;
mod waker;

pub use reactor::Reactor;
pub use registered::{Interest, Registered};
pub use timers::TimerId;
pub use token::{Event, Token};
pub use waker::Waker;

#[cfg(test)]
mod tests;
