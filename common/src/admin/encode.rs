//! Encoding of answers.

use super::params::{self, Parameter, Value};
use super::{Client, Identity};
use crate::xdr::Writer;

/// Transport of every connection to us; the others are TCP and TLS.
const TRANSPORT_UNIX: u32 = 0;

/// Writes a list, followed by its number of elements. If only the number is wanted, the list is
/// empty.
pub(super) fn write_list<T>(
    writer: &mut Writer,
    wanted: bool,
    items: &[T],
    mut write: impl FnMut(&mut Writer, &T),
) {
    let written = if wanted { items } else { &[] };
    writer.u32(count(written));
    for item in written {
        write(writer, item);
    }
    writer.u32(count(items));
}

pub(super) fn write_client(writer: &mut Writer, server_name: &[u8], client: &Client) {
    writer.opaque(server_name).u64(client.id).i64(client.connected_at_s).u32(TRANSPORT_UNIX);
}

pub(super) fn write_numbers<const N: usize>(numbers: [(&str, u32); N]) -> Writer {
    let parameters = numbers.map(|(field, number)| Parameter::new(field, Value::Uint(number)));
    let mut writer = Writer::new();
    params::write(&mut writer, &parameters);
    writer
}

/// Writes a client's identity. `virt-admin` expects names; a user or group without one is given by
/// number.
pub(super) fn write_identity(identity: &Identity) -> Writer {
    let name_of = |name: &Option<String>, id: u32| name.clone().unwrap_or_else(|| id.to_string());
    let user_name = name_of(&identity.user_name, identity.uid);
    let group_name = name_of(&identity.group_name, identity.gid);
    let mut parameters = vec![
        Parameter::new("readonly", Value::Boolean(0)),
        Parameter::new("unix_user_id", Value::Int(identity.uid.cast_signed())),
        Parameter::new("unix_user_name", Value::String(user_name.as_bytes())),
        Parameter::new("unix_group_id", Value::Int(identity.gid.cast_signed())),
        Parameter::new("unix_group_name", Value::String(group_name.as_bytes())),
        Parameter::new("unix_process_id", Value::Int(identity.pid)),
    ];
    if let Some(label) = &identity.selinux_label {
        parameters.push(Parameter::new("selinux_context", Value::String(label.as_bytes())));
    }
    let mut writer = Writer::new();
    params::write(&mut writer, &parameters);
    writer
}

pub(super) fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
