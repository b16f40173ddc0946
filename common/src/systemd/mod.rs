//! The protocol between a service and systemd. Any supervisor that speaks it will do.

mod activation;
mod bus;
mod channel;
pub mod journal;
mod names;
mod notify;
mod pace;
mod unit;
mod watchdog;

pub use activation::{Activation, Error as ActivationError, Passed, PassedSocket, StoredFd};
pub use bus::Error as AskError;
pub use notify::{MESSAGE_FDS_MAX, Notify, StoreError};
pub use pace::Pace;
pub use unit::{Job, Preserve, Unit};
pub use watchdog::ping_period;
