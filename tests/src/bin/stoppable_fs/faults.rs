//! What is wrong with the disk: a file says so, and is looked at before each request.
//!
//! Its lines are `delay-us N` (each request takes so long more), `errno N` (whatever opens, reads,
//! writes or renames fails), `room N` (so many bytes more can be written, then the disk is full),
//! `read-only 1` and `append-only 1` (whatever else changes something fails). A file that is not there
//! says that all is well.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;

use crate::wire::{self, Request};

/// A disk that has something wrong with it, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    control: Option<PathBuf>,
    /// What the file said last.
    said: String,
    delay: Duration,
    errno: Option<i32>,
    /// Bytes that can be written before the disk is full.
    room: Option<usize>,
    is_read_only: bool,
    is_append_only: bool,
}

impl Faults {
    /// A disk that is as the file says; always sound without one.
    pub(crate) fn new(control: Option<PathBuf>) -> Self {
        Self { control, ..Self::default() }
    }

    /// Whether faults can be had at all.
    pub(crate) fn are_possible(&self) -> bool {
        self.control.is_some()
    }

    /// Takes its time over a request and fails it, if that is what is wrong.
    pub(crate) fn strike(&mut self, request: &Request<'_>) -> io::Result<()> {
        let opcode = request.opcode;
        self.look();
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        match self.errno {
            Some(errno) if is_input_or_output(opcode) => Err(io::Error::from_raw_os_error(errno)),
            _ if self.room == Some(0) && needs_room(opcode) => {
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            }
            _ if self.is_read_only && (opcode == wire::WRITE || changes(request, 0)) => {
                Err(io::Error::from_raw_os_error(libc::EROFS))
            }
            _ if self.is_append_only
                && opcode != wire::CREATE
                && changes(request, libc::O_APPEND) =>
            {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }
            _ => Ok(()),
        }
    }

    /// How many of so many bytes there is room for; they are taken to be written.
    pub(crate) fn take_room(&mut self, bytes: usize) -> usize {
        let Some(room) = &mut self.room else { return bytes };
        let taken = bytes.min(*room);
        *room -= taken;
        taken
    }

    fn look(&mut self) {
        let Some(control) = &self.control else { return };
        let text = fs::read_to_string(control).unwrap_or_default();
        if text == self.said {
            return;
        }
        let number = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
        };
        self.delay = Duration::from_micros(number("delay-us").unwrap_or(0));
        self.errno = number("errno").and_then(|number| number.try_into().ok());
        self.room = number("room").and_then(|number| number.try_into().ok());
        (self.is_read_only, self.is_append_only) =
            (number("read-only").is_some(), number("append-only").is_some());
        self.said = text;
    }
}

fn is_input_or_output(opcode: u32) -> bool {
    const ALL: [u32; 8] = [
        wire::OPEN,
        wire::CREATE,
        wire::READ,
        wire::WRITE,
        wire::MKDIR,
        wire::RENAME,
        wire::RENAME2,
        wire::UNLINK,
    ];
    ALL.contains(&opcode)
}

/// Whether a request is for a change, or opens a file for writing without `but_with`.
fn changes(request: &Request<'_>, but_with: i32) -> bool {
    match request.opcode {
        wire::OPEN => {
            let flags = request.u32(0).cast_signed();
            flags & libc::O_ACCMODE != libc::O_RDONLY && flags & but_with == 0
        }
        wire::SETATTR => request.u32(0) & wire::SIZE_VALID != 0,
        opcode => [wire::CREATE, wire::RENAME, wire::RENAME2, wire::UNLINK].contains(&opcode),
    }
}

fn needs_room(opcode: u32) -> bool {
    [wire::CREATE, wire::WRITE, wire::MKDIR].contains(&opcode)
}
