//! `virtlogctl cat`: a log across its rotations.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read, Write, stdout};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use common::tool::{Connect, Failure, escaped};

use crate::find::Name;
use crate::parts::Parts;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 65_536;

/// Log, and the part of it to be printed.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    name: Name,
    /// Print the last N bytes only
    #[arg(long, value_name = "N", conflicts_with_all = ["lines", "all"])]
    bytes: Option<u64>,
    /// Print the last N lines only
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "all")]
    lines: Option<u64>,
    /// Print everything that there is; the default
    #[arg(long)]
    all: bool,
}

/// Prints a log. A path is read without asking the daemon, so that closed logs can be, too.
pub(crate) fn cat(
    connect: &Connect,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let path = match options.name.path() {
        Some(path) => path.to_owned(),
        None => path_of(connect, &options.name)?,
    };
    let failed = |error| failure(&path, &error);
    let parts = Parts::open(&path).map_err(failed)?;
    let start = match (options.bytes, options.lines) {
        (Some(bytes), _) => parts.len().saturating_sub(bytes),
        (None, Some(lines)) => parts.start_of_lines(lines).map_err(failed)?,
        (None, None) => 0,
    };
    let reader = parts.from(start).map_err(failed)?;
    if stdout().is_terminal() { copy_shown(reader, &path, out) } else { copy(reader, &path, out) }
}

/// Returns the path of the only log of a guest.
fn path_of(connect: &Connect, name: &Name) -> Result<PathBuf, Failure> {
    let logs = name.logs(connect)?;
    let paths: Vec<_> = logs.iter().map(|log| Path::new(OsStr::from_bytes(&log.path.0))).collect();
    match paths[..] {
        [] => Err(name.not_found()),
        [path] => Ok(path.to_owned()),
        [..] => {
            let paths = paths.iter().map(|path| escaped(&path.to_string_lossy()));
            let paths: Vec<_> = paths.collect();
            Err(Failure::Other(format!(
                "there are several logs of that name, give a path: {}",
                paths.join(" ")
            )))
        }
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{}: {}", escaped(&path.to_string_lossy()), error);
    if error.kind() == io::ErrorKind::NotFound {
        Failure::NotFound(text)
    } else {
        Failure::Other(text)
    }
}

fn copy(mut reader: impl Read, path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    each_block(&mut reader, path, |block| out.write_all(block))
}

/// Copies text to a terminal, which a guest must not control.
fn copy_shown(mut reader: impl Read, path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let mut before = 0;
    each_block(&mut reader, path, |block| {
        block.iter().try_for_each(|&byte| {
            // The first byte of U+0080 to U+009F in UTF-8, which control a terminal as well.
            let is_after_c2 = std::mem::replace(&mut before, byte) == 0xc2;
            match byte {
                0x80..=0x9f if is_after_c2 => out.write_all(b"?"),
                b'\n' | b'\t' | b' '..=b'~' | 0x80.. => out.write_all(&[byte]),
                b'\r' => Ok(()),
                0x7f => out.write_all(b"^?"),
                control => write!(out, "^{}", char::from(control | 0x40)),
            }
        })
    })
}

fn each_block(
    reader: &mut impl Read,
    path: &Path,
    mut see: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut block = vec![0; COPY_BYTES];
    loop {
        let count = match reader.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failure(path, &error)),
        };
        see(block.get(..count).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_does_not_control_the_terminal() {
        let text = b"\x1b[2J\xc3\xa4\xc2\x9b2J\x7f\t1\r\n".as_slice();
        let mut shown = Vec::new();
        copy_shown(text, Path::new("/log"), &mut shown).unwrap();
        assert_eq!(shown, b"^[[2J\xc3\xa4\xc2?2J^?\t1\n");
    }
}
