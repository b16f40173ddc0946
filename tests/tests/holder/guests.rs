//! Guests are processes of their own.

#[test]
#[ignore = "not a test: other tests run it as a process of its own"]
fn stand_in() {
    tests::guest::stand_in();
}
