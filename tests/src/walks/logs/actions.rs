//! What guests of virtlogd and their managers do.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::Logs;
use super::guest::{Guest, Order};
use super::judge::appended;
use super::log::{Appended, Log};
use crate::walks::disk::Place;
use crate::walks::step::{Action, Fault};
use crate::walks::world::World;
use crate::wire::{Answer, LogClient, Reply, Writer};

/// Logs at a time.
const LOGS_MAX: usize = 6;

/// The log program's procedures.
const OPEN: i32 = 1;
const POSITION: i32 = 2;
const APPEND: i32 = 4;

/// More than the pipes of a log hold for certain.
const MUCH: usize = 60_000;

/// Bytes of a write.
const PIECES: [usize; 4] = [1, 400, 4_000, 60_000];
const FLOOD_PIECES: [usize; 2] = [4_000, 65_536];

/// How many times as much a flood may be.
const TIMES: [usize; 16] = [6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

impl Logs {
    pub(super) fn perform(&mut self, world: &World, action: Action, number: u64) {
        match action {
            Action::Open => self.open(world, number),
            Action::Write => self.write(number, |number| Order {
                bytes: 1 + scaled(number, 30_000),
                piece: PIECES[scaled(number >> 8, PIECES.len())],
                pause: Duration::ZERO,
            }),
            Action::Flood => self.write(number, |number| Order {
                bytes: (200_000 + scaled(number, 2_800_000)) * TIMES[scaled(number, TIMES.len())],
                piece: FLOOD_PIECES[scaled(number >> 8, FLOOD_PIECES.len())],
                pause: Duration::ZERO,
            }),
            Action::Trickle => self.write(number, |number| Order {
                bytes: 1_000 + scaled(number, 4_000),
                piece: 1,
                pause: Duration::from_millis(2 + number % 10),
            }),
            Action::Append => self.append(world, number),
            Action::Read => self.read(world, number),
            Action::Die => self.die(number),
            other => panic!("{} is nothing that guests of virtlogd do", other.name()),
        }
    }

    /// A new log, or one whose guest has died.
    fn open(&mut self, world: &World, number: u64) {
        let again = self.all.iter().position(|log| log.guest.is_none());
        if let Some(index) = again.filter(|_| number.is_multiple_of(2)) {
            let log = self.all.swap_remove(index);
            return self.open_log(world, log);
        }
        if self.all.len() >= LOGS_MAX {
            return;
        }
        let place = match number / 2 % 5 {
            0 | 1 => Place::Sound,
            2 | 3 => Place::Sick,
            _ => Place::Movable,
        };
        let log = Log::new(&format!("{}.log", self.next()), place);
        self.open_log(world, log);
    }

    /// One that cannot be opened is not tried again: nobody knows what became of it.
    fn open_log(&mut self, world: &World, mut log: Log) {
        log.was_wrong |= world.is_wrong(log.place);
        let path = world.disk.path(log.place, &log.name);
        let arguments = LogClient::open_arguments(path.as_os_str().as_bytes(), 0);
        match call(world, log.place, OPEN, &arguments) {
            Some(Ok((_, mut fds))) => {
                let pipe = File::from(fds.pop().expect("OPEN returns a descriptor"));
                let inode = pipe.metadata().expect("a pipe's inode").ino();
                let number = self.next();
                let file = world.disk.path(Place::Sound, &format!("{number}.progress"));
                log.begin_guest(number, inode, Guest::start(number, &file, pipe));
                self.all.push(log);
            }
            Some(Err(error)) => assert!(
                world.is_wrong(log.place) || world.has(Fault::FdLimit),
                "{} cannot be opened: {error:?}",
                log.describe()
            ),
            None => {}
        }
    }

    fn write(&mut self, number: u64, order: impl Fn(u64) -> Order) {
        let logs: Vec<_> = self.all.iter_mut().filter(|log| log.guest.is_some()).collect();
        let count = logs.len().max(1);
        let Some(log) = logs.into_iter().nth(scaled(number, count)) else { return };
        let (Some(guest), order) = (&mut log.guest, order(number >> 4)) else { return };
        // One that has much to do gets no more.
        if guest.is_idle() {
            guest.order(order);
            log.was_flooded |= order.bytes > MUCH;
        }
    }

    fn append(&mut self, world: &World, number: u64) {
        let line = self.next();
        let count = self.all.len().max(1);
        let Some(log) = self.all.get_mut(scaled(number, count)) else { return };
        log.was_wrong |= world.is_wrong(log.place);
        let path = world.disk.path(log.place, &log.name);
        let arguments = append_arguments(&path, &appended(line));
        match call(world, log.place, APPEND, &arguments) {
            Some(Ok(_)) => log.note_appended(line, Appended::Certainly),
            Some(Err(error)) => {
                let is_excused = log.was_wrong || world.has(Fault::FdLimit);
                assert!(is_excused, "nothing can be appended to {}: {error:?}", log.describe());
                log.note_appended(line, Appended::Perhaps);
            }
            None => log.note_appended(line, Appended::Perhaps),
        }
    }

    /// Where a log is known to be at rest its position is the end of its file.
    fn read(&mut self, world: &World, number: u64) {
        let count = self.all.len().max(1);
        let Some(log) = self.all.get(scaled(number, count)) else { return };
        let path = world.disk.path(log.place, &log.name);
        // What others append behind the last write is not the guest's, and not counted.
        let has_others = world.has(Fault::OtherWriter) || !log.others.certain().is_empty();
        let is_certain = !world.is_wrong(log.place) && !has_others;
        let is_at_rest = log.guest.is_some() && log.is_idle() && is_certain;
        let arguments = Writer::new().string(path.as_os_str().as_bytes()).u32(0).into_bytes();
        let answer = call(world, log.place, POSITION, &arguments);
        if let (true, Some(Ok((payload, _)))) = (is_at_rest, answer) {
            let mut reader = crate::wire::Reader::new(&payload);
            let (inode, offset) = (reader.u64(), reader.u64());
            let file = std::fs::metadata(&path).expect("an open log has a file");
            // One that was adopted and is silent since has none.
            let is_known = (inode, offset) != (0, 0);
            assert!(
                !is_known || (inode, offset) == (file.ino(), file.size()),
                "the position of {} is {inode} {offset}, not its end",
                log.describe()
            );
        }
    }

    fn die(&mut self, number: u64) {
        let count = self.all.len().max(1);
        let Some(log) = self.all.get_mut(scaled(number, count)) else { return };
        if log.guest.as_ref().is_some_and(Guest::may_be_killed) {
            log.kill_guest();
        }
    }
}

/// `None` when there is no answer, which only what is wrong at this place excuses.
fn call(world: &World, place: Place, procedure: i32, arguments: &[u8]) -> Option<Reply> {
    match world.service.call(procedure, arguments, world.patience_at(place)) {
        Some(Answer::Message(frame)) => Some(frame.into_result()),
        answer => {
            assert!(
                world.is_wrong(place) || world.has(Fault::FdLimit),
                "procedure {procedure} is not answered at the place {place:?}: {answer:?}"
            );
            None
        }
    }
}

pub(super) fn append_arguments(path: &Path, text: &str) -> Vec<u8> {
    let domain = Writer::new().string("qemu").fixed(&[0xab; 16]).string("guest");
    domain.string(path.as_os_str().as_bytes()).string(text).u32(0).into_bytes()
}

/// A number below `end`, which is not 0.
fn scaled(number: u64, end: usize) -> usize {
    usize::try_from(number % end as u64).expect("it is below a usize")
}
