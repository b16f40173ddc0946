//! The virtlockd program.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::startup::main::<virtlockd::Handler>(std::env::args_os())
}
