//! Typed parameters: a list of named values, each with its type.

use crate::rpc::error::{Code, Domain, Error};
use crate::xdr::{self, Reader, Writer};

/// Bytes of a string in a request, libvirt's value, on the wire.
pub(super) const STRING_BYTES_MAX: u32 = 4_194_304;

/// Parameters in one request, libvirt's value, on the wire.
const PARAMETERS_MAX: u32 = 32;

/// Bytes of a field's name, libvirt's value.
const FIELD_BYTES_MAX: usize = 79;

/// A value of one of the protocol's seven types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Int(i32),
    Uint(u32),
    Llong(i64),
    Ullong(u64),
    Double(f64),
    Boolean(i32),
    String(&'a [u8]),
}

/// A named value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parameter<'a> {
    pub(super) field: &'a [u8],
    pub(super) value: Value<'a>,
}

impl<'a> Parameter<'a> {
    pub(super) fn new(field: &'a str, value: Value<'a>) -> Self {
        Self { field: field.as_bytes(), value }
    }
}

/// Reads the parameters of a request, without a check of their names.
pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Vec<Parameter<'a>>, xdr::Error> {
    let count = reader.count("parameters", PARAMETERS_MAX)?;
    (0..count)
        .map(|_| {
            Ok(Parameter { field: reader.string(STRING_BYTES_MAX)?, value: read_value(reader)? })
        })
        .collect()
}

/// Writes the parameters of an answer.
pub(super) fn write(writer: &mut Writer, parameters: &[Parameter<'_>]) {
    writer.u32(u32::try_from(parameters.len()).unwrap_or(u32::MAX));
    for parameter in parameters {
        writer.opaque(parameter.field);
        write_value(writer, parameter.value);
    }
}

/// Fails for the first name that is too long, in the order of the request.
pub(super) fn check_fields(parameters: &[Parameter<'_>]) -> Result<(), Error> {
    match parameters.iter().find(|parameter| parameter.field.len() > FIELD_BYTES_MAX) {
        Some(long) => {
            let detail = [b"parameter ", long.field, b" too big for destination"].concat();
            Err(Error::new(Code::InternalError, Domain::None, detail))
        }
        None => Ok(()),
    }
}

/// Returns the values of the fields that may be set, all unsigned, each at most once; `None` where
/// a field is missing.
///
/// Reports the first fault in the order of the names, and of one name in the order of the request:
/// unknown, given before, of the wrong type.
pub(super) fn settable<const N: usize>(
    parameters: &[Parameter<'_>],
    fields: [&str; N],
) -> Result<[Option<u32>; N], Error> {
    let mut sorted = parameters.to_vec();
    sorted.sort_by_key(|parameter| parameter.field);
    let mut values = [None; N];
    for Parameter { field, value } in sorted {
        let mut slots = fields.iter().zip(&mut values);
        let Some((_, slot)) = slots.find(|(name, _)| name.as_bytes() == field) else {
            return Err(invalid(Code::ArgumentUnsupported, field, "not supported"));
        };
        if slot.is_some() {
            return Err(invalid(Code::InvalidArg, field, "occurs multiple times"));
        }
        let Value::Uint(number) = value else {
            return Err(wrong_type(field, value));
        };
        *slot = Some(number);
    }
    Ok(values)
}

fn read_value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, xdr::Error> {
    Ok(match reader.i32()? {
        1 => Value::Int(reader.i32()?),
        2 => Value::Uint(reader.u32()?),
        3 => Value::Llong(reader.i64()?),
        4 => Value::Ullong(reader.u64()?),
        5 => Value::Double(reader.f64()?),
        6 => Value::Boolean(reader.i32()?),
        7 => Value::String(reader.string(STRING_BYTES_MAX)?),
        value => {
            return Err(xdr::Error::Discriminant { what: "parameter", value });
        }
    })
}

fn write_value(writer: &mut Writer, value: Value<'_>) {
    match value {
        Value::Int(number) => writer.i32(1).i32(number),
        Value::Uint(number) => writer.i32(2).u32(number),
        Value::Llong(number) => writer.i32(3).i64(number),
        Value::Ullong(number) => writer.i32(4).u64(number),
        Value::Double(number) => writer.i32(5).f64(number),
        Value::Boolean(number) => writer.i32(6).i32(number),
        Value::String(text) => writer.i32(7).opaque(text),
    };
}

fn invalid(code: Code, field: &[u8], problem: &str) -> Error {
    let detail = [b"parameter '", field, b"' ", problem.as_bytes()].concat();
    Error::new(code, Domain::None, detail)
}

fn wrong_type(field: &[u8], value: Value<'_>) -> Error {
    let name = match value {
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Llong(_) => "llong",
        Value::Ullong(_) => "ullong",
        Value::Double(_) => "double",
        Value::Boolean(_) => "boolean",
        Value::String(_) => "string",
    };
    let head = format!("invalid type '{name}' for parameter '");
    let detail = [head.as_bytes(), field, b"', expected 'uint'"].concat();
    Error::new(Code::InvalidArg, Domain::None, detail)
}

#[cfg(test)]
mod tests;
