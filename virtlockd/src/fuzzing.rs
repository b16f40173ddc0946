//! Arguments of the lock program, for fuzzing.

use common::rpc;
use common::xdr::Writer;

use crate::protocol::Request;

/// Decodes and checks the arguments of a call, and encodes what was understood.
///
/// # Errors
/// Those which the client gets.
pub fn recode(procedure: i32, arguments: &[u8]) -> Result<Vec<u8>, rpc::Error> {
    let request = Request::decode(procedure, arguments)?;
    request.check_flags()?;
    let mut writer = Writer::new();
    match request {
        Request::Register { guest, flags } => {
            writer.raw(&guest.uuid).opaque(&guest.name).u32(guest.id).u32(guest.pid).u32(flags)
        }
        Request::Restrict { flags } => writer.u32(flags),
        Request::New { space, flags } => writer.opaque(&space).u32(flags),
        Request::CreateLockspace { space } => writer.opaque(&space),
        Request::Resource { space, name, flags, .. } => {
            writer.opaque(&space).opaque(&name).u32(flags)
        }
    };
    Ok(writer.into_bytes())
}
