//! Servers, clients and the event loop: the place where [`crate::rpc`], [`crate::event`] and
//! [`crate::sys`] meet.
//!
//! - One thread at a time holds all state and changes it. Work on files is a [job](crate::jobs):
//!   its result comes back to the daemon on the loop, and a call may be answered only then
//!   ([`Answer::Later`]). The loop continues beside a [job](crate::jobs) that takes long.
//! - The daemon implements [`Daemon`] and reaches everything else through [`Core`]. It sees neither
//!   sockets nor mio.
//! - A client has at most one call in flight, during which nothing is read from it.

mod admin_overrides;
mod administration;
mod answer;
mod caller;
mod client;
mod core;
mod daemon;
mod duty;
mod event_loop;
mod fd_store;
mod held_bytes;
mod idle;
mod listener;
mod memory;
mod names;
mod own_log;
mod queries;
mod save;
mod serve;
mod servers;
mod submit;
mod supervisor;
mod token;
mod unit;
mod upgrade;

pub use self::core::{Core, Parts};
pub use caller::{Caller, ClientId};
pub use daemon::{Answer, Daemon};
pub use event_loop::run;
pub use listener::Listener;
pub use own_log::OPEN_PERIOD;
pub use save::adopt_listeners;
pub use servers::Limits;
pub use unit::StoreNews;
pub use upgrade::ProcessInfo;

pub use crate::jobs::haste::Haste;
pub use crate::jobs::job::InFlight;
pub use crate::jobs::path_work::PathWork;
pub use crate::jobs::progress::{Progress, is_left_behind};
pub use crate::jobs::storage::{RemoteMount, StorageId};
