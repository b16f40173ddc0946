//! Guests and managers come and go.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::guest::{Guest, registration};
use super::owed::Owner;
use super::{Connection, Rivals, Session};
use crate::random::Random;
use crate::supervisor::patience;
use crate::walks::tally::Tally;
use crate::walks::walk::eventually_ok;
use crate::wire::LockClient;

/// Guests at a time.
const GUESTS_MAX: usize = 7;

/// Own connections of a guest.
const CONNECTIONS_MAX: usize = 2;

/// Managers that stay.
const SESSIONS_MAX: usize = 4;

/// Of a hundred guests, those that are connected from the start.
const CONNECTED_PERCENT: usize = 75;

/// Of a hundred guests, those that do not mind SIGTERM.
const STUBBORN_PERCENT: usize = 15;

/// Of a hundred times that somebody speaks for a guest, those in which it has ended.
const DEAD_PERCENT: usize = 8;

impl Rivals {
    pub(super) fn start(&mut self, dice: &mut Random) {
        if self.guests.len() < GUESTS_MAX {
            self.start_with_pid(dice, None);
            self.connect_latest(dice);
        }
    }

    /// Somebody else has a dead guest's pid.
    pub(super) fn reuse(&mut self, dice: &mut Random) {
        if self.dead.is_empty() || self.guests.len() > GUESTS_MAX {
            return;
        }
        let pid = dice.of(&self.dead);
        if fs::exists(format!("/proc/{pid}")).expect("looking for a process") {
            return;
        }
        if self.start_with_pid(dice, Some(pid)) {
            self.connect_latest(dice);
        }
    }

    /// Gives whether it is there: nobody must have the pid, or be faster.
    pub(super) fn start_with_pid(&mut self, dice: &mut Random, pid: Option<u32>) -> bool {
        self.last += 1;
        let guest = Guest::start(self.last, &self.socket, dice.chance(STUBBORN_PERCENT), pid);
        if pid.is_some_and(|pid| pid != guest.owner.pid) {
            Tally::note("a pid is another's");
            return false;
        }
        if pid.is_some() {
            Tally::note("a pid is used again");
            self.dead.retain(|&dead| Some(dead) != pid);
        }
        self.guests.push(guest);
        true
    }

    fn connect_latest(&mut self, dice: &mut Random) {
        if !self.guests.is_empty() && dice.chance(CONNECTED_PERCENT) {
            self.connect_guest(self.guests.len() - 1);
        }
    }

    pub(super) fn connect(&mut self, dice: &mut Random) {
        let index = self.any_guest(dice, |guest| !guest.is_stopped);
        index.into_iter().for_each(|index| self.connect_guest(index));
    }

    fn connect_guest(&mut self, index: usize) {
        let owner = self.guests[index].owner;
        let its = self.connections.iter().filter(|it| it.owner == owner).count();
        if its < CONNECTIONS_MAX {
            assert_eq!(self.guests[index].tell("connect"), "done");
            self.connections.push(Connection { owner, is_guests: true, child: None });
        }
    }

    /// A guest closes a connection of its own.
    pub(super) fn leave(&mut self, dice: &mut Random) {
        let has_leases = |guest: &Guest| self.model.has_leases(guest.owner);
        let index = self.any_guest(dice, |guest| !guest.is_stopped && has_leases(guest));
        let index = index.or_else(|| self.any_guest(dice, |guest| !guest.is_stopped));
        let Some(index) = index else { return };
        if let Some(owner) = self.begin_to_leave(index) {
            Tally::note("a guest leaves its leases");
            self.see_ended(owner.pid);
        }
    }

    /// The same; gives who must end for it.
    pub(super) fn begin_to_leave(&mut self, index: usize) -> Option<Owner> {
        let owner = self.guests[index].owner;
        let connection = self.latest_connection(owner)?;
        self.guests[index].tell("leave");
        println!("leaves: {owner:?}");
        self.connections[connection].is_guests = false;
        if self.connections[connection].child.is_some() {
            return None;
        }
        self.connections.remove(connection);
        self.model.connection_closes(owner).then_some(owner)
    }

    /// The one that a guest speaks of when it does not say of which.
    pub(super) fn latest_connection(&self, owner: Owner) -> Option<usize> {
        let is_its = |connection: &Connection| connection.owner == owner && connection.is_guests;
        self.connections.iter().rposition(is_its)
    }

    pub(super) fn lend(&mut self, dice: &mut Random) {
        let index = self.any_guest(dice, |guest| !guest.is_stopped);
        let Some(index) = index else { return };
        let Some(connection) = self.latest_connection(self.guests[index].owner) else { return };
        if self.connections[connection].child.is_none() {
            let child = self.guests[index].tell("lend").parse().expect("a pid");
            self.connections[connection].child = Some(child);
        }
    }

    /// A child ends that keeps a connection open.
    pub(super) fn orphan(&mut self, dice: &mut Random) {
        let lent = self.connections.iter().enumerate();
        let lent = lent.filter(|(_, connection)| connection.child.is_some());
        let lent: Vec<usize> = lent.map(|(index, _)| index).collect();
        if lent.is_empty() {
            return;
        }
        let index = dice.of(&lent);
        let child = self.connections[index].child.take();
        child.into_iter().for_each(end_child);
        if self.connections[index].is_guests {
            return;
        }
        let Connection { owner, .. } = self.connections.remove(index);
        let owner = self.now(owner);
        let is_dead = owner.process.is_none();
        Tally::note(if is_dead {
            "a dead guest's connection closes"
        } else {
            "a lent connection closes"
        });
        if self.model.connection_closes(owner) {
            self.see_ended(owner.pid);
        }
    }

    pub(super) fn halt(&mut self, dice: &mut Random) {
        if let Some(index) = self.any_guest(dice, |guest| !guest.is_stopped) {
            self.guests[index].signal(Signal::SIGSTOP);
            self.guests[index].is_stopped = true;
        }
    }

    pub(super) fn go_on(&mut self, dice: &mut Random) {
        if let Some(index) = self.any_guest(dice, |guest| guest.is_stopped) {
            self.guests[index].signal(Signal::SIGCONT);
            self.guests[index].is_stopped = false;
        }
    }

    pub(super) fn die(&mut self, dice: &mut Random) {
        if let Some(index) = self.any_guest(dice, |_| true) {
            let pid = self.guests[index].owner.pid;
            self.guests[index].signal(Signal::SIGKILL);
            self.see_ended(pid);
        }
    }

    /// A guest with this pid ends, if there is one. Whatever follows from that does too.
    pub(super) fn see_ended(&mut self, pid: u32) {
        let Some(index) = self.guests.iter().position(|guest| guest.owner.pid == pid) else {
            return;
        };
        let guest = self.guests.remove(index);
        println!("ends: {:?}", guest.owner);
        eventually_ok("a guest that must end does", patience(), || {
            if guest.is_running() { Err(format!("{guest:?} runs")) } else { Ok(()) }
        });
        self.dead.push(pid);
        self.model.ended(guest.owner);
        for connection in self.connections.iter_mut().filter(|it| it.owner == guest.owner) {
            connection.is_guests = false;
        }
        while let Some(index) = self.connections.iter().position(Connection::is_closed) {
            let Connection { owner, .. } = self.connections.remove(index);
            self.model.connection_closes(self.now(owner));
        }
    }

    /// A manager connects for a guest, and stays.
    pub(super) fn register(&mut self, dice: &mut Random) {
        if self.sessions.len() < SESSIONS_MAX
            && let Some(owner) = self.any_owner(dice)
        {
            let client = self.manager(owner);
            self.sessions.push(Session { owner, client });
        }
    }

    pub(super) fn hang_up(&mut self, dice: &mut Random) {
        if !self.sessions.is_empty() {
            self.sessions.swap_remove(dice.below(self.sessions.len()));
        }
    }

    /// A manager's connection, registered for a guest.
    pub(super) fn manager(&self, owner: Owner) -> LockClient {
        let mut client = LockClient::connect(&self.socket).expect("connecting");
        client.register(&registration(owner.pid), 0).expect("registering");
        client
    }

    /// A guest for whom somebody speaks, who may have ended.
    pub(super) fn any_owner(&self, dice: &mut Random) -> Option<Owner> {
        if !self.dead.is_empty() && dice.chance(DEAD_PERCENT) {
            return Some(self.owner_with(dice.of(&self.dead)));
        }
        self.any_guest(dice, |_| true).map(|index| self.guests[index].owner)
    }

    /// Who has a pid now.
    pub(super) fn owner_with(&self, pid: u32) -> Owner {
        let guest = self.guests.iter().find(|guest| guest.owner.pid == pid);
        guest.map_or(Owner { pid, process: None }, |guest| guest.owner)
    }

    /// What has become of an owner.
    pub(super) fn now(&self, owner: Owner) -> Owner {
        let is_living = self.guests.iter().any(|guest| guest.owner == owner);
        if is_living { owner } else { Owner { process: None, ..owner } }
    }

    pub(super) fn any_guest(
        &self,
        dice: &mut Random,
        is_wanted: impl Fn(&Guest) -> bool,
    ) -> Option<usize> {
        let wanted = self.guests.iter().enumerate().filter(|(_, guest)| is_wanted(guest));
        let wanted: Vec<usize> = wanted.map(|(index, _)| index).collect();
        (!wanted.is_empty()).then(|| dice.of(&wanted))
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        !self.is_guests && self.child.is_none()
    }
}

/// Ends the child of a guest, that may stay a zombie.
pub(super) fn end_child(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("ending a child");
    eventually_ok("a child ends", patience(), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        let has_ended = state.is_empty() || state.starts_with('Z');
        if has_ended { Ok(()) } else { Err(stat) }
    });
}
