//! Walks of guests, their managers and strangers who all want the same disks, by all their names.
//!
//! [`owed`] says what is owed for each thing that is done; all else does it, and [`judge`] compares.
//! Nothing is wrong with the machine here: what comes together is who wants what, and when.

mod actions;
mod change;
mod events;
mod guest;
mod judge;
mod kernel;
mod mode;
mod names;
mod owed;
mod people;
mod stranger;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) use guest::live;
pub use mode::Mode;
pub(super) use stranger::live as live_as_stranger;

use super::locks::File;
use super::step::Step;
use crate::harness::{Host, Program, Subject};
use crate::supervisor::Service;
use crate::wire::LockClient;
use guest::Guest;
use kernel::Mode as LockMode;
use names::Names;
use owed::{Model, Owner};
use stranger::{Kind, Stranger};

/// A manager's connection that stays.
#[derive(Debug)]
struct Session {
    owner: Owner,
    client: LockClient,
}

/// A guest's own connection.
#[derive(Debug, Clone, Copy)]
struct Connection {
    owner: Owner,
    /// The guest has not closed it.
    is_guests: bool,
    /// The pid of the child that keeps it open.
    child: Option<u32>,
}

/// Everybody who wants something, and the daemon.
#[derive(Debug)]
struct Rivals {
    service: Service,
    /// Where it is called.
    socket: PathBuf,
    /// It has an fd store.
    has_store: bool,
    names: Names,
    model: Model,
    guests: Vec<Guest>,
    /// Pids of guests that have ended.
    dead: Vec<u32>,
    connections: Vec<Connection>,
    sessions: Vec<Session>,
    stranger: Stranger,
    stranger_pid: u32,
    strangers: BTreeMap<File, (Kind, LockMode)>,
    /// The number of the latest guest.
    last: u64,
}

/// Walks, in namespaces that are private already. Says on standard output how far it is.
///
/// # Panics
/// When something is not as it has to be.
pub(super) fn walk(mode: Mode, steps: &[Step]) {
    let host = Host::new();
    let names = Names::make(&host);
    let mut rivals = Rivals::new(mode, &host, names, store_fds(steps));
    for (number, step) in steps.iter().enumerate() {
        println!("STEP {number} {step}");
        match *step {
            Step::Act(action, number) => rivals.act(action, number),
            Step::Event(event, number) => rivals.event(event, number),
            Step::Store(_) | Step::Begin(..) | Step::End(_) => {}
        }
        rivals.check();
    }
    println!("STEP {} everybody leaves", steps.len());
    rivals.finish();
    println!("PASSED");
}

fn store_fds(steps: &[Step]) -> usize {
    let store = steps.iter().find_map(|step| match step {
        Step::Store(fds) => Some(*fds),
        _ => None,
    });
    store.unwrap_or(0)
}

impl Rivals {
    fn new(mode: Mode, host: &Arc<Host>, mut names: Names, store_fds: usize) -> Self {
        let subject = Subject { whose: mode.whose(), program: Program::Virtlockd };
        let service = Service::start_of(subject, host, store_fds);
        let (has_store, socket) = (store_fds > 0, service.daemon().main_socket());
        let mut model = Model::new(mode.whose(), has_store);
        model.seen = names.look();
        let stranger = Stranger::start();
        Self {
            service,
            socket,
            has_store,
            names,
            model,
            guests: Vec::new(),
            dead: Vec::new(),
            connections: Vec::new(),
            sessions: Vec::new(),
            stranger_pid: stranger.pid(),
            stranger,
            strangers: BTreeMap::new(),
            last: 0,
        }
    }
}
