//! Log files of limited size: PATH, and its older parts PATH.0 (the newest) to PATH.(n-1).
//!
//! Rotation is rename and create, and the numbers have no gaps: readers of a guest's console rely
//! on both. Nothing else is ever put beside the log.

mod blocking;
mod cut;
mod directory;
mod error;
mod inspection;
mod limits;
mod location;
mod open_files;
mod parts;
mod reader;
mod rotation;
mod shared_directory;
mod source;
mod writer;

pub use directory::Directory;
pub use error::{Error, Refusal};
pub use limits::{BACKUPS_MAX, Limits};
pub use open_files::{Deletion, is_open};
pub use reader::{open_part, read};
pub use rotation::{rotations, steps_left};
pub use shared_directory::SharedDirectory;
pub use source::{Bytes, Offset, Source};
pub use writer::{Growth, RotatingFile};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::errno::Errno;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_could_block_is_refused_at_once_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let limits = Limits { size_bytes_max: 100, backups_max: 1 };
        for path in [fifo.as_path(), Path::new("/dev/null")] {
            for truncate in [false, true] {
                let error = RotatingFile::open(path, limits, truncate).unwrap_err();
                assert_eq!(error.errno(), Some(Errno::EINVAL as i32));
                assert_eq!(error.to_string(), format!("Unable to open file: {}", path.display()));
            }
            read(path, None, 0, 0, 0, 10, &mut Vec::new()).unwrap_err();
            assert!(path.exists());
        }
    }

    #[test]
    fn a_directory_is_not_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { size_bytes_max: 100, backups_max: 1 };
        let path = dir.path().display();
        let text = |truncate| {
            let error = RotatingFile::open(dir.path(), limits, truncate).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EISDIR as i32));
            error.to_string()
        };
        assert_eq!(text(false), format!("Unable to open file: {path}"));
        assert_eq!(text(true), format!("Unable to delete file {path}"));
    }
}
