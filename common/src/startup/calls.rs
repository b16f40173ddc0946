//! Check of system calls at the start.

use super::failure::Failure;
use super::service::Service;
use crate::sys::calls::Call;
use crate::sys::errno::io_text;

/// System calls without which no daemon can run: its threads, and its way of waiting.
const NEEDED: [Call; 5] =
    [Call::Clone3, Call::DuplicateCloexec, Call::EpollCreate, Call::EpollCtl, Call::EpollWait];

/// Optional system calls of both daemons, with the cost of their lack.
const COSTS: [(Call, &str); 1] = [(
    Call::MemfdCreate,
    "state is passed on in files in /dev/shm, /run or /tmp, without names, and while none of these \
     can be written to there is no upgrade, and no fd store",
)];

/// Fails if a needed system call is refused; logs the cost of any other.
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
