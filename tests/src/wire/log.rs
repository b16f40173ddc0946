//! The log program's four procedures.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Connection, LOG_PROGRAM, Reader, RpcError, Writer};

/// OPEN's flag that removes the file and its backups first (libvirt's value, on the wire).
pub const OPEN_TRUNCATE: u32 = 1;

const OPEN: i32 = 1;
const POSITION: i32 = 2;
const READ: i32 = 3;
const APPEND: i32 = 4;

/// A file and a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The file's inode number.
    pub inode: u64,
    /// Bytes from its start.
    pub offset: u64,
}

/// What OPEN returns.
#[derive(Debug)]
pub struct OpenLog {
    /// The file and its end at the time.
    pub position: Position,
    /// The end of the pipe that a guest writes to.
    pub pipe: File,
}

/// A connection that speaks the log program.
#[derive(Debug)]
pub struct LogClient(Connection);

impl LogClient {
    /// Connects to a virtlogd's main socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Connection::open(socket).map(Self)
    }

    /// The connection underneath.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.0
    }

    /// Hangs up, and waits until the daemon has closed its end.
    pub fn hang_up(self) -> io::Result<()> {
        self.0.hang_up()
    }

    /// Opens a log without flags.
    pub fn open(&mut self, path: &Path) -> Result<OpenLog, RpcError> {
        self.open_with(path.as_os_str().as_bytes(), 0)
    }

    /// Opens a log; the path may be any bytes.
    pub fn open_with(&mut self, path: &[u8], flags: u32) -> Result<OpenLog, RpcError> {
        self.0.call(LOG_PROGRAM, OPEN, &Self::open_arguments(path, flags)).map(open_log)
    }

    /// Opens a log of the guest of this name.
    pub fn open_of(&mut self, guest: &str, path: &Path) -> Result<OpenLog, RpcError> {
        let payload = domain_of(guest).string(path.as_os_str().as_bytes()).u32(0).into_bytes();
        self.0.call(LOG_PROGRAM, OPEN, &payload).map(open_log)
    }

    /// [`Self::open`] at a daemon that may be killed meanwhile.
    ///
    /// # Errors
    /// The connection is lost; nobody knows whether the log has been opened.
    pub fn try_open(&mut self, path: &Path) -> io::Result<Result<OpenLog, RpcError>> {
        let payload = Self::open_arguments(path.as_os_str().as_bytes(), 0);
        Ok(self.0.try_call(LOG_PROGRAM, OPEN, &payload)?.map(open_log))
    }

    /// OPEN's arguments as XDR.
    pub fn open_arguments(path: &[u8], flags: u32) -> Vec<u8> {
        domain().string(path).u32(flags).into_bytes()
    }

    /// Asks how far an open log has been written.
    pub fn position(&mut self, path: &Path) -> Result<Position, RpcError> {
        self.position_with(path, 0)
    }

    /// [`Self::position`] with flags.
    pub fn position_with(&mut self, path: &Path, flags: u32) -> Result<Position, RpcError> {
        let payload = Writer::new().string(path.as_os_str().as_bytes()).u32(flags).into_bytes();
        let (payload, _) = self.0.call(LOG_PROGRAM, POSITION, &payload)?;
        Ok(position(&payload))
    }

    /// Reads at most `length_max` bytes of a log from `start` on.
    pub fn read(
        &mut self,
        path: &Path,
        start: Position,
        length_max: u64,
    ) -> Result<Vec<u8>, RpcError> {
        self.read_with(path, start, length_max, 0)
    }

    /// [`Self::read`] with flags.
    pub fn read_with(
        &mut self,
        path: &Path,
        start: Position,
        length_max: u64,
        flags: u32,
    ) -> Result<Vec<u8>, RpcError> {
        let payload = Writer::new()
            .string(path.as_os_str().as_bytes())
            .u64(start.inode)
            .u64(start.offset)
            .u64(length_max)
            .u32(flags)
            .into_bytes();
        let (payload, _) = self.0.call(LOG_PROGRAM, READ, &payload)?;
        let mut reader = Reader::new(&payload);
        let data = reader.string().to_vec();
        reader.end();
        Ok(data)
    }

    /// Appends a message to a log, open or not; returns the reply's number, which is always 0.
    pub fn append(&mut self, path: &Path, message: impl AsRef<[u8]>) -> Result<i32, RpcError> {
        self.append_with(path, message, 0)
    }

    /// [`Self::append`] with flags.
    pub fn append_with(
        &mut self,
        path: &Path,
        message: impl AsRef<[u8]>,
        flags: u32,
    ) -> Result<i32, RpcError> {
        let path = path.as_os_str().as_bytes();
        let payload = domain().string(path).string(message).u32(flags).into_bytes();
        let (payload, _) = self.0.call(LOG_PROGRAM, APPEND, &payload)?;
        let mut reader = Reader::new(&payload);
        let result = reader.i32();
        reader.end();
        Ok(result)
    }
}

fn open_log((payload, mut fds): (Vec<u8>, Vec<OwnedFd>)) -> OpenLog {
    assert_eq!(fds.len(), 1, "OPEN returns one descriptor");
    OpenLog { position: position(&payload), pipe: File::from(fds.remove(0)) }
}

fn domain() -> Writer {
    domain_of("guest")
}

fn domain_of(guest: &str) -> Writer {
    Writer::new().string("qemu").fixed(&[0xab; 16]).string(guest)
}

fn position(payload: &[u8]) -> Position {
    let mut reader = Reader::new(payload);
    let position = Position { inode: reader.u64(), offset: reader.u64() };
    reader.end();
    position
}
