//! What is known of the leases on one mount. No I/O and no clock.

use std::sync::Arc;

use common::server::RemoteMount;

use crate::proof::reach::Source;
use crate::proof::rule::{
    FIRST_ANSWER_MS, LEASE_MIN_TO_END_MS, Ms, TERM_MS, end_at, is_gap, proved_until,
};

/// Mount with leases on it.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) mount: Arc<RemoteMount>,
    pub(crate) source: Source,
    /// Its number with the prober.
    pub(crate) number: u64,
    /// Number of leases on it, and of those whose guests are ended when one is lost.
    pub(crate) leases: usize,
    pub(crate) ending_leases: usize,
    /// Lease time, once it is known.
    lease: Option<Ms>,
    /// Time just before the last question that was answered.
    asked: Option<Ms>,
    /// Time since which the first answer is waited for.
    since: Ms,
    /// Whether that nothing is proved was told.
    pub(crate) has_lapsed: bool,
    /// Whether guests were told to end for that.
    pub(crate) has_ended_guests: bool,
}

/// Meaning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The leases are proved, and have been all the time.
    Proved,
    /// The leases may have been lost in this time, in which nothing was proved.
    Gap(Ms),
    /// The first answer to a process that does not know when the last one came, in time.
    First,
}

/// What is due on a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The guests have to be ended now.
    End,
    /// Nothing is proved any more.
    Lapse,
}

impl Mount {
    /// Creates one whose leases are proved by the answer to a question of `asked`, or are not known
    /// to be.
    pub(crate) fn new(
        mount: Arc<RemoteMount>,
        source: Source,
        number: u64,
        (asked, lease): (Option<Ms>, Option<Ms>),
        now: Ms,
    ) -> Self {
        let lease = if let Source::Setting(lease) = source { Some(lease) } else { lease };
        Self {
            mount,
            source,
            number,
            leases: 0,
            ending_leases: 0,
            lease,
            asked,
            since: now,
            has_lapsed: false,
            has_ended_guests: false,
        }
    }

    /// Returns whether its server is asked.
    pub(crate) fn is_watched(&self) -> bool {
        self.source != Source::None
    }

    /// Returns whether its leases are proved, `None` if that cannot be known.
    pub(crate) fn is_proved(&self) -> Option<bool> {
        self.is_watched().then_some(!self.has_lapsed && self.asked.is_some())
    }

    pub(crate) fn lease(&self) -> Option<Ms> {
        self.lease
    }

    /// Returns the time of the last question that was answered, and the lease time, for the next
    /// process.
    pub(crate) fn known(&self) -> Option<(Ms, Ms)> {
        Some((self.asked?, self.lease?))
    }

    /// Returns whether guests can be ended in time.
    pub(crate) fn can_end_in_time(&self) -> bool {
        self.is_watched() && self.lease.is_none_or(|lease| lease >= LEASE_MIN_TO_END_MS)
    }

    /// Takes what an earlier process knew.
    pub(crate) fn adopt(&mut self, asked: Ms, lease: Ms) {
        self.asked = Some(asked);
        self.lease = Some(self.lease.unwrap_or(lease));
    }

    /// Notes an answer.
    pub(crate) fn answered(&mut self, asked: Ms, answered: Ms, lease: Ms) -> Answer {
        let before = self.asked.zip(self.lease);
        let had_lapsed = self.has_lapsed;
        self.asked = self.asked.max(Some(asked));
        self.lease = Some(lease);
        self.has_lapsed = false;
        self.has_ended_guests = false;
        match before {
            // It is not known for how long nothing was proved, only since when at the latest.
            None if had_lapsed => Answer::Gap(answered.saturating_sub(self.since)),
            None => Answer::First,
            Some((before, lease)) if is_gap(before, answered, lease) => {
                Answer::Gap(answered.saturating_sub(before))
            }
            Some(_) => Answer::Proved,
        }
    }

    /// Returns what is due, the first of both.
    pub(crate) fn due(&self, now: Ms) -> Option<Due> {
        let is_to_end = self.ending_leases > 0 && !self.has_ended_guests && now >= self.end_at();
        if !self.is_watched() {
            None
        } else if is_to_end {
            Some(Due::End)
        } else {
            (!self.has_lapsed && now >= self.lapses_at()).then_some(Due::Lapse)
        }
    }

    /// Returns when something is due next, unless an answer comes.
    pub(crate) fn next(&self) -> Option<Ms> {
        let end_at = (self.ending_leases > 0 && !self.has_ended_guests).then(|| self.end_at());
        let lapses_at = (!self.has_lapsed).then(|| self.lapses_at());
        end_at.into_iter().chain(lapses_at).min().filter(|_| self.is_watched())
    }

    /// Returns when a guest that is told to end has to be killed, also if it is told late.
    pub(crate) fn kill_at(&self) -> Ms {
        self.end_at().saturating_add(TERM_MS)
    }

    /// Returns the time since the last question that was answered.
    pub(crate) fn unproved_for(&self, now: Ms) -> Ms {
        now.saturating_sub(self.asked.unwrap_or(self.since))
    }

    fn lapses_at(&self) -> Ms {
        match self.asked.zip(self.lease) {
            Some((asked, lease)) => proved_until(asked, lease),
            None => self.since.saturating_add(FIRST_ANSWER_MS),
        }
    }

    /// Without a lease time that allows it the guests are ended when nothing is proved any more.
    fn end_at(&self) -> Ms {
        match self.asked.zip(self.lease).filter(|_| self.can_end_in_time()) {
            Some((asked, lease)) => end_at(asked, lease),
            None => self.lapses_at(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: Ms = 10_000;

    fn mount(asked: Option<Ms>) -> Mount {
        let mount = RemoteMount {
            device: 1,
            point: "/m".into(),
            kind: "nfs4".into(),
            options: "vers=4.2".into(),
        };
        let mut mount = Mount::new(Arc::new(mount), Source::Kernel, 1, (asked, Some(L)), 1000);
        mount.ending_leases = 1;
        mount
    }

    #[test]
    fn guests_end_before_the_leases_lapse() {
        let mut mount = mount(Some(1000));
        assert_eq!((mount.due(6299), mount.next()), (None, Some(6300)));
        assert_eq!(mount.due(6300), Some(Due::End));
        mount.has_ended_guests = true;
        assert_eq!((mount.due(10_899), mount.next()), (None, Some(10_900)));
        assert_eq!(mount.due(10_900), Some(Due::Lapse));
        mount.has_lapsed = true;
        assert_eq!((mount.due(99_000), mount.next()), (None, None));
    }

    #[test]
    fn a_guest_that_is_told_late_has_no_more_time_for_that() {
        let mount = mount(Some(1000));
        assert_eq!((mount.due(9000), mount.kill_at()), (Some(Due::End), 6300 + 1600));
    }

    #[test]
    fn without_guests_to_end_only_the_lapse_is_told() {
        let mut mount = mount(Some(1000));
        mount.ending_leases = 0;
        assert_eq!(mount.next(), Some(10_900));
        assert_eq!(mount.due(10_900), Some(Due::Lapse));
    }

    #[test]
    fn an_answer_in_time_proves_and_a_late_one_tells_of_a_gap() {
        let mut mount = mount(Some(1000));
        assert_eq!(mount.answered(2600, 2610, L), Answer::Proved);
        assert_eq!(mount.next(), Some(2600 + 5300));
        mount.has_lapsed = true;
        assert_eq!(mount.is_proved(), Some(false));
        assert_eq!(mount.answered(4200, 12_500, L), Answer::Gap(9900));
        assert_eq!(mount.is_proved(), Some(true));
        // Answers come in order; one that does not takes nothing back.
        assert_eq!(mount.answered(3000, 12_600, L), Answer::Proved);
        assert_eq!(mount.known(), Some((4200, L)));
    }

    #[test]
    fn after_a_crash_nothing_is_proved_until_the_first_answer() {
        let mut mount = mount(None);
        assert_eq!((mount.is_proved(), mount.due(2999)), (Some(false), None));
        assert_eq!((mount.due(3000), mount.kill_at()), (Some(Due::End), 4600));
        assert_eq!(mount.answered(1700, 1710, L), Answer::First);
        assert_eq!((mount.is_proved(), mount.due(3000)), (Some(true), None));
    }

    #[test]
    fn after_a_crash_an_answer_that_comes_late_tells_of_a_gap() {
        let mut mount = mount(None);
        mount.has_lapsed = true;
        assert_eq!(mount.answered(1700, 8000, L), Answer::Gap(7000));
        assert_eq!(mount.is_proved(), Some(true));
    }

    #[test]
    fn a_lease_time_that_is_too_short_ends_guests_when_nothing_is_proved() {
        let mut mount = mount(Some(1000));
        assert_eq!(mount.answered(1000, 1001, 5000), Answer::Proved);
        assert!(!mount.can_end_in_time());
        assert_eq!(mount.next(), Some(1000 + 4950));
    }

    #[test]
    fn a_suspended_host_finds_a_gap() {
        let mut mount = mount(Some(1000));
        assert_eq!(mount.due(500_000), Some(Due::End));
        assert_eq!(mount.answered(500_000, 500_001, L), Answer::Gap(499_001));
    }
}
