use super::*;
use crate::fd_store::slots::AtRisk;

fn line(order: u64, text: &str) -> Line {
    let target = Target { inode: 7, size_bytes: u64::MAX };
    Line { order, pipe_inode: 5, target, left_bytes: 3, text: text.into() }
}

#[test]
fn each_key_has_a_line_of_its_own() {
    let slots = SlotFile::new("slots").unwrap();
    assert_eq!(slots.line(4).unwrap(), None);
    slots.set_line(4, &line(1, "a long line\n")).unwrap();
    slots.set_line(4, &line(2, "a line\n")).unwrap();
    slots.set_line(KEY_MAX, &line(3, &"x".repeat(LINE_BYTES - HEAD_BYTES))).unwrap();
    assert_eq!(slots.line(4).unwrap(), Some(line(2, "a line\n")));
    assert_eq!(slots.line(KEY_MAX).unwrap().unwrap().text.len(), LINE_BYTES - HEAD_BYTES);
    for absent in [3, 5, KEY_MAX + 1] {
        assert_eq!(slots.line(absent).unwrap(), None);
    }
}

#[test]
fn what_does_not_fit_is_not_noted() {
    let slots = SlotFile::new("slots").unwrap();
    slots.set_line(1, &line(1, &"x".repeat(LINE_BYTES))).unwrap_err();
    slots.set_line(KEY_MAX + 1, &line(1, "")).unwrap_err();
    assert_eq!(slots.line(1).unwrap(), None);
}

#[test]
fn lines_are_clear_of_other_marks() {
    let slots = SlotFile::new("slots").unwrap();
    let at_risk = AtRisk { round: 1, owner: 2, bytes: 3, target: None };
    slots.set_at_risk(KEY_MAX, at_risk).unwrap();
    slots.set_line(0, &line(9, "text")).unwrap();
    assert_eq!(slots.at_risk().unwrap(), [(KEY_MAX, at_risk)]);
    assert_eq!(slots.line(0).unwrap(), Some(line(9, "text")));
}
