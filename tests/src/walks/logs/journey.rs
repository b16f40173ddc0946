//! The journey of virtlogd in which a system call fails, and what must hold all the same.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::actions::append_arguments;
use super::guest::{Guest, Order};
use super::judge::appended;
use super::log::{Appended, Log};
use super::{PROOF_US, STALL};
use crate::harness::now_us;
use crate::supervisor::claims;
use crate::walks::disk::Place;
use crate::walks::injected::Machine;
use crate::wire::{LogClient, Reader, Reply, Writer};

/// The log program's procedures.
const OPEN: i32 = 1;
const POSITION: i32 = 2;
const READ: i32 = 3;
const APPEND: i32 = 4;

/// How guests write: some lines, many lines one by one, and enough for the file to be rotated.
const LINES: Order = Order { bytes: 9_000, piece: 4_000, pause: Duration::ZERO };
const TRICKLE: Order = Order { bytes: 3_000, piece: 1, pause: Duration::from_millis(1) };
const FLOOD: Order = Order { bytes: 700_000, piece: 65_536, pause: Duration::ZERO };

/// Makes the journey: three processes, of which the first is killed and the others are stopped, and an
/// upgrade of each.
///
/// # Panics
/// When something is not as it has to be.
pub(in crate::walks) fn travel(machine: &mut Machine) {
    let mut logs = Journey { machine, all: Vec::new(), last: 0 };
    logs.open(0);
    logs.write(0, LINES);
    logs.open(1);
    logs.write(0, FLOOD);
    logs.write(1, TRICKLE);
    logs.ask(0);
    logs.upgrade();
    logs.write(0, LINES);
    logs.ask(1);
    logs.restart(Signal::SIGKILL);
    logs.write(0, LINES);
    logs.open(2);
    logs.write(2, FLOOD);
    logs.upgrade();
    logs.ask(2);
    logs.write(1, LINES);
    logs.restart(Signal::SIGTERM);
    logs.write(2, TRICKLE);
    logs.write(0, FLOOD);
    logs.die(1);
    logs.open(1);
    logs.write(1, LINES);
    logs.ask(1);
    logs.upgrade();
    (0..3).for_each(|index| logs.die(index));
    logs.expect_empty_store();
    logs.machine.end(Signal::SIGTERM);
}

struct Journey<'a> {
    machine: &'a mut Machine,
    all: Vec<Log>,
    /// Numbers of guests and managers' lines.
    last: u64,
}

impl Journey<'_> {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A new log, or one whose guest has died.
    fn open(&mut self, index: usize) {
        if index == self.all.len() {
            self.all.push(Log::new(&format!("{index}.log"), Place::Sound));
        }
        let number = self.next();
        let arguments = LogClient::open_arguments(self.path(index).as_os_str().as_bytes(), 0);
        let file = self.machine.file(&format!("{number}.progress"));
        let pipe = self.machine.perform("OPEN", |machine| {
            let (_, mut fds) = ask(machine, OPEN, &arguments)?;
            fds.pop().ok_or_else(|| "OPEN returns no descriptor".to_owned())
        });
        let pipe = File::from(pipe);
        let inode = pipe.metadata().expect("a pipe's inode").ino();
        self.all[index].begin_guest(number, inode, Guest::start(number, &file, pipe));
        self.settle();
    }

    fn write(&mut self, index: usize, order: Order) {
        self.all[index].guest.as_mut().expect("a guest that lives").order(order);
        self.settle();
    }

    /// A manager asks for the position, reads a part, and appends a line.
    fn ask(&mut self, index: usize) {
        let path = self.path(index);
        let arguments = Writer::new().string(path.as_os_str().as_bytes()).u32(0).into_bytes();
        let (inode, offset) = self.machine.perform("GET_POSITION", |machine| {
            let (payload, _) = ask(machine, POSITION, &arguments)?;
            let mut reader = Reader::new(&payload);
            Ok((reader.u64(), reader.u64()))
        });
        let file = fs::metadata(&path).expect("an open log has a file");
        // One that was adopted and is silent since has none.
        assert!([(0, 0), (file.ino(), file.size())].contains(&(inode, offset)), "{inode} {offset}");
        self.read(index);
        self.append(index);
    }

    fn read(&mut self, index: usize) {
        const READ_BYTES: usize = 1_000;
        let path = self.path(index);
        let content = fs::read(&path).expect("an open log has a file");
        let inode = fs::metadata(&path).expect("an open log has a file").ino();
        let from = content.len().saturating_sub(READ_BYTES);
        let arguments = Writer::new().string(path.as_os_str().as_bytes()).u64(inode);
        let arguments = arguments.u64(from as u64).u64(READ_BYTES as u64).u32(0).into_bytes();
        let read = self.machine.perform("READ", |machine| {
            let (payload, _) = ask(machine, READ, &arguments)?;
            Ok(Reader::new(&payload).string().to_vec())
        });
        assert_eq!(read, content[from..], "what is read is what the file has");
    }

    /// A line that is refused may be there or not; then another one is appended.
    fn append(&mut self, index: usize) {
        let (path, mut refused) = (self.path(index), Vec::new());
        let last = &mut self.last;
        let number = self.machine.perform("APPEND", |machine| {
            *last += 1;
            match ask(machine, APPEND, &append_arguments(&path, &appended(*last))) {
                Ok(_) => Ok(*last),
                Err(reason) => {
                    refused.push(*last);
                    Err(reason)
                }
            }
        });
        let log = &mut self.all[index];
        refused.into_iter().for_each(|number| log.note_appended(number, Appended::Perhaps));
        log.note_appended(number, Appended::Certainly);
        self.settle();
    }

    fn die(&mut self, index: usize) {
        self.all[index].kill_guest();
        self.settle();
    }

    fn upgrade(&mut self) {
        self.machine.upgrade();
        self.settle();
    }

    fn restart(&mut self, by: Signal) {
        let begun_us = self.machine.service.serves_since_us();
        let proved_us = (begun_us + PROOF_US).saturating_sub(now_us());
        // Pipes of ours are not in the store for certain before the supervisor has said so.
        std::thread::sleep(Duration::from_micros(proved_us));
        self.machine.restart(by);
        self.settle();
    }

    /// All guests have written what they were told to, and all logs have it.
    fn settle(&mut self) {
        let Self { machine, all, .. } = self;
        machine.settle(|machine| {
            for log in all.iter_mut() {
                log.may_tell_losses = machine.strikes() > 0;
                check_guest(machine, log);
                if !log.is_idle() {
                    return Err(format!("the guest of {} has to wait", log.describe()));
                }
                let verdict = log.judge(&machine.file(&log.name))?.ok_or("it is being rotated")?;
                if !log.is_complete(&verdict) {
                    return Err(format!("{} is not complete: {verdict:?}", log.describe()));
                }
            }
            check_store(machine, all)
        });
    }

    fn expect_empty_store(&mut self) {
        self.machine.settle(|machine| {
            let mut names = machine.service.supervisor.names();
            names.retain(|name| name.starts_with('l'));
            if names.is_empty() { Ok(()) } else { Err(format!("{names:?} stay in the store")) }
        });
    }

    fn path(&self, index: usize) -> PathBuf {
        self.machine.file(&self.all[index].name)
    }
}

/// A call of which an error is a failure.
fn ask(
    machine: &Machine,
    procedure: i32,
    arguments: &[u8],
) -> Result<(Vec<u8>, Vec<std::os::fd::OwnedFd>), String> {
    let reply: Reply = machine.call(&[(procedure, arguments.to_vec())])?;
    reply.map_err(|error| format!("{error:?}"))
}

/// A guest has no error, and has waited for nothing but the daemon's absence.
fn check_guest(machine: &Machine, log: &Log) {
    let progress = log.progress();
    assert!(progress.errno == 0, "the guest of {} cannot write", log.describe());
    let (from, to) = progress.slowest_us;
    let served = machine.service.serves_since_us();
    let waited = Duration::from_micros(to.saturating_sub(from.max(served)));
    assert!(waited < STALL, "the guest of {} has waited {waited:?}", log.describe());
}

/// What the store has is what the journal claims, and all that was promised is there.
fn check_store(machine: &Machine, all: &[Log]) -> Result<(), String> {
    let stored = machine.service.supervisor.stored();
    let claims = claims(&stored).ok_or("there is no complete journal")?;
    let names = stored.iter().map(|stored| stored.name.clone());
    let names: BTreeSet<_> = names.filter(|name| name.starts_with('l')).collect();
    if names != claims.names() {
        return Err(format!("the store has {names:?}, the journal claims {claims:?}"));
    }
    let mut living = all.iter().filter(|log| log.guest.is_some());
    match living.find(|log| machine.service.stored_name('l', log.inode).is_none()) {
        Some(log) => Err(format!("{} is not in the store", log.name)),
        None => Ok(()),
    }
}
