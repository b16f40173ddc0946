//! A guest that writes blocks directly, past the file system that its lease is on.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tests::blocks::Block;

/// Time between two blocks.
const PERIOD: Duration = Duration::from_millis(1);

pub(crate) fn run(trace: &Path) -> io::Result<()> {
    let mut trace = File::options().append(true).create(true).open(trace)?;
    for number in 0.. {
        trace.write_all(&Block::now(number).bytes())?;
        std::thread::sleep(PERIOD);
    }
    Ok(())
}
