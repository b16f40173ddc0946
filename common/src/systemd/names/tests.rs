use super::*;

#[test]
fn there_is_room_for_so_many_bytes() {
    let mut names = Names::default();
    let most = Names::BYTES_MAX / 4;
    assert!(names.add("abc", most));
    assert!(!names.add("d", 1) && !names.counts.contains_key("d"));
    names.take("abc", 1);
    assert!(names.add("d", 2));
    assert!(names.take_all("abc") && !names.take_all("abc"));
    names.add_stored("d");
    assert_eq!((names.bytes, names.fds()), (6, 3));
    names.take("d", 9);
    assert_eq!((names.bytes, names.fds(), names.counts.len()), (0, 0, 0));
}

#[test]
fn names_are_what_systemd_accepts() {
    for name in ["a", "log 1/x", &"n".repeat(255)] {
        assert!(Names::is_valid(name), "{name}");
    }
    for name in ["", "a:b", "a\n", "\u{e4}", &"n".repeat(256), "virtlogd.socket"] {
        assert!(!Names::is_valid(name), "{name}");
    }
}
