use super::*;
use crate::handover::document::Log;

fn change(key: u64, path: Option<&str>) -> Change {
    let log = path.map(|path| Log { path: Some(path.into()), ..Log::default() });
    Change { key: Some(key), log, ..Change::default() }
}

fn journal() -> Journal {
    let mut journal = Journal::new(4).unwrap();
    journal.begin(&Document::default()).unwrap();
    journal.complete().unwrap();
    journal
}

/// Returns the content that a successor reads: the complete memfd with the highest number.
fn contents(journal: &Journal) -> JournalContents {
    let mut sheets = [&journal.current, &journal.next];
    sheets.sort_by_key(|sheet| std::cmp::Reverse(sheet.number));
    sheets.into_iter().find_map(|sheet| read(&sheet.file).unwrap()).unwrap()
}

fn paths(journal: &Journal) -> Vec<(u64, Option<String>)> {
    let path = |change: Change| change.log.and_then(|log| log.path);
    contents(journal).changes.into_iter().map(|(key, change)| (key, path(change))).collect()
}

#[test]
fn the_latest_change_of_an_item_counts() {
    let mut journal = journal();
    for (key, path) in [(1, Some("/a")), (2, Some("/b")), (1, Some("/c")), (2, None)] {
        assert!(!journal.note(&change(key, path)).unwrap());
    }
    assert_eq!(paths(&journal), [(1, Some("/c".into())), (2, None)]);
    assert!(journal.has(1) && !journal.has(2));
}

#[test]
fn what_was_cut_off_is_not_there() {
    let mut journal = journal();
    journal.note(&change(1, Some("/a"))).unwrap();
    let whole = journal.lines.end;
    journal.note(&change(1, Some("/b"))).unwrap();
    for len in whole..journal.lines.end {
        journal.current.file.set_len(len).unwrap();
        assert_eq!(paths(&journal), [(1, Some("/a".into()))], "{len}");
    }
    journal.current.file.set_len(20).unwrap();
    assert!(read(&journal.current.file).unwrap().is_none());
}

#[test]
fn renewing_keeps_what_counts_in_both_memfds_in_turn() {
    let mut journal = journal();
    for key in 0..3000 {
        journal.note(&change(key, Some("/a/path/of/some/length"))).unwrap();
        journal.note(&change(key, (key % 3 > 0).then_some("/b/path"))).unwrap();
    }
    let before: Vec<_> = paths(&journal).into_iter().filter(|(_, path)| path.is_some()).collect();
    for _ in 0..3 {
        let stale = journal.lines.end;
        journal.renew(&Document::default()).unwrap();
        assert!(journal.lines.end <= stale);
        assert_eq!(paths(&journal), before);
        assert_eq!(journal.next.file.metadata().unwrap().len(), 0);
    }
    assert_eq!(before.len(), 2000);
}

#[test]
fn a_kill_at_any_moment_of_a_renewal_leaves_all() {
    let mut journal = journal();
    journal.note(&change(1, Some("/a"))).unwrap();
    journal.note(&change(2, Some("/b"))).unwrap();
    let all = paths(&journal);
    for _ in 0..2 {
        journal.begin(&Document::default()).unwrap();
        assert_eq!(paths(&journal), all, "begun");
        journal.copy_lines().unwrap();
        assert_eq!(paths(&journal), all, "copied");
        let header = journal.draft.as_ref().unwrap().header.clone();
        for len in 0..header.len() {
            journal.next.file.write_all_at(&header.as_bytes()[..len], 0).unwrap();
            assert_eq!(paths(&journal), all, "{len} bytes of the header");
        }
        journal.next.file.write_all_at(header.as_bytes(), 0).unwrap();
        assert_eq!(paths(&journal), all, "both are complete");
        journal.complete().unwrap();
        assert_eq!(paths(&journal), all);
    }
}

#[test]
fn a_renewal_is_due_when_there_is_more_stale_than_live() {
    let mut journal = journal();
    let notes = (1..).find(|_| journal.note(&change(1, Some("/a"))).unwrap());
    assert!(notes.is_some() && journal.lines.end > STALE_BYTES_MIN);
    journal.renew(&Document::default()).unwrap();
    assert!(!journal.note(&change(1, Some("/a"))).unwrap());
}

#[test]
fn memfds_of_a_predecessor_say_the_same_until_the_next_is_complete() {
    let mut first = journal();
    first.note(&change(1, Some("/a"))).unwrap();
    for renewed in [false, true] {
        if renewed {
            first.renew(&Document::default()).unwrap();
        }
        let fds = |journal: &Journal| {
            journal.fds().map(|(number, fd)| (number, fd.try_clone_to_owned().unwrap())).collect()
        };
        let mut second = Journal::adopt(fds(&first)).unwrap();
        assert_eq!(second.current.number, first.current.number);
        second.begin(&Document::default()).unwrap();
        second.note(&change(2, Some("/b"))).unwrap();
        assert_eq!(paths(&second), [(1, Some("/a".into()))]);
        second.complete().unwrap();
        assert_eq!(paths(&second), [(2, Some("/b".into()))]);
        first = journal();
        first.note(&change(1, Some("/a"))).unwrap();
    }
}

#[test]
fn a_journal_of_one_memfd_gets_another() {
    let mut old = journal();
    old.note(&change(1, Some("/a"))).unwrap();
    let only = old.current.file.try_clone().unwrap();
    let adopted = Journal::adopt(vec![(7, only.into())]).unwrap();
    assert_eq!((adopted.current.number, adopted.next.number), (7, 8));
    assert_eq!(paths(&adopted), [(1, Some("/a".into()))]);
}

#[test]
fn an_unfinished_memfd_alone_gets_another_with_a_number_of_its_own() {
    let mut old = Journal::new(4).unwrap();
    old.begin(&Document::default()).unwrap();
    let only = old.next.file.try_clone().unwrap();
    let adopted = Journal::adopt(vec![(7, only.into())]).unwrap();
    assert_eq!((adopted.current.number, adopted.next.number), (8, 7));
}

#[test]
fn nothing_is_recorded_without_a_header_in_front() {
    let mut journal = Journal::new(4).unwrap();
    let error = journal.note(&change(1, Some("/a"))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    journal.begin(&Document::default()).unwrap();
    journal.note(&change(1, Some("/a"))).unwrap();
    journal.complete().unwrap();
    assert_eq!(paths(&journal), [(1, Some("/a".into()))]);
}

#[test]
fn a_record_that_readers_would_not_reach_is_refused() {
    let mut journal = journal();
    let begin = journal.lines.end;
    journal.note(&change(1, Some("/a"))).unwrap();
    let record_bytes = journal.lines.end - begin;
    journal.lines.end = BYTES_MAX - record_bytes + 1;
    let error = journal.note(&change(2, Some("/a"))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert!(!journal.has(2));
    journal.lines.end = BYTES_MAX - record_bytes;
    journal.note(&change(2, Some("/a"))).unwrap();
    assert!(journal.has(2));
}
