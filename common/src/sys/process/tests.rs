use super::*;
use std::process::Command;

#[test]
fn only_children_of_the_thread_are_reaped() {
    let theirs = std::thread::spawn(|| {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        child.wait().unwrap().code()
    });
    let mut own = Command::new("true").spawn().unwrap();
    while exists(own.id().cast_signed()) {
        assert!(!reap_children_of_thread());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(own.wait().is_err(), "there is nothing left to wait for");
    assert_eq!(theirs.join().unwrap(), Some(3));
}
