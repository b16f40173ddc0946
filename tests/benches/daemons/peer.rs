//! Others that store what a pipe brings: a bare loop, and programs for the purpose.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::harness::{backup, left_out};

use crate::content::{BACKUPS_MAX, Content, FILE_BYTES_MAX};
use crate::guest::{Flood, flood};
use crate::table::Contender;
use crate::usage;

/// The bare loop: read 64 KiB, write them, rotate when the file is full.
const LOOP: &str = "loop";

/// Programs that rotate by size.
const PROGRAMS: [&str; 3] = ["rotatelogs", "s6-log", "svlogd"];

/// As much as a pipe holds.
const READ_BYTES: usize = 65_536;

/// A program that uses no CPU for so long waits for its input.
const IDLE: Duration = Duration::from_millis(20);

/// How a peer did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) flood: Flood,
    /// Its CPU time, without that of its start.
    pub(crate) cpu: Duration,
    /// From the first write until everything was stored.
    pub(crate) wall: Duration,
}

/// The loop, and the programs that are installed; says which are not.
pub(crate) fn all() -> Vec<Contender> {
    let programs = PROGRAMS.into_iter().filter(|name| is_installed(name));
    [LOOP].into_iter().chain(programs).map(Contender::Peer).collect()
}

/// Stores `bytes` in `directory`, in files of the size and number that the daemons have.
pub(crate) fn run(name: &'static str, directory: &Path, content: Content, bytes: usize) -> Run {
    if name == LOOP {
        run_loop(directory, content, bytes)
    } else {
        run_program(name, directory, content, bytes)
    }
}

fn run_loop(directory: &Path, mut content: Content, bytes: usize) -> Run {
    let (reader, writer) = io::pipe().expect("a pipe");
    let pipe = File::from(OwnedFd::from(writer));
    let path = directory.join("guest.log");
    let log = path.clone();
    let storing = std::thread::spawn(move || copy(reader, &log));
    let started = Instant::now();
    let flood = flood(&pipe, &mut content, |written| written >= bytes);
    drop(pipe);
    let cpu = storing.join().expect("the loop's thread");
    let wall = started.elapsed();
    content.check_log(&path, flood.writes);
    Run { flood, cpu, wall }
}

fn run_program(name: &str, directory: &Path, mut content: Content, bytes: usize) -> Run {
    let (reader, writer) = io::pipe().expect("a pipe");
    let pipe = File::from(OwnedFd::from(writer));
    let others = usage::children_cpu();
    let mut program = command(name, directory).stdin(reader).spawn().expect("starting a peer");
    let start = cpu_when_idle(program.id());
    let started = Instant::now();
    let flood = flood(&pipe, &mut content, |written| written >= bytes);
    drop(pipe);
    assert!(program.wait().expect("waiting for a peer").success(), "{name} failed");
    let wall = started.elapsed();
    content.check_directory(directory, flood.writes);
    Run { flood, cpu: usage::children_cpu().saturating_sub(others + start), wall }
}

fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(name);
    let size = FILE_BYTES_MAX;
    match name {
        "rotatelogs" => {
            let files = (BACKUPS_MAX + 1).to_string();
            command.args(["-n", &files]).arg(directory.join("guest.log")).arg(format!("{size}B"))
        }
        "s6-log" => {
            command.args(["-b", &format!("n{BACKUPS_MAX}"), &format!("s{size}")]).arg(directory)
        }
        _ => {
            let config = format!("s{size}\nn{BACKUPS_MAX}\n");
            fs::write(directory.join("config"), config).expect("writing a configuration");
            command.arg(directory)
        }
    };
    command.stdout(Stdio::null());
    command
}

fn cpu_when_idle(pid: u32) -> Duration {
    let mut before = Duration::ZERO;
    loop {
        std::thread::sleep(IDLE);
        let now = usage::process_cpu(pid);
        if now == before {
            return now;
        }
        before = now;
    }
}

fn copy(mut reader: PipeReader, path: &Path) -> Duration {
    let cpu = usage::thread_cpu();
    let mut buffer = vec![0; READ_BYTES];
    let (mut file, mut room) = (File::create(path).expect("a log file"), FILE_BYTES_MAX);
    loop {
        let count = reader.read(&mut buffer).expect("reading a pipe");
        let (now, then) = buffer[..count].split_at(count.min(room));
        file.write_all(now).expect("writing a log file");
        room -= now.len();
        if count == 0 {
            return usage::thread_cpu() - cpu;
        }
        if room == 0 {
            file = rotate(path);
            file.write_all(then).expect("writing a log file");
            room = FILE_BYTES_MAX - then.len();
        }
    }
}

fn rotate(path: &Path) -> File {
    for index in (1..BACKUPS_MAX).rev() {
        // There may be none yet.
        fs::rename(backup(path, index - 1), backup(path, index)).ok();
    }
    fs::rename(path, backup(path, 0)).expect("rotating a log file");
    File::create(path).expect("a log file")
}

fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    if !found {
        left_out(name, "it is not installed");
    }
    found
}
