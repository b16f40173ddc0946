//! Holds file descriptors of daemons while these are away.

use std::process::ExitCode;

fn main() -> ExitCode {
    virtfdhold::main()
}
