//! `virtlogctl why`: what keeps a log open, and from growing.

use std::io::Write;
use std::path::Path;

use common::query::{Log, LogState};
use common::tool::{Connect, Failure, Process, Unseen, escaped, time};

use super::find::Name;
use super::list::state;

/// Bits of an fd's flags that tell how it is open, and their value for reading only.
const ACCESS_MODE: u32 = 0o3;
const READ_ONLY: u32 = 0;

/// A process that can write to a pipe, by these fds.
struct Writer {
    process: Process,
    fds: Vec<u32>,
}

/// Tells of each log of this name who can still write to it.
pub(crate) fn why(connect: &Connect, name: &Name, out: &mut impl Write) -> Result<(), Failure> {
    let logs = name.logs(connect)?;
    if logs.is_empty() {
        return Err(name.not_found());
    }
    for log in logs {
        tell(&log, out)?;
    }
    Ok(())
}

fn tell(log: &Log, out: &mut impl Write) -> std::io::Result<()> {
    let (path, domain) = (escaped(&log.path.text()), escaped(&log.domain.text()));
    writeln!(out, "{path}: log of guest '{domain}' ({}), {}", escaped(&log.uuid), state(log))?;
    if log.state != LogState::Ok {
        let reason = log.reason.as_deref().unwrap_or("the reason is unknown");
        let since = log.since_unix_s.map(|since| format!("since {}: ", time(since)));
        writeln!(out, "  {}{}", since.unwrap_or_default(), escaped(reason))?;
    }
    let (writers, unseen) = log.pipe_inode.map(writers).unwrap_or_default();
    for Writer { process, fds } in &writers {
        let fds: Vec<_> = fds.iter().map(u32::to_string).collect();
        writeln!(out, "  {process} can write to it, fd {}", fds.join(", "))?;
    }
    if writers.is_empty() {
        writeln!(
            out,
            "  no process that can be seen here has its pipe open for writing: it has just been closed, is in \
             another pid namespace, or is on its way to another process"
        )?;
    }
    if unseen.0 > 0 { writeln!(out, "  {unseen}") } else { Ok(()) }
}

/// Returns the processes that have a pipe open for writing.
fn writers(inode: u64) -> (Vec<Writer>, Unseen) {
    let target = format!("pipe:[{inode}]");
    let (mut writers, mut unseen) = (Vec::new(), Unseen::default());
    for process in Process::all() {
        let Some(mut fds) = process.fds() else {
            unseen.0 += 1;
            continue;
        };
        fds.retain(|&fd| {
            process.target(fd).as_deref() == Some(Path::new(&target)) && can_write(process, fd)
        });
        writers.extend((!fds.is_empty()).then_some(Writer { process, fds }));
    }
    (writers, unseen)
}

fn can_write(process: Process, fd: u32) -> bool {
    let info = process.fd_info(fd);
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & ACCESS_MODE != READ_ONLY)
}
