//! What becomes of the daemon's process: it is stopped or killed, and started again.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Rivals;
use super::owed::Owner;
use super::people::end_child;
use crate::harness::Whose;
use crate::random::Random;
use crate::supervisor::patience;
use crate::walks::step::Event;
use crate::walks::tally::Tally;
use crate::walks::walk::eventually_ok;

/// How late a kill in the midst of an upgrade may come.
const UPGRADE_US: u64 = 25_000;

/// How long libvirt's daemon takes to end a guest, one after the other.
const ENDING_PERIOD: Duration = Duration::from_secs(4);

/// Events out of a hundred for which a guest is on its way out.
const LEAVING_PERCENT: usize = 30;

/// What happens while there is no daemon, out of a hundred times.
const MEANWHILE_PERCENT: usize = 60;

impl Rivals {
    pub(super) fn event(&mut self, event: Event, number: u64) {
        let dice = &mut Random::new(number);
        let leaving = dice.chance(LEAVING_PERCENT).then(|| self.has_left(dice)).flatten();
        println!("leased:\n{}", self.model.describe());
        match event {
            Event::Upgrade => self.change_to(self.whose(), leaving),
            Event::Libvirt => self.change_to(self.other(), leaving),
            Event::Stop => self.restart(Signal::SIGTERM, leaving, dice),
            Event::Kill => self.restart(Signal::SIGKILL, leaving, dice),
            Event::KillInUpgrade => {
                self.service.begin_upgrade(Whose::Ours);
                std::thread::sleep(Duration::from_micros(dice.number() % UPGRADE_US));
                self.restart(Signal::SIGKILL, leaving, dice);
            }
        }
        println!("leased now:\n{}", self.model.describe());
    }

    pub(super) fn whose(&self) -> Whose {
        if self.model.is_ours() { Whose::Ours } else { Whose::Theirs }
    }

    fn other(&self) -> Whose {
        if self.model.is_ours() { Whose::Theirs } else { Whose::Ours }
    }

    /// A guest that has been asked to end, as it has closed its connection, and does not mind.
    fn has_left(&mut self, dice: &mut Random) -> Option<Owner> {
        let index = self.any_guest(dice, |guest| {
            let has_connection = self.latest_connection(guest.owner).is_some();
            let is_ready = guest.is_stubborn && !guest.is_stopped && !guest.is_spared;
            is_ready && has_connection && self.model.has_leases(guest.owner)
        })?;
        let owner = self.begin_to_leave(index)?;
        let guest = &self.guests[index];
        eventually_ok("a guest that leaves its leases is asked to end", patience(), || {
            let is_asked = guest.is_asked_to_end() || !guest.is_running();
            if is_asked { Ok(()) } else { Err(format!("{guest:?}")) }
        });
        Tally::note("an event comes while a guest is being ended");
        Some(owner)
    }

    /// What a daemon knows, with a store, its successor knows.
    fn restart(&mut self, signal: Signal, leaving: Option<Owner>, dice: &mut Random) {
        let spaces = self.model.spaces.clone();
        let connections: Vec<_> = self.connections.iter().map(|it| self.now(it.owner)).collect();
        let is_stop = signal == Signal::SIGTERM;
        let mut ended = if is_stop { self.model.stops(&connections) } else { Vec::new() };
        if is_stop || self.has_store {
            ended.extend(leaving);
        } else if let Some(owner) = leaving {
            let its = self.guests.iter_mut().filter(|guest| guest.owner == owner);
            its.for_each(|guest| guest.is_spared = true);
        }
        if !is_stop {
            self.model.dies();
        }
        self.sessions.clear();
        let count = u32::try_from(self.guests.len()).expect("a few guests");
        self.service.end(signal, patience() + ENDING_PERIOD * count, || ());
        if self.has_store {
            self.service.supervisor.catch_up();
            if dice.chance(MEANWHILE_PERCENT) {
                self.happens_meanwhile(leaving, dice);
            }
        } else {
            self.all_are_disconnected();
        }
        self.service.spawn();
        self.service.expect_serving();
        let whose = self.whose();
        self.model.goes_on(whose, |pid| Owner { pid, process: None });
        ended.into_iter().for_each(|owner| self.see_ended(owner.pid));
        if is_stop && self.has_store {
            // They are lost with a stop when nothing is leased.
            spaces.iter().for_each(|space| self.add_space(space));
        }
    }

    /// Nobody sees it. Who closes its connection is not ended for that.
    fn happens_meanwhile(&mut self, leaving: Option<Owner>, dice: &mut Random) {
        let is_other = |owner: Owner| Some(owner) != leaving;
        if dice.chance(50) {
            let index = self.any_guest(dice, |it| !it.is_stopped && is_other(it.owner));
            if let Some(owner) = index.and_then(|index| self.begin_to_leave(index)) {
                assert!(self.model.has_leases(owner), "nobody else must end");
                Tally::note("a guest leaves while there is no daemon");
            }
            return;
        }
        let Some(index) = self.any_guest(dice, |it| is_other(it.owner)) else { return };
        let pid = self.guests[index].owner.pid;
        self.guests[index].signal(Signal::SIGKILL);
        self.see_ended(pid);
        Tally::note("a guest ends while there is no daemon");
        if dice.chance(50) {
            self.start_with_pid(dice, Some(pid));
        }
    }

    /// Nothing of the daemon's end is left.
    fn all_are_disconnected(&mut self) {
        let children = self.connections.drain(..).filter_map(|connection| connection.child);
        children.for_each(end_child);
    }
}
