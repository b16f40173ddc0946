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
    assert_eq!(problem(&[bad_type, good]), type_text);
    assert_eq!(
        problem(&[("aaa", Value::Uint(1)), bad_type, ("aaa", Value::Int(1))]),
        "argument unsupported: parameter 'aaa' not supported"
    );
    let twice = "invalid argument: parameter 'maxWorkers' occurs multiple times";
    assert_eq!(problem(&[good, good]), twice);
    assert_eq!(problem(&[good, bad_type]), twice);
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
