//! Procedures about clients and their limits.

use super::arguments::{no_flags, string};
use crate::admin::encode::{write_client, write_identity, write_list, write_numbers};
use crate::admin::lookup::{Wording, client_of, server_named};
use crate::admin::{Target, params};
use crate::rpc::error::{Code, Domain, Error};
use crate::xdr::{self, Reader, Writer};

/// Clients in one answer, libvirt's value, on the wire.
const CLIENTS_MAX: usize = 16_384;

pub(super) fn list_clients(
    arguments: &mut Reader<'_>,
    target: &dyn Target,
) -> Result<Writer, Error> {
    let (name, wanted) = (string(arguments)?, arguments.present()?);
    let flags = arguments.u32()?;
    let server = server_named(target, name, Wording::Rpc)?;
    no_flags(flags, "adminServerListClients")?;
    let clients = target.clients(server);
    if clients.len() > CLIENTS_MAX {
        let detail = format!("Too many clients '{}' for limit '{CLIENTS_MAX}'", clients.len());
        return Err(Error::new(Code::InternalError, Domain::Admin, detail));
    }
    let mut writer = Writer::new();
    write_list(&mut writer, wanted, &clients, |writer, client| {
        write_client(writer, name, client);
    });
    Ok(writer)
}

pub(super) fn lookup_client(
    arguments: &mut Reader<'_>,
    target: &dyn Target,
) -> Result<Writer, Error> {
    let (name, id) = (string(arguments)?, arguments.u64()?);
    let flags = arguments.u32()?;
    let server = server_named(target, name, Wording::Rpc)?;
    no_flags(flags, "adminServerLookupClient")?;
    let client = client_of(target, server, id, Wording::Rpc)?;
    let mut writer = Writer::new();
    write_client(&mut writer, name, &client);
    Ok(writer)
}

/// compat: a client has its identity from the start. In libvirt 9.0.0 it has none before its first
/// call, and where a name is unknown every call of the client fails.
pub(super) fn client_info(
    arguments: &mut Reader<'_>,
    target: &dyn Target,
) -> Result<Writer, Error> {
    let (name, id) = client_reference(arguments)?;
    let flags = arguments.u32()?;
    let server = server_named(target, name, Wording::Admin)?;
    client_of(target, server, id, Wording::Admin)?;
    no_flags(flags, "adminClientGetInfo")?;
    let identity = target.identity(server, id).ok_or_else(|| Wording::Admin.no_client(id))?;
    Ok(write_identity(&identity))
}

pub(super) fn close_client(
    arguments: &mut Reader<'_>,
    target: &mut dyn Target,
) -> Result<Writer, Error> {
    let (name, id) = client_reference(arguments)?;
    let flags = arguments.u32()?;
    let server = server_named(target, name, Wording::Rpc)?;
    client_of(target, server, id, Wording::Rpc)?;
    no_flags(flags, "adminClientClose")?;
    target.close_client(server, id);
    Ok(Writer::new())
}

pub(super) fn client_limits(
    arguments: &mut Reader<'_>,
    target: &dyn Target,
) -> Result<Writer, Error> {
    let (name, flags) = (string(arguments)?, arguments.u32()?);
    let server = server_named(target, name, Wording::Rpc)?;
    no_flags(flags, "adminServerGetClientLimits")?;
    let limits = target.limits(server);
    let clients = u32::try_from(target.clients(server).len()).unwrap_or(u32::MAX);
    Ok(write_numbers([
        ("nclients_max", limits.clients_max),
        ("nclients", clients),
        ("nclients_unauth_max", limits.unauthenticated_max),
        ("nclients_unauth", 0),
    ]))
}

/// compat: a limit below that for unauthenticated clients is refused although there can be none,
/// and the text says the opposite of its meaning (libvirt 9.0.0).
pub(super) fn set_client_limits(
    arguments: &mut Reader<'_>,
    target: &mut dyn Target,
) -> Result<Writer, Error> {
    let (name, parameters) = (string(arguments)?, params::read(arguments)?);
    let flags = arguments.u32()?;
    let server = server_named(target, name, Wording::Admin)?;
    params::check_fields(&parameters)?;
    no_flags(flags, "adminServerSetClientLimits")?;
    let fields = ["nclients_max", "nclients_unauth_max"];
    let [clients_max, unauthenticated_max] = params::settable(&parameters, fields)?;
    let mut limits = target.limits(server);
    limits.clients_max = clients_max.unwrap_or(limits.clients_max);
    limits.unauthenticated_max = unauthenticated_max.unwrap_or(limits.unauthenticated_max);
    if limits.clients_max < limits.unauthenticated_max {
        let detail = "The overall maximum number of clients waiting for authentication must not \
                      be less than the overall maximum number of clients";
        return Err(Error::new(Code::InvalidArg, Domain::Rpc, detail));
    }
    target.set_limits(server, limits);
    Ok(Writer::new())
}

/// Reads server name and id of a client; the rest of a client's description is ignored.
fn client_reference<'a>(arguments: &mut Reader<'a>) -> Result<(&'a [u8], u64), xdr::Error> {
    let (name, id) = (string(arguments)?, arguments.u64()?);
    let (_connected_at_s, _transport) = (arguments.i64()?, arguments.u32()?);
    Ok((name, id))
}
