//! Typed parameters: a list of named values, each with its type.

use super::dispatch::STRING_BYTES_MAX;
use crate::rpc::error::{Code, Domain, Error};
use crate::xdr::{self, Reader, Writer};

/// Parameters in one request, libvirt's value, on the wire.
const PARAMETERS_MAX: u32 = 32;

/// Bytes of a field's name, libvirt's value.
const FIELD_BYTES_MAX: usize = 79;

/// A value of one of the seven types that the protocol has.
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

/// Reads the parameters of a request. Their names are not looked at yet.
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

/// The first name that is too long, in the order of the request.
pub(super) fn check_fields(parameters: &[Parameter<'_>]) -> Result<(), Error> {
    match parameters.iter().find(|parameter| parameter.field.len() > FIELD_BYTES_MAX) {
        Some(long) => {
            let detail = [b"parameter ", long.field, b" too big for destination"].concat();
            Err(Error::new(Code::InternalError, Domain::None, detail))
        }
        None => Ok(()),
    }
}

/// The values of the fields that may be set, all unsigned, each at most once: `None` where a
/// field is not among the parameters.
///
/// Reports the first problem in the order of the names, and of one name in the order of the
/// request: unknown, of the wrong type, given before.
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
        let Value::Uint(number) = value else {
            return Err(wrong_type(field, value));
        };
        if slot.replace(number).is_some() {
            return Err(invalid(Code::InvalidArg, field, "occurs multiple times"));
        }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELDS: [&str; 2] = ["minWorkers", "maxWorkers"];

    fn problem(parameters: &[(&str, Value<'_>)]) -> String {
        let parameters: Vec<_> =
            parameters.iter().map(|&(field, value)| Parameter::new(field, value)).collect();
        settable(&parameters, FIELDS).unwrap_err().message()
    }

    #[test]
    fn values_come_back_in_the_order_of_the_known_fields() {
        let set = [Parameter::new("maxWorkers", Value::Uint(7))];
        assert_eq!(settable(&set, FIELDS), Ok([None, Some(7)]));
        assert_eq!(settable(&[], FIELDS), Ok([None, None]));
    }

    #[test]
    fn the_first_problem_by_name_is_reported() {
        let bad_type = ("maxWorkers", Value::Int(1));
        let good = ("maxWorkers", Value::Uint(1));
        let type_text =
            "invalid argument: invalid type 'int' for parameter 'maxWorkers', expected 'uint'";
        assert_eq!(problem(&[("zzz", Value::Uint(1)), bad_type]), type_text);
        assert_eq!(problem(&[good, bad_type]), type_text);
        assert_eq!(problem(&[bad_type, good]), type_text);
        assert_eq!(
            problem(&[("aaa", Value::Uint(1)), bad_type, ("aaa", Value::Int(1))]),
            "argument unsupported: parameter 'aaa' not supported"
        );
        assert_eq!(
            problem(&[good, good]),
            "invalid argument: parameter 'maxWorkers' occurs multiple times"
        );
    }

    #[test]
    fn the_types_have_libvirts_names() {
        let types = [
            (Value::Llong(1), "llong"),
            (Value::Ullong(1), "ullong"),
            (Value::Double(1.0), "double"),
            (Value::Boolean(1), "boolean"),
            (Value::String(b"1"), "string"),
        ];
        for (value, name) in types {
            assert!(problem(&[("minWorkers", value)]).contains(&format!("invalid type '{name}'")));
        }
    }

    #[test]
    fn a_list_too_long_or_of_an_unknown_type_is_not_decoded() {
        let mut writer = Writer::new();
        write(&mut writer, &[Parameter::new("a", Value::Uint(1)); 33]);
        let bytes = writer.into_bytes();
        assert!(matches!(read(&mut Reader::new(&bytes)), Err(xdr::Error::TooLong { len: 33, .. })));
        for value in [0, 8, -1] {
            let mut writer = Writer::new();
            writer.u32(1).opaque(b"a").i32(value).u64(0);
            let bytes = writer.into_bytes();
            let expected = xdr::Error::Discriminant { what: "parameter", value };
            assert_eq!(read(&mut Reader::new(&bytes)), Err(expected));
        }
    }

    #[test]
    fn a_name_may_have_79_bytes() {
        let fits = "x".repeat(FIELD_BYTES_MAX);
        assert_eq!(check_fields(&[Parameter::new(&fits, Value::Uint(1))]), Ok(()));
        let long = format!("{fits}x");
        let error = check_fields(&[Parameter::new(&long, Value::Uint(1))]).unwrap_err();
        assert_eq!(
            error.message(),
            format!("internal error: parameter {long} too big for destination")
        );
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<i32>().prop_map(Value::Int),
            any::<u32>().prop_map(Value::Uint),
            any::<i64>().prop_map(Value::Llong),
            any::<u64>().prop_map(Value::Ullong),
            (-1e300..1e300).prop_map(Value::Double),
            any::<i32>().prop_map(Value::Boolean),
            Just(Value::String(b"text")),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec(value(), 0..=32)) {
            let parameters: Vec<_> =
                values.iter().map(|&value| Parameter::new("field", value)).collect();
            let mut writer = Writer::new();
            write(&mut writer, &parameters);
            let bytes = writer.into_bytes();
            prop_assert_eq!(read(&mut Reader::new(&bytes)), Ok(parameters));
        }
    }
}
