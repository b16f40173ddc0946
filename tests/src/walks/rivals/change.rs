//! Another image goes on in the daemon's process, of the same maker or the other one.

use super::Rivals;
use super::owed::{Model, Owner};
use super::people::end_child;
use crate::harness::{Whose, eventually};
use crate::load::Contender;
use crate::supervisor::Upgraded;
use crate::walks::tally::Tally;

impl Rivals {
    /// Meanwhile a stranger tries all files that are locked before and after, and gets none.
    pub(super) fn change_to(&mut self, whose: Whose, leaving: Option<Owner>) {
        let before = self.whose();
        let leaving = match before {
            Whose::Ours => leaving,
            // It does nothing else before, and then sees what else was closed by that.
            Whose::Theirs => {
                if let Some(owner) = leaving {
                    self.see_ended(owner.pid);
                    self.service.expect_serving();
                }
                None
            }
        };
        if before == Whose::Theirs && whose == Whose::Theirs && self.has_dead_peer() {
            // It would end.
            return Tally::note("left out: libvirt's daemon with a dead client");
        }
        let now = self.model.clone();
        // Ours sees to it before libvirt's daemon comes; that gave the leases back at once.
        leaving.into_iter().for_each(|owner| self.model.ended(owner));
        let after = self.after(&self.model, whose);
        let disputed = self.disputed(&now, &after);
        let contender = (!disputed.is_empty()).then(|| Contender::start(&disputed));
        match self.service.upgrade(whose) {
            // On a busy machine guests take longer to end than it waits.
            Upgraded::Refused(reason) if reason.ends_with("retrying when it does") => {
                eventually("it is tried again", || self.service.daemon().is_current());
            }
            outcome => assert_eq!(outcome, Upgraded::Done, "from {before:?} to {whose:?}"),
        }
        self.service.expect_serving();
        contender.into_iter().for_each(Contender::finish);
        // Ours ends it after ours has come, as a rule.
        let is_running = leaving.is_some_and(|owner| self.is_running(owner));
        self.model = if is_running { self.after(&now, whose) } else { after };
        leaving.into_iter().for_each(|owner| self.see_ended(owner.pid));
        match (before, whose) {
            (Whose::Ours, Whose::Theirs) => self.the_dead_are_let_go_of(),
            (Whose::Theirs, Whose::Ours) => self.sessions_are_found(),
            _ => {}
        }
        let count = disputed.len().min(9);
        Tally::note(&format!("from {before:?} to {whose:?}, {count} files in dispute"));
    }

    fn after(&self, before: &Model, whose: Whose) -> Model {
        let mut after = before.clone();
        after.goes_on(whose, |pid| self.found_by_ours(pid));
        after
    }

    fn is_running(&self, owner: Owner) -> bool {
        self.guests.iter().any(|guest| guest.owner == owner && guest.is_running())
    }

    /// Files that are locked before and after.
    fn disputed(&self, now: &Model, after: &Model) -> Vec<String> {
        let is_held = |file| now.lock(file).is_some() && after.lock(file).is_some();
        let held = self.names.files.iter().filter(|(file, _)| is_held(**file));
        held.map(|(_, path)| path.to_str().expect("ASCII").to_owned()).collect()
    }

    /// Whom ours takes for the owner, of whom libvirt's daemon knows the pid alone: whoever has it
    /// now, unless a connection says that the owner has ended.
    fn found_by_ours(&self, pid: u32) -> Owner {
        let own = self.connections.iter().filter(|connection| connection.owner.pid == pid);
        let own: Vec<_> = own.map(|connection| self.now(connection.owner)).collect();
        match own.iter().find(|owner| owner.process.is_some()) {
            Some(&living) => living,
            None if own.is_empty() => self.owner_with(pid),
            None => Owner { pid, process: None },
        }
    }

    fn has_dead_peer(&self) -> bool {
        self.connections.iter().any(|connection| self.now(connection.owner).process.is_none())
    }

    /// libvirt's daemon gets no connection of a process that has ended.
    fn the_dead_are_let_go_of(&mut self) {
        let owners: Vec<_> = self.guests.iter().map(|guest| guest.owner).collect();
        let (kept, dropped): (Vec<_>, Vec<_>) =
            self.connections.drain(..).partition(|connection| owners.contains(&connection.owner));
        self.connections = kept;
        dropped.iter().filter_map(|connection| connection.child).for_each(end_child);
    }

    fn sessions_are_found(&mut self) {
        for index in 0..self.sessions.len() {
            self.sessions[index].owner = self.found_by_ours(self.sessions[index].owner.pid);
        }
    }
}
