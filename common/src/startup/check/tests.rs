use super::*;

#[test]
fn the_other_daemons_document_is_told_from_ones_own() {
    let document = |text| serde_json::from_str::<Document<'_>>(text).unwrap();
    let own = document(r#"{"daemon": {"servers": {"admin": {}, "virtlogd": {}}}}"#);
    assert_eq!(other_daemon(&own, "virtlogd"), None);
    assert_eq!(other_daemon(&own, "virtlockd"), Some("virtlogd"));
    let bare = document(r#"{"daemon": {"servers": {"admin": {}}}}"#);
    assert_eq!(other_daemon(&bare, "virtlockd"), None);
    assert_eq!(other_daemon(&document("{}"), "virtlockd"), None);
}
