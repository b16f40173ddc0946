//! Rate limit per call site, so that clients which connect in a loop and are refused, for example,
//! do not flood the log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;

/// Messages of one call site in a row; ours. As many guests on one host may each have the same
/// trouble.
const BURST: u32 = 2_000;

/// Time for each further message.
const PERIOD: Duration = Duration::from_millis(100);

/// All call sites that have logged.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<Identifier, Place>);

#[derive(Debug)]
struct Place {
    /// Time at which the whole burst is available again.
    whole_at: Instant,
    left_out: u64,
}

/// Decision about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Logged, after the number of those that were left out.
    Logged { left_out: u64 },
    /// Logged as the last one for now.
    Last,
    /// Only counted.
    LeftOut,
}

impl Repeats {
    /// Decides about a message from `place` at `now`.
    pub(super) fn judge(&mut self, place: Identifier, now: Instant) -> Verdict {
        let place = self.0.entry(place).or_insert(Place { whole_at: now, left_out: 0 });
        place.whole_at = place.whole_at.max(now) + PERIOD;
        let room = (now + BURST * PERIOD).checked_duration_since(place.whole_at);
        match room {
            Some(room) if room < PERIOD && place.left_out == 0 => Verdict::Last,
            Some(_) => Verdict::Logged { left_out: std::mem::take(&mut place.left_out) },
            None => {
                place.whole_at -= PERIOD;
                place.left_out += 1;
                Verdict::LeftOut
            }
        }
    }
}

#[cfg(test)]
mod tests;
