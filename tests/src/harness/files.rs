//! Log files as tests look at them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::wait::DEADLINE;
use super::{eventually, eventually_within};

/// The name of a log's backup number `index`.
pub fn backup(path: &Path, index: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    PathBuf::from(name)
}

/// Makes a file with this content.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("writing a file");
}

/// Writes as a guest does, waiting in `write`; fails the test when that would be for ever.
#[track_caller]
pub fn guest_writes(pipe: &File, bytes: impl Into<Vec<u8>>) {
    let (mut pipe, bytes) = (pipe.try_clone().expect("a copy of the pipe"), bytes.into());
    let guest = std::thread::spawn(move || pipe.write_all(&bytes));
    eventually("the guest need not wait", || guest.is_finished());
    let written = guest.join().expect("the guest's thread");
    written.expect("the guest gets no error");
}

/// Takes a log away from its path, where it can be neither opened nor made until [`unblock`].
pub fn block(path: &Path) {
    fs::rename(path, aside(path)).expect("moving the log aside");
    fs::create_dir(path).expect("a directory in its place");
}

/// Puts a log back that [`block`] took away.
pub fn unblock(path: &Path) {
    fs::remove_dir(path).expect("removing what is in its place");
    fs::rename(aside(path), path).expect("moving the log back");
}

/// A file's inode number.
pub fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("the file's metadata").ino()
}

/// A file's size in bytes, `None` when there is none.
pub fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.len())
}

/// Waits until a file has exactly this content.
#[track_caller]
pub fn expect_file(path: &Path, content: impl AsRef<[u8]>) {
    let wanted = content.as_ref();
    let came = eventually_within(DEADLINE, || fs::read(path).is_ok_and(|found| found == wanted));
    if !came {
        let found = fs::read(path).map(|bytes| shown(&bytes));
        panic!("{} holds {found:?}, not {:?}", path.display(), shown(wanted));
    }
}

/// Checks that there is no such file.
#[track_caller]
pub fn expect_missing(path: &Path) {
    assert!(!path.exists(), "{} exists", path.display());
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("aside")
}

/// The beginning is enough to recognise content by.
fn shown(bytes: &[u8]) -> String {
    let beginning = &bytes[..bytes.len().min(200)];
    format!("{} bytes: {}", bytes.len(), String::from_utf8_lossy(beginning))
}
