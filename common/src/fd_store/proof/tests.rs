use super::*;

#[test]
fn what_a_predecessor_has_removed_is_passed_on_until_the_supervisor_has_heard_it() {
    let (mut proof, mut notify) = (Proof::default(), Notify::default());
    proof.remove_again(&mut notify, &["c2".to_owned()]);
    assert_eq!(proof.removed().collect::<Vec<_>>(), ["c2"]);
    proof.start_over();
    assert_eq!(proof.removed().collect::<Vec<_>>(), ["c2"]);
}
