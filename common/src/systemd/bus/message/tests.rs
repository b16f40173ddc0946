use proptest::prelude::*;

use super::*;

const HELLO: Call<'_> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
    arguments: Arguments::None,
};

/// An answer to call 7 with this body.
fn answer(kind: u8, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![REPLY_SERIAL];
    put_signature(&mut fields, "u");
    put_number(&mut fields, 7);
    pad(&mut fields, 8);
    fields.push(ERROR_NAME);
    put_signature(&mut fields, "s");
    put_text(&mut fields, "an.Error");
    pad(&mut fields, 8);
    fields.push(SIGNATURE);
    put_signature(&mut fields, "g");
    put_signature(&mut fields, signature);
    let mut bytes = vec![b'l', kind, 0, 1];
    put_number(&mut bytes, length(body));
    put_number(&mut bytes, 1);
    put_number(&mut bytes, length(&fields));
    bytes.extend(fields);
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

/// As libdbus sends it.
#[test]
fn a_call_is_what_others_send() {
    let expected: &[u8] = b"l\x01\x00\x01\0\0\0\0\x01\0\0\0n\0\0\0\
        \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
        \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
        \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
        \x03\x01s\0\x05\0\0\0Hello\0\0\0";
    let encoded = encode(1, &Call { ..HELLO });
    assert_eq!(encoded, expected[..].to_vec());
    assert_eq!(total_length(encoded.first_chunk().unwrap()), Ok(encoded.len()));
}

#[test]
fn arguments_stand_behind_their_signature() {
    let encoded = encode(2, &Call { arguments: Arguments::Texts("ab", "c"), ..HELLO });
    assert!(encoded.ends_with(b"\x08\x01g\0\x02ss\0\x02\0\0\0ab\0\0\x01\0\0\0c\0"));
    let encoded = encode(3, &Call { arguments: Arguments::Number(258), ..HELLO });
    assert!(encoded.ends_with(b"\x08\x01g\0\x01u\0\0\x02\x01\0\0"));
}

#[test]
fn values_of_every_kind_are_understood() {
    let cases: [(&str, &[u8], Value); 5] = [
        ("o", b"\x01\0\0\0/\0", Value::Text("/".into())),
        ("v", b"\x01s\0\0\x02\0\0\0no\0", Value::Text("no".into())),
        ("v", b"\x01u\0\0\x07\0\0\0", Value::Number(7)),
        ("v", b"\x01t\0\0\0\0\0\0\x07\0\0\0\0\0\0\0", Value::Number(7)),
        ("v", b"\x04(uo)\0\0\0\x09\0\0\0\x01\0\0\0/\0", Value::Numbered(9, "/".into())),
    ];
    for (signature, body, value) in cases {
        let bytes = answer(METHOD_RETURN, signature, body);
        assert_eq!(decode(&bytes, 7), Ok(Answer::Return(value)), "{signature}");
    }
}

#[test]
fn other_byte_orders_are_understood() {
    let message = b"B\x02\0\x01\0\0\0\x04\0\0\0\x01\0\0\0\x0f\
        \x05\x01u\0\0\0\0\x07\x08\x01g\0\x01u\0\0\0\0\x01\x02";
    assert_eq!(decode(message, 7), Ok(Answer::Return(Value::Number(258))));
}

#[test]
fn errors_and_what_answers_nothing_of_ours_are_told_apart() {
    let error = answer(ERROR, "", b"");
    assert_eq!(decode(&error, 7), Ok(Answer::Error("an.Error".into())));
    assert_eq!(decode(&error, 8), Ok(Answer::Other));
    assert_eq!(decode(&answer(4, "", b""), 7), Ok(Answer::Other));
}

#[test]
fn a_length_is_bounded_before_it_is_believed() {
    let huge = b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0";
    assert_eq!(total_length(huge), Err(Malformed::Long));
    let much = b"l\x02\0\x01\0\0\x04\0\x01\0\0\0\0\0\0\0";
    assert_eq!(total_length(much), Err(Malformed::Long));
    let text = answer(METHOD_RETURN, "s", b"\xff\xff\0\0ab\0");
    assert_eq!(decode(&text, 7), Err(Malformed::Short));
    let mut long = Vec::new();
    put_text(&mut long, &"a".repeat(TEXT_BYTES_MAX + 1));
    assert_eq!(decode(&answer(METHOD_RETURN, "s", &long), 7), Err(Malformed::Text));
}

#[test]
fn what_is_unknown_is_refused() {
    let kind = |text: &str| Err(Malformed::Type(text.to_owned()));
    assert_eq!(decode(&answer(METHOD_RETURN, "as", b""), 7), kind("as"));
    assert_eq!(decode(&answer(METHOD_RETURN, "v", b"\x01v\0\x01s\0"), 7), kind("v"));
    assert_eq!(decode(b"x\x02\0\x01", 7), Err(Malformed::Start));
    assert_eq!(decode(b"l\x02\0\x02", 7), Err(Malformed::Start));
}

proptest! {
    #[test]
    fn whatever_comes_is_survived(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..256),
        kind in 0..6u8,
    ) {
        drop(decode(&bytes, 7));
        for (at, byte) in [(0, b'l'), (1, kind), (3, 1)] {
            bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
        }
        drop(decode(&bytes, 7));
        if let Some(start) = bytes.first_chunk() {
            prop_assert!(total_length(start).is_ok_and(|size| size <= MESSAGE_BYTES_MAX)
                || total_length(start).is_err());
        }
    }

    #[test]
    fn a_message_that_is_cut_or_changed_is_survived(
        at in 0..100usize, byte in any::<u8>(), length in 0..100usize,
    ) {
        let mut bytes = answer(METHOD_RETURN, "v", b"\x04(uo)\0\0\0\x09\0\0\0\x01\0\0\0/\0");
        bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
        bytes.truncate(length);
        drop(decode(&bytes, 7));
    }
}
