use std::process::Command;

use super::*;

#[test]
fn the_end_of_a_process_is_seen_at_its_stand_in() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id().cast_signed();
    let (first, other) = (stand_in(pid).unwrap(), stand_in(pid).unwrap());
    let copy = first.try_clone().unwrap();
    assert_eq!((number(&copy), number(&other)), (Some(pid), Some(pid)));
    assert!(!has_ended(&copy));
    drop(other);
    child.kill().unwrap();
    let patience = Duration::from_secs(20);
    assert!(pipe::wait_for_end(&copy, patience), "a zombie has ended");
    assert_eq!(number(&first), None);
    child.wait().unwrap();
    let error = stand_in(pid).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ESRCH as i32));
    assert_eq!(stand_in(0).unwrap_err().raw_os_error(), Some(Errno::EINVAL as i32));
}

#[test]
fn what_ends_while_nobody_looks_is_seen_later() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let fd = stand_in(child.id().cast_signed()).unwrap();
    let resting = [rest(), rest()];
    while watch().has_thread {
        process::pause(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!pipe::wait_for_end(&fd, 2 * PERIOD));
    drop(resting);
    assert!(pipe::wait_for_end(&fd, Duration::from_secs(20)));
}

#[test]
fn whoever_has_the_number_later_is_another() {
    let own = std::process::id().cast_signed();
    let fd = stand_in(own).unwrap();
    let (_, inode) = fd::device_and_inode(&fd).unwrap();
    let mut watch = watch();
    let found = watch.processes.iter_mut().find(|process| process.inode == inode).unwrap();
    found.start += 1;
    drop(watch);
    assert!(has_ended(&fd) && number(&fd).is_none(), "at once");
    assert!(pipe::wait_for_end(&fd, Duration::from_secs(20)));
}
