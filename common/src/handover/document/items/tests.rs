use super::*;

#[test]
fn what_is_shown_is_written_as_what_was_read() {
    let mut read = Items::Read(vec![1, 2, 3]);
    let mut shown = Items::lazy(|sink| (1..4).for_each(sink));
    for items in [&mut read, &mut shown] {
        items.change(|item| *item += 4);
        assert_eq!(serde_json::to_string(items).unwrap(), "[5,6,7]");
    }
    assert_eq!(read.into_vec(), shown.into_vec());
}
