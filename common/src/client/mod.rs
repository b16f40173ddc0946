//! A client of [`crate::query`], for our own tools. It waits for answers, so no daemon uses it.

mod error;

pub use error::Error;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::query::PROGRAM;
use crate::rpc::header::{HEADER_BYTES, Header, MESSAGE_BYTES_MAX, kind, status};
use crate::xdr::Reader;
use crate::xdr::Writer;

/// Time for the daemon to take a call, and to answer it. It needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a daemon's admin socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    serial: u32,
}

impl Client {
    /// Connects to an admin socket.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { stream, socket: socket.to_owned(), serial: 0 }),
            Err(source) => Err(Error::Connect { socket: socket.to_owned(), source }),
        }
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// Everything but [`Error::Connect`]. The connection is of no use afterwards, but for
    /// [`Error::Refused`].
    pub fn call<T: DeserializeOwned>(
        &mut self,
        procedure: i32,
        arguments: &impl Serialize,
    ) -> Result<T, Error> {
        let json = serde_json::to_vec(arguments).map_err(|error| self.damaged(error))?;
        let mut writer = Writer::new();
        writer.opaque(&json);
        self.serial = self.serial.wrapping_add(1);
        let header = Header {
            program: PROGRAM.number,
            version: PROGRAM.version,
            procedure,
            kind: kind::CALL,
            serial: self.serial,
            status: status::OK,
        };
        let message = header.message(&writer.into_bytes());
        self.stream.write_all(&message).map_err(|source| self.lost(source))?;
        let payload = self.answer(&header)?;
        let json = Reader::new(&payload).opaque(u32::MAX).map_err(|error| self.damaged(error))?;
        serde_json::from_slice(json).map_err(|error| self.damaged(error))
    }

    /// Reads messages up to the answer to a call. Others, such as keepalive's, are passed over.
    fn answer(&mut self, call: &Header) -> Result<Vec<u8>, Error> {
        loop {
            let message = self.message()?;
            let mut reader = Reader::new(&message);
            let header = Header::read(&mut reader).map_err(|error| self.damaged(error))?;
            let expected = Header { kind: kind::REPLY, status: header.status, ..*call };
            if header != expected {
                continue;
            }
            let payload = message.get(HEADER_BYTES - size_of::<u32>()..).unwrap_or_default();
            return match header.status {
                status::OK => Ok(payload.to_vec()),
                _ => Err(self.refused(payload)),
            };
        }
    }

    /// Reads a message behind its length.
    fn message(&mut self) -> Result<Vec<u8>, Error> {
        let mut len = [0; size_of::<u32>()];
        self.stream.read_exact(&mut len).map_err(|source| self.lost(source))?;
        let total = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&total) {
            return Err(self.damaged(format!("a message of {total} bytes")));
        }
        let mut message = vec![0; total - len.len()];
        self.stream.read_exact(&mut message).map_err(|source| self.lost(source))?;
        Ok(message)
    }

    fn refused(&self, payload: &[u8]) -> Error {
        let message = message_of(payload);
        match message {
            Ok(message) if message.starts_with("Cannot find program") => {
                Error::UnknownProgram { socket: self.socket.clone() }
            }
            Ok(message) => Error::Refused { socket: self.socket.clone(), message },
            Err(error) => self.damaged(error),
        }
    }

    fn lost(&self, source: std::io::Error) -> Error {
        Error::Lost { socket: self.socket.clone(), source }
    }

    pub(crate) fn damaged(&self, detail: impl std::fmt::Display) -> Error {
        Error::Damaged { socket: self.socket.clone(), detail: detail.to_string() }
    }
}

/// Returns the text of an error object: behind code and domain, an optional string.
fn message_of(payload: &[u8]) -> Result<String, crate::xdr::Error> {
    let mut reader = Reader::new(payload);
    let _code_and_domain = (reader.i32()?, reader.i32()?);
    let bytes = if reader.present()? { reader.opaque(u32::MAX)? } else { b"no reason" };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
