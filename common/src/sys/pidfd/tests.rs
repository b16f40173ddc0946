use super::super::pid_namespace::own_depth;
use super::super::process;
use super::*;
use std::process::{Child, Command};

fn sleep() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

#[test]
fn a_process_has_its_numbers_until_it_is_reaped() {
    let mut child = sleep();
    let number = child.id().cast_signed();
    let pidfd = open(number).unwrap();
    assert_eq!(numbers(&pidfd).unwrap().last(), Some(&number));
    assert_eq!(numbers(&pidfd).unwrap().len(), own_depth().unwrap());
    assert!(process::exists(number));
    assert_eq!(Some(namespace(&pidfd).unwrap()), own_namespace());
    if let Ok(asked) = ask_namespace(&pidfd) {
        assert_eq!(fstat(asked).unwrap().st_ino, own_namespace().unwrap());
    } else {
        assert!(!is_at_least_6_11(), "the kernel is to be asked in the right way");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(numbers(&pidfd).unwrap().is_empty() && !process::exists(number));
}

#[test]
fn two_processes_differ_in_inode_or_start_time() {
    let mut children = [sleep(), sleep()];
    let pidfds = [0, 1].map(|index| open(children[index].id().cast_signed()).unwrap());
    let inodes = pidfds.each_ref().map(inode);
    assert!(inodes[0].is_none() || inodes[0] != inodes[1]);
    assert_eq!(inode(&pidfds[0]), inodes[0]);
    assert_eq!(inode(std::io::stdin()), None);
    let start = start_time(&pidfds[0]).unwrap();
    assert!(start > 0 && process::start_time(1).unwrap() <= start);
    process::start_time(0).unwrap_err();
    children.iter_mut().for_each(|child| drop((child.kill(), child.wait())));
}

#[test]
fn a_pidfd_signals_its_process_and_shows_its_end() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pidfd = open(child.id().cast_signed()).unwrap();
    send_signal(&pidfd, Signal::SIGTERM).unwrap();
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, PollTimeout::from(5000_u16)).unwrap(), 1);
    child.wait().unwrap();
    assert!(send_signal(&pidfd, Signal::SIGTERM).is_err());
}

#[test]
fn there_is_no_process_0() {
    assert!(open(0).is_err());
}

#[test]
fn a_process_that_may_be_signalled_is_within_reach() {
    let mut child = sleep();
    let pidfd = open(child.id().cast_signed()).unwrap();
    assert!(is_within_reach(&pidfd));
    assert_eq!(start_time(&pidfd).unwrap(), process::start_time(child.id().cast_signed()).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_within_reach(&pidfd));
    start_time(&pidfd).unwrap_err();
}

fn is_at_least_6_11() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(11))
}
