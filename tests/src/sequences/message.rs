//! Messages that clients send: whole and valid, or twisted.

use crate::wire::{Header, Writer, kind};

/// A part of a message's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// The same bytes for both daemons.
    Bytes(Vec<u8>),
    /// The inode number of the file of this name, which each daemon's own has: 64 bits.
    Inode(String),
    /// The pid of a guest, of which each daemon has its own: 32 bits.
    Pid(usize),
    /// The id of a client of the main or the admin server, so many before the newest: 64 bits.
    Client { is_admin: bool, before: u64 },
}

impl Piece {
    /// Makes it the same for both daemons.
    pub(super) fn make_common(&mut self) {
        match self {
            Self::Bytes(_) => {}
            Self::Inode(_) | Self::Client { .. } => *self = Self::Bytes(vec![0; 8]),
            Self::Pid(_) => *self = Self::Bytes(vec![0; 4]),
        }
    }
}

/// Faults of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Twist {
    /// Nothing.
    None,
    /// A header's word has this value.
    Header(HeaderWord, u32),
    /// Only so many bytes of the arguments are there; the length word says so too.
    Cut(usize),
    /// Bytes come behind the arguments.
    Extra(usize),
    /// The length word has this value.
    Length(u32),
    /// A word of the arguments has this value.
    Word(usize, u32),
    /// The message claims so many fds, and then bytes come with so many fds each.
    Fds(u32, Vec<usize>),
}

/// A word of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderWord {
    Program,
    Version,
    Procedure,
    Kind,
    Serial,
    Status,
}

/// A message before it is known to which daemon it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Name for people.
    pub(super) said: String,
    header: Header,
    pub(super) arguments: Vec<Piece>,
    pub(super) twist: Twist,
}

/// Differences between the two daemons' surroundings.
pub(super) trait World {
    /// The inode number of a file; 0 if there is none.
    fn inode(&self, name: &str) -> u64;

    /// The pid of a guest.
    fn pid(&self, guest: usize) -> u32;

    /// The id of the newest client of the main or the admin server.
    fn newest_client(&self, is_admin: bool) -> u64;
}

/// A message's bytes, and how many fds go with each byte that follows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sendable {
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<usize>,
}

impl Message {
    /// A call with these arguments.
    pub(super) fn new(said: String, program: u32, procedure: i32, arguments: Vec<Piece>) -> Self {
        let header = Header::call(program, procedure);
        Self { said, header, arguments, twist: Twist::None }
    }

    /// The header as it is sent.
    pub(super) fn header(&self) -> Header {
        let mut header = self.header;
        match &self.twist {
            Twist::Header(word, value) => word.set(&mut header, *value),
            Twist::Fds(..) => header.kind = kind::CALL_WITH_FDS,
            _ => {}
        }
        header
    }

    /// The bytes for a daemon in this world.
    pub(super) fn assemble(&self, world: &impl World) -> Sendable {
        let mut payload = self.payload(world);
        let mut fds = Vec::new();
        let mut length = None;
        match &self.twist {
            Twist::None | Twist::Header(..) => {}
            Twist::Cut(bytes) => payload.truncate(*bytes),
            Twist::Extra(bytes) => payload.resize(payload.len() + bytes, 0x41),
            Twist::Length(value) => length = Some(*value),
            Twist::Word(index, value) => {
                if let Some(word) = payload.chunks_exact_mut(4).nth(*index) {
                    word.copy_from_slice(&value.to_be_bytes());
                }
            }
            Twist::Fds(count, beside) => {
                payload.splice(..0, count.to_be_bytes());
                fds.clone_from(beside);
            }
        }
        let mut bytes = self.header().message(&payload);
        if let Some(length) = length {
            bytes[..4].copy_from_slice(&length.to_be_bytes());
        }
        Sendable { bytes, fds }
    }

    fn payload(&self, world: &impl World) -> Vec<u8> {
        let mut payload = Vec::new();
        for piece in &self.arguments {
            match piece {
                Piece::Bytes(bytes) => payload.extend(bytes),
                Piece::Inode(name) => payload.extend(world.inode(name).to_be_bytes()),
                Piece::Pid(guest) => payload.extend(world.pid(*guest).to_be_bytes()),
                Piece::Client { is_admin, before } => {
                    // The first is the player's own, which is never closed.
                    let id = world.newest_client(*is_admin).saturating_sub(*before).max(2);
                    payload.extend(id.to_be_bytes());
                }
            }
        }
        payload
    }
}

impl HeaderWord {
    /// All that can be wrong.
    pub(super) const ALL: &[Self] =
        &[Self::Program, Self::Version, Self::Procedure, Self::Kind, Self::Serial, Self::Status];

    fn set(self, header: &mut Header, value: u32) {
        match self {
            Self::Program => header.prog = value,
            Self::Version => header.vers = value,
            Self::Procedure => header.procedure = value.cast_signed(),
            Self::Kind => header.kind = value,
            Self::Serial => header.serial = value,
            Self::Status => header.status = value,
        }
    }
}

impl From<Writer> for Piece {
    fn from(writer: Writer) -> Self {
        Self::Bytes(writer.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl World for Nowhere {
        fn inode(&self, _: &str) -> u64 {
            5
        }

        fn pid(&self, _: usize) -> u32 {
            9
        }

        fn newest_client(&self, _: bool) -> u64 {
            1
        }
    }

    #[test]
    fn each_world_has_its_own_numbers() {
        let pieces = vec![Piece::Pid(0), Piece::Inode("a".to_owned())];
        let mut message = Message::new("some".to_owned(), 1, 2, pieces);
        let sendable = message.assemble(&Nowhere);
        assert_eq!(sendable.bytes[28..], [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5]);
        message.twist = Twist::Fds(2, vec![1, 1]);
        let twisted = message.assemble(&Nowhere);
        assert_eq!((twisted.bytes.len(), twisted.fds.len()), (44, 2));
    }
}
