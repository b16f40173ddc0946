//! Arguments of the log program, for fuzzing.

use std::os::unix::ffi::OsStrExt;

use common::rpc;
use common::xdr::Writer;

use crate::protocol::{Request, check};

/// Decodes and checks the arguments of a call, and encodes what was understood.
///
/// # Errors
/// Those which the client gets.
pub fn recode(procedure: i32, arguments: &[u8]) -> Result<Vec<u8>, rpc::Error> {
    let request = Request::decode(procedure, arguments)?;
    check(&request)?;
    let mut writer = Writer::new();
    match request {
        Request::Open { identity, path, truncate } => {
            writer.opaque(identity.driver()).raw(identity.uuid()).opaque(identity.name());
            writer.opaque(path.as_os_str().as_bytes()).u32(truncate.into());
        }
        Request::Position { path, flags } => {
            writer.opaque(path.as_os_str().as_bytes()).u32(flags);
        }
        Request::Read { path, inode, offset, len_max, flags } => {
            writer.opaque(path.as_os_str().as_bytes());
            writer.u64(inode).u64(offset).u64(len_max).u32(flags);
        }
        Request::Append { identity, path, message, flags } => {
            writer.opaque(identity.driver()).raw(identity.uuid()).opaque(identity.name());
            writer.opaque(path.as_os_str().as_bytes()).opaque(&message).u32(flags);
        }
    }
    Ok(writer.into_bytes())
}
