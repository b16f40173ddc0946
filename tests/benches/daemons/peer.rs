//! Others that store what a pipe brings: a bare loop, and programs for the purpose.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::harness::backup;

use crate::content::{BACKUPS_MAX, Content, FILE_BYTES_MAX};
use crate::guest::{Flood, flood};
use crate::usage;

/// The bare loop: read 64 KiB, write them, rotate when the file is full.
pub(crate) const LOOP: &str = "loop";

/// Programs that rotate by size.
pub(crate) const PROGRAMS: &[&str] = &["rotatelogs", "s6-log"];

/// As much as a pipe holds.
const READ_BYTES: usize = 65_536;

/// Stores `bytes` in `directory`; returns the CPU time that storing them took, too.
pub(crate) fn run(
    name: &str,
    directory: &Path,
    mut content: Content,
    bytes: usize,
) -> (Flood, Duration) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let pipe = File::from(OwnedFd::from(writer));
    let enough = |written| written >= bytes;
    if name == LOOP {
        let path = directory.join("guest.log");
        let log = path.clone();
        let storing = std::thread::spawn(move || copy(reader, &log));
        let flood = flood(&pipe, &mut content, enough);
        drop(pipe);
        let cpu = storing.join().expect("the loop's thread");
        content.check_log(&path, flood.writes);
        return (flood, cpu);
    }
    let cpu = usage::children_cpu();
    let mut program = command(name, directory).stdin(reader).spawn().expect("starting a peer");
    let flood = flood(&pipe, &mut content, enough);
    drop(pipe);
    assert!(program.wait().expect("waiting for a peer").success(), "{name} failed");
    content.check_directory(directory, flood.writes);
    (flood, usage::children_cpu() - cpu)
}

fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(name);
    match name {
        "rotatelogs" => command.args(["-n", "4"]).arg(directory.join("guest.log")).arg("2M"),
        _ => command.args(["-b", "n4", "s2097152"]).arg(directory),
    };
    command.stdout(Stdio::null());
    command
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
