//! Claims: who asks for a set, and who gets it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use common::sys::pidfd;
use common::sys::socket::{self, Peer, receive_message, send_datagram};
use nix::libc;

use crate::claim::{Claim, Claimant, Stage};
use crate::context::Context;
use crate::packet::{CLAIM, Packet};
use crate::poller::{Interest, Token};
use crate::record::Record;
use crate::set::Set;

/// Processes that may ask for a set at a time. Ours.
const CLAIMANTS_MAX: usize = 8;

/// Bytes of what a process asks.
const REQUEST_BYTES_MAX: usize = 256;

impl Set {
    /// Takes up all who have connected.
    pub(crate) fn accept(&mut self, context: &mut Context) {
        while let Ok(stream) = socket::accept(&self.sockets.claims) {
            if let Err(reason) = self.take_up(&stream, context) {
                context.log.say(&format!("{}: {reason}", self.name));
                refuse(&stream, &reason);
            }
        }
    }

    /// Reads what a process asks, or writes the rest of its answer.
    pub(crate) fn see_to_claimant(&mut self, number: u64, context: &mut Context) {
        let Some(index) = self.index_of(number) else { return };
        let Some(claimant) = self.claimants.get(index) else { return };
        match claimant.stage {
            Stage::First | Stage::Before(_) => self.answer(index, context),
            Stage::Connected => self.read_request(index, context),
            // There is nothing else that it could say but that it leaves.
            Stage::Waiting | Stage::Done => self.dismiss(index, context),
        }
    }

    /// Returns whether a process may have this set, whatever it asks.
    pub(crate) fn may_have(&self, peer: Peer, context: &Context) -> bool {
        peer.pid > 0
            && context.users.is(peer.uid, self.uid)
            && self.only.is_none_or(|only| only == peer.pid)
    }

    /// Gives the set to the next process that waits for it, if nobody has it.
    pub(crate) fn grant(&mut self, context: &mut Context) {
        let Some(index) = self.claimants.iter().position(|it| it.stage == Stage::Waiting) else {
            return;
        };
        let Some(claimant) = self.claimants.get_mut(index) else { return };
        let (pid, has_ended) = (claimant.pid, pidfd::has_ended(&claimant.pidfd));
        match &self.claim {
            _ if has_ended => return self.dismiss(index, context),
            Some(claim) if claim.pid != pid || claim.has_ended => return,
            Some(_) => claimant.stage = Stage::First,
            None => {
                let Ok(pidfd) = claimant.pidfd.try_clone() else { return };
                claimant.stage = Stage::First;
                context.backing.keep(&self.name, Record::Claim { pid }, pidfd.as_fd());
                self.claim(Claim::new(pid, pidfd), context);
                self.open_listeners(context);
            }
        }
        context.backing.status(&self.status());
        let line = format!("{}: process {pid} gets {} fds", self.name, self.items.len());
        context.log.say(&line);
        self.answer(index, context);
    }

    /// Refuses those that have waited for too long.
    pub(crate) fn refuse_late(&mut self, now: Instant, context: &mut Context) {
        while let Some(index) = self.claimants.iter().position(|it| it.deadline <= now) {
            let Some(claimant) = self.claimants.get(index) else { return };
            let holder = self.claim.as_ref().map_or(0, |claim| claim.pid);
            let reason = match claimant.stage {
                Stage::Waiting => format!("process {holder} has this set and does not end"),
                _ => "too late".to_owned(),
            };
            let line = format!("{}: refused process {}: {reason}", self.name, claimant.pid);
            context.log.say(&line);
            refuse(&claimant.stream, &reason);
            self.give_up(index, context);
        }
    }

    fn take_up(&mut self, stream: &UnixStream, context: &mut Context) -> Result<(), String> {
        let peer = socket::peer(stream).map_err(|error| error.to_string())?;
        let Peer { pid, uid, .. } = peer;
        if pid <= 0 {
            return Err("a process of another pid namespace, which the holder cannot see".into());
        }
        if !self.may_have(peer, context) {
            let reason = match self.only {
                Some(only) => format!("it is that of process {only}"),
                None => format!("it is that of user {}", self.uid),
            };
            return Err(format!("process {pid} of user {uid} may not have this set: {reason}"));
        }
        if self.claimants.len() >= CLAIMANTS_MAX {
            return Err(format!("too many processes ask for this set; refused process {pid}"));
        }
        let pidfd = pidfd_of(stream, pid).map_err(|error| format!("process {pid}: {error}"))?;
        let stream = stream.try_clone().map_err(|error| error.to_string())?;
        self.last_claimant += 1;
        let number = self.last_claimant;
        let token = Token::Claimant(self.index, number);
        let watched = context.poller.watch(&stream, token, Interest::Read);
        watched.map_err(|error| error.to_string())?;
        self.claimants.push(Claimant::new(number, stream, pid, pidfd));
        Ok(())
    }

    fn read_request(&mut self, index: usize, context: &mut Context) {
        let Some(claimant) = self.claimants.get_mut(index) else { return };
        let mut bytes = [0; REQUEST_BYTES_MAX];
        match receive_message(&claimant.stream, &mut bytes, false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(message) if is_claim(bytes.get(..message.count).unwrap_or_default()) => {
                claimant.stage = Stage::Waiting;
            }
            Ok(message) if message.count > 0 => {
                refuse(&claimant.stream, "unknown request");
                self.dismiss(index, context);
            }
            _ => self.dismiss(index, context),
        }
    }

    /// Sends as much of the answer as there is room for.
    fn answer(&mut self, index: usize, context: &mut Context) {
        let Some(claimant) = self.claimants.get_mut(index) else { return };
        let token = Token::Claimant(self.index, claimant.number);
        let fds_max = self.fds_max.min(context.backing.items_max().unwrap_or(usize::MAX));
        while claimant.stage != Stage::Done {
            let (packet, fds, next) = claimant.stage.packet(&self.listeners, &self.items, fds_max);
            match send_datagram(&claimant.stream, packet.text().as_bytes(), &fds) {
                Ok(()) => claimant.stage = next,
                Err(error) if must_wait(&error) => {
                    context.poller.change(&claimant.stream, token, Interest::Write).ok();
                    return;
                }
                Err(_) => return self.give_up(index, context),
            }
        }
        self.dismiss(index, context);
    }

    /// Forgets one that has no answer, or only a part of it. If it was given the set, it has it no
    /// more.
    fn give_up(&mut self, index: usize, context: &mut Context) {
        let answered = self.claimants.get(index).filter(|claimant| claimant.is_answered());
        if let Some(pid) = answered.map(|claimant| claimant.pid)
            && let Some(claim) = self.claim.as_mut().filter(|claim| claim.pid == pid)
        {
            claim.has_ended = true;
        }
        self.dismiss(index, context);
    }

    fn dismiss(&mut self, index: usize, context: &Context) {
        if index < self.claimants.len() {
            let claimant = self.claimants.remove(index);
            context.poller.forget(&claimant.stream);
        }
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        self.claimants.iter().position(|claimant| claimant.number == number)
    }
}

/// Returns a pidfd of the process that has connected.
fn pidfd_of(stream: &UnixStream, pid: i32) -> io::Result<OwnedFd> {
    socket::peer_pidfd(stream).or_else(|_| {
        // Before Linux 6.5. It waits for us with the connection open, so the number is still its.
        let pidfd = pidfd::open(pid)?;
        if socket::has_hung_up(stream) { Err(io::ErrorKind::NotFound.into()) } else { Ok(pidfd) }
    })
}

fn is_claim(request: &[u8]) -> bool {
    str::from_utf8(request).is_ok_and(|text| text.lines().any(|line| line == CLAIM))
}

/// The process need not be there any more.
fn refuse(stream: &UnixStream, reason: &str) {
    send_datagram(stream, Packet::Refused(reason).text().as_bytes(), &[]).ok();
}

/// Returns whether the process has yet to take what it was sent.
fn must_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ETOOMANYREFS)
}
