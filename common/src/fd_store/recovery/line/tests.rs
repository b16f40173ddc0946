use super::*;
use crate::handover::document::Target;

const TARGET: Target = Target { inode: 3, size_bytes: 4 };

fn noted(order: u64, left_bytes: u64) -> Line {
    Line { order, pipe_inode: 1, target: TARGET, left_bytes, text: b"line".to_vec() }
}

/// Makes a log as the journal has it.
fn log(line_order: u64, unfinished: &str, loss_bytes: u64) -> PrivateLog {
    let loss = Loss { bytes: loss_bytes, first_unix_us: 1, last_unix_us: 2 };
    PrivateLog {
        line_order: (line_order > 0).then_some(line_order),
        unfinished_line: Some(hex(unfinished.as_bytes())),
        loss: (loss_bytes > 0).then_some(loss),
        in_writing: Some((10, TARGET)),
        ..PrivateLog::default()
    }
}

fn loss_bytes(log: &PrivateLog) -> Option<u64> {
    log.loss.as_ref().map(|loss| loss.bytes)
}

fn has_line(log: &PrivateLog) -> bool {
    log.unfinished_line == Some(hex(b"line")) && log.line_target == Some(TARGET)
}

#[test]
fn a_line_that_the_journal_does_not_know_tells_of_its_loss() {
    for (left_bytes, loss) in [(0, None), (5, Some(5))] {
        let mut log = log(0, "", 100);
        resume(&mut log, &noted(7, left_bytes));
        assert!(has_line(&log));
        assert_eq!((loss_bytes(&log), log.line_order), (loss, Some(7)));
        assert_eq!(log.in_writing, None);
        assert!(log.loss.is_none_or(|loss| loss.first_unix_us == 1), "it began later");
    }
}

#[test]
fn a_loss_that_only_the_note_knows_is_one() {
    let mut log = log(6, "rest", 0);
    resume(&mut log, &noted(7, 5));
    assert!(has_line(&log) && loss_bytes(&log) == Some(5));
}

#[test]
fn of_a_line_that_the_journal_knows_the_note_knows_where_it_begins() {
    let mut log = log(7, "ne", 50);
    resume(&mut log, &noted(7, 5));
    assert!(has_line(&log) && log.in_writing.is_some());
    assert_eq!(loss_bytes(&log), Some(50));
}

#[test]
fn a_line_that_the_journal_knows_to_be_written_is() {
    for order in [7, 8] {
        let mut log = log(order, "", 50);
        resume(&mut log, &noted(7, 0));
        assert_eq!((log.line_target, loss_bytes(&log)), (None, Some(50)));
        assert_eq!(log.unfinished_line, Some(String::new()));
    }
}
