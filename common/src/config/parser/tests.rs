use super::*;
use proptest::prelude::*;

const NAME: &str = "expecting a name";
const ASSIGNMENT: &str = "expecting an assignment";
const VALUE: &str = "expecting a value";
const SEPARATOR: &str = "expecting a separator";
const LIST_SEPARATOR: &str = "expecting a separator in list";
const LIST_OPEN: &str = "list is not closed with ]";
const STRING: &str = "unterminated string";
const NUMBER: &str = "unterminated number";

fn single(text: &[u8]) -> Value {
    let mut entries = parse(text).unwrap();
    assert_eq!(entries.len(), 1);
    entries.pop().unwrap().value
}

fn number(number: u64) -> Value {
    Value::Unsigned(Some(number))
}

#[test]
fn every_kind_of_value() {
    let cases: [(&[u8], Value); 22] = [
        (b"x=5", number(5)),
        (b"\t x\t=\t007\t", number(7)),
        (b"x=+5", number(5)),
        (b"x=-5", Value::Negative),
        (b"x=18446744073709551615", number(u64::MAX)),
        (b"x=18446744073709551616", Value::Unsigned(None)),
        (b"x=''", Value::String(vec![])),
        (b"x=\"\"", Value::String(vec![])),
        (b"x='a\"b'", Value::String(b"a\"b".into())),
        (b"x=\"a\\\" # c", Value::String(b"a\\".into())),
        (b"x=\"#\xff;\"", Value::String(b"#\xff;".into())),
        (b"x=\"a\0b\"", Value::String(b"a".into())),
        (b"x=\"\"\"a\nb\"\"\"", Value::String(b"a\nb".into())),
        (b"x=\"\"\"\"a\"\"\"", Value::String(b"\"a".into())),
        (b"x=\"\"\"\"\"\"\n", Value::String(vec![])),
        (b"x=[]", Value::List(vec![])),
        (b"x=[\r\n]", Value::List(vec![])),
        (b"x=[1,]", Value::List(vec![number(1)])),
        (b"x=[1\n\n,\n\n'a'\n,\n\n]", Value::List(vec![number(1), Value::String(b"a".into())])),
        (b"x=[[1],-2]#c", Value::List(vec![Value::List(vec![number(1)]), Value::Negative])),
        (b"x=1#c", number(1)),
        (b"X_9=1;", number(1)),
    ];
    for (text, value) in cases {
        let text_shown = String::from_utf8_lossy(text);
        assert_eq!(parse(text).map(|entries| entries.len()), Ok(1), "{text_shown}");
        assert_eq!(single(text), value, "{text_shown}");
    }
}

#[test]
fn every_way_to_separate() {
    let cases: [(&str, &[(&str, usize)]); 8] = [
        ("", &[]),
        ("#", &[]),
        ("#c\n#d\n  # e\n\n \t\n", &[]),
        ("x=1;y=2", &[("x", 1), ("y", 1)]),
        ("x=1 ; # c\ny=2\n  ", &[("x", 1), ("y", 2)]),
        ("x = 1;\r\ny=2\r\n", &[("x", 1), ("y", 2)]),
        ("x = 1\ry = 2", &[("x", 1), ("y", 1)]),
        ("a=\"\"\"1\n2\"\"\"\nb=[\n1\n]\nc=1", &[("a", 1), ("b", 3), ("c", 6)]),
    ];
    for (text, expected) in cases {
        let entries = parse(text.as_bytes()).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
        assert_eq!(found, expected, "{text:?}");
    }
}

/// Each of these texts was given to libvirt's virtlogd, which said the same.
fn refuse(cases: &[(&[u8], usize, &'static str)]) {
    for &(text, line, what) in cases {
        assert_eq!(parse(text), Err((line, what)), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn every_way_a_value_can_be_wrong() {
    refuse(&[
        (b"x=\"\"\"abcd", 1, STRING),
        (b"x=\"", 1, STRING),
        (b"x='", 1, STRING),
        (b"x=\"abc\ny=1", 1, STRING),
        (b"x=-", 1, NUMBER),
        (b"x=+\n", 1, NUMBER),
        (b"x=- 5", 1, NUMBER),
        (b"x=[,]", 1, VALUE),
        (b"x=[1,,2]", 1, VALUE),
        (b"x=[1 2]", 1, LIST_SEPARATOR),
        (b"x=[1;2]", 1, LIST_SEPARATOR),
        (b"x=[1 # c\n,2]", 1, LIST_SEPARATOR),
        (b"x=[ # c\n1]", 1, VALUE),
        (b"x=[1,", 1, VALUE),
        (b"x=[", 1, LIST_OPEN),
        (b"x=[1", 1, LIST_OPEN),
        (b"x=[1\n", 2, LIST_OPEN),
        (b"x=[\n;1]", 2, VALUE),
        (b"x=[\"a\nb\"]", 1, STRING),
        (b"x=", 1, VALUE),
        (b"x= \n", 1, VALUE),
        (b"x=\r\n1", 1, VALUE),
        (b"x=;", 1, VALUE),
        (b"x=abc", 1, VALUE),
        (b"x={}", 1, VALUE),
        (b"x= # c\n 1", 1, VALUE),
    ]);
}

#[test]
fn every_way_the_rest_can_be_wrong() {
    refuse(&[
        (b"x=5 y=2", 1, SEPARATOR),
        (b"x=\"x\\\"y\"", 1, SEPARATOR),
        (b"x=\"\"\"a", 1, SEPARATOR),
        (b"x=\"\"\"\"\"\"", 1, SEPARATOR),
        (b"x=\"\"\"", 1, SEPARATOR),
        (b"x=0x10", 1, SEPARATOR),
        (b"x=[1]]", 1, SEPARATOR),
        (b"x=[1]y=2", 1, SEPARATOR),
        (b"_x=1", 1, NAME),
        (b"1x=1", 1, NAME),
        (b"x.y=1", 1, ASSIGNMENT),
        (b"x-y=1", 1, ASSIGNMENT),
        (b"x", 1, ASSIGNMENT),
        (b"x\n=1", 1, ASSIGNMENT),
        (b"=5", 1, NAME),
        (b"\xef\xbb\xbfx=1", 1, NAME),
        (b"\xc3\xa9=1", 1, NAME),
        (b"\x0cx=1", 1, NAME),
        (b"\0", 1, NAME),
        (b";", 1, NAME),
        (b"x=1;;y=2", 1, NAME),
        (b"x=1 \n;y=1", 2, NAME),
        (b"# c\n ;", 2, NAME),
        (b" ", 1, NAME),
        (b"\n\n", 3, NAME),
        (b"\r", 1, NAME),
        (b"x=1\0garbage", 1, SEPARATOR),
        (b"x=1\x0b", 1, SEPARATOR),
        (b"x=5a", 1, SEPARATOR),
        (b"x=\"a\"y=1", 1, SEPARATOR),
        (b"x=\"\"\"a\"\"\"\"", 1, SEPARATOR),
        (b"x=\"\" \"\"", 1, SEPARATOR),
        (b"\n\n\nx", 4, ASSIGNMENT),
        (b"x=\"\"\"x\r\ny\"\"\"\nq", 3, ASSIGNMENT),
        (b"#a\r#b\nx", 2, ASSIGNMENT),
        (b"x=[\"\"\"a\nb\"\"\"]\n\ny", 4, ASSIGNMENT),
    ]);
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let nested = |depth: usize| format!("x={}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
    let error = parse(nested(1_000_000).as_bytes()).unwrap_err();
    assert_eq!(error, (1, "lists nested too deeply"));
}

fn written(value: &Value) -> String {
    match value {
        Value::Unsigned(number) => number.unwrap().to_string(),
        Value::Negative => "-1".to_owned(),
        Value::String(bytes) => format!("'{}'", str::from_utf8(bytes).unwrap()),
        Value::List(values) => {
            format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(" ,\n"))
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(number),
        Just(Value::Negative),
        "[a-z#;\"= ]{0,8}".prop_map(|text| Value::String(text.into_bytes())),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::List))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes));
    }

    #[test]
    fn arbitrary_grammar_pieces_never_panic(text in "[x1\"'\\[\\],;#=+\\- \n\r]{0,60}") {
        let lines = text.matches('\n').count() + 1;
        if let Err((line, _)) = parse(text.as_bytes()) {
            prop_assert!((1..=lines).contains(&line));
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        pairs in prop::collection::vec(("[a-zA-Z][a-z0-9_]{0,5}", any_value()), 0..6),
    ) {
        let text: String = pairs
            .iter()
            .map(|(key, value)| format!(" {key} = {} # c\n", written(value)))
            .collect();
        let entries = parse(text.as_bytes()).unwrap();
        let found: Vec<_> =
            entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        prop_assert_eq!(found, pairs);
    }
}
