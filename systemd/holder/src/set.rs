//! One set of fds, and the one process at a time that has it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use common::sys::pidfd;

use crate::claim::{Claim, Claimant};
use crate::context::Context;
use crate::items::{Item, Items};
use crate::poller::{Interest, Token};
use crate::record::Record;
use crate::sockets::{Listener, Sockets};

/// Bytes of all names in a set, with a separator each. Linux refuses to execute a program with an
/// environment variable of 128 KiB; 4 KiB are for the names of listening sockets.
const NAME_BYTES_MAX: usize = 131_072 - 4096;

/// A set.
#[derive(Debug)]
pub(crate) struct Set {
    /// Its place among all sets.
    pub(crate) index: u8,
    pub(crate) name: String,
    /// The user whose processes may have it.
    pub(crate) uid: u32,
    pub(crate) fds_max: usize,
    pub(crate) sockets: Sockets,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) items: Items,
    pub(crate) claim: Option<Claim>,
    /// Processes that ask for it, in order.
    pub(crate) claimants: Vec<Claimant>,
    pub(crate) last_claimant: u64,
    /// The only process that may have it, if the holder has started it.
    pub(crate) only: Option<i32>,
}

impl Set {
    /// An empty set.
    pub(crate) fn new(index: u8, name: String, uid: u32, fds_max: usize, sockets: Sockets) -> Self {
        Self {
            index,
            name,
            uid,
            fds_max,
            sockets,
            listeners: Vec::new(),
            items: Items::default(),
            claim: None,
            claimants: Vec::new(),
            last_claimant: 0,
            only: None,
        }
    }

    /// Begins to serve: watches its sockets, and opens those that its daemon listens at.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub(crate) fn begin(&mut self, context: &mut Context) -> io::Result<()> {
        let (messages, claims) = (Token::Messages(self.index), Token::Claims(self.index));
        context.poller.watch(&self.sockets.messages, messages, Interest::Read)?;
        context.poller.watch(&self.sockets.claims, claims, Interest::Read)?;
        self.open_listeners(context);
        Ok(())
    }

    /// Opens the listening sockets that are missing and that no other process has.
    pub(crate) fn open_listeners(&mut self, context: &mut Context) {
        for listener in &mut self.listeners {
            let name = listener.options.name.clone();
            match listener.open() {
                Ok(None) => {}
                Ok(Some(socket)) => {
                    context.backing.keep(&self.name, Record::Listener { name: &name }, socket);
                }
                Err(error) => context.log.say(&format!("{}: {error}", self.name)),
            }
        }
    }

    /// Adds an fd, unless it is there or there is no room.
    pub(crate) fn add(&mut self, name: &str, fd: OwnedFd, is_watched: bool, context: &mut Context) {
        let is_full = self.items.len() >= self.fds_max
            || self.items.name_bytes() + name.len() + 1 > NAME_BYTES_MAX
            || !context.has_room();
        let Some(item) = self.items.add(name, fd, is_watched) else { return };
        let number = item.number;
        let record = Record::Item { name, is_watched };
        if is_full || !context.backing.keep(&self.name, record, item.fd.as_fd()) {
            self.items.take(number);
            return context.log.say(&format!("{}: there is no room for '{name}'", self.name));
        }
        context.fds += 1;
        self.watch(number, context);
    }

    /// Adds an fd that came from the holder's own store.
    pub(crate) fn adopt(
        &mut self,
        name: &str,
        fd: OwnedFd,
        is_watched: bool,
        context: &mut Context,
    ) {
        if let Some(number) = self.items.add(name, fd, is_watched).map(|item| item.number) {
            context.fds += 1;
            self.watch(number, context);
        }
    }

    /// Adopts the claim of a process, which may have ended meanwhile.
    pub(crate) fn adopt_claim(&mut self, pid: i32, pidfd: OwnedFd, context: &Context) {
        self.claim(Claim::new(pid, pidfd), context);
    }

    /// Drops all fds of this name.
    pub(crate) fn remove(&mut self, name: &str, context: &mut Context) {
        let items = self.items.remove(name);
        for is_watched in [false, true] {
            if items.iter().any(|item| item.is_watched == is_watched) {
                context.backing.drop(&self.name, Record::Item { name, is_watched });
            }
        }
        items.iter().for_each(|item| leave(item, context));
    }

    /// Drops a watched fd whose other end is closed. Others of its name are kept anew.
    pub(crate) fn has_ended(&mut self, number: u64, context: &mut Context) {
        let Some(item) = self.items.take(number) else { return };
        let name = item.name.clone();
        let record = Record::Item { name: &name, is_watched: true };
        context.backing.drop(&self.name, record);
        leave(&item, context);
        for other in self.items.iter().filter(|other| other.name == name && other.is_watched) {
            context.backing.keep(&self.name, record, other.fd.as_fd());
        }
    }

    /// Has the holder's own store keep everything anew, after it has lost something.
    pub(crate) fn keep_all(&self, context: &mut Context) {
        let (set, backing) = (&self.name, &mut context.backing);
        backing.keep(set, Record::Messages, self.sockets.messages.as_fd());
        backing.keep(set, Record::Claims, self.sockets.claims.as_fd());
        for listener in &self.listeners {
            if let Some(socket) = &listener.socket {
                backing.keep(
                    set,
                    Record::Listener { name: &listener.options.name },
                    socket.as_fd(),
                );
            }
        }
        if let Some(Claim { pid, pidfd, .. }) = &self.claim {
            backing.keep(set, Record::Claim { pid: *pid }, pidfd.as_fd());
        }
        for item in self.items.iter() {
            let record = Record::Item { name: &item.name, is_watched: item.is_watched };
            backing.keep(set, record, item.fd.as_fd());
        }
    }

    /// Sees to what is due: the end of a claim, the next one, and those that have waited too long.
    pub(crate) fn tend(&mut self, context: &mut Context) {
        self.settle_end(context);
        self.grant(context);
        self.refuse_late(Instant::now(), context);
    }

    /// Returns when something is due that no fd tells of.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.claimants.iter().map(|claimant| claimant.deadline).min()
    }

    /// Describes it in a few words.
    pub(crate) fn status(&self) -> String {
        let daemon = match &self.claim {
            Some(claim) => format!("process {}", claim.pid),
            None => "no process".to_owned(),
        };
        format!("{}: {} fds, {daemon}", self.name, self.items.len())
    }

    fn watch(&self, number: u64, context: &Context) {
        let Some(item) = self.items.before(number + 1).next().filter(|item| item.is_watched) else {
            return;
        };
        // A file that cannot be watched has no other end.
        context.poller.watch(&item.fd, Token::Item(self.index, number), Interest::End).ok();
    }

    /// Gives it to a process.
    pub(crate) fn claim(&mut self, claim: Claim, context: &Context) {
        let token = Token::Daemon(self.index);
        if let Err(error) = context.poller.watch(&claim.pidfd, token, Interest::Read) {
            context
                .log
                .say(&format!("{}: unable to watch process {}: {error}", self.name, claim.pid));
        }
        let has_ended = pidfd::has_ended(&claim.pidfd);
        self.claim = Some(Claim { has_ended, ..claim });
    }
}

/// To be called before the fd is closed.
fn leave(item: &Item, context: &mut Context) {
    context.fds -= 1;
    if item.is_watched {
        context.poller.forget(&item.fd);
    }
}
