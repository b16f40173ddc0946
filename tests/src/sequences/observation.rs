//! What is to be seen of a daemon after a step, without what is different in every life: inode numbers,
//! pids, times.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use super::client::Received;
use super::files::Tree;
use super::side::{Gone, Side};
use crate::harness::Program;
use crate::wire::{ADMIN_PROGRAM, Frame, Header, LOG_PROGRAM, RpcError, status};

/// What a client has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A whole message; fds by their kinds.
    Message { header: Header, body: Body, fds: Vec<String> },
    /// Bytes that are none.
    Garbage(Vec<u8>),
    /// The daemon has closed the connection.
    Closed,
}

/// What is in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Error(RpcError),
    /// A place in a file.
    Position {
        file: String,
        offset: u64,
    },
    /// Text that was read.
    Text(String),
    Bytes(Vec<u8>),
}

/// All that is to be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observation {
    /// Items by client, since the step began.
    pub(super) items: BTreeMap<usize, Vec<Item>>,
    /// Bytes and fds that are no whole messages, by client.
    pub(super) leftovers: Vec<(usize, (usize, usize))>,
    pub(super) files: Tree,
    /// Locks by file, of virtlockd's.
    pub(super) locks: BTreeMap<String, &'static str>,
    /// Pipes that nobody reads.
    pub(super) broken_pipes: Vec<usize>,
    /// Guests that run.
    pub(super) living: Vec<bool>,
    /// What came of the step where that is no answer.
    pub(super) outcome: Option<String>,
}

impl Item {
    /// What is in the message, if it is one.
    pub(super) fn body(&self) -> Option<&Body> {
        match self {
            Self::Message { body, .. } => Some(body),
            Self::Garbage(_) | Self::Closed => None,
        }
    }
}

/// Procedures whose replies have something of their own (libvirt's values, on the wire).
const LOG_OPEN: i32 = 1;
const LOG_POSITION: i32 = 2;
const LOG_READ: i32 = 3;
const ADMIN_LIST_CLIENTS: i32 = 8;
const ADMIN_LOOKUP_CLIENT: i32 = 9;
const ADMIN_CLIENT_INFO: i32 = 10;

impl Observation {
    /// Waits until the daemon has done what it was told, and adds what is to be seen then.
    ///
    /// # Errors
    /// The daemon is gone, or hangs.
    pub(super) fn update(
        &mut self,
        side: &mut Side,
        program: Program,
        step: usize,
    ) -> Result<(), Gone> {
        side.settle()?;
        let received = side.receive();
        self.files = side.look();
        for (client, received) in received {
            let item = item(side, received, step);
            self.items.entry(client).or_default().push(item);
        }
        self.leftovers = side.leftovers();
        self.broken_pipes = side.broken_pipes();
        self.living = side.living();
        if program == Program::Virtlockd {
            self.locks = side.locks(&self.files);
        }
        Ok(())
    }
}

/// What a message says, without this side's own numbers.
pub(super) fn answer_text(side: &Side, frame: &Frame) -> String {
    format!("{:?}", body(side, frame))
}

fn item(side: &mut Side, received: Received, step: usize) -> Item {
    let mut frame = match received {
        Received::Closed => return Item::Closed,
        Received::Garbage(bytes) => return Item::Garbage(bytes),
        Received::Message(frame) => frame,
    };
    let fds = std::mem::take(&mut frame.fds);
    let kinds = fds.iter().map(kind_of).collect();
    let body = body(side, &frame);
    let header = frame.header;
    if (header.prog, header.procedure) == (LOG_PROGRAM, LOG_OPEN) {
        // The caller's own may have come back before it.
        let pipe = fds.into_iter().next_back().filter(|fd| kind_of(fd).starts_with("pipe"));
        side.pipes.extend(pipe.map(|fd| (step, fd.into())));
    }
    Item::Message { header, body, fds: kinds }
}

fn body(side: &Side, frame: &Frame) -> Body {
    let Header { prog, procedure, .. } = frame.header;
    if frame.header.status == status::ERROR {
        let mut error = RpcError::decode(&frame.payload);
        for text in [&mut error.message, &mut error.str2].into_iter().flatten() {
            *text = side.neutral(text);
        }
        return Body::Error(error);
    }
    let word = |place: usize| {
        let bytes = frame.payload.get(place..place + 8);
        bytes.map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    };
    match (prog, procedure) {
        (LOG_PROGRAM, LOG_OPEN | LOG_POSITION) => {
            let (Some(inode), Some(offset)) = (word(0), word(8)) else {
                return Body::Bytes(frame.payload.clone());
            };
            Body::Position { file: side.name_of(inode).to_owned(), offset }
        }
        (LOG_PROGRAM, LOG_READ) => Body::Text(frame.payload.escape_ascii().to_string()),
        (ADMIN_PROGRAM, ADMIN_LIST_CLIENTS | ADMIN_LOOKUP_CLIENT) => {
            Body::Bytes(without_times(&frame.payload))
        }
        (ADMIN_PROGRAM, ADMIN_CLIENT_INFO) => Body::Bytes(without_pid(side, &frame.payload)),
        _ => Body::Bytes(frame.payload.clone()),
    }
}

/// Seconds since 1970 that are about now are when a client came.
fn without_times(payload: &[u8]) -> Vec<u8> {
    const SOME_TIME_S: u64 = 1_600_000_000;
    const MUCH_LATER_S: u64 = 8_000_000_000;
    let mut payload = payload.to_vec();
    for place in (0..payload.len().saturating_sub(7)).step_by(4) {
        let bytes = &mut payload[place..place + 8];
        let value = u64::from_be_bytes((&*bytes).try_into().expect("eight bytes"));
        if (SOME_TIME_S..MUCH_LATER_S).contains(&value) {
            bytes.fill(0);
        }
    }
    payload
}

/// A guest's number in place of its pid.
fn without_pid(side: &Side, payload: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"unix_process_id\0";
    /// Behind the name, which is padded, is the type.
    const TYPE_BYTES: usize = 4;
    let mut payload = payload.to_vec();
    let found = payload.windows(NAME.len()).position(|window| window == NAME);
    let place = found.map(|start| start + NAME.len() + TYPE_BYTES);
    if let Some(word) = place.and_then(|place| payload.get_mut(place..place + 4)) {
        let pid = u32::from_be_bytes((&*word).try_into().expect("four bytes"));
        let guest = side.guest_of(pid).and_then(|guest| u32::try_from(guest).ok());
        word.copy_from_slice(&guest.map_or(u32::MAX, |guest| guest).to_be_bytes());
    }
    payload
}

/// What an fd is of, and how it is open.
fn kind_of(fd: &OwnedFd) -> String {
    let number = fd.as_raw_fd();
    let target = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
    let target = target.to_string_lossy().into_owned();
    let kind = target.split(":[").next().unwrap_or_default().to_owned();
    let information = fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
    let information = information.unwrap_or_default();
    let flags = information.lines().find_map(|line| line.strip_prefix("flags:"));
    format!("{kind} {}", flags.unwrap_or_default().trim())
}
