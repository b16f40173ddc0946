//! The start of a holder: its sets, and what an earlier process has left of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use common::sys::{fd, process};
use common::systemd::{Activation, StoredFd};
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::backing::Backing;
use crate::context::Context;
use crate::log::Log;
use crate::options::{ListenerOptions, Run, Serve, SetOptions};
use crate::parent::Parent;
use crate::poller::Poller;
use crate::record::Record;
use crate::server::Server;
use crate::set::Set;
use crate::signals::Signals;
use crate::sockets::{self, Directory, Dropped, Found, Listener, Sockets};
use crate::user::Users;

/// Sets of one holder. Ours.
const SETS_MAX: usize = 16;

/// Listening sockets of a set. The daemons take no more.
const LISTENERS_MAX: usize = 8;

/// Descriptors that are kept free for sockets, claims, and messages that are read. The kernel lets a
/// message have 253.
const SPARE_FDS: usize = 512;

/// Name of the only set of a holder that starts its daemon.
const ONLY: &str = "daemon";

/// Reason why nothing is served.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0} sets are more than {SETS_MAX}")]
    Sets(usize),
    #[error("there are two sets '{0}'")]
    Twice(String),
    #[error("there is no set '{0}' for a listening socket")]
    NoSet(String),
    #[error("set '{0}' has more than {LISTENERS_MAX} listening sockets")]
    Listeners(String),
}

/// An fd that an earlier process has left in the supervisor's store.
struct Left {
    name: String,
    fd: OwnedFd,
}

/// Serves sets until a signal, and returns the exit status.
///
/// # Errors
/// [`enum@Error`]
pub(crate) fn serve(options: &Serve) -> Result<u8, Error> {
    check(options)?;
    // Before anything is opened that could have the number of an fd that was passed.
    let mut left = take_left();
    let _directory = Directory::take(&options.directory)?;
    let signals = Signals::install(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    let mut context = context(Backing::from_environment())?;
    left.iter().for_each(|left| context.backing.adopt(&left.name));
    let mut sets = Vec::new();
    for (index, set) in options.sets.iter().enumerate() {
        let index = u8::try_from(index).map_err(|_| Error::Sets(index))?;
        let (own, others) = left.into_iter().partition(|left| is_of(left, &set.name));
        left = others;
        sets.push(restore(index, set, options, own, &mut context)?);
    }
    if !left.is_empty() {
        context.log.say(&format!("dropped {} fds of sets that there are no more", left.len()));
        left.iter().for_each(|left| context.backing.drop_named(&left.name));
    }
    if !context.backing.has_store() {
        context.log.say("no fd store of its own: what is held ends with this process");
    }
    Ok(Server { context, sets, signals, parent: None, is_paused: false }.run()?)
}

/// Starts a daemon and serves it until its end, and returns the exit status.
///
/// # Errors
/// [`enum@Error`]
pub(crate) fn run(options: Run) -> Result<u8, Error> {
    let signals = Signals::install(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGCHLD,
    ])?;
    let mut context = context(Backing::for_state_only())?;
    context.passes_state_on = true;
    let sockets = Sockets::abstract_ones()?;
    let uid = process::effective_uid();
    let mut set = Set::new(0, ONLY.to_owned(), uid, options.fds_max, sockets);
    if options.listeners.len() > LISTENERS_MAX {
        return Err(Error::Listeners(ONLY.to_owned()));
    }
    set.listeners = listeners(options.listeners, &mut Found::default());
    let parent = Some(Parent::new(options.program));
    Ok(Server { context, sets: vec![set], signals, parent, is_paused: false }.run()?)
}

fn check(options: &Serve) -> Result<(), Error> {
    let Serve { sets, listeners, .. } = options;
    if sets.len() > SETS_MAX {
        return Err(Error::Sets(sets.len()));
    }
    let of = |name: &str| listeners.iter().filter(|(set, _)| set == name).count();
    for (index, set) in sets.iter().enumerate() {
        if sets.iter().take(index).any(|other| other.name == set.name) {
            return Err(Error::Twice(set.name.clone()));
        }
        if of(&set.name) > LISTENERS_MAX {
            return Err(Error::Listeners(set.name.clone()));
        }
    }
    let is_known = |name: &str| sets.iter().any(|set| set.name == name);
    match listeners.iter().find(|(set, _)| !is_known(set)) {
        Some((set, _)) => Err(Error::NoSet(set.clone())),
        None => Ok(()),
    }
}

fn context(backing: Backing) -> io::Result<Context> {
    let limit = fd::raise_open_files_limit().ok().and_then(|limit| usize::try_from(limit).ok());
    Ok(Context {
        backing,
        poller: Poller::new()?,
        log: Log::new(),
        users: Users::here(),
        fds_max: limit.unwrap_or(0).saturating_sub(SPARE_FDS),
        fds: 0,
        passes_state_on: false,
        was_ready: false,
    })
}

fn take_left() -> Vec<Left> {
    let passed = Activation::from_environment().take_all(std::process::id());
    passed.into_iter().map(|StoredFd { name, fd }| Left { name, fd }).collect()
}

fn is_of(left: &Left, set: &str) -> bool {
    Record::parse(&left.name).is_some_and(|(name, _)| name == set)
}

/// Makes a set, with all that an earlier process has left of it.
fn restore(
    index: u8,
    options: &SetOptions,
    all: &Serve,
    left: Vec<Left>,
    context: &mut Context,
) -> Result<Set, Error> {
    let (mut found, mut items, mut claim) = (Found::default(), Vec::new(), None);
    // The newest comes first.
    for Left { name, fd } in left.into_iter().rev() {
        match Record::parse(&name) {
            Some((_, Record::Item { name, is_watched })) => {
                items.push((name.to_owned(), fd, is_watched));
            }
            Some((_, Record::Claim { pid })) => claim = Some((pid, fd)),
            Some((_, Record::Listener { name })) => found.listeners.push((name.to_owned(), fd)),
            Some((_, Record::Messages)) => found.messages = Some(fd),
            Some((_, Record::Claims)) => found.claims = Some(fd),
            None => {}
        }
    }
    let (name, directory) = (&options.name, all.directory.join(&options.name));
    let own = all.listeners.iter().filter(|(set, _)| set == name);
    let own: Vec<_> = own.map(|(_, listener)| listener.clone()).collect();
    for dropped in found.drop_unreachable(&directory, &own) {
        context.backing.drop(name, record_of(&dropped));
    }
    let uid = options.uid.unwrap_or_else(process::effective_uid);
    let are_there = (found.messages.is_some(), found.claims.is_some());
    let sockets = Sockets::open(&directory, uid, &mut found)?;
    if !are_there.0 {
        context.backing.keep(name, Record::Messages, sockets.messages.as_fd());
    }
    if !are_there.1 {
        context.backing.keep(name, Record::Claims, sockets.claims.as_fd());
    }
    let mut set = Set::new(index, name.clone(), uid, options.fds_max, sockets);
    set.listeners = listeners(own, &mut found);
    for (name, fd, is_watched) in items {
        set.adopt(&name, fd, is_watched, context);
    }
    if let Some((pid, pidfd)) = claim {
        set.adopt_claim(pid, pidfd, context);
    }
    Ok(set)
}

fn record_of(dropped: &Dropped) -> Record<'_> {
    match dropped {
        Dropped::Messages => Record::Messages,
        Dropped::Claims => Record::Claims,
        Dropped::Listener(name) => Record::Listener { name },
    }
}

fn listeners(
    options: impl IntoIterator<Item = ListenerOptions>,
    found: &mut Found,
) -> Vec<Listener> {
    options.into_iter().map(|options| Listener::new(options, found)).collect()
}
