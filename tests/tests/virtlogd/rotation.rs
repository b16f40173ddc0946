//! virtlogd: where a log is cut, and what becomes of its backups.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tests::harness::{
    Daemon, Subject, backup, eventually, expect_file, expect_missing, size, write,
};

tests::both! { Virtlogd:
    text_without_newlines_is_cut_hard,
    a_cut_goes_behind_the_last_newline_that_fits,
    a_newline_counts_up_to_79_bytes_before_the_limit,
    a_newline_80_bytes_before_the_limit_does_not_count,
    a_file_over_the_limit_is_rotated_before_it_grows,
    a_full_file_waits_for_the_next_byte,
    a_message_over_an_almost_full_file,
    a_message_into_a_half_full_file,
    without_backups_what_is_full_is_dropped,
    backups_beyond_the_number_stay,
    a_limit_of_0_is_none,
    a_guests_pipe_is_cut_by_the_same_rule,
    a_long_stream_keeps_its_end,
    defaults_are_2_mib_and_3_backups,
    a_rotated_log_goes_on_in_a_new_file,
}

fn text_without_newlines_is_cut_hard(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    log.append([b'x'; 450]);
    log.expect_sizes([50, 100, 100]);
    log.expect_no_backup(2);
}

fn a_cut_goes_behind_the_last_newline_that_fits(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    log.append(lines(&[61, 60]));
    log.expect_sizes([60, 61]);
}

fn a_newline_counts_up_to_79_bytes_before_the_limit(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    log.append([lines(&[21]), vec![b'x'; 80]].concat());
    log.expect_sizes([80, 21]);
}

fn a_newline_80_bytes_before_the_limit_does_not_count(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    log.append([lines(&[20]), vec![b'x'; 81]].concat());
    log.expect_sizes([1, 100]);
}

fn a_file_over_the_limit_is_rotated_before_it_grows(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    write(&log.path, [b'o'; 150]);
    log.append("new\n");
    log.expect_sizes([4, 150]);
}

fn a_full_file_waits_for_the_next_byte(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    log.append([b'x'; 100]);
    log.expect_sizes([100]);
    log.expect_no_backup(0);
    log.append("y");
    log.expect_sizes([1, 100]);
}

fn a_message_over_an_almost_full_file(subject: Subject) {
    let log = Log::new(subject, 160, 2);
    write(&log.path, [b'o'; 100]);
    log.append(lines(&[44, 59]));
    log.expect_sizes([59, 144]);
}

fn a_message_into_a_half_full_file(subject: Subject) {
    let log = Log::new(subject, 1024, 2);
    write(&log.path, [b'o'; 768]);
    log.append([b'x'; 512]);
    log.expect_sizes([256, 1024]);
}

fn without_backups_what_is_full_is_dropped(subject: Subject) {
    let log = Log::new(subject, 200, 0);
    log.append([b'x'; 512]);
    log.expect_sizes([112]);
    log.expect_no_backup(0);
}

fn backups_beyond_the_number_stay(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    write(&backup(&log.path, 2), "from a larger setting");
    log.append([b'x'; 450]);
    log.expect_sizes([50, 100, 100]);
    expect_file(&backup(&log.path, 2), "from a larger setting");
}

fn a_limit_of_0_is_none(subject: Subject) {
    let log = Log::new(subject, 0, 2);
    let content = vec![b'x'; 3_000_000];
    log.append(&content);
    expect_file(&log.path, content);
    log.expect_no_backup(0);
}

fn a_guests_pipe_is_cut_by_the_same_rule(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    let mut open = log.daemon.log_client().open(&log.path).unwrap();
    // One write of less than PIPE_BUF comes out of the pipe whole, so C too decides on all of it.
    open.pipe.write_all(&lines(&[61, 60])).unwrap();
    log.expect_sizes([60, 61]);
}

fn a_long_stream_keeps_its_end(subject: Subject) {
    let log = Log::new(subject, 10_000, 3);
    let mut open = log.daemon.log_client().open(&log.path).unwrap();
    let stream: String = (0..10_000).map(|number| format!("line number {number}\n")).collect();
    open.pipe.write_all(stream.as_bytes()).unwrap();
    let whole = || -> String {
        let files = [backup(&log.path, 2), backup(&log.path, 1), backup(&log.path, 0)];
        let parts = files.iter().chain([&log.path]);
        parts.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    };
    eventually("the last line is stored", || whole().ends_with("line number 9999\n"));
    assert!(stream.ends_with(&whole()));
    assert!(whole().len() > 30_000 - 3 * 80);
    for index in 0..3 {
        assert!(size(&backup(&log.path, index)).is_some_and(|bytes| bytes <= 10_000));
    }
    log.expect_no_backup(3);
}

fn defaults_are_2_mib_and_3_backups(subject: Subject) {
    let daemon = subject.start();
    let log = Log { path: daemon.file("a.log"), daemon };
    for _ in 0..5 {
        log.append(vec![b'x'; 2 << 20]);
    }
    log.append("x");
    log.expect_sizes([1, 2 << 20, 2 << 20, 2 << 20]);
    log.expect_no_backup(3);
}

fn a_rotated_log_goes_on_in_a_new_file(subject: Subject) {
    let log = Log::new(subject, 100, 2);
    let mut client = log.daemon.log_client();
    let mut open = client.open(&log.path).unwrap();
    open.pipe.write_all(&[b'x'; 150]).unwrap();
    log.expect_sizes([50, 100]);
    let position = client.position(&log.path).unwrap();
    assert_eq!(position.offset, 50);
    assert_eq!(position.inode, tests::harness::inode(&log.path));
    assert_eq!(open.position.inode, tests::harness::inode(&backup(&log.path, 0)));
}

/// A daemon with these limits, and one log of it.
struct Log {
    daemon: Daemon,
    path: PathBuf,
}

impl Log {
    fn new(subject: Subject, size_bytes_max: u64, backups: u32) -> Self {
        let config = format!("max_size = {size_bytes_max}\nmax_backups = {backups}\n");
        let daemon = subject.start_with(&config);
        Self { path: daemon.file("a.log"), daemon }
    }

    fn append(&self, message: impl AsRef<[u8]>) {
        assert_eq!(self.daemon.log_client().append(&self.path, message), Ok(0));
    }

    /// Waits for these sizes: the log's, and its backups' from number 0 on.
    #[track_caller]
    fn expect_sizes<const N: usize>(&self, wanted: [u64; N]) {
        let found = || self.files(N).iter().map(|path| size(path)).collect::<Vec<_>>();
        let wanted = wanted.map(Some);
        eventually(&format!("sizes {wanted:?}, not {:?}", found()), || found() == wanted);
    }

    #[track_caller]
    fn expect_no_backup(&self, index: u32) {
        expect_missing(&backup(&self.path, index));
    }

    fn files(&self, count: usize) -> Vec<PathBuf> {
        let backups = (0..).map(|index| backup(Path::new(&self.path), index));
        std::iter::once(self.path.clone()).chain(backups).take(count).collect()
    }
}

/// Lines of `x` of these lengths, each with its newline.
fn lines(lengths: &[usize]) -> Vec<u8> {
    lengths.iter().flat_map(|&length| [&vec![b'x'; length - 1][..], b"\n"].concat()).collect()
}
