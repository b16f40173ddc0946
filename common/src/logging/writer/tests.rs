use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::super::queue::QUEUE_BYTES_MAX;
use super::super::stream::LogFile;
use super::*;

const SOON: Duration = Duration::from_secs(10);

fn log(path: &Path) -> Stream {
    Stream::File(LogFile { path: path.to_owned(), makes_directory: false, file: None })
}

fn fifo(dir: &Path) -> (PathBuf, File) {
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = reader(&path);
    (path, reader)
}

fn reader(path: &Path) -> File {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

/// The next lines, at least so many.
fn lines(reader: &mut File, count: u64) -> Vec<String> {
    lines_within(SOON, reader, count).expect("the lines come")
}

fn lines_within(period: Duration, reader: &mut File, count: u64) -> Option<Vec<String>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + period;
    while super::count(&bytes) < count || !bytes.ends_with(b"\n") {
        match reader.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => thread::sleep(Duration::from_millis(1)),
        }
        if Instant::now() >= deadline {
            return None;
        }
    }
    Some(String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect())
}

/// Returns the number of lost messages that a line reports.
fn lost(line: &str) -> Option<usize> {
    let count = line.strip_suffix(" log messages could not be written here and are lost")?;
    count.rsplit_once(" : ")?.1.parse().ok()
}

#[test]
fn a_reader_that_is_behind_gets_everything_in_order_or_is_told_how_much_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut reader) = fifo(dir.path());
    let queue = Queue::default();
    assert!(Writer::new(queue.clone(), log(&path)).start().is_ok());
    let pushed = 3 * QUEUE_BYTES_MAX / 100;
    (0..pushed).for_each(|number| queue.push(&format!("{number:099}\n")));
    let (mut next, mut losses) = (0, 0);
    while next < pushed {
        for line in lines(&mut reader, 1) {
            match lost(&line) {
                Some(lost) => (next, losses) = (next + lost, losses + 1),
                None => {
                    assert_eq!(line.parse::<usize>().unwrap(), next);
                    next += 1;
                }
            }
        }
    }
    assert!(next == pushed && losses > 0, "{next} of {pushed}");
    assert!(queue.wait_until_written(Instant::now() + SOON));
    assert_eq!(queue.pending(), 0);
    queue.close();
    assert!(queue.wait_until_over(Instant::now() + SOON));
}

#[test]
fn what_cannot_be_written_is_told_of_before_what_can() {
    let dir = tempfile::tempdir().unwrap();
    let (path, gone) = fifo(dir.path());
    let queue = Queue::default();
    let mut stream = log(&path);
    stream.open().unwrap();
    let mut writer = Writer::new(queue.clone(), stream);
    drop(gone);
    for pending in 1..=2 {
        queue.push("nobody reads this\n");
        writer.write_waiting();
        assert_eq!(queue.pending(), pending);
    }
    let mut reader = reader(&path);
    queue.push("line\n");
    writer.write_waiting();
    let lines = lines(&mut reader, 2);
    assert_eq!((lost(&lines[0]), lines[1].as_str()), (Some(2), "line"), "{lines:?}");
    assert_eq!(queue.pending(), 0);
}

#[test]
fn a_line_that_was_cut_is_ended_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut reader) = fifo(dir.path());
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let queue = Queue::default();
    let mut stream = log(&path);
    stream.open().unwrap();
    let mut writer = Writer::new(queue.clone(), stream);
    queue.push(&format!("{}\n", "x".repeat(6000)));
    writer.write_waiting();
    let mut cut = [0; 4096];
    reader.read_exact(&mut cut).unwrap();
    queue.push("line\n");
    writer.write_waiting();
    let lines = lines(&mut reader, 3);
    assert_eq!((lines[0].as_str(), lost(&lines[1]), lines[2].as_str()), ("", Some(1), "line"));
}

#[test]
fn what_an_earlier_output_has_to_write_comes_first() {
    const ATTEMPTS: usize = 20;
    let lines = (0..ATTEMPTS).find_map(|_| lines_of_two_outputs());
    let lines = lines.expect("an attempt is in time");
    let numbers: Vec<usize> = lines.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..2010).collect::<Vec<_>>());
}

/// The lines, unless they take longer than a closed output [has](FLUSH_PERIOD).
fn lines_of_two_outputs() -> Option<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut reader) = fifo(dir.path());
    let (earlier, later) = (Queue::default(), Queue::default());
    let mut writers = [&earlier, &later].map(|queue| Writer::new(queue.clone(), log(&path)));
    writers[1].follow(earlier.clone());
    (0..2000).for_each(|number| earlier.push(&format!("{number:099}\n")));
    (2000..2010).for_each(|number| later.push(&format!("{number:099}\n")));
    let [first, second] = writers;
    assert!(second.start().is_ok());
    assert!(first.start().is_ok());
    earlier.close();
    lines_within(FLUSH_PERIOD, &mut reader, 2010)
}

#[test]
fn a_file_that_cannot_be_opened_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made later/log");
    let queue = Queue::default();
    assert!(Writer::new(queue.clone(), log(&path)).start().is_ok());
    queue.push("lost\n");
    assert!(queue.wait_until_written(Instant::now() + SOON));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    queue.push("line\n");
    assert!(queue.wait_until_written(Instant::now() + SOON));
    let said = std::fs::read_to_string(path).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((lost(lines[0]), &lines[1..]), (Some(1), &["line"][..]));
}
