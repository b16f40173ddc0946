use super::*;

#[test]
fn a_long_name_is_cut_between_two_characters() {
    let short = b"guest";
    assert_eq!(name(short), short);
    let long = "x".repeat(NAME_BYTES_MAX - 1) + "\u{e4}\u{e4}";
    assert_eq!(name(long.as_bytes()), &long.as_bytes()[..NAME_BYTES_MAX - 1]);
    for byte in [0xff, 0x80, b'x'] {
        let bytes = [byte; 2 * NAME_BYTES_MAX];
        assert_eq!(name(&bytes).len(), NAME_BYTES_MAX);
    }
}

#[test]
fn bytes_become_text_and_back() {
    let mut next = 0_u8..;
    let bytes: [u8; 16] = std::array::from_fn(|_| 17 * next.next().unwrap());
    assert_eq!(uuid(&bytes), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(parse_uuid(&uuid(&bytes)), Some(bytes));
    assert_eq!(unhex(&hex(b"\xff\0a")), Some(b"\xff\0a".to_vec()));
    for bad in ["f", "0g", "\u{e4}"] {
        assert_eq!(unhex(bad), None, "{bad}");
    }
    assert_eq!(parse_uuid("0011"), None);
}
