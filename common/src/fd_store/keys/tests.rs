use super::*;

#[test]
fn an_absurd_key_costs_nothing() {
    let mut keys = Keys::beside(BTreeSet::from([1, 1 << 40, u64::MAX]));
    assert_eq!([keys.take(), keys.take()], [2, 3]);
}

#[test]
fn a_key_is_used_again_once_the_supervisor_knows() {
    let mut keys = Keys::beside(BTreeSet::from([2, 4]));
    assert_eq!([keys.take(), keys.take(), keys.take()], [1, 3, 5]);
    keys.give_back(2);
    assert_eq!(keys.take(), 6);
    keys.make_available([2, 7]);
    assert_eq!([keys.take(), keys.take()], [2, 7]);
}
