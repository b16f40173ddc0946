use super::*;

#[test]
fn each_key_has_a_mark_of_its_own() {
    let slots = SlotFile::new("marks").unwrap();
    slots.set(7, [7; SLOT_BYTES]).unwrap();
    slots.set(9, [9; SLOT_BYTES]).unwrap();
    assert_eq!(slots.get(7).unwrap(), [7; SLOT_BYTES]);
    for absent in [8, 10] {
        assert_eq!(slots.get(absent).unwrap(), Slot::default());
    }
    assert!(slots.stamp() < SlotFile::new("marks").unwrap().stamp());
}

#[test]
fn the_stamp_and_other_records_are_no_keys_slots() {
    let slots = SlotFile::new("marks").unwrap();
    let stamp = slots.stamp();
    for invalid in [0, KEY_MAX + 1, u64::MAX] {
        slots.set(invalid, [1; SLOT_BYTES]).unwrap_err();
        slots.get(invalid).unwrap_err();
    }
    slots.set(KEY_MAX, [2; SLOT_BYTES]).unwrap();
    assert_eq!(slots.get(KEY_MAX).unwrap(), [2; SLOT_BYTES]);
    assert_eq!((slots.stamp(), slots.at_risk().unwrap()), (stamp, vec![]));
}

#[test]
fn what_is_at_risk_is_noted_beside_the_marks() {
    let slots = SlotFile::new("marks").unwrap();
    assert_eq!(slots.at_risk().unwrap(), []);
    let target = Some(Target { inode: u64::MAX, size_bytes: 12 });
    let at_risk = AtRisk { round: 7, owner: 3, bytes: 65_536, target };
    let no_more = AtRisk { bytes: 0, owner: u32::MAX, target: None, ..at_risk };
    slots.set_at_risk(9, at_risk).unwrap();
    slots.set_at_risk(KEY_MAX, no_more).unwrap();
    slots.set_at_risk(KEY_MAX + 1, at_risk).unwrap_err();
    assert_eq!(slots.at_risk().unwrap(), [(9, at_risk), (KEY_MAX, no_more)]);
    assert_eq!(slots.get(9).unwrap(), Slot::default());
}
