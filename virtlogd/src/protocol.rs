//! The log program: its numbers, arguments and results.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::handover::text;
use common::rpc::{self, Program, Reply, error};
use common::xdr::{self, Reader, Writer};

/// The program on `virtlogd-sock`, libvirt's numbers.
pub(crate) const PROGRAM: Program = Program { number: 0x8753_9319, version: 1, last_procedure: 4 };

/// Bytes of one string; libvirt's value, on the wire.
const STRING_BYTES_MAX: u32 = 4_194_304;

/// Bytes that one READ may ask for; libvirt's value, on the wire.
pub(crate) const READ_BYTES_MAX: u64 = 4_194_304;

/// Flag of OPEN to begin the log anew. libvirt ignores all others.
const OPEN_TRUNCATE: u32 = 1;

/// Procedure numbers.
mod procedure {
    pub(super) const OPEN: i32 = 1;
    pub(super) const POSITION: i32 = 2;
    pub(super) const READ: i32 = 3;
    pub(super) const APPEND: i32 = 4;
}

/// Identity of a guest. The client tells it, and the daemon does not interpret it; bytes need not
/// be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestIdentity {
    /// The driver's name and the guest's, in one piece to save memory.
    names: Box<[u8]>,
    driver_bytes: usize,
    uuid: [u8; 16],
}

/// A call of the log program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A pipe into the log at `path`.
    Open { identity: GuestIdentity, path: PathBuf, truncate: bool },
    /// The position of the next byte of an open log.
    Position { path: PathBuf, flags: u32 },
    /// Bytes of a log from a position on.
    Read { path: PathBuf, inode: u64, offset: u64, len_max: u64, flags: u32 },
    /// A message at the end of a log.
    Append { identity: GuestIdentity, path: PathBuf, message: Vec<u8>, flags: u32 },
}

impl Request {
    /// Decodes the arguments of `procedure`.
    pub(crate) fn decode(procedure: i32, arguments: &[u8]) -> Result<Self, rpc::Error> {
        let mut reader = Reader::new(arguments);
        let request = match procedure {
            procedure::OPEN => Self::decode_open(&mut reader),
            procedure::POSITION => Self::decode_position(&mut reader),
            procedure::READ => Self::decode_read(&mut reader),
            procedure::APPEND => Self::decode_append(&mut reader),
            _ => return Err(rpc::Error::undecodable()),
        };
        Ok(request?)
    }

    fn decode_open(reader: &mut Reader<'_>) -> Result<Self, xdr::Error> {
        Ok(Self::Open {
            identity: GuestIdentity::decode(reader)?,
            path: path(reader)?,
            truncate: reader.u32()? & OPEN_TRUNCATE != 0,
        })
    }

    fn decode_position(reader: &mut Reader<'_>) -> Result<Self, xdr::Error> {
        Ok(Self::Position { path: path(reader)?, flags: reader.u32()? })
    }

    fn decode_read(reader: &mut Reader<'_>) -> Result<Self, xdr::Error> {
        Ok(Self::Read {
            path: path(reader)?,
            inode: reader.u64()?,
            offset: reader.u64()?,
            len_max: reader.u64()?,
            flags: reader.u32()?,
        })
    }

    fn decode_append(reader: &mut Reader<'_>) -> Result<Self, xdr::Error> {
        Ok(Self::Append {
            identity: GuestIdentity::decode(reader)?,
            path: path(reader)?,
            message: reader.string(STRING_BYTES_MAX)?.to_vec(),
            flags: reader.u32()?,
        })
    }
}

impl GuestIdentity {
    /// Makes one of a driver's name, and a guest's uuid and name.
    pub(crate) fn new(driver: &[u8], uuid: [u8; 16], name: &[u8]) -> Self {
        Self { names: [driver, name].concat().into(), driver_bytes: driver.len(), uuid }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, xdr::Error> {
        let driver = text::name(reader.string(STRING_BYTES_MAX)?);
        let uuid = reader.fixed()?;
        Ok(Self::new(driver, uuid, text::name(reader.string(STRING_BYTES_MAX)?)))
    }

    /// Returns the driver's name.
    pub(crate) fn driver(&self) -> &[u8] {
        self.names.get(..self.driver_bytes).unwrap_or_default()
    }

    /// Returns the guest's name.
    pub(crate) fn name(&self) -> &[u8] {
        self.names.get(self.driver_bytes..).unwrap_or_default()
    }

    /// Returns the guest's uuid.
    pub(crate) fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// Returns the guest's name for a field of the journal.
    pub(crate) fn name_field(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.name())
    }

    /// Returns the guest's uuid for a field of the journal.
    pub(crate) fn uuid_field(&self) -> String {
        text::uuid(&self.uuid)
    }
}

impl std::fmt::Display for GuestIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, uuid) = (self.name().escape_ascii(), self.uuid_field());
        write!(formatter, "guest '{name}' (uuid {uuid})")
    }
}

/// Makes the result of OPEN and GET_POSITION: inode and offset.
pub(crate) fn position((inode, offset): (u64, u64)) -> Reply {
    let mut writer = Writer::new();
    writer.u64(inode).u64(offset);
    Reply { payload: writer.into_bytes(), fds: Vec::new() }
}

/// Makes the result of READ, whose bytes `read` appends to its argument.
pub(crate) fn data<E>(read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Reply, E> {
    let mut writer = Writer::new();
    writer.opaque_by(read)?;
    Ok(Reply { payload: writer.into_bytes(), fds: Vec::new() })
}

/// Makes the result of APPEND, always 0.
pub(crate) fn appended() -> Reply {
    let mut writer = Writer::new();
    writer.i32(0);
    Reply { payload: writer.into_bytes(), fds: Vec::new() }
}

fn path(reader: &mut Reader<'_>) -> Result<PathBuf, xdr::Error> {
    let bytes = reader.string(STRING_BYTES_MAX)?;
    Ok(Path::new(OsStr::from_bytes(bytes)).to_owned())
}

/// Checks limits and flags before the path is looked at, in libvirt's order.
pub(crate) fn check(request: &Request) -> Result<(), rpc::Error> {
    let (flags, function) = match request {
        Request::Open { .. } => return Ok(()),
        Request::Position { flags, .. } => (*flags, "virLogHandlerDomainGetLogFilePosition"),
        Request::Append { flags, .. } => (*flags, "virLogHandlerDomainAppendLogFile"),
        Request::Read { len_max, flags, .. } => {
            if *len_max > READ_BYTES_MAX {
                let detail =
                    format!("Requested data len {len_max} is larger than maximum {READ_BYTES_MAX}");
                let code = error::Code::InternalError;
                return Err(rpc::Error::new(code, error::Domain::Rpc, detail));
            }
            (*flags, "virLogHandlerDomainReadLogFile")
        }
    };
    if flags == 0 {
        return Ok(());
    }
    Err(rpc::Error::unsupported_flags(error::Domain::Logging, flags, function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_knows_one_flag_and_ignores_the_others() {
        for (flags, expected) in [(0, false), (1, true), (u32::MAX, true), (0xff_fffe, false)] {
            let mut writer = Writer::new();
            writer.opaque(b"qemu").raw(&[7; 16]).opaque(b"vm").opaque(b"/log\0ignored").u32(flags);
            let request = Request::decode(procedure::OPEN, &writer.into_bytes()).unwrap();
            let Request::Open { identity, path, truncate } = request else { panic!("not OPEN") };
            assert_eq!((path.as_path(), truncate), (Path::new("/log"), expected));
            assert_eq!((identity.uuid(), identity.name()), (&[7; 16], &b"vm"[..]));
        }
    }

    #[test]
    fn what_is_cut_off_anywhere_is_undecodable() {
        let mut writer = Writer::new();
        writer.opaque(b"qemu").raw(&[7; 16]).opaque(b"vm").opaque(b"/log").opaque(b"text").u32(0);
        let whole = writer.into_bytes();
        assert!(Request::decode(procedure::APPEND, &whole).is_ok());
        for len in 0..whole.len() {
            let error = Request::decode(procedure::APPEND, &whole[..len]).unwrap_err();
            assert_eq!(error.message(), "Unable to decode message payload");
        }
    }
}
