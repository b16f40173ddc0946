//! Error object of the wire, in libvirt's three shapes.
//!
//! The errors of each module are converted to it in one place.

use crate::sys::errno::errno_text;

use crate::xdr::Writer;

/// Bytes of one text in an error. A longer one is cut, so that an echoed name never makes an answer
/// too large to send. Ours; libvirt closes the connection where the text passes 4 MiB.
pub const TEXT_BYTES_MAX: usize = 131_072;

/// Error numbers, libvirt's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own and say what they are")]
#[repr(i32)]
pub enum Code {
    InternalError = 1,
    InvalidArg = 8,
    OperationDenied = 29,
    SystemError = 38,
    Rpc = 39,
    OperationInvalid = 55,
    ConfigUnsupported = 67,
    ArgumentUnsupported = 74,
    ResourceBusy = 87,
    NoServer = 95,
    NoClient = 96,
}

impl Code {
    /// Returns libvirt's prefix of the text.
    fn prefix(self) -> &'static str {
        match self {
            Self::InternalError => "internal error: ",
            Self::InvalidArg => "invalid argument: ",
            Self::OperationDenied => "operation forbidden: ",
            Self::SystemError | Self::Rpc => "",
            Self::OperationInvalid => "Requested operation is not valid: ",
            Self::ConfigUnsupported => "unsupported configuration: ",
            Self::ArgumentUnsupported => "argument unsupported: ",
            Self::ResourceBusy => "resource busy: ",
            Self::NoServer => "Server not found: ",
            Self::NoClient => "Client not found: ",
        }
    }
}

/// Subsystem that raises an error, libvirt's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own and say what they are")]
#[repr(i32)]
pub enum Domain {
    None = 0,
    Rpc = 7,
    Lockspace = 51,
    Admin = 62,
    Logging = 63,
}

/// An error as a client gets it. Texts are bytes: names and paths need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: Code,
    domain: Domain,
    message: Vec<u8>,
    str1: Vec<u8>,
    str2: Vec<u8>,
    int1: i32,
    int2: i32,
}

impl Error {
    /// Makes an ordinary error: the code's prefix and `detail`.
    #[must_use]
    pub fn new(code: Code, domain: Domain, detail: impl Into<Vec<u8>>) -> Self {
        let detail = detail.into();
        let message = [code.prefix().as_bytes(), &detail].concat();
        let str1 = format!("{}%s", code.prefix()).into_bytes();
        Self { code, domain, message, str1, str2: detail, int1: -1, int2: -1 }
    }

    /// Makes the error of a failed system call: `detail: strerror`, with the error's number in
    /// `int1`.
    #[must_use]
    pub fn system(domain: Domain, detail: impl Into<Vec<u8>>, errno: i32) -> Self {
        let mut text = detail.into();
        text.extend_from_slice(b": ");
        text.extend_from_slice(errno_text(errno).as_bytes());
        Self { int1: errno, ..Self::new(Code::SystemError, domain, text) }
    }

    /// Makes the error for flag bits that the procedure does not know; `function` is the name of
    /// libvirt's handler, which is part of the text.
    #[must_use]
    pub fn unsupported_flags(domain: Domain, bits: u32, function: &str) -> Self {
        Self {
            code: Code::InvalidArg,
            domain,
            message: format!("unsupported flags (0x{bits:x}) in function {function}").into_bytes(),
            str1: function.into(),
            str2: b"flags".to_vec(),
            int1: 0,
            int2: 0,
        }
    }

    /// Makes the error for arguments that cannot be decoded.
    #[must_use]
    pub fn undecodable() -> Self {
        Self::new(Code::Rpc, Domain::Rpc, "Unable to decode message payload")
    }

    /// Returns the number of the error.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the text for people.
    #[must_use]
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// Encodes the error object in XDR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        const LEVEL_ERROR: i32 = 2;
        const ABSENT: u32 = 0;
        let mut writer = Writer::new();
        writer
            .i32(self.code as i32)
            .i32(self.domain as i32)
            .optional(Some(cut(&self.message)))
            .i32(LEVEL_ERROR)
            .u32(ABSENT) // domain object
            .optional(Some(cut(&self.str1)))
            .optional(Some(cut(&self.str2)))
            .optional(None)
            .i32(self.int1)
            .i32(self.int2)
            .u32(ABSENT); // network object
        writer.into_bytes()
    }
}

impl From<crate::xdr::Error> for Error {
    fn from(_: crate::xdr::Error) -> Self {
        Self::undecodable()
    }
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..TEXT_BYTES_MAX).unwrap_or(text)
}

#[cfg(test)]
mod tests;
