//! Load that would notice a loss: every line of a guest, every answer to a call, every lease.

mod caller;
mod contender;
mod writer;

pub use caller::{Caller, Client, Gate, LeaseHolder, Newcomer, PositionAsker};
pub use contender::{Contender, is_free, lease_range};
pub use writer::{Pace, Writer, expect_lines};
