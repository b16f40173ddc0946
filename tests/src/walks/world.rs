//! All that a walk takes place in: the service, the disks, and what is wrong with them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::disk::{Disk, Place};
use super::meetings::Meetings;
use super::step::{Event, Fault};
use crate::harness::{Host, Whose};
use crate::supervisor::{Service, Upgraded, patience};

/// How long a process may take to end while a disk hangs, before the disk is released for a moment:
/// when it was killed, and when it was asked to, for which it waits 5 s.
const KILLED_PERIOD: Duration = Duration::from_millis(300);
const STOPPED_PERIOD: Duration = Duration::from_secs(9);

/// How late a kill in the midst of an upgrade may come.
const UPGRADE_US: u64 = 25_000;

/// Fds beyond its own that libvirt's daemon needs to come up.
const LIBVIRTS_FDS: usize = 64;

/// Who lives through all this.
pub(super) trait Guests {
    /// The process has ended, and the next one has not begun: what is not in the store now is lost.
    fn process_has_ended(&mut self, world: &World, by: Signal);

    /// The next one serves.
    fn process_has_begun(&mut self, world: &World);

    /// libvirt's daemon takes over, or has just done so.
    fn libvirt_takes_over(&mut self, world: &World);
}

/// The machine.
#[derive(Debug)]
pub(super) struct World {
    pub(super) service: Service,
    pub(super) disk: Disk,
    wrong: BTreeSet<Fault>,
    /// Fds that the process may have beyond those that it has.
    fds_beyond: usize,
    /// The process has come up with a limit of fds: it may lack files that it is to go on with.
    is_short_of_files: bool,
    /// Something was wrong with the store, and it has not been seen complete since.
    is_store_doubtful: bool,
    /// The store was smaller than announced. That it is larger again is found out by asking, which
    /// takes two pipes.
    was_store_small: bool,
}

impl World {
    pub(super) fn new(
        host: &Arc<Host>,
        service: Service,
        disk: Disk,
        is_store_small: bool,
    ) -> Self {
        assert!(host.path("").exists(), "the host is there");
        let wrong = is_store_small.then_some(Fault::StoreFull).into_iter().collect();
        Self {
            service,
            disk,
            wrong,
            fds_beyond: 0,
            is_short_of_files: false,
            is_store_doubtful: is_store_small,
            was_store_small: false,
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.wrong.contains(&fault)
    }

    /// Whether files at this place may fail.
    pub(super) fn is_wrong(&self, place: Place) -> bool {
        self.wrong.iter().any(|&fault| Disk::place_of(fault) == Some(place))
    }

    /// Whether files at this place may not have what was meant for them.
    pub(super) fn may_lack_bytes(&self, place: Place) -> bool {
        self.is_wrong(place) || self.is_short_of_files
    }

    /// How long an answer may take that needs files at this place.
    pub(super) fn patience_at(&self, place: Place) -> Duration {
        let hangs = place == Place::Sick && self.has(Fault::DiskHangs);
        if hangs || self.has(Fault::FdLimit) { Duration::from_millis(150) } else { patience() }
    }

    /// Whether all that was promised has to be in the store.
    pub(super) fn is_store_trusted(&self) -> bool {
        !(self.is_store_doubtful || self.was_store_small && self.has(Fault::FdLimit))
    }

    /// Whether something is wrong with the store or the way to it now.
    pub(super) fn is_store_wrong(&self) -> bool {
        [Fault::StoreFull, Fault::StoreSmall, Fault::SupervisorSlow, Fault::SupervisorGone]
            .iter()
            .any(|&fault| self.has(fault))
    }

    /// All that was promised has been seen in the store.
    pub(super) fn store_is_complete(&mut self) {
        self.wrong.remove(&Fault::StoreEmptied);
        self.is_store_doubtful = false;
    }

    pub(super) fn begin(&mut self, fault: Fault, amount: u64) {
        if !self.wrong.insert(fault) && fault != Fault::StoreEmptied {
            return;
        }
        let supervisor = &self.service.supervisor;
        match fault {
            Fault::StoreSmall => {
                let few = usize::try_from(amount % 24).expect("a small number");
                supervisor.set_limit(4 + few);
                self.was_store_small = true;
            }
            Fault::SupervisorSlow => supervisor.pause(),
            Fault::SupervisorGone => supervisor.leave(),
            Fault::StoreEmptied => supervisor.clear(),
            Fault::FdLimit => {
                self.fds_beyond = usize::try_from(amount % 4).expect("a small number");
                self.service.limit_fds(Some(self.fds_beyond));
            }
            Fault::StoreFull | Fault::OtherWriter => {}
            fault => return self.disk.begin(fault, amount),
        }
        self.is_store_doubtful |= !matches!(fault, Fault::FdLimit | Fault::OtherWriter);
    }

    pub(super) fn end(&mut self, fault: Fault) {
        // A store that says how small it is stays so; one that was emptied is refilled, or not.
        if matches!(fault, Fault::StoreFull | Fault::StoreEmptied) || !self.wrong.remove(&fault) {
            return;
        }
        match fault {
            Fault::StoreSmall => self.service.supervisor.set_limit(self.service.told()),
            Fault::SupervisorSlow => self.service.supervisor.go_on(),
            Fault::SupervisorGone => self.service.supervisor.come_back(),
            Fault::FdLimit => {
                self.is_short_of_files = false;
                self.service.limit_fds(None);
            }
            fault => self.disk.end(fault),
        }
    }

    /// All is well again.
    pub(super) fn end_all(&mut self) {
        Fault::ALL.iter().for_each(|&fault| self.end(fault));
    }

    /// Something becomes of the process.
    pub(super) fn event(&mut self, event: Event, number: u64, guests: &mut impl Guests) {
        if self.wrong.is_empty() {
            println!("MET {}", Meetings::line(event, None));
        }
        for &fault in &self.wrong {
            println!("MET {}", Meetings::line(event, Some(fault)));
        }
        match event {
            Event::Stop => self.restart(Signal::SIGTERM, guests),
            Event::Kill => self.restart(Signal::SIGKILL, guests),
            Event::Upgrade => {
                self.upgrade();
            }
            Event::Libvirt => self.go_to_libvirts_and_back(guests),
            Event::KillInUpgrade => {
                self.service.begin_upgrade(Whose::Ours);
                std::thread::sleep(Duration::from_micros(number % UPGRADE_US));
                self.restart(Signal::SIGKILL, guests);
            }
        }
    }

    fn restart(&mut self, signal: Signal, guests: &mut impl Guests) {
        let hangs = self.has(Fault::DiskHangs);
        let period = match signal {
            _ if !hangs => patience(),
            Signal::SIGKILL => KILLED_PERIOD,
            _ => STOPPED_PERIOD,
        };
        let disk = &self.disk;
        self.service.end(signal, period, || {
            if hangs {
                disk.end(Fault::DiskHangs);
            }
        });
        if hangs {
            disk.begin(Fault::DiskHangs, 0);
        }
        // Who does not listen starts nothing.
        let supervisor = &self.service.supervisor;
        if self.wrong.contains(&Fault::SupervisorSlow) {
            supervisor.go_on();
        }
        if self.wrong.contains(&Fault::SupervisorGone) {
            supervisor.come_back();
        }
        supervisor.catch_up();
        guests.process_has_ended(self, signal);
        self.service.spawn();
        if self.has(Fault::SupervisorSlow) {
            self.service.supervisor.pause();
        }
        if self.has(Fault::SupervisorGone) {
            self.service.supervisor.leave();
        }
        self.service.expect_serving();
        if self.has(Fault::FdLimit) {
            self.is_short_of_files = true;
            self.service.limit_fds(Some(self.fds_beyond));
        }
        guests.process_has_begun(self);
    }

    /// An upgrade when nothing is wrong: everything is looked at once more.
    pub(super) fn nudge(&mut self) {
        assert!(self.upgrade(), "nothing is wrong, so it comes about");
    }

    /// Whether it came about; it may be refused only where that is said.
    fn upgrade(&mut self) -> bool {
        let outcome = self.change_to(Whose::Ours);
        if let Upgraded::Refused(reason) = &outcome {
            assert!(self.may_refuse(), "an upgrade is refused: {reason}");
        }
        if self.has(Fault::FdLimit) {
            // The next image has raised it; one that goes on cannot serve anybody else.
            self.service.limit_fds(None);
            self.service.expect_serving();
            self.service.limit_fds(Some(self.fds_beyond));
        } else {
            self.service.expect_serving();
        }
        outcome == Upgraded::Done
    }

    /// One that was put off may have begun again when the file was put in its place.
    fn change_to(&mut self, whose: Whose) -> Upgraded {
        loop {
            match self.service.upgrade(whose) {
                Upgraded::Refused(reason) if reason.ends_with("; try again") => {}
                outcome => return outcome,
            }
        }
    }

    fn may_refuse(&self) -> bool {
        const REASONS: [Fault; 5] = [
            Fault::DiskHangs,
            Fault::DiskSlow,
            Fault::SupervisorSlow,
            Fault::SupervisorGone,
            Fault::FdLimit,
        ];
        REASONS.iter().any(|&fault| self.has(fault))
    }

    /// libvirt's daemon gives up what it cannot write, and hangs with a disk that hangs or a supervisor
    /// that does not listen, so what is wrong with these ends when it has taken over.
    fn go_to_libvirts_and_back(&mut self, guests: &mut impl Guests) {
        if self.has(Fault::FdLimit) {
            self.service.limit_fds(Some(LIBVIRTS_FDS));
        }
        // libvirt's daemon gives a log up that it cannot rotate.
        self.end(Fault::AppendOnly);
        guests.libvirt_takes_over(self);
        if let Upgraded::Refused(reason) = self.change_to(Whose::Theirs) {
            assert!(self.may_refuse(), "libvirt's daemon is refused: {reason}");
            self.service.daemon().put(Whose::Ours);
            return self.service.expect_serving();
        }
        for fault in self.wrong.iter().copied().collect::<Vec<_>>() {
            let is_supervisors = matches!(fault, Fault::SupervisorSlow | Fault::SupervisorGone);
            if is_supervisors || Disk::place_of(fault).is_some() {
                self.end(fault);
            }
        }
        self.is_store_doubtful = true;
        self.service.expect_serving();
        guests.libvirt_takes_over(self);
        let outcome = self.service.upgrade(Whose::Ours);
        assert_eq!(outcome, Upgraded::Done, "on the way back from libvirt's daemon");
        self.service.expect_serving();
    }
}
