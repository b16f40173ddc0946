//! Procedures of the admin program. Each decodes all of its arguments first, then makes libvirt's
//! checks in libvirt's order.

mod arguments;
mod client;
mod log;

use arguments::{no_flags, string};
use client::{
    client_info, client_limits, close_client, list_clients, lookup_client, set_client_limits,
};
use log::{log_filters, log_outputs, set_log_filters, set_log_outputs};

use super::encode::{write_list, write_numbers};
use super::lookup::{Wording, server_named};
use super::{ADMIN_SERVER_NAME, LIBVIRT_VERSION_NUMBER, Target, params};
use crate::rpc::error::{Code, Domain, Error};
use crate::rpc::{Call, Reply};
use crate::xdr::{Reader, Writer};

/// Result of a call.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub result: Result<Reply, Error>,
    /// Close the connection once the answer is sent.
    pub close: bool,
}

/// Handles a call of [`super::PROGRAM`].
pub fn dispatch(call: &Call, target: &mut dyn Target) -> Outcome {
    let arguments = &mut Reader::new(&call.arguments);
    let result = answer(call.procedure, arguments, target)
        .map(|writer| Reply { payload: writer.into_bytes(), fds: Vec::new() });
    Outcome { result, close: call.procedure == procedure::CONNECT_CLOSE }
}

/// libvirt's procedure numbers.
mod procedure {
    pub(super) const CONNECT_OPEN: i32 = 1;
    pub(super) const CONNECT_CLOSE: i32 = 2;
    pub(super) const CONNECT_GET_LIB_VERSION: i32 = 3;
    pub(super) const CONNECT_LIST_SERVERS: i32 = 4;
    pub(super) const CONNECT_LOOKUP_SERVER: i32 = 5;
    pub(super) const SERVER_GET_THREADPOOL_PARAMETERS: i32 = 6;
    pub(super) const SERVER_SET_THREADPOOL_PARAMETERS: i32 = 7;
    pub(super) const SERVER_LIST_CLIENTS: i32 = 8;
    pub(super) const SERVER_LOOKUP_CLIENT: i32 = 9;
    pub(super) const CLIENT_GET_INFO: i32 = 10;
    pub(super) const CLIENT_CLOSE: i32 = 11;
    pub(super) const SERVER_GET_CLIENT_LIMITS: i32 = 12;
    pub(super) const SERVER_SET_CLIENT_LIMITS: i32 = 13;
    pub(super) const CONNECT_GET_LOGGING_OUTPUTS: i32 = 14;
    pub(super) const CONNECT_GET_LOGGING_FILTERS: i32 = 15;
    pub(super) const CONNECT_SET_LOGGING_OUTPUTS: i32 = 16;
    pub(super) const CONNECT_SET_LOGGING_FILTERS: i32 = 17;
    pub(super) const SERVER_UPDATE_TLS_FILES: i32 = 18;
    pub(super) const CONNECT_SET_DAEMON_TIMEOUT: i32 = 19;
}

fn answer(
    procedure: i32,
    arguments: &mut Reader<'_>,
    target: &mut dyn Target,
) -> Result<Writer, Error> {
    match procedure {
        procedure::CONNECT_OPEN => open(arguments),
        procedure::CONNECT_CLOSE => Ok(Writer::new()),
        procedure::CONNECT_GET_LIB_VERSION => Ok(library_version()),
        procedure::CONNECT_LIST_SERVERS => list_servers(arguments, target),
        procedure::CONNECT_LOOKUP_SERVER => lookup_server(arguments, target),
        procedure::SERVER_GET_THREADPOOL_PARAMETERS => threadpool(arguments, target),
        procedure::SERVER_SET_THREADPOOL_PARAMETERS => set_threadpool(arguments, target),
        procedure::SERVER_LIST_CLIENTS => list_clients(arguments, target),
        procedure::SERVER_LOOKUP_CLIENT => lookup_client(arguments, target),
        procedure::CLIENT_GET_INFO => client_info(arguments, target),
        procedure::CLIENT_CLOSE => close_client(arguments, target),
        procedure::SERVER_GET_CLIENT_LIMITS => client_limits(arguments, target),
        procedure::SERVER_SET_CLIENT_LIMITS => set_client_limits(arguments, target),
        procedure::CONNECT_GET_LOGGING_OUTPUTS => log_outputs(arguments, target),
        procedure::CONNECT_GET_LOGGING_FILTERS => log_filters(arguments, target),
        procedure::CONNECT_SET_LOGGING_OUTPUTS => set_log_outputs(arguments, target),
        procedure::CONNECT_SET_LOGGING_FILTERS => set_log_filters(arguments, target),
        procedure::SERVER_UPDATE_TLS_FILES => update_tls_files(arguments, target),
        procedure::CONNECT_SET_DAEMON_TIMEOUT => set_idle_timeout(arguments, target),
        unknown => Err(Error::new(Code::Rpc, Domain::Rpc, format!("unknown procedure: {unknown}"))),
    }
}

fn open(arguments: &mut Reader<'_>) -> Result<Writer, Error> {
    no_flags(arguments.u32()?, "adminDispatchConnectOpen")?;
    Ok(Writer::new())
}

fn library_version() -> Writer {
    let mut writer = Writer::new();
    writer.u64(LIBVIRT_VERSION_NUMBER);
    writer
}

fn list_servers(arguments: &mut Reader<'_>, target: &dyn Target) -> Result<Writer, Error> {
    let wanted = arguments.present()?;
    no_flags(arguments.u32()?, "adminConnectListServers")?;
    let names = [target.main_server_name(), ADMIN_SERVER_NAME];
    let mut writer = Writer::new();
    write_list(&mut writer, wanted, &names, |writer, name| {
        writer.opaque(name.as_bytes());
    });
    Ok(writer)
}

/// compat: flags are decoded and ignored (libvirt 9.0.0; its clients send 0).
fn lookup_server(arguments: &mut Reader<'_>, target: &dyn Target) -> Result<Writer, Error> {
    let name = string(arguments)?;
    let _flags = arguments.u32()?;
    server_named(target, name, Wording::Rpc)?;
    let mut writer = Writer::new();
    writer.opaque(name);
    Ok(writer)
}

fn threadpool(arguments: &mut Reader<'_>, target: &dyn Target) -> Result<Writer, Error> {
    let (name, flags) = (string(arguments)?, arguments.u32()?);
    let server = server_named(target, name, Wording::Rpc)?;
    no_flags(flags, "adminServerGetThreadPoolParameters")?;
    Ok(write_numbers([
        ("minWorkers", 0),
        ("maxWorkers", 0),
        ("nWorkers", 0),
        ("freeWorkers", 0),
        ("prioWorkers", target.priority_workers(server)),
        ("jobQueueDepth", 0),
    ]))
}

fn set_threadpool(arguments: &mut Reader<'_>, target: &mut dyn Target) -> Result<Writer, Error> {
    let (name, parameters) = (string(arguments)?, params::read(arguments)?);
    let flags = arguments.u32()?;
    let server = server_named(target, name, Wording::Admin)?;
    params::check_fields(&parameters)?;
    no_flags(flags, "adminServerSetThreadPoolParameters")?;
    let fields = ["minWorkers", "maxWorkers", "prioWorkers"];
    let [min, max, priority] = params::settable(&parameters, fields)?;
    check_workers(min.unwrap_or(0), max.unwrap_or(0))?;
    if let Some(count) = priority {
        target.set_priority_workers(server, count);
    }
    Ok(Writer::new())
}

/// A pool without workers must stay without workers.
fn check_workers(min: u32, max: u32) -> Result<(), Error> {
    let refuse = |detail: &str| Err(Error::new(Code::InvalidArg, Domain::None, detail));
    if min > max {
        return refuse("minWorkers cannot be larger than maxWorkers");
    }
    if max > 0 {
        return refuse("maxWorkers must not be switched from zero to non-zero and vice versa");
    }
    Ok(())
}

fn update_tls_files(arguments: &mut Reader<'_>, target: &dyn Target) -> Result<Writer, Error> {
    let (name, flags) = (string(arguments)?, arguments.u32()?);
    server_named(target, name, Wording::Rpc)?;
    no_flags(flags, "adminServerUpdateTlsFiles")?;
    let detail = "no tls service found, unable to update tls files";
    Err(Error::new(Code::InternalError, Domain::Rpc, detail))
}

fn set_idle_timeout(arguments: &mut Reader<'_>, target: &mut dyn Target) -> Result<Writer, Error> {
    let (timeout_s, flags) = (arguments.u32()?, arguments.u32()?);
    no_flags(flags, "adminConnectSetDaemonTimeout")?;
    target.set_idle_timeout_s(timeout_s);
    Ok(Writer::new())
}
