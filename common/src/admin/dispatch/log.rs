//! Procedures about the daemon's own log.

use super::arguments::{no_flags, string};
use crate::admin::Target;
use crate::admin::encode::count;
use crate::rpc::error::Error;
use crate::xdr::{Reader, Writer};

pub(super) fn log_outputs(
    arguments: &mut Reader<'_>,
    target: &dyn Target,
) -> Result<Writer, Error> {
    no_flags(arguments.u32()?, "adminConnectGetLoggingOutputs")?;
    let items = target.log_outputs();
    let mut writer = Writer::new();
    writer.opaque(items.join(" ").as_bytes()).u32(count(&items));
    Ok(writer)
}

/// compat: a blank follows each filter, the last one too (libvirt 9.0.0).
pub(super) fn log_filters(
    arguments: &mut Reader<'_>,
    target: &dyn Target,
) -> Result<Writer, Error> {
    no_flags(arguments.u32()?, "adminConnectGetLoggingFilters")?;
    let items = target.log_filters();
    let text: String = items.iter().flat_map(|item| [item, " "]).collect();
    let mut writer = Writer::new();
    writer.optional((!items.is_empty()).then_some(text.as_bytes())).u32(count(&items));
    Ok(writer)
}

pub(super) fn set_log_outputs(
    arguments: &mut Reader<'_>,
    target: &mut dyn Target,
) -> Result<Writer, Error> {
    let (setting, flags) = (log_setting(arguments)?, arguments.u32()?);
    no_flags(flags, "adminConnectSetLoggingOutputs")?;
    target.set_log_outputs(setting)?;
    Ok(Writer::new())
}

pub(super) fn set_log_filters(
    arguments: &mut Reader<'_>,
    target: &mut dyn Target,
) -> Result<Writer, Error> {
    let (setting, flags) = (log_setting(arguments)?, arguments.u32()?);
    no_flags(flags, "adminConnectSetLoggingFilters")?;
    target.set_log_filters(setting)?;
    Ok(Writer::new())
}

/// Reads a setting of the daemon's own log. Absent and empty mean the same.
///
/// compat: it has to be UTF-8; libvirt 9.0.0 takes any bytes.
fn log_setting<'a>(arguments: &mut Reader<'a>) -> Result<&'a str, Error> {
    let bytes = if arguments.present()? { string(arguments)? } else { &[] };
    str::from_utf8(bytes).map_err(|_| Error::undecodable())
}
