//! What virtlogd does: a guest's log grows, is rotated, and is complete when virtlogd ends.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tests::wire::LogClient;

use crate::daemon::Daemon;
use crate::failure::{Failure, promised};
use crate::guest::Writer;
use crate::lines::{self, LINE_BYTES};
use crate::role::Role;
use crate::{DEADLINE, PAUSE, title};

/// The size at which a log is rotated. libvirt's own is 2 MiB.
const SIZE_BYTES_MAX: u64 = 128 * 1024;

/// Older parts of a log that are kept, libvirt's own number.
const BACKUPS_MAX: usize = 3;

/// Lines of the guest that is watched: as many as make three older parts.
const ALPHA_LINES: u32 = 10_000;

/// Lines of the guest whose virtlogd is about to end: less than a pipe holds.
const BETA_LINES: u32 = 600;

/// How often the log's files are listed.
const LISTING_PERIOD: Duration = Duration::from_millis(200);

/// Shows it.
pub(crate) fn show(scratch: &Path) -> Result<(), Failure> {
    title("1  virtlogd keeps a guest's log");
    let settings = format!(
        "max_size = {SIZE_BYTES_MAX}\nmax_backups = {BACKUPS_MAX}\nlog_root = \"{}\"\n",
        scratch.display()
    );
    let mut virtlogd = Daemon::start(Role::Virtlogd, scratch, &settings)?;
    println!("virtlogd runs: pid {}, socket {}", virtlogd.pid(), virtlogd.socket().display());
    show_rotation(&mut virtlogd, &Log(scratch.join("alpha.log")))?;
    title("2  virtlogd is told to end, and leaves nothing behind in the pipe");
    show_end(virtlogd, &Log(scratch.join("beta.log")))
}

/// A log and its older parts.
struct Log(PathBuf);

impl Log {
    /// The files there may be: the log itself first, then older and older parts.
    fn paths(&self) -> impl DoubleEndedIterator<Item = PathBuf> {
        let older =
            (0..BACKUPS_MAX).map(|number| PathBuf::from(format!("{}.{number}", self.0.display())));
        std::iter::once(self.0.clone()).chain(older.collect::<Vec<_>>())
    }

    /// Their sizes in bytes; `None` where there is no such file.
    fn sizes(&self) -> Result<Vec<Option<u64>>, Failure> {
        let size = |path| match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::system("looking at a log", error)),
        };
        self.paths().map(size).collect()
    }

    /// All that is kept, oldest first.
    fn content(&self) -> Result<Vec<u8>, Failure> {
        let parts = self.paths().rev().filter(|path| path.exists()).map(fs::read);
        let parts: Result<Vec<_>, _> = parts.collect();
        parts.map(|parts| parts.concat()).map_err(|error| Failure::system("reading a log", error))
    }
}

fn show_rotation(virtlogd: &mut Daemon, log: &Log) -> Result<(), Failure> {
    let mut alpha = Writer::start("alpha", ALPHA_LINES, open(virtlogd, log)?)?;
    println!("Guest alpha runs: pid {}, its output is a pipe made by virtlogd", alpha.pid());
    println!("It writes {ALPHA_LINES} numbered lines of {LINE_BYTES} bytes. A file may have");
    println!("{SIZE_BYTES_MAX} bytes, {BACKUPS_MAX} older parts are kept. On the way virtlogd is");
    println!("upgraded (SIGUSR1). Sizes in bytes:\n");
    watch(virtlogd, &mut alpha, log)?;
    let sizes: Vec<_> = log.sizes()?.into_iter().flatten().collect();
    promised(sizes.len() == 1 + BACKUPS_MAX, "the log was not rotated as often as it should")?;
    promised(sizes.iter().all(|&size| size <= SIZE_BYTES_MAX), "a file is too large")?;
    lines::check("alpha", ALPHA_LINES, &log.content()?)?;
    for path in log.paths() {
        let part = fs::read(&path).map_err(|error| Failure::system("reading a log", error))?;
        promised(part.ends_with(b"\n"), format!("{} ends within a line", path.display()))?;
    }
    println!(
        "\nAll {ALPHA_LINES} lines are there, each once and in order; no line was cut in two."
    );
    Ok(())
}

/// Asks over the socket, as libvirtd would, for the pipe that leads into a log.
fn open(virtlogd: &Daemon, log: &Log) -> Result<File, Failure> {
    let mut client = LogClient::connect(virtlogd.socket())
        .map_err(|error| Failure::system("connecting to virtlogd", error))?;
    let opened = client.open(&log.0).map_err(|error| Failure::refused("opening a log", error))?;
    Ok(opened.pipe)
}

/// Lists the log's files from time to time until all is stored. Half-way virtlogd is upgraded.
fn watch(virtlogd: &mut Daemon, guest: &mut Writer, log: &Log) -> Result<(), Failure> {
    println!("{:>8}{}", "ms", columns(log.paths().map(|path| name(&path))));
    let begin = Instant::now();
    let complete = u64::from(ALPHA_LINES) * LINE_BYTES as u64;
    let mut listed = begin;
    let mut is_upgraded = false;
    loop {
        let (ended, sizes) = (guest.has_ended()?, log.sizes()?);
        let stored: u64 = sizes.iter().flatten().sum();
        let done = ended && stored >= complete;
        if !is_upgraded && stored >= complete / 2 {
            promised(!ended, "the guest was too fast for an upgrade while it writes")?;
            show_upgrade(virtlogd, log)?;
            is_upgraded = true;
        }
        if done || listed.elapsed() >= LISTING_PERIOD {
            listed = Instant::now();
            println!("{:>8}{}", begin.elapsed().as_millis(), columns(sizes.iter().map(size)));
        }
        if done {
            return Ok(());
        }
        promised(
            begin.elapsed() < DEADLINE,
            format!("only {stored} of {complete} bytes have been stored"),
        )?;
        std::thread::sleep(PAUSE);
    }
}

/// The guest writes on while another program takes over.
fn show_upgrade(virtlogd: &mut Daemon, log: &Log) -> Result<(), Failure> {
    let stored = || -> Result<u64, Failure> {
        Ok(log.sizes()?.iter().flatten().sum::<u64>() / LINE_BYTES as u64)
    };
    let (pid, before) = (virtlogd.pid(), stored()?);
    let period = virtlogd.upgrade()?;
    let (begin, at_takeover) = (Instant::now(), stored()?);
    let mut after = at_takeover;
    while after == at_takeover {
        promised(begin.elapsed() < DEADLINE, "the successor stores nothing")?;
        std::thread::sleep(PAUSE);
        after = stored()?;
    }
    println!(
        "{:>8} line {before} is stored, virtlogd is told to execute its successor;\n\
         {:>8} {period:.1?} later that runs, still as pid {pid}; it stores line {after}",
        "", ""
    );
    Ok(())
}

fn columns(cells: impl Iterator<Item = String>) -> String {
    cells.map(|cell| format!("{cell:>13}")).collect()
}

fn size(size: &Option<u64>) -> String {
    size.map_or("-".into(), |size| size.to_string())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lets a guest write while virtlogd does not run, so that all is in the pipe when it has to end.
fn show_end(virtlogd: Daemon, log: &Log) -> Result<(), Failure> {
    let pipe = open(&virtlogd, log)?;
    virtlogd.suspend()?;
    println!("virtlogd was suspended (SIGSTOP), as if the machine were overloaded.");
    Writer::start("beta", BETA_LINES, pipe)?.wait()?;
    let before = log.content()?.len();
    promised(before == 0, format!("a suspended virtlogd stored {before} bytes"))?;
    println!("Guest beta has written {BETA_LINES} lines and ended; its log has {before} bytes.");
    let pid = virtlogd.pid();
    virtlogd.terminate()?;
    virtlogd.resume()?;
    virtlogd.wait()?;
    println!("virtlogd (pid {pid}) was sent SIGTERM, resumed (SIGCONT), and ended with success.");
    let content = log.content()?;
    lines::check("beta", BETA_LINES, &content)?;
    println!("beta's log has {} bytes: all {BETA_LINES} lines, in order.", content.len());
    Ok(())
}
