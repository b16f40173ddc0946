use std::io::{Read, Seek};

use super::*;

#[test]
fn bytes_are_written_where_they_belong() {
    let mut file = tempfile::tempfile().unwrap();
    write_all_at(&file, b"behind", 6).unwrap();
    write_all_at(&file, b"before", 0).unwrap();
    write_all_at(&file, b"", 100).unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "beforebehind");
    let error = write_at(&file, b"x", u64::MAX).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EFBIG as i32));
}

#[test]
fn a_file_without_a_name_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for make in [nameless, |name: &str| unlinked_in(&std::env::temp_dir(), name)] {
        let mut file = make("text").unwrap();
        write_all_at(&file, b"text", 0).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
    let file = unlinked_in(dir.path(), "text").unwrap();
    assert!(!seal(&file) && seal(&nameless("text").unwrap()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    unlinked_in(&dir.path().join("missing"), "text").unwrap_err();
}
