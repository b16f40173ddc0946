use super::*;
use proptest::prelude::*;

#[test]
fn integers_are_big_endian() {
    let mut reader = Reader::new(&[0, 0, 1, 2, 0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(reader.u32(), Ok(0x102));
    assert_eq!(reader.i32(), Ok(-2));
    assert_eq!(reader.u32(), Err(Error::Truncated("u32")));
}

#[test]
fn a_string_ends_at_its_first_nul_and_its_padding_is_not_looked_at() {
    let mut reader = Reader::new(b"\0\0\0\x05ab\0cd\x01\x02\x03\0\0\0\x07");
    assert_eq!(reader.string(5), Ok(&b"ab"[..]));
    assert_eq!(reader.u32(), Ok(7));
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_bytes_are_looked_for() {
    let bytes = [0xff; 4];
    assert_eq!(
        Reader::new(&bytes).opaque(16),
        Err(Error::TooLong { what: "string", len: u32::MAX, max: 16 })
    );
    assert_eq!(Reader::new(&[0, 0, 0, 5, 1, 2]).opaque(16), Err(Error::Truncated("string")));
}

#[test]
fn any_number_but_zero_means_present() {
    assert_eq!(Reader::new(&[0, 0, 0, 2]).present(), Ok(true));
    assert_eq!(Reader::new(&[0, 0, 0, 0]).present(), Ok(false));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        number in any::<u32>(), signed in any::<i64>(), text in any::<Vec<u8>>(), uuid in any::<[u8; 16]>()
    ) {
        let mut writer = Writer::new();
        writer.u32(number).i64(signed).opaque(&text).raw(&uuid).optional(Some(&text)).optional(None);
        let appended = writer.opaque_by(|bytes| {
            bytes.extend(&text);
            Ok::<_, ()>(())
        });
        prop_assert!(appended.is_ok());
        let bytes = writer.into_bytes();
        prop_assert_eq!(bytes.len() % 4, 0);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.u32(), Ok(number));
        prop_assert_eq!(reader.i64(), Ok(signed));
        prop_assert_eq!(reader.opaque(u32::MAX), Ok(&text[..]));
        prop_assert_eq!(reader.fixed::<16>(), Ok(uuid));
        prop_assert_eq!(reader.present(), Ok(true));
        prop_assert_eq!(reader.opaque(u32::MAX), Ok(&text[..]));
        prop_assert_eq!(reader.present(), Ok(false));
        prop_assert_eq!(reader.opaque(u32::MAX), Ok(&text[..]));
        prop_assert_eq!(reader.u32(), Err(Error::Truncated("u32")));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), max in any::<u32>()) {
        let mut reader = Reader::new(&bytes);
        while reader.string(max).is_ok() && reader.u32().is_ok() {}
    }
}
