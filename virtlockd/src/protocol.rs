//! Lock program: procedures and their arguments. All results are empty.

use std::borrow::Cow;
use std::fmt;

use common::handover::text;
use common::rpc::{self, Program, error};
use common::sys::lock::Mode;
use common::xdr::{self, Reader};

/// Name of the daemon and of its main server.
pub(crate) const NAME: &str = "virtlockd";

/// Program on `virtlockd-sock`; libvirt's numbers.
pub(crate) const PROGRAM: Program = Program { number: 0x0ea7_beef, version: 1, last_procedure: 8 };

/// Largest string in bytes; libvirt's value, on the wire.
const STRING_BYTES_MAX: u32 = 65_536;

/// Flag of ACQUIRE for a lease that others may share; libvirt's value.
const ACQUIRE_SHARED: u32 = 1;

/// Flag of ACQUIRE that creates the file, and removes it with the last lease; libvirt's value.
const ACQUIRE_AUTOCREATE: u32 = 2;

/// Procedure numbers; libvirt's values.
mod procedure {
    pub(super) const REGISTER: i32 = 1;
    pub(super) const RESTRICT: i32 = 2;
    pub(super) const NEW: i32 = 3;
    pub(super) const CREATE_RESOURCE: i32 = 4;
    pub(super) const DELETE_RESOURCE: i32 = 5;
    pub(super) const ACQUIRE_RESOURCE: i32 = 6;
    pub(super) const RELEASE_RESOURCE: i32 = 7;
    pub(super) const CREATE_LOCKSPACE: i32 = 8;
}

/// Guest, as a client describes it. Only `id` and `pid` have a meaning here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) uuid: [u8; 16],
    pub(crate) name: Box<[u8]>,
    /// Number of the domain; 0 means that it is not registered.
    pub(crate) id: u32,
    /// Process that owns the leases.
    pub(crate) pid: u32,
}

/// Terms of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whether others may share it, on the same terms.
    pub(crate) shared: bool,
    /// Whether the file is created, and removed with the last lease.
    pub(crate) autocreate: bool,
}

impl Terms {
    /// Returns the mode of the lock for a lease on these terms.
    pub(crate) fn mode(self) -> Mode {
        if self.shared { Mode::Shared } else { Mode::Exclusive }
    }
}

/// Operation on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Creates its file.
    Create,
    /// Removes its file.
    Delete,
    /// Acquires a lease.
    Acquire(Terms),
    /// Releases a lease.
    Release,
}

/// Call of the lock program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Registers the connection for a guest.
    Register { guest: Guest, flags: u32 },
    /// Takes all rights from the connection.
    Restrict { flags: u32 },
    /// Adds a lockspace, which must not exist.
    New { space: Box<[u8]>, flags: u32 },
    /// Adds a lockspace unless it exists.
    CreateLockspace { space: Box<[u8]> },
    /// Performs an operation on a resource.
    Resource { operation: Operation, space: Box<[u8]>, name: Box<[u8]>, flags: u32 },
}

impl Request {
    /// Decodes the arguments of `procedure`.
    pub(crate) fn decode(procedure: i32, arguments: &[u8]) -> Result<Self, rpc::Error> {
        let mut reader = Reader::new(arguments);
        let reader = &mut reader;
        let request = match procedure {
            procedure::REGISTER => Self::decode_register(reader)?,
            procedure::RESTRICT => Self::Restrict { flags: reader.u32()? },
            procedure::NEW => Self::New { space: string(reader)?, flags: reader.u32()? },
            procedure::CREATE_LOCKSPACE => Self::CreateLockspace { space: string(reader)? },
            procedure::CREATE_RESOURCE => Self::decode_resource(reader, |_| Operation::Create)?,
            procedure::DELETE_RESOURCE => Self::decode_resource(reader, |_| Operation::Delete)?,
            procedure::RELEASE_RESOURCE => Self::decode_resource(reader, |_| Operation::Release)?,
            procedure::ACQUIRE_RESOURCE => Self::decode_resource(reader, |flags| {
                Operation::Acquire(Terms {
                    shared: flags & ACQUIRE_SHARED != 0,
                    autocreate: flags & ACQUIRE_AUTOCREATE != 0,
                })
            })?,
            _ => return Err(rpc::Error::undecodable()),
        };
        Ok(request)
    }

    fn decode_register(reader: &mut Reader<'_>) -> Result<Self, xdr::Error> {
        let guest = Guest {
            uuid: reader.fixed()?,
            name: text::name(&string(reader)?).into(),
            id: reader.u32()?,
            pid: reader.u32()?,
        };
        Ok(Self::Register { guest, flags: reader.u32()? })
    }

    fn decode_resource(
        reader: &mut Reader<'_>,
        operation: impl FnOnce(u32) -> Operation,
    ) -> Result<Self, xdr::Error> {
        let (space, name, flags) = (string(reader)?, string(reader)?, reader.u32()?);
        Ok(Self::Resource { operation: operation(flags), space, name, flags })
    }

    /// Refuses flag bits that the procedure does not know.
    pub(crate) fn check_flags(&self) -> Result<(), rpc::Error> {
        let (flags, known, function) = match self {
            Self::CreateLockspace { .. } => return Ok(()),
            Self::Register { flags, .. } => (*flags, 0, "Register"),
            Self::Restrict { flags } => (*flags, 0, "Restrict"),
            Self::New { flags, .. } => (*flags, 0, "New"),
            Self::Resource { operation, flags, .. } => match operation {
                Operation::Create => (*flags, 0, "CreateResource"),
                Operation::Delete => (*flags, 0, "DeleteResource"),
                Operation::Release => (*flags, 0, "ReleaseResource"),
                Operation::Acquire(_) => {
                    (*flags, ACQUIRE_SHARED | ACQUIRE_AUTOCREATE, "AcquireResource")
                }
            },
        };
        let unknown = flags & !known;
        if unknown == 0 {
            return Ok(());
        }
        let function = format!("virLockSpaceProtocolDispatch{function}");
        Err(rpc::Error::unsupported_flags(error::Domain::Rpc, unknown, &function))
    }
}

impl Guest {
    /// Returns the name for a field of the journal.
    pub(crate) fn name_field(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// Returns the uuid for a field of the journal.
    pub(crate) fn uuid_field(&self) -> String {
        text::uuid(&self.uuid)
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "guest '{}' (uuid ", self.name.escape_ascii())?;
        for (index, byte) in self.uuid.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(formatter, "{dash}{byte:02x}")?;
        }
        write!(formatter, ", pid {})", self.pid)
    }
}

fn string(reader: &mut Reader<'_>) -> Result<Box<[u8]>, xdr::Error> {
    reader.string(STRING_BYTES_MAX).map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::xdr::Writer;

    fn resource(procedure: i32, name: &[u8], flags: u32) -> Result<Request, rpc::Error> {
        let mut writer = Writer::new();
        writer.opaque(b"").opaque(name).u32(flags);
        Request::decode(procedure, &writer.into_bytes())
    }

    #[test]
    fn only_acquire_knows_flags_and_only_two() {
        assert!(resource(procedure::ACQUIRE_RESOURCE, b"a", 3).unwrap().check_flags().is_ok());
        for (procedure, function) in [
            (procedure::CREATE_RESOURCE, "CreateResource"),
            (procedure::DELETE_RESOURCE, "DeleteResource"),
            (procedure::ACQUIRE_RESOURCE, "AcquireResource"),
            (procedure::RELEASE_RESOURCE, "ReleaseResource"),
        ] {
            let error = resource(procedure, b"a", 12).unwrap().check_flags().unwrap_err();
            let message = format!(
                "unsupported flags (0xc) in function virLockSpaceProtocolDispatch{function}"
            );
            assert_eq!(error.message(), message);
        }
    }

    #[test]
    fn a_string_ends_at_its_first_nul_and_has_a_limit() {
        let longest = vec![b'a'; STRING_BYTES_MAX as usize];
        assert!(resource(procedure::RELEASE_RESOURCE, &longest, 0).is_ok());
        let error = resource(procedure::RELEASE_RESOURCE, &[&longest[..], b"a"].concat(), 0);
        assert_eq!(error.unwrap_err().message(), "Unable to decode message payload");
        let Ok(Request::Resource { name, .. }) = resource(procedure::DELETE_RESOURCE, b"a\0b", 0)
        else {
            panic!("no resource")
        };
        assert_eq!(&*name, b"a");
    }

    #[test]
    fn a_guest_is_shown_with_everything_that_names_it() {
        let guest = Guest { uuid: [0xab; 16], name: (*b"v\nm").into(), id: 1, pid: 7 };
        let expected = r"guest 'v\nm' (uuid abababab-abab-abab-abab-abababababab, pid 7)";
        assert_eq!(guest.to_string(), expected);
    }
}
