//! What the system does not let the daemon do, told at the start.

use super::failure::Failure;
use super::service::Service;
use crate::rpc::error::io_text;
use crate::sys::calls::Call;

/// Without these there is no daemon: its threads, and how it waits.
const NEEDED: [Call; 5] =
    [Call::Clone3, Call::DuplicateCloexec, Call::EpollCreate, Call::EpollCtl, Call::EpollWait];

/// What either daemon pays for.
const COSTS: [(Call, &str); 1] = [(
    Call::MemfdCreate,
    "state is passed on in files in /dev/shm, /run or /tmp, without names, and while none of these \
     can be written to there is no upgrade, and no fd store",
)];

/// Fails without what is needed. Anything else that is refused is logged, with what that costs.
///
/// # Errors
/// [`Failure::Refused`].
pub(super) fn look<S: Service>() -> Result<(), Failure> {
    for call in NEEDED {
        if let Some(error) = call.refusal() {
            return Err(Failure::Refused { call: call.name(), error });
        }
    }
    for (call, cost) in COSTS.iter().chain(S::COSTS) {
        if let Some(error) = call.refusal() {
            tracing::warn!(
                target: "daemon",
                "The system call {} is refused ({}): {cost}", call.name(), io_text(&error)
            );
        }
    }
    Ok(())
}
