//! The kernel's FUSE protocol, version 7.31, as far as it is spoken here: requests taken apart,
//! answers put together. The layouts are those of `linux/fuse.h`.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// Bytes in front of every request.
const HEADER_BYTES: usize = 40;

/// `setattr_in.valid`: the size is to be changed.
pub(crate) const SIZE_VALID: u32 = 1 << 3;

/// A write of one request, the kernel's default for a connection.
pub(crate) const WRITE_BYTES_MAX: u32 = 131_072;

pub(crate) const LOOKUP: u32 = 1;
pub(crate) const FORGET: u32 = 2;
pub(crate) const GETATTR: u32 = 3;
pub(crate) const SETATTR: u32 = 4;
pub(crate) const MKDIR: u32 = 9;
pub(crate) const UNLINK: u32 = 10;
pub(crate) const RMDIR: u32 = 11;
pub(crate) const RENAME: u32 = 12;
pub(crate) const OPEN: u32 = 14;
pub(crate) const READ: u32 = 15;
pub(crate) const WRITE: u32 = 16;
pub(crate) const STATFS: u32 = 17;
pub(crate) const RELEASE: u32 = 18;
pub(crate) const FLUSH: u32 = 25;
pub(crate) const INIT: u32 = 26;
pub(crate) const OPENDIR: u32 = 27;
pub(crate) const READDIR: u32 = 28;
pub(crate) const RELEASEDIR: u32 = 29;
pub(crate) const CREATE: u32 = 35;
pub(crate) const INTERRUPT: u32 = 36;
pub(crate) const BATCH_FORGET: u32 = 42;
pub(crate) const RENAME2: u32 = 45;

/// One request of the kernel's.
pub(crate) struct Request<'a> {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Self {
        let header = Request { opcode: 0, unique: 0, node: 0, body: bytes };
        Self {
            opcode: header.u32(4),
            unique: header.u64(8),
            node: header.u64(16),
            body: &bytes[HEADER_BYTES..],
        }
    }

    pub(crate) fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.body[offset..offset + 4].try_into().expect("four bytes"))
    }

    pub(crate) fn u64(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.body[offset..offset + 8].try_into().expect("eight bytes"))
    }

    /// The name, or the two names, behind `offset` bytes of numbers.
    pub(crate) fn names(&self, offset: usize) -> (&'a OsStr, &'a OsStr) {
        let mut names = self.body[offset..].split(|&byte| byte == 0).map(OsStr::from_bytes);
        (names.next().unwrap_or_default(), names.next().unwrap_or_default())
    }

    /// What is behind `offset` bytes of numbers.
    pub(crate) fn data(&self, offset: usize) -> &'a [u8] {
        &self.body[offset..]
    }
}

/// The body of an answer.
#[derive(Default)]
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `fuse_attr`.
    pub(crate) fn attributes(self, metadata: &Metadata) -> Self {
        let time = |seconds: i64| seconds.cast_unsigned();
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.u64(metadata.ino())
            .u64(metadata.size())
            .u64(metadata.blocks())
            .u64(time(metadata.atime()))
            .u64(time(metadata.mtime()))
            .u64(time(metadata.ctime()))
            .zeros(12)
            .u32(metadata.mode())
            .u32(small(metadata.nlink()))
            .u32(metadata.uid())
            .u32(metadata.gid())
            .u32(0)
            .u32(small(metadata.blksize()))
            .u32(0)
    }

    /// `fuse_attr_out`, valid for no time at all.
    pub(crate) fn attributes_out(self, metadata: &Metadata) -> Self {
        self.zeros(16).attributes(metadata)
    }

    /// `fuse_entry_out`, valid for no time at all.
    pub(crate) fn entry(self, node: u64, metadata: &Metadata) -> Self {
        self.u64(node).zeros(32).attributes(metadata)
    }

    /// `fuse_open_out`.
    pub(crate) fn opened(self, handle: u64) -> Self {
        self.u64(handle).zeros(8)
    }

    /// One `fuse_dirent`.
    pub(crate) fn directory_entry(self, inode: u64, next: u64, name: &OsStr) -> Self {
        let name = name.as_bytes();
        let len = u32::try_from(name.len()).expect("a name is short");
        let padding = name.len().next_multiple_of(8) - name.len();
        self.u64(inode).u64(next).u32(len).u32(0).bytes(name).zeros(padding)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// `fuse_init_out`, with these flags beside ours.
    pub(crate) fn init(flags: u32) -> Self {
        const BIG_WRITES: u32 = 1 << 5;
        let answer = Self::default().u32(7).u32(31).u32(0).u32(flags | BIG_WRITES).u16(0).u16(0);
        answer.u32(WRITE_BYTES_MAX).u32(1).zeros(36)
    }

    /// With its header, for the kernel.
    pub(crate) fn framed(result: Result<Self, i32>, unique: u64) -> Vec<u8> {
        let (body, error) = match result {
            Ok(answer) => (answer.0, 0),
            Err(errno) => (Vec::new(), -errno),
        };
        let len = u32::try_from(body.len() + 16).expect("an answer is short");
        Self::default().u32(len).u32(error.cast_unsigned()).u64(unique).bytes(&body).0
    }
}
