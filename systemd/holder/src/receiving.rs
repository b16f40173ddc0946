//! Messages of the process that has a set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::sys::pidfd;
use common::sys::socket::{Message, Peer, receive_message};
use nix::sys::socket::{MsgFlags, recv};

use crate::claim::Claim;
use crate::context::Context;
use crate::message::{MESSAGE_BYTES_MAX, Request, State};
use crate::record::Record;
use crate::set::Set;

/// Messages that are taken in a row while others wait. Ours.
const MESSAGES_IN_A_ROW_MAX: usize = 64;

/// Messages that are read after the end of the process that has the set, before the next one gets
/// it: more than the kernel queues, by default 10 and under systemd 512. Ours.
const MESSAGES_SINCE_END_MAX: usize = 4096;

impl Set {
    /// Takes messages, a limited number of them, unless the holder's own store is behind. Returns
    /// whether none is left.
    ///
    /// Each stays in the socket until it was seen to and passed on: if the holder is killed before
    /// that, the next one reads it again.
    pub(crate) fn take_messages(&mut self, context: &mut Context) -> bool {
        for _ in 0..MESSAGES_IN_A_ROW_MAX {
            if context.backing.is_behind() {
                return false;
            }
            if !self.take_message(context) {
                return true;
            }
        }
        false
    }

    /// Takes the next message, if there is one.
    fn take_message(&mut self, context: &mut Context) -> bool {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        match receive_message(&self.sockets.messages, &mut bytes, true) {
            Ok(Message { count, fds, is_whole, sender }) => {
                let message = bytes.get(..count).filter(|_| is_whole);
                self.see_to(message.unwrap_or_default(), fds, sender, context);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => context.log.say(&format!("{}: a message is lost: {error}", self.name)),
        }
        self.consume();
        true
    }

    /// Reads what is left of a process that has ended; then nobody has the set. The next one is not
    /// to wait for the holder's own store, which gets all of it later.
    pub(crate) fn settle_end(&mut self, context: &mut Context) {
        if self.claim.as_ref().is_none_or(|claim| !claim.has_ended) {
            return;
        }
        let mut count = 0;
        while count < MESSAGES_SINCE_END_MAX && self.take_message(context) {
            count += 1;
        }
        let Some(Claim { pid, pidfd, .. }) = self.claim.take() else { return };
        context.poller.forget(&pidfd);
        context.backing.drop(&self.name, Record::Claim { pid });
        self.open_listeners(context);
        context.backing.status(&self.status());
        let count = self.items.len();
        context.log.say(&format!("{}: process {pid} has ended, {count} fds wait", self.name));
    }

    fn see_to(
        &mut self,
        message: &[u8],
        fds: Vec<OwnedFd>,
        sender: Option<Peer>,
        context: &mut Context,
    ) {
        let (Some(request), Some(sender)) = (Request::parse(message), sender) else { return };
        let is_known = self.admits(&request, sender, context);
        // One that has lost a holder begins with removals, and with barriers.
        if !is_known && self.claim.is_none() && !matches!(request, Request::Store { .. }) {
            return;
        }
        if !is_known {
            let (name, Peer { pid, uid, .. }) = (&self.name, sender);
            let line =
                format!("{name}: ignored process {pid} of user {uid}, which has not this set");
            return context.log.say(&line);
        }
        match request {
            Request::Store { name, is_watched } => {
                fds.into_iter().for_each(|fd| self.add(name, fd, is_watched, context));
            }
            Request::Remove(name) => self.remove(name, context),
            Request::Barrier => {
                for fd in &fds {
                    if let Err(error) = context.backing.barrier(fd.as_fd()) {
                        context.log.say(&format!("{}: a barrier is lost: {error}", self.name));
                    }
                }
            }
            Request::Other(state) => pass_on(&state, context),
        }
    }

    /// Returns whether a message is that of the process that has the set. One that stores something
    /// in an empty set of nobody gets it: another holder has lost what it had stored there.
    fn admits(&mut self, request: &Request<'_>, sender: Peer, context: &mut Context) -> bool {
        if let Some(claim) = &self.claim {
            return claim.pid == sender.pid;
        }
        let may_claim = self.items.len() == 0
            && self.claimants.is_empty()
            && matches!(request, Request::Store { .. })
            && self.may_have(sender, context);
        let Some(pidfd) = may_claim.then(|| pidfd::open(sender.pid).ok()).flatten() else {
            return false;
        };
        if pidfd::has_ended(&pidfd) {
            return false;
        }
        let line = format!("{}: process {} stores its fds again", self.name, sender.pid);
        context.log.say(&line);
        context.backing.keep(&self.name, Record::Claim { pid: sender.pid }, pidfd.as_fd());
        self.claim(Claim::new(sender.pid, pidfd), context);
        true
    }

    /// Takes a message that was seen to out of the socket, without its fds.
    fn consume(&self) {
        let number = self.sockets.messages.as_raw_fd();
        // There is one, as it has been seen.
        recv(number, &mut [0], MsgFlags::MSG_DONTWAIT).ok();
    }
}

fn pass_on(state: &State<'_>, context: &mut Context) {
    context.was_ready |= state.is_ready;
    if !context.passes_state_on {
        return;
    }
    if state.is_ready {
        context.backing.ready();
    }
    if let Some(text) = state.status {
        context.backing.status(text);
    }
}
