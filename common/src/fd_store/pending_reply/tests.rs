use super::*;

#[test]
fn marks_say_what_they_were_made_of() {
    let answer = PendingReply::Answer(ReplyTo::from_words([0x8665_6b70, 1, u32::MAX, 9]));
    for pending in [PendingReply::Nothing, PendingReply::Unknown, answer] {
        assert_eq!(PendingReply::from_slot(pending.to_slot()), pending);
    }
    assert_eq!(PendingReply::from_slot(Slot::default()), PendingReply::Nothing);
}
