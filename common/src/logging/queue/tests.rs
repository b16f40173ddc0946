use std::sync::mpsc;
use std::thread;

use super::*;

#[test]
fn what_does_not_fit_is_lost_behind_what_does_until_the_writer_has_heard_of_it() {
    let queue = Queue::default();
    let line = format!("{}\n", "x".repeat(QUEUE_BYTES_MAX / 2 - 1));
    [&line, &line, "lost\n", ""].into_iter().for_each(|line| queue.push(line));
    assert_eq!(queue.pending(), 4);
    let batch = queue.take().unwrap();
    assert_eq!((batch.lines.len(), batch.lost), (QUEUE_BYTES_MAX, 2));
    queue.push("more\n");
    assert!(!queue.is_written());
    queue.put_down(batch);
    assert_eq!(queue.take().unwrap().lines, b"more\n");
}

#[test]
fn the_number_of_messages_is_limited_as_well() {
    let queue = Queue::default();
    (0..QUEUE_MESSAGES_MAX + 3).for_each(|_| queue.push("\n"));
    let batch = queue.take().unwrap();
    assert_eq!((batch.lines.len(), batch.lost), (QUEUE_MESSAGES_MAX, 3));
    assert!(queue.take().is_none());
}

#[test]
fn a_call_that_does_not_end_hangs_and_nobody_waits_for_it() {
    let queue = Queue::default();
    let (go_on, wait) = mpsc::channel::<()>();
    let writer = {
        let queue = queue.clone();
        thread::spawn(move || queue.call(|| wait.recv().unwrap()))
    };
    while !queue.hangs() {
        queue.push("line\n");
    }
    go_on.send(()).unwrap();
    writer.join().unwrap();
    assert!(!queue.hangs());
}

#[test]
fn while_it_is_held_no_call_begins_and_no_lines_are_taken() {
    let queue = Queue::default();
    queue.push("line\n");
    queue.hold();
    assert!(queue.call(|| ()).is_none());
    assert!(queue.wait_for_lines(Vec::new()).is_none());
    queue.release();
    assert!(queue.call(|| ()).is_some());
    assert_eq!(queue.wait_for_lines(Vec::new()).unwrap().lines, b"line\n");
}

#[test]
fn what_is_put_back_comes_first() {
    let queue = Queue::default();
    queue.push("1\n");
    queue.push("2\n");
    let batch = queue.take().unwrap();
    queue.push("3\n");
    queue.put_back(b"2\n", 1);
    queue.put_down(batch);
    assert!(!queue.is_written());
    assert_eq!(queue.take().unwrap().lines, b"2\n3\n");
}
