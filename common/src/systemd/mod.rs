//! What systemd passes to a service and wants to hear from it. Any supervisor that speaks the same
//! protocol will do.

mod activation;
mod channel;
mod names;
mod notify;
mod watchdog;

pub use activation::{Activation, Error as ActivationError, Passed, PassedSocket, StoredFd};
pub use notify::{MESSAGE_FDS_MAX, Notify, StoreError};
pub use watchdog::ping_period;
