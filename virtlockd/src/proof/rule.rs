//! The rule that says until when a lease on shared storage is proved, and when its guest has to be
//! told to end. No I/O, and no clock: times are milliseconds since boot, with suspended time
//! (`CLOCK_BOOTTIME`).
//!
//! A server keeps the locks of a host for at least the lease time `L` after it has last heard of the
//! host. So with `s`, the time just before a question that was answered:
//!
//! ```text
//! proved_until = s + 0.99 L                            clocks of both may differ by 1 %
//! end_at + 1.6 s + EXIT_MAX + MARGIN <= proved_until   SIGTERM at end_at, SIGKILL 1.6 s later
//! ```
//!
//! With `L` = 10 s a guest gets `SIGTERM` 5.3 s after `s`, which is 3.6 to 5.3 s after the link is
//! gone, as a question is asked every sixth of `L`.
//!
//! The server has heard of the host at some time between `s` and the answer. So if an answer comes
//! when the answer before proves nothing any more, the lease may have run out in between, and
//! another host may have had the lock.

use std::time::Duration;

/// Time in milliseconds.
pub(crate) type Ms = u64;

/// Time between `SIGTERM` and `SIGKILL`; libvirt's value.
pub(crate) const TERM_MS: Ms = 1600;

/// Longest time from `SIGKILL` to the end of a guest's last write; ours.
pub(crate) const EXIT_MAX_MS: Ms = 2000;

/// Longest time by which this daemon acts late; ours.
pub(crate) const MARGIN_MS: Ms = 1000;

/// Shortest lease time with which a guest can be ended in time: an answer may then take a second.
pub(crate) const LEASE_MIN_TO_END_MS: Ms = 7000;

/// Parts of a lease time in which one question is asked.
const QUESTIONS: u64 = 6;

/// Longest time between two questions; ours.
const PERIOD_MAX_MS: Ms = 10_000;

/// Time for the first answer after a start that does not know when the last one came. Whatever came
/// before was at most a sixth of the lease time older than the end of the process before.
pub(crate) const FIRST_ANSWER_MS: Ms = 2000;

/// Returns until when a lease is proved by the answer to a question of `s`.
pub(crate) fn proved_until(s: Ms, lease: Ms) -> Ms {
    s.saturating_add(lease - lease.div_ceil(100))
}

/// Returns when a guest has to be told to end, so that it has ended while its lease is proved.
pub(crate) fn end_at(s: Ms, lease: Ms) -> Ms {
    proved_until(s, lease).saturating_sub(TERM_MS + EXIT_MAX_MS + MARGIN_MS).max(s)
}

/// Returns whether the lease may have run out before an answer, if that before it was to a question
/// of `s`.
pub(crate) fn is_gap(s: Ms, answered: Ms, lease: Ms) -> bool {
    answered >= proved_until(s, lease)
}

/// Returns the time between two questions.
pub(crate) fn period(lease: Ms) -> Duration {
    Duration::from_millis((lease / QUESTIONS).clamp(1, PERIOD_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::signals::TERM_PERIOD;

    /// Lease times of servers, from the shortest on.
    fn leases() -> impl Iterator<Item = Ms> {
        (LEASE_MIN_TO_END_MS..100_000).step_by(37).chain([600_000, 3_600_000])
    }

    #[test]
    fn the_example_of_the_documentation_holds() {
        assert_eq!(proved_until(100_000, 10_000), 109_900);
        assert_eq!(end_at(100_000, 10_000), 105_300);
        assert_eq!(period(10_000), Duration::from_millis(1666));
        assert_eq!(u128::from(TERM_MS), TERM_PERIOD.as_millis());
    }

    #[test]
    fn a_guest_that_is_told_in_time_has_ended_while_its_lease_is_proved() {
        for lease in leases() {
            for s in [0, 1, 999_999_999] {
                let ended = end_at(s, lease) + TERM_MS + EXIT_MAX_MS + MARGIN_MS;
                assert!(ended <= proved_until(s, lease), "{s} {lease}");
                assert!((proved_until(s, lease) - s) * 100 <= lease * 99, "{s} {lease}");
            }
        }
    }

    #[test]
    fn an_answer_may_take_a_second_before_a_guest_is_ended() {
        for lease in leases() {
            let asked = u64::try_from(period(lease).as_millis()).unwrap();
            assert!(end_at(0, lease) >= asked + 1000, "{lease}");
        }
    }

    /// A server that gives a lock away `L` after it has last heard of the host, by a clock that is
    /// 1 % fast, against any times of questions and answers.
    #[test]
    fn no_lock_is_given_away_while_it_is_proved() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..20_000 {
            let lease = LEASE_MIN_TO_END_MS + next(90_000);
            let (mut s, mut heard, mut now) = (0, 0, 0);
            for _ in 0..30 {
                let asked = now + next(lease / 3);
                let received = asked + next(lease);
                let answered = received + next(lease / 4);
                let given_away = heard + lease - lease.div_ceil(100);
                assert!(proved_until(s, lease) <= given_away);
                let was_free = received >= given_away;
                assert!(!was_free || is_gap(s, answered, lease));
                (s, heard, now) = (asked, received, answered);
            }
        }
    }

    #[test]
    fn a_gap_is_one_between_an_answer_and_the_question_before() {
        assert!(!is_gap(1000, 10_899, 10_000));
        assert!(is_gap(1000, 10_900, 10_000));
        assert!(!is_gap(2000, 1000, 10_000));
    }

    #[test]
    fn absurd_lease_times_are_computed_with() {
        for lease in [0, 1, 2, 100, Ms::MAX] {
            assert!(end_at(5, lease) >= 5 && proved_until(5, lease) >= 5);
            assert!(period(lease) >= Duration::from_millis(1));
        }
    }
}
