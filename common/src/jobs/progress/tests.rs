use std::time::Instant;

use super::*;

#[test]
fn a_job_that_gets_on_or_computes_does_not_hang() {
    let progress = Progress::default();
    let end = Instant::now() + 3 * HANG;
    progress.note();
    while Instant::now() < end {
        assert!(!progress.is_stalled(), "its thread runs");
    }
    let (handed_out, begun) = std::sync::mpsc::channel();
    let (end, is_over) = std::sync::mpsc::channel::<()>();
    let job = progress.clone();
    progress.hand_out();
    std::thread::sleep(2 * HANG);
    assert!(!progress.is_stalled(), "no thread has begun");
    let thread = std::thread::spawn(move || {
        job.note();
        handed_out.send(()).unwrap();
        is_over.recv().unwrap();
    });
    begun.recv().unwrap();
    std::thread::sleep(2 * HANG);
    assert!(!progress.is_stalled(), "it is looked at twice");
    std::thread::sleep(2 * SECOND_LOOK);
    assert!(progress.is_stalled(), "its thread sleeps");
    progress.end();
    assert!(!progress.is_stalled());
    end.send(()).unwrap();
    thread.join().unwrap();
}
