use super::super::owner::Process;
use super::*;

#[test]
fn the_latest_word_on_each_ending_counts() {
    let ending = |pid, inode, deadline_boot_ms| {
        let process = Some(Process { inode: Some(inode), ..Process::default() });
        let guest = Some(Holder { pid: Some(pid), process, ..Holder::default() });
        Ending { guest, deadline_boot_ms }
    };
    let begun = vec![ending(1, 10, Some(5)), ending(2, 20, Some(6))];
    let before = PrivateLockspace { endings: Some(begun), ..PrivateLockspace::default() };
    let later = vec![ending(1, 10, None), ending(1, 11, Some(7)), ending(3, 30, None)];
    let left = before.with_later(later).endings.unwrap();
    let left: Vec<_> = left.iter().map(|ending| ending.deadline_boot_ms).collect();
    assert_eq!(left, [Some(7), Some(6)]);
    let over = PrivateLockspace::default().with_later(vec![ending(1, 10, None)]);
    assert!(over.endings.is_none());
}
