use super::super::file;
use super::*;

#[test]
fn only_what_cannot_change_is_mapped() {
    for bytes in [&b"text"[..], b""] {
        let memfd = file::nameless("test").unwrap();
        file::write_all_at(&memfd, bytes, 0).unwrap();
        let content = || Content::of(memfd.try_clone().unwrap().into(), 4).unwrap();
        assert!(matches!(content(), Content::Copied(copied) if copied == bytes));
        assert!(file::seal(&memfd));
        assert!(matches!(content(), Content::Mapped(mapped) if *mapped == *bytes));
    }
    let refused = |file: File| Content::of(file.into(), 4).unwrap_err().raw_os_error();
    assert_eq!(refused(File::open("/dev/null").unwrap()), Some(Errno::EINVAL as i32));
    let memfd = file::nameless("test").unwrap();
    file::write_all_at(&memfd, b"texts", 0).unwrap();
    assert_eq!(refused(memfd), Some(Errno::EFBIG as i32));
}
