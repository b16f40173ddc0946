//! What systemd passes to a service and wants to hear from it. Any supervisor that speaks the same
//! protocol will do.

mod activation;
mod notify;

pub use activation::{Activation, Error as ActivationError, Passed, PassedSocket, StoredFd};
pub use notify::Notify;
